"""Which sessions are ours to watch, and how the end of each is told, exactly once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import attrs
from twisted.internet.defer import Deferred, DeferredList, succeed
from twisted.python.failure import Failure

from plane_tx.core.errors import EngineUnavailable, SpawnFailed
from plane_tx.core.model import Address, LogLine
from plane_tx.engines.docker.client import DockerClient
from plane_tx.engines.docker.container import Container, running, session_named
from plane_tx.engines.docker.errors import DockerError
from plane_tx.engines.docker.remains import Coroner
from plane_tx.engines.docker.removal import Removal
from plane_tx.engines.interface import LeftBehind, Reachable, SessionExited, Unreachable
from plane_tx.engines.lines import TAIL_LINES, told_with_end
from plane_tx.flights import Flight

_KILLED = 137


@attrs.define(eq=False)
class Held:
    """A session that we made or adopted, or are about to.

    Until `announced`, whoever asked for it does not have it, and is told of its end otherwise.
    """

    session_id: str
    container_id: str = ""
    announced: bool = False
    died: bool = False
    exit_code: int | None = None
    oom: bool = False
    asked: Deferred[Address] | None = None
    address: Address | None = None
    #: Of its server, as the container itself sees it.
    port: int = 0
    unreachable: bool = False

    @property
    def unwanted(self) -> bool:
        """Whether the one who asked for it has cancelled that.

        A Deferred that is cancelled while its coroutine runs, by a listener that this calls,
        counts as called at once, but the coroutine does not hear of it.
        """
        return self.asked is not None and self.asked.called


class Endings:
    """The sessions held, and the one way in which each of them ends.

    However an end is noticed (event, list, or after a stop), the same work is done once: ask
    how it ended, read its last lines, tell, read what else is left, tell that too, remove.
    """

    def __init__(
        self,
        client: DockerClient,
        removal: Removal,
        coroner: Coroner,
        tell: Callable[[SessionExited | LeftBehind | Unreachable | Reachable], None],
        doubt: Callable[[str], None],
    ) -> None:
        self._client = client
        self._removal = removal
        self._coroner = coroner
        self._tell = tell
        self._doubt = doubt
        self._held: dict[str, Held] = {}
        self._ending: dict[str, Flight[None]] = {}

    def hold(self, session_id: str) -> Held:
        """Begin to watch a session. Fails with `SpawnFailed` if that is done already."""
        if session_id in self._held:
            raise SpawnFailed(f"session {session_id} is held already")
        held = self._held[session_id] = Held(session_id)
        return held

    def announce(self, held: Held) -> None:
        """From now on its end is told; if it has ended already, as soon as that is read up."""
        held.announced = True
        if held.died and self._held.get(held.session_id) is held:
            self._lost_address(held)

    def moved_in(self, held: Held, address: Address, port: int) -> None:
        """Take note of where a session is reached: who was there before has ended.

        Docker gives the address of a container that has ended to the next one at once, and its
        `die` may be late: nobody is to find one session at the address of another.
        """
        for other in tuple(self._held.values()):
            if other.address == address and other is not held and other.announced:
                self._lost_address(other)
        held.address, held.port = address, port

    def forget(self, session_id: str) -> None:
        """Its end is no longer to be told."""
        self._held.pop(session_id, None)

    def saw(self, event: Mapping[str, Any]) -> None:
        """Take note of one of Docker's events, `die` or `oom`."""
        actor = event["Actor"]
        held = self._held.get(session_named(actor["Attributes"]["name"]))
        if held is None or held.container_id not in ("", actor["ID"]):
            return
        if event["Action"] == "oom":
            held.oom = True
        elif event["Action"] == "die":
            held.died = True
            held.exit_code = _number(actor["Attributes"].get("exitCode"))
            if held.announced:
                self._lost_address(held)

    def reconcile(self, listed: Iterable[Mapping[str, Any]]) -> None:
        """Compare with what Docker lists, for ends that no event told of."""
        alive = {found.session_id for found in map(running, listed) if found.running}
        for held in tuple(self._held.values()):
            if held.announced and held.session_id not in alive:
                self._lost_address(held)
            elif held.unreachable:
                self._begin(held)

    def ended(self, session_id: str) -> Deferred[None]:
        """Fires when the end of a session that has ended is told and its remains are gone.

        Fails with `EngineUnavailable`. A session that is not held has nothing to be told.
        """
        held = self._held.get(session_id)
        if held is not None and held.announced:
            return self._begin(held).wait()
        flight = self._ending.get(session_id)
        return succeed(None) if flight is None else flight.wait()

    async def conclude(self, session_id: str, container_id: str) -> None:
        """Tell the end of a session that has ended, watched or not; else do nothing.

        Fails with `EngineUnavailable`.
        """
        if session_id in self._held:
            await self.ended(session_id)
            return
        held = self.hold(session_id)
        held.container_id = container_id
        self.announce(held)
        try:
            await self.ended(session_id)
        finally:
            self.forget(session_id)

    def settled(self) -> Deferred[object]:
        """Fires when every end that has begun is told and its remains are gone."""
        waits = [flight.wait() for flight in self._ending.values()]
        return DeferredList(waits, consumeErrors=True).addCallback(lambda _: None)

    def held(self, session_id: str) -> Held | None:
        """What is known of a session that is watched."""
        return self._held.get(session_id)

    def _lost_address(self, held: Held) -> None:
        # At once: how it ended takes calls to Docker, and its address is free by now.
        if not held.unreachable:
            held.unreachable = True
            self._tell(Unreachable(held.session_id))
        self._begin(held)

    def _begin(self, held: Held) -> Flight[None]:
        session_id = held.session_id
        flight = self._ending.get(session_id)
        if flight is None:

            def ended(result: Failure | None) -> Failure | None:
                # First of all: who waited for it may ask for the next one at once.
                self._ending.pop(session_id, None)
                return result

            flight = Flight(Deferred.fromCoroutine(self._end(held)).addBoth(ended))
            if not flight.landed:
                self._ending[session_id] = flight
        return flight

    async def _end(self, held: Held) -> None:
        try:
            container = await self._removal.find(held.container_id)
            if container is not None and container.running and self._goes_on(held, container):
                return
            tail = await self.last_lines(container)
        except (EngineUnavailable, DockerError) as error:
            # Nobody may be waiting for this: the watch is to come back to it.
            self._doubt(str(error))
            raise EngineUnavailable(str(error)) from None
        if self._held.get(held.session_id) is not held:
            return
        del self._held[held.session_id]
        self._tell(_exited(held, container, tail))
        await self.clear_away(held)

    def _goes_on(self, held: Held, container: Container) -> bool:
        """Whether one that runs, perhaps because somebody has started it again, can be reached."""
        if held.unreachable:
            held.address = container.address(held.port)
            if held.address is None:
                return False
            held.unreachable = held.died = False
            self._tell(Reachable(held.session_id, held.address))
        return True

    async def clear_away(self, held: Held, *, readable: bool = True) -> None:
        """Tell what its container, when Docker is there to say, can still tell, and remove it.

        Never fails.
        """
        remains = await self._coroner.examine_if_possible(held.container_id) if readable else None
        if remains is not None:
            self._tell(LeftBehind(held.session_id, remains))
        await self._removal.remove_in_time(held.container_id)

    async def last_lines(self, container: Container | None) -> tuple[LogLine, ...]:
        """Its last output, as far as there is any to be had: some log drivers cannot be read."""
        if container is None:
            return ()
        try:
            return told_with_end(await self._client.logs(container.id, TAIL_LINES))
        except DockerError:
            return ()


def _exited(held: Held, container: Container | None, tail: tuple[LogLine, ...]) -> SessionExited:
    exit_code = held.exit_code if container is None else container.exit_code
    # An `oom` event may be of a child that the session has survived.
    oom = (container is not None and container.oom) or (held.oom and exit_code == _KILLED)
    return SessionExited(held.session_id, exit_code, oom, tail)


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None
