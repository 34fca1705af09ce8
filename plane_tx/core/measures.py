"""What is counted while the server runs: plain numbers, and no clock of their own."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Callable, Sequence

import attrs

from plane_tx.core.boot import boot_seconds
from plane_tx.core.model import (
    HardTerminating,
    Ready,
    Reason,
    Session,
    Status,
    StatusEntry,
    Terminated,
    Terminating,
)

#: From a process that answers at once to an image of gigabytes; seconds.
BOOT_BUCKETS = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)

#: The reactor should be late by less than a millisecond; seconds.
LAG_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)

#: How many of the last observations of the lag are kept one by one.
LAGS_KEPT = 2

#: The ends that a clock of ours brought about.
REAPED = frozenset({Reason.IDLE, Reason.UNCLAIMED, Reason.LIFETIME, Reason.STARTUP_TIMEOUT})


class Histogram:
    """Observations by upper bound, with their sum."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count `value` in the first bucket whose bound it does not exceed."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    @property
    def count(self) -> int:
        """How many values were observed."""
        return sum(self.counts)


def _boot_histograms() -> dict[str, Histogram]:
    return {phase: Histogram(BOOT_BUCKETS) for phase in ("pull", "create", "start", "ready")}


@attrs.define(eq=False)
class Measures:
    """Counts since the server started; whoever sees something happen counts it here."""

    #: Spawns by outcome: `ready`, or the reason for which a session ended before it was.
    spawns: Counter[str] = attrs.field(factory=Counter)
    joins: int = 0
    #: Connects refused, by the kind of the error.
    refusals: Counter[str] = attrs.field(factory=Counter)
    #: Sessions that a clock of ours ended, by reason.
    reaps: Counter[str] = attrs.field(factory=Counter)
    #: Sessions that ended in this run, by reason, those of earlier runs included.
    ends: Counter[str] = attrs.field(factory=Counter)
    #: Requests and WebSockets that a session which had not ended failed.
    upstream_errors: int = 0
    #: Requests that the access log could not take.
    access_log_lost: int = 0
    #: The phases of boots, and whole boots: from the request to the first answer.
    boot: dict[str, Histogram] = attrs.field(factory=_boot_histograms)
    whole_boot: Histogram = attrs.field(factory=lambda: Histogram(BOOT_BUCKETS))
    reactor_lag: Histogram = attrs.field(factory=lambda: Histogram(LAG_BUCKETS))
    last_lags: deque[float] = attrs.field(factory=lambda: deque(maxlen=LAGS_KEPT))
    #: How many connections are open now, by side; whoever has them answers.
    connections: dict[str, Callable[[], int]] = attrs.field(factory=dict)

    def session_moved(self, session: Session, entry: StatusEntry) -> None:
        """Count what a session's new status tells."""
        state = entry.state
        if isinstance(state, Terminating | HardTerminating):
            self._ending(session, state)
        if isinstance(state, Terminated):
            self.ends[state.reason.value] += 1
        if session.adopted:
            return  # it was spawned, and counted, in an earlier run
        if isinstance(state, Ready):
            self._booted(session, entry.at)
        elif isinstance(state, Terminated) and session.entered(Status.READY) is None:
            self.spawns[state.reason.value] += 1

    def reactor_was_late(self, seconds: float) -> None:
        """Count one call that the reactor made by so much too late."""
        self.reactor_lag.observe(seconds)
        self.last_lags.append(seconds)

    def _ending(self, session: Session, state: Terminating | HardTerminating) -> None:
        escalated = session.entered(Status.TERMINATING) is not None
        if state.reason in REAPED and not (isinstance(state, HardTerminating) and escalated):
            self.reaps[state.reason.value] += 1

    def _booted(self, session: Session, now: float) -> None:
        self.spawns["ready"] += 1
        self.whole_boot.observe(now - session.created_at)
        for phase, seconds in attrs.asdict(boot_seconds(session)).items():
            if seconds is not None:
                self.boot[phase].observe(seconds)
