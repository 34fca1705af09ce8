"""When a session's clocks run out, and a heap that finds the due ones without asking the rest."""

from __future__ import annotations

import enum
import heapq
import math
from collections.abc import Callable, Iterator

import attrs

from plane_tx.core.lifecycle import HardTerminate, SoftTerminate
from plane_tx.core.model import ENDING, Failure, Limits, Reason, Session, Status, Waiting


class Cause(enum.StrEnum):
    """Which clock of a session runs out."""

    IDLE = "idle"
    UNCLAIMED = "unclaimed"
    LIFETIME = "lifetime"
    STARTUP = "startup"
    GRACE = "grace"


@attrs.frozen(order=True)
class Deadline:
    """A moment (seconds since epoch) at which something is to happen to a session, and why."""

    at: float
    cause: Cause = attrs.field(order=False)


def next_deadlines(session: Session) -> tuple[Deadline, ...]:
    """Every deadline that runs for this session now, soonest first.

    The lifetime runs from scheduling (plane.md 1.4). Startup runs from the end of the pull: a
    slow registry is not the session's fault. Idleness and the claim run from `ready` at the
    earliest, so a session that boots is never idle.
    """
    return tuple(sorted(_running(session)))


def _running(session: Session) -> Iterator[Deadline]:
    status, limits = session.status, session.spec.limits
    if status is Status.TERMINATING:
        asked = session.history[-1].at
        yield Deadline(asked + limits.stop_grace_seconds, Cause.GRACE)
    if status in ENDING:
        return
    if limits.lifetime_limit_seconds is not None:
        yield Deadline(session.created_at + limits.lifetime_limit_seconds, Cause.LIFETIME)
    if status in (Status.STARTING, Status.WAITING):
        began = session.entered(Status.STARTING)
        if began is None:
            began = session.history[-1].at
        yield Deadline(began + limits.startup_timeout_seconds, Cause.STARTUP)
    if session.idle_since is None:
        return
    if limits.max_idle_seconds is not None:
        yield Deadline(session.idle_since + limits.max_idle_seconds, Cause.IDLE)
    if limits.claim_within_seconds is not None and not session.claimed:
        yield Deadline(session.idle_since + limits.claim_within_seconds, Cause.UNCLAIMED)


def soonest_if_idle(limits: Limits, now: float) -> float:
    """The earliest moment at which a session that falls idle `now` could end of that."""
    idle, claim = limits.max_idle_seconds, limits.claim_within_seconds
    if claim is not None and (idle is None or claim < idle):
        return now + claim
    return math.inf if idle is None else now + idle


def event_at(
    deadline: Deadline, session: Session, unanswered: str = ""
) -> SoftTerminate | HardTerminate:
    """What happens to the session when `deadline` passes.

    `unanswered` is why its server does not answer, in half a sentence, where that is known.
    """
    match deadline.cause:
        case Cause.IDLE:
            return SoftTerminate(Reason.IDLE)
        case Cause.UNCLAIMED:
            return SoftTerminate(Reason.UNCLAIMED)
        case Cause.LIFETIME:
            return SoftTerminate(Reason.LIFETIME)
        case Cause.GRACE:
            return HardTerminate()
        case Cause.STARTUP:
            return HardTerminate(Reason.STARTUP_TIMEOUT, _never_answered(session, unanswered))


def _never_answered(session: Session, why: str) -> Failure:
    limit = session.spec.limits.startup_timeout_seconds
    state = session.state
    if isinstance(state, Waiting):
        what = f"its server did not answer HTTP within {limit:g} s of its start"
        cure = "it must listen on the port that is named in its environment as PORT"
        return Failure("startup-timeout", f"{what}: {why or cure}")
    what = f"the engine did not start it within {limit:g} s"
    cure = "see to the engine, or allow it more (readiness.timeout_seconds)"
    return Failure("startup-timeout", f"{what}: {cure}")


#: How many sessions one question about the soonest may ask about: thousands would take longer than
#: the reactor may wait.
MOST_ASKED = 32


class DeadlineHeap:
    """At most one moment per session; asking what is due costs what is due.

    An entry may be early but never late: whoever takes it looks up the true deadline and puts
    it back. So the start of a use, the hot path, needs no change here.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[float, str]] = []
        self._queued: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._queued)

    def covers(self, session_id: str, at: float) -> bool:
        """Whether `session_id` will be taken at `at` or earlier."""
        queued = self._queued.get(session_id)
        return queued is not None and queued <= at

    def put(self, session_id: str, at: float) -> None:
        """See to it that `session_id` is taken at `at` or earlier."""
        if self.covers(session_id, at):
            return
        self._queued[session_id] = at
        heapq.heappush(self._heap, (at, session_id))
        self._shed()

    def discard(self, session_id: str) -> None:
        """Forget about this session; what lies in the heap is passed over when its time comes."""
        self._queued.pop(session_id, None)
        self._shed()

    def soonest(self, true_moment: Callable[[str], float | None]) -> float | None:
        """The first moment that is not early, by what `true_moment` says of its session.

        Early ones on the way are put where they belong, so asking often costs little. After
        `MOST_ASKED` of them the next one is given as it is queued, early or not.
        """
        for _ in range(min(MOST_ASKED, len(self._heap))):
            at, session_id = self._heap[0]
            if self._queued.get(session_id) == at:
                true = true_moment(session_id)
                if true is not None and true <= at:
                    return at
                del self._queued[session_id]
                if true is not None:
                    self._queued[session_id] = true
                    heapq.heappush(self._heap, (true, session_id))
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def _shed(self) -> None:
        if len(self._heap) > 64 and len(self._heap) > 4 * len(self._queued):
            self._heap = [(at, queued) for queued, at in self._queued.items()]
            heapq.heapify(self._heap)

    def take_due(self, now: float) -> list[str]:
        """Remove and return the sessions whose moment has come."""
        due = []
        while self._heap and self._heap[0][0] <= now:
            at, session_id = heapq.heappop(self._heap)
            if self._queued.get(session_id) == at:
                del self._queued[session_id]
                due.append(session_id)
        return due
