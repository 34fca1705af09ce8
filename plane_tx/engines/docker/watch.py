"""The one stream of Docker's events, opened again and again for as long as we watch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from plane_tx.core.errors import EngineUnavailable
from plane_tx.engines.docker.client import DockerClient, JsonObject
from plane_tx.engines.docker.container import label_filter
from plane_tx.engines.docker.endings import Endings
from plane_tx.engines.docker.errors import DockerError
from plane_tx.engines.docker.streams import Stream
from plane_tx.engines.interface import EngineEvent, EngineLost, EngineRegained

FIRST_DELAY_SECONDS = 0.1
LONGEST_DELAY_SECONDS = 5.0

#: Podman tells a `die` too, but calls it `died` when it filters; Docker has no event of that name.
_EVENTS = ["die", "died", "oom"]


class Watch:
    """Follows the events of one instance's containers, and tells when it cannot.

    Each time the stream is open again the containers are listed, for what was missed.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        client: DockerClient,
        instance: str,
        endings: Endings,
        tell: Callable[[EngineEvent], None],
    ) -> None:
        self._clock = clock
        self._client = client
        self._labels = label_filter(instance)
        self._endings = endings
        self._tell = tell
        self._lost = False
        self._stopped = False
        self._doubted = ""
        self._delay = FIRST_DELAY_SECONDS
        self._stream: Stream | None = None
        self._running: Deferred[None] | None = None

    def start(self) -> None:
        """Begin to watch."""
        self._running = Deferred.fromCoroutine(self._run())
        self._running.addErrback(lambda failure: failure.trap(CancelledError) and None)
        self._running.addErrback(lambda failure: self._log.failure("the watch ended", failure))

    def doubt(self, why: str) -> None:
        """Open the stream anew: a call has failed, so an exit may have gone untold."""
        if self._stream is not None:
            self._doubted = why
            self._stream.hang_up()

    async def listed(self) -> list[JsonObject]:
        """Every container of the instance; ends that no event told of are told from now on.

        Fails with `EngineUnavailable`, and then doubts the stream, or with `DockerError`.
        """
        try:
            found = await self._client.containers(self._labels)
        except EngineUnavailable as error:
            self.doubt(str(error))
            raise
        self._endings.reconcile(found)
        return found

    def stop(self) -> None:
        """End it, telling nobody."""
        self._stopped = True
        if self._running is not None:
            self._running.cancel()

    async def _run(self) -> None:
        while not self._stopped:
            opened = self._clock.seconds()
            try:
                await self._follow()
                self._told_lost(f"Docker at {self._client.where} ended its stream of events")
            except (EngineUnavailable, DockerError) as error:
                self._told_lost(self._doubted or str(error))
            except CancelledError:
                raise
            except Exception as error:  # noqa: BLE001  # whatever it was, the watch must go on
                self._log.failure("the watch of Docker stumbled")
                self._told_lost(
                    f"what Docker at {self._client.where} says is not understood: {error}"
                )
            self._doubted = ""
            # A stream that breaks as soon as it is open does not count as recovery.
            if self._clock.seconds() - opened > LONGEST_DELAY_SECONDS:
                self._delay = FIRST_DELAY_SECONDS
            await deferLater(self._clock, self._delay)
            self._delay = min(2 * self._delay, LONGEST_DELAY_SECONDS)

    async def _follow(self) -> None:
        # First the stream, then the list: what happens in between waits in the stream.
        self._stream = stream = await self._client.events(
            {"type": ["container"], "event": _EVENTS, "label": self._labels}
        )
        try:
            await self.listed()
            self._told_regained()
            await self._client.follow_json(stream, self._saw)
        finally:
            self._stream = None
            stream.hang_up()

    def _saw(self, event: dict[str, Any]) -> None:
        # It is not shown: the labels of its container are in it, and in these are secrets.
        with self._log.failuresHandled("an event of Docker's is not understood"):
            self._endings.saw(event)

    def _told_lost(self, why: str) -> None:
        if not self._lost:
            self._lost = True
            self._tell(EngineLost(why))

    def _told_regained(self) -> None:
        if self._lost:
            self._lost = False
            self._tell(EngineRegained())
