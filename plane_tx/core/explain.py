"""Why a session is not there, any more or yet, in a sentence for whoever asks."""

from __future__ import annotations

from plane_tx.core.errors import PlaneError, SessionEnded
from plane_tx.core.model import (
    ENDING,
    HardTerminating,
    Reason,
    Session,
    Status,
    Terminated,
    Terminating,
)
from plane_tx.core.pulls import Pulling, in_words


def why_ended(session: Session) -> str:
    """Say why this session has ended or is ending; for a live one, that it lives."""
    state = session.state
    if not isinstance(state, Terminating | HardTerminating | Terminated):
        return f"the session is {state.status}"
    tense = "has ended" if isinstance(state, Terminated) else "is ending"
    return f"this session {tense}: {cause_of(session, state)}"


def true_cause(session: Session, error: PlaneError, *, ended: bool) -> PlaneError:
    """The error to answer by: that the session has `ended`, or is ending, goes before `error`."""
    ended = ended or session.status in ENDING
    return SessionEnded(why_ended(session)) if ended else error


#: What a session that boots is doing.
_PHASES = {
    Status.SCHEDULED: "it waits for its turn to start",
    Status.LOADING: "its image is looked up",
    Status.STARTING: "it is being started",
    Status.WAITING: "its server does not answer HTTP yet",
}


def phase(session: Session) -> str | None:
    """What a session that boots is doing, as half a sentence; None for one that does not."""
    pull = pull_of(session)
    return _PHASES.get(session.status) if pull is None else in_words(pull)


def why_not_ready(session: Session) -> str:
    """Say what a session that cannot be reached yet is waited for."""
    if session.unconfirmed:
        why = "was restarted, and" if session.adopted else "lost the session's address, and"
        return f"the server {why} does not know yet whether the session still runs"
    return f"the session is still {session.status} ({phase(session)})"


def pull_of(session: Session) -> Pulling | None:
    """How far the pull of its image has come, while it is under way."""
    return session.pulling if session.status is Status.LOADING else None


def close_reason(session: Session) -> str:
    """The one word that a WebSocket is closed with when its session ends (API.md part 2)."""
    state = session.state
    if not isinstance(state, Terminating | HardTerminating | Terminated):
        return "upstream lost"
    return "terminated" if state.reason is Reason.EXTERNAL else state.reason.value


#: Those in which no limit of the session's own has a part.
_CAUSES = {
    Reason.EXTERNAL: "it was stopped by request",
    Reason.EXITED: "its process ended by itself",
    Reason.LOST: "the engine no longer knew it",
    Reason.OOM: "it used more memory than its limit",
    Reason.FAILED: "it could not be made",
}


def cause_of(session: Session, state: Terminating | HardTerminating | Terminated) -> str:
    """What made this session end, as half a sentence."""
    if state.failure is not None:
        return state.failure.message
    limits = session.spec.limits
    match state.reason:
        case Reason.IDLE:
            return f"nobody used it for {limits.max_idle_seconds:g} s"
        case Reason.UNCLAIMED:
            return f"nobody came within {limits.claim_within_seconds:g} s"
        case Reason.LIFETIME:
            return f"its lifetime of {limits.lifetime_limit_seconds:g} s is over"
        case Reason.STARTUP_TIMEOUT:
            limit = limits.startup_timeout_seconds
            return f"its server did not answer HTTP within {limit:g} s of its start"
        case reason:
            return _CAUSES[reason]
