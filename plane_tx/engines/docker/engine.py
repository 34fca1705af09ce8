"""Sessions as containers: what an engine promises, done by a Docker Engine."""

from __future__ import annotations

import math
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from zope.interface import implementer

from plane_tx.core.errors import (
    EndedAtOnce,
    EngineUnavailable,
    InvalidRequest,
    SpawnFailed,
)
from plane_tx.core.listeners import Listener
from plane_tx.core.model import Address, Executable, LogLine
from plane_tx.engines.docker import container as said
from plane_tx.engines.docker.client import DockerClient
from plane_tx.engines.docker.container import Container, container_name
from plane_tx.engines.docker.endings import Endings, Held
from plane_tx.engines.docker.errors import (
    Conflict,
    DockerError,
    NoSuchObject,
    NotModified,
    telling,
)
from plane_tx.engines.docker.images import Images, unavailable
from plane_tx.engines.docker.mounts import MountDirectories
from plane_tx.engines.docker.networks import Networks, NetworkSettings
from plane_tx.engines.docker.readings import Readings
from plane_tx.engines.docker.remains import Coroner
from plane_tx.engines.docker.removal import Removal
from plane_tx.engines.docker.watch import Watch
from plane_tx.engines.follower import Follower
from plane_tx.engines.interface import (
    Created,
    Creating,
    EngineEvent,
    EngineHealth,
    EngineStats,
    IEngine,
    Progress,
    Remains,
    Report,
    Running,
    SpawnOrder,
    Tell,
)
from plane_tx.engines.listeners import Listeners
from plane_tx.engines.sockets import SocketTables
from plane_tx.flights import Flight, to_the_end

#: How long a stopping server waits for what it has begun to clear away or to make.
CLOSE_SECONDS = 3.0

#: Said after Docker's own words where its storage has no limit to give.
_NO_DISK_LIMIT = "; leave out resource_limits.disk_limit_bytes, or give Docker storage with quotas"

#: Said after them where there is no such program, or none that may be run; without an init of the
#: container's own that is Docker's to find out.
_NO_COMMAND = "; look at command and entrypoint"


@implementer(IEngine)
class DockerEngine:
    """Runs sessions as containers named `plane-<id>`.

    `instance` tells this server's containers from those of another on the same Docker. Without
    `mounts` a session can have none. A pull takes `pull_seconds` at most; 0 means any time. Without
    `sockets` nobody can tell where a session listens.
    """

    def __init__(  # noqa: PLR0913, PLR0917  # each is one thing that it stands on
        self,
        clock: IReactorTime,
        client: DockerClient,
        instance: str,
        networks: NetworkSettings | None = None,
        mounts: MountDirectories | None = None,
        pull_seconds: float = 0.0,
        sockets: SocketTables | None = None,
    ) -> None:
        self._clock = clock
        self._client = client
        self._instance = instance
        self._networks = Networks(client, instance, networks or NetworkSettings())
        self._mounts = mounts
        self._listeners = Listeners()
        self._images = Images(clock, client, pull_seconds)
        self._removal = Removal(clock, client, instance)
        self._readings = Readings(client, self._removal, sockets)
        self._coroner = Coroner(client, instance)
        tell = self._listeners.tell
        self._endings = Endings(client, self._removal, self._coroner, tell, self._doubt)
        self._watch = Watch(clock, client, instance, self._endings, tell)
        self._stops: dict[str, Flight[None]] = {}

    def start(self) -> None:
        """Begin to watch."""
        self._watch.start()
        self._networks.start()

    def close(self) -> Deferred[None]:
        """Stop watching; containers go on, calls in flight fail with `EngineUnavailable`.

        What has begun is ended first, if Docker does so within `CLOSE_SECONDS`.
        """
        return Deferred.fromCoroutine(self._close())

    async def _close(self) -> None:
        self._watch.stop()
        begun: list[Deferred[Any]] = [self._endings.settled(), self._networks.settled()]
        await DeferredList(begun).addTimeout(CLOSE_SECONDS, self._clock)
        self._removal.close()
        await self._client.close()

    def events(self, listener: Callable[[EngineEvent], None]) -> Callable[[], None]:
        """Tell `listener` of every event from now on."""
        return self._listeners.add(listener)

    def check(self, executable: Executable) -> None:
        """Raise `InvalidRequest` for what Docker could never run."""
        said.check(executable)
        self._networks.check(executable)
        if executable.mount and self._mounts is None:
            raise InvalidRequest(
                "spawn_config.executable.mount: this server mounts nothing: leave it out, or have"
                " engine.mount_base set"
            )

    def spawn(self, order: SpawnOrder, report: Report) -> Deferred[Address]:
        """Make a container and start it."""
        return self._held(order.session_id, lambda held: self._spawn(held, order, report))

    def adopt(self, session_id: str, executable: Executable, start: bool) -> Deferred[Address]:
        """Take up a container of an earlier run."""
        if (known := self._endings.held(session_id)) is not None and known.announced:
            return Deferred.fromCoroutine(self._found_again(known))
        return self._held(session_id, lambda held: self._adopt(held, executable, start))

    def conclude(self, session_id: str) -> Deferred[None]:
        """Tell how a container ended, and remove it."""
        ending = self._endings.conclude(session_id, container_name(session_id))
        return Deferred.fromCoroutine(ending)

    def stop(self, session_id: str, grace_seconds: float) -> Deferred[None]:
        """Send the container its stop signal; concurrent stops of one session are one."""
        flight = self._stops.get(session_id)
        if flight is None:
            stopping = Deferred.fromCoroutine(self._stop(session_id, grace_seconds))
            flight = self._stops[session_id] = Flight(stopping)

            def stopped(_: object) -> None:
                del self._stops[session_id]

            stopping.addBoth(stopped)
        return flight.wait()

    def kill(self, session_id: str) -> Deferred[None]:
        """Send the container SIGKILL."""
        return Deferred.fromCoroutine(self._kill(session_id))

    def logs(
        self, session_id: str, tail: int, since_ns: int | None = None
    ) -> Deferred[tuple[LogLine, ...]]:
        """The last lines of the container's output."""
        return Deferred.fromCoroutine(self._readings.logs(session_id, tail, since_ns))

    def follow_logs(
        self, session_id: str, tail: int, since_ns: int | None, tell: Tell
    ) -> Deferred[None]:
        """The same and what follows, until the container ends."""

        def hang_up() -> None:
            following.cancel()

        follower = Follower(tell, hang_up)
        following = Deferred.fromCoroutine(
            self._readings.follow(session_id, tail, since_ns, follower.tell)
        )
        following.addBoth(follower.end)
        return follower.ended

    def stats(self, session_id: str) -> Deferred[EngineStats | None]:
        """What Docker's cgroups count."""
        return Deferred.fromCoroutine(self._readings.stats(session_id))

    def listening(self, session_id: str) -> Deferred[tuple[Listener, ...] | None]:
        """What the kernel tells of the container's network."""
        return Deferred.fromCoroutine(self._readings.listening(session_id))

    def remains(self, session_id: str) -> Deferred[Remains | None]:
        """Docker's account of the container, and its log."""
        return Deferred.fromCoroutine(self._remains(session_id))

    def list_running(self) -> Deferred[list[Running]]:
        """Every container of this instance."""
        return Deferred.fromCoroutine(self._list_running())

    def remove(self, session_id: str) -> Deferred[None]:
        """Remove the container by force, telling nobody."""
        self._endings.forget(session_id)
        return Deferred.fromCoroutine(self._remove(session_id))

    def health(self) -> Deferred[EngineHealth]:
        """Ask Docker for its version."""
        return Deferred.fromCoroutine(self._health())

    def _held(
        self, session_id: str, work: Callable[[Held], Coroutine[Deferred[Any], Any, Address]]
    ) -> Deferred[Address]:
        """Watch a session from before it is there; its end is told only once we have answered."""
        try:
            held = self._endings.hold(session_id)
        except SpawnFailed:
            return Deferred.fromCoroutine(_raised(Failure()))
        held.asked = doing = Deferred.fromCoroutine(work(held))

        def announce(address: Address) -> Address:
            # Telling takes calls to Docker, so whoever waits has the address by then.
            self._endings.announce(held)
            return address

        def forget(failure: Failure) -> Failure:
            self._endings.forget(session_id)
            if failure.check(EngineUnavailable):
                # A Docker that hangs breaks no stream: this is how the watch learns of it.
                self._doubt(str(failure.value))
            return failure

        return doing.addCallbacks(announce, forget)

    def _doubt(self, why: str) -> None:
        self._watch.doubt(why)

    async def _spawn(self, held: Held, order: SpawnOrder, report: Report) -> Address:
        def tell(progress: Progress) -> Deferred[None] | None:
            turn = report(progress)
            if held.unwanted:
                raise CancelledError
            return turn

        await self._images.ensure(order.executable, tell)
        if (turn := tell(Creating())) is not None:
            await turn
        # An id may be used again as soon as its end is told; its name is free a little later.
        await self._endings.ended(order.session_id)
        mounted = None if self._mounts is None else await self._mounts.of(order)
        with telling(f"say where to put session {order.session_id}"):
            place = await self._networks.place(order.executable)
        body = said.create_body(order, self._instance, place, mounted)
        try:
            await to_the_end(self._create(held, body))
            tell(Created())
            await to_the_end(self._start(held))
            return await self._started(held, order.executable)
        except Exception as error:
            if held.container_id:
                readable = not isinstance(error, EngineUnavailable)
                await to_the_end(self._endings.clear_away(held, readable=readable))
            raise

    async def _create(self, held: Held, body: dict[str, Any]) -> None:
        name = container_name(held.session_id)
        try:
            held.container_id = await self._client.create(name, body)
        except (EngineUnavailable, LookupError, TypeError):
            # It may have been made all the same: then it has our name and our labels.
            held.container_id = name
            raise
        except NoSuchObject as error:
            if "no such image" in error.message.lower():
                raise unavailable(body["Image"], error.message) from None
            raise _failed("make", held, error.message) from None
        except DockerError as error:
            cure = _NO_DISK_LIMIT if "storage-opt" in error.message else ""
            raise _failed("make", held, error.message + cure) from None

    async def _start(self, held: Held) -> None:
        try:
            await self._client.start(held.container_id)
        except DockerError as error:
            cure = _NO_COMMAND if "exec: " in error.message else ""
            raise _failed("start", held, error.message + cure) from None

    async def _started(self, held: Held, executable: Executable) -> Address:
        with telling(f"start session {held.session_id}"):
            container = await self._removal.find(held.container_id)
            if container is None:
                raise _failed("start", held, "somebody removed its container")
            if not container.running:
                tail = await self._endings.last_lines(container)
                sentence = _at_once(held, container)
                raise EndedAtOnce(sentence, container.exit_code, tail, oom=container.oom)
            return self._address(held, container, executable)

    def _address(self, held: Held, container: Container, executable: Executable) -> Address:
        address = container.address(executable.port)
        if address is None:
            what = "address" if container.ports is None else "published port"
            network = executable.network_name or "of its own"
            raise _failed("reach", held, f"its network ({network}) gave it no {what}")
        self._endings.moved_in(held, address, executable.port)
        return address

    async def _adopt(self, held: Held, executable: Executable, start: bool) -> Address:
        with telling(f"adopt session {held.session_id}"):
            container = await self._removal.find(container_name(held.session_id))
        if container is not None and container.fresh and start:
            held.container_id = container.id
            await self._start(held)
            return await self._started(held, executable)
        if container is None or not container.running:
            raise _failed("adopt", held, "it does not run any more")
        held.container_id = container.id
        return self._address(held, container, executable)

    async def _found_again(self, held: Held) -> Address:
        """Where one is that was unreachable."""
        await self._endings.ended(held.session_id)
        if self._endings.held(held.session_id) is not held or held.address is None:
            raise _failed("adopt", held, "it does not run any more")
        return held.address

    async def _stop(self, session_id: str, grace_seconds: float) -> None:
        # Docker's own SIGKILL is only for the case that nobody comes back to this one.
        seconds = math.ceil(grace_seconds) + 1
        await self._end(session_id, lambda container: self._client.stop(container, seconds))

    async def _kill(self, session_id: str) -> None:
        await self._end(session_id, self._client.kill)

    async def _end(
        self, session_id: str, ask: Callable[[str], Coroutine[Deferred[Any], Any, None]]
    ) -> None:
        with telling(f"end session {session_id}"):
            container = await self._removal.find(container_name(session_id))
            if container is not None and container.running:
                # Each of these says that it has ended, or is gone.
                with suppress(NoSuchObject, NotModified, Conflict):
                    await ask(container.id)
                with suppress(NoSuchObject):
                    await self._client.wait(container.id, "not-running")
        await self._endings.ended(session_id)

    async def _remains(self, session_id: str) -> Remains | None:
        with telling(f"show session {session_id}"):
            return await self._coroner.examine(container_name(session_id))

    async def _list_running(self) -> list[Running]:
        with telling("list its containers"):
            listed = await self._watch.listed()
        return [said.running(found) for found in listed if found.get("Names")]

    async def _remove(self, session_id: str) -> None:
        # Its end may be told already, and what is left of it just be read.
        await self._endings.ended(session_id)
        with telling(f"remove session {session_id}"):
            await self._removal.remove(container_name(session_id))

    async def _health(self) -> EngineHealth:
        try:
            with telling("tell its version"):
                version = str((await self._client.version()).get("Version", ""))
        except EngineUnavailable as error:
            return EngineHealth(False, str(error))
        return EngineHealth(True, f"Docker {version} answers at {self._client.where}", version)


def _failed(what: str, held: Held, message: str) -> SpawnFailed:
    return SpawnFailed(f"could not {what} session {held.session_id}: {message}")


def _at_once(held: Held, container: Container) -> str:
    return f"session {held.session_id} ended at once with exit code {container.exit_code}"


async def _raised(failure: Failure) -> Address:
    failure.raiseException()
