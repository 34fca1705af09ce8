"""Ends the sessions that are due, on a clock."""

from __future__ import annotations

from twisted.application.service import Service
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from plane_tx.supervisor import Supervisor

#: How often the reaper looks; a session ends at most this much after it is due.
TICK_SECONDS = 0.25


class Reaper(Service):
    """A LoopingCall that goes on whatever one tick meets."""

    _log = Logger()

    def __init__(self, clock: IReactorTime, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._loop = LoopingCall(self._tick)
        self._loop.clock = clock

    def startService(self) -> None:
        """Begin to look."""
        super().startService()  # type: ignore[no-untyped-call]  # Twisted's Service is untyped
        self._loop.start(TICK_SECONDS, now=False)

    def stopService(self) -> None:
        """Look no more."""
        super().stopService()  # type: ignore[no-untyped-call]  # as above
        if self._loop.running:
            self._loop.stop()

    def _tick(self) -> None:
        # An error that left here would end the loop for good (plane.md 8.2, trap 29).
        with self._log.failuresHandled("a tick of the reaper failed"):
            self._supervisor.reap()
