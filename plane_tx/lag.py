"""Measures how late the reactor is: what blocks it shows here first."""

from __future__ import annotations

from twisted.application.service import Service
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from plane_tx.core.measures import Measures

#: How often it is measured.
INTERVAL_SECONDS = 0.5


class LagMeter(Service):
    """Asks to be called again and again, and counts by how much each call comes too late."""

    def __init__(self, clock: IReactorTime, measures: Measures) -> None:
        self._clock = clock
        self._measures = measures
        self._due = 0.0
        self._next: IDelayedCall | None = None

    def startService(self) -> None:
        """Begin to measure."""
        super().startService()  # type: ignore[no-untyped-call]  # Twisted's Service is untyped
        self._ask()

    def stopService(self) -> None:
        """Measure no more."""
        super().stopService()  # type: ignore[no-untyped-call]  # as above
        if self._next is not None and self._next.active():
            self._next.cancel()

    def _ask(self) -> None:
        self._due = self._clock.seconds() + INTERVAL_SECONDS
        self._next = self._clock.callLater(INTERVAL_SECONDS, self._called)

    def _called(self) -> None:
        # A clock that was set back makes a call early; that is no lag.
        self._measures.reactor_was_late(max(self._clock.seconds() - self._due, 0.0))
        self._ask()
