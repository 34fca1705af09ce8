"""Why a session is still running and what ends it next, or why it is not: in words and numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from plane_tx.core.explain import cause_of, phase, why_ended
from plane_tx.core.idle import Cause, Deadline, next_deadlines
from plane_tx.core.ledger import CLOSED_KEPT, Connection, ConnectionKind
from plane_tx.core.lifecycle import describe_exit
from plane_tx.core.model import (
    BOOTING,
    ENDING,
    HardTerminating,
    IdleCount,
    IdleRule,
    Reason,
    Session,
    State,
    Status,
    StatusEntry,
    Terminated,
    Terminating,
)
from plane_tx.core.use import Use, UseKind
from plane_tx.core.views import milliseconds, oldest_first

#: What would have to happen for a deadline not to end a session.
_UNLESS = {
    Cause.IDLE: "Unless somebody uses it",
    Cause.UNCLAIMED: "Unless somebody comes",
    Cause.LIFETIME: "Whatever happens, for its lifetime is over then",
    Cause.STARTUP: "Unless its server answers HTTP",
    Cause.GRACE: "At the latest",
}

_IN_WORDS: Mapping[UseKind | ConnectionKind, str] = {
    UseKind.REQUEST: "request",
    UseKind.WEBSOCKET: "WebSocket",
    UseKind.HOLD: "held request",
    UseKind.LEASE: "lease",
    ConnectionKind.TUNNEL: "tunnel",  # its other kind equals that of a use
}


def why(session: Session, now: float) -> dict[str, Any]:
    """What GET /ctrl/b/{id}/why answers at `now` (seconds since epoch)."""
    alive = session.status not in ENDING
    holds, passives = _parted(session) if alive else ([], [])
    living = _why_alive(session, holds, passives, now) if alive else ""
    return {
        "backend_id": session.id,
        "status": session.status.value,
        "alive": alive,
        "summary": living or _sentence(why_ended(session) + _open_beside(session, session.state)),
        "hold_count": len(holds),
        "holds": [_use(use, now) for use in oldest_first(holds)],
        "passive_count": len(passives),
        "passive": [_use(use, now) for use in oldest_first(passives)],
        "next": _next(session, now),
        "causes": [] if alive else _causes(session),
    }


def _parted(session: Session) -> tuple[list[Use], list[Use]]:
    """What keeps the session in use, and what does not by itself."""
    holds: list[Use] = []
    passives: list[Use] = []
    for use in session.uses:
        (passives if use.passive else holds).append(use)
    return holds, passives


def _use(use: Use, now: float) -> dict[str, Any]:
    visit, heard = use.visit, use.last_data
    return {
        "kind": use.kind.value,
        "since": milliseconds(use.since),
        "age_seconds": _seconds(now - use.since),
        "peer": visit.peer,
        "path": visit.path,
        "user": visit.user,
        "last_data": None if heard is None else milliseconds(heard),
        "silent_seconds": None if heard is None else _seconds(now - heard),
        "until": None if use.until is None else milliseconds(use.until),
        "reason": use.reason,
    }


def _next(session: Session, now: float) -> list[dict[str, Any]]:
    told = [_deadline(deadline, session, now) for deadline in next_deadlines(session)]
    limit = session.spec.limits.max_idle_seconds
    if limit is not None and session.status not in ENDING and session.idle_since is None:
        after = "it is ready" if session.status in BOOTING else "the last of its holds has gone"
        message = f"it ends when nobody uses it for {limit:g} s after {after}"
        told.append({"cause": Cause.IDLE.value, "at": None, "in_seconds": None, "message": message})
    return told


def _deadline(deadline: Deadline, session: Session, now: float) -> dict[str, Any]:
    return {
        "cause": deadline.cause.value,
        "at": milliseconds(deadline.at),
        "in_seconds": _seconds(deadline.at - now),
        "message": _what_ends_it(deadline.cause, session),
    }


def _what_ends_it(cause: Cause, session: Session) -> str:
    limits = session.spec.limits
    match cause:
        case Cause.IDLE:
            silent = "nothing that counts has passed over what is open"
            what = silent if session.passives else "nobody uses it"
            return f"{what}, and it ends after {limits.max_idle_seconds:g} s of that"
        case Cause.UNCLAIMED:
            return f"nobody came yet, and somebody must within {limits.claim_within_seconds:g} s"
        case Cause.LIFETIME:
            return f"its lifetime is {limits.lifetime_limit_seconds:g} s, in use or not"
        case Cause.STARTUP:
            return f"it must answer HTTP within {limits.startup_timeout_seconds:g} s of its start"
        case Cause.GRACE:
            return f"it was asked to end, and after {limits.stop_grace_seconds:g} s it is forced to"


def _why_alive(session: Session, holds: list[Use], passives: list[Use], now: float) -> str:
    said = [_what_it_does(session, holds, passives, now)]
    if session.spec.limits.max_idle_seconds is not None and session.idle_since is None:
        booting = session.status in BOOTING
        start = "it is ready" if booting else "the last of these has gone"
        said.append(f"Its idle clock starts when {start}.")
    if holds and passives:
        said.append(f"Of {_counted(passives)} beside them {_what_counts(session.spec.idle)}.")
    soonest = next(iter(next_deadlines(session)), None)
    if soonest is not None:
        said.append(f"{_UNLESS[soonest.cause]}, it ends in {_words(soonest.at - now)}.")
    elif session.spec.limits.max_idle_seconds is None:
        said.append("No clock will end it: only a request, or its own exit, does.")
    return " ".join(said)


def _what_it_does(session: Session, holds: list[Use], passives: list[Use], now: float) -> str:
    if session.status in BOOTING:
        since = _words(now - session.history[-1].at)
        beside = f", with {_counted(holds)}" if holds else ""
        return f"It boots: {session.status} for {since} ({phase(session)}){beside}."
    if holds:
        return f"It is in use: {_counted(holds)}."
    idle = _words(now - (session.idle_since or now))
    if passives:
        are = "are" if len(passives) > 1 else "is"
        counts = _what_counts(session.spec.idle)
        return f"{_counted(passives)} {are} open, of which {counts}; the last use was {idle} ago."
    return f"Nobody has used it for {idle}."


def _what_counts(rule: IdleRule) -> str:
    if rule.count is IdleCount.BYTES:
        return "only bytes count"
    return f"only messages {'that are not ignored ' if rule.ignore else ''}count"


def _counted(uses: Iterable[Use | Connection]) -> str:
    counts = Counter(use.kind for use in uses)
    return ", ".join(
        f"{count} {_IN_WORDS[kind]}{'s' if count > 1 else ''}"
        for kind, count in sorted(counts.items())
    )


def _causes(session: Session) -> list[dict[str, Any]]:
    chain = [_last_use(session)] if _ended_unused(session) else []
    for entry in session.history:
        said = _what_happened(session, entry)
        if said:
            chain.append(_event(entry.at, entry.state.status.value, said))
    return chain


def _ended_unused(session: Session) -> bool:
    first = next((entry.state for entry in session.history if entry.state.status in ENDING), None)
    return getattr(first, "reason", None) in (Reason.IDLE, Reason.UNCLAIMED)


def _last_use(session: Session) -> dict[str, Any]:
    use, ended = session.last_use, session.last_used
    if use is None and ended is not None:
        return _event(ended, "last use ended", "an earlier run of the server saw its last use end")
    if use is None or ended is None:
        ready = session.entered(Status.READY) or session.created_at
        came = "since this run of the server began" if session.adopted else "after it was ready"
        return _event(ready, "never used", f"nobody came {came}")
    who = f" of user {use.visit.user!r}" if use.visit.user is not None else ""
    whence = f" from {use.visit.peer}" if use.visit.peer else ""
    where = f" to {use.visit.path}" if use.visit.path else ""
    lease = f" for {use.reason!r}" if use.reason else ""
    lasted = _words(ended - use.since)
    lasting = f"open for {lasted} by then" if use.passive else f"of {lasted}"
    what = f"a {_IN_WORDS[use.kind]}{lease}{who}{whence}{where}, {lasting}, was the last use"
    return _event(ended, "last use ended", what)


def _what_happened(session: Session, entry: StatusEntry) -> str:
    match entry.state:
        case Terminating() as state:
            beside = _open_beside(session, state)
            return f"it was asked to end: {cause_of(session, state)}{beside}{_by(state.by)}"
        case HardTerminating() as state if session.entered(Status.TERMINATING) is None:
            return f"it was ended by force: {cause_of(session, state)}{_by(state.by)}"
        case HardTerminating(by=""):
            grace = session.spec.limits.stop_grace_seconds
            return f"it had not ended within its grace of {grace:g} s, so it was ended by force"
        case HardTerminating(by=by):
            return f"it had not ended yet, and was ended by force{_by(by)}"
        case Terminated() as state:
            return _how_it_went(session, state)
        case _:
            return ""


def _open_beside(session: Session, state: State) -> str:
    """What was open when the session was asked to end for idleness, as the end of a sentence."""
    if not isinstance(state, Terminating | HardTerminating | Terminated):
        return ""
    if state.reason is not Reason.IDLE or state.failure is not None:
        return ""
    asked = session.entered(Status.TERMINATING)
    if asked is None or session.spec.idle.count is IdleCount.CONNECTIONS:
        return ""
    connections = session.connections.open_at(asked)
    return f"; {_were_open(session, connections)}" if connections else ""


def _were_open(session: Session, connections: list[Connection]) -> str:
    rule, closed = session.spec.idle, session.connections.closed
    forgotten = len(closed) == CLOSED_KEPT and closed[0] in connections
    least, were = "at least " if forgotten else "", "were" if len(connections) > 1 else "was"
    tunnels = any(each.kind is ConnectionKind.TUNNEL for each in connections)
    beside = " (over a tunnel every byte)" if tunnels and rule.count is IdleCount.MESSAGES else ""
    return f"{least}{_counted(connections)} {were} open, of which {_what_counts(rule)}{beside}"


def _how_it_went(session: Session, state: Terminated) -> str:
    memory = "; the kernel ended it for want of memory" if state.oom else ""
    if state.kind is not None:
        # Asked for or by force: the entries before this one say why.
        return f"its process {describe_exit(state.exit_code, asked=True)}{memory}"
    if state.failure is not None:
        return f"{state.failure.message}{memory}"
    if state.exit_code is None:
        return cause_of(session, state)
    return f"its process {describe_exit(state.exit_code)}{memory}"


def _by(who: str) -> str:
    return f", by {who}" if who else ""


def _event(at: float, what: str, message: str) -> dict[str, Any]:
    return {"at": milliseconds(at), "what": what, "message": message}


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _seconds(span: float) -> float:
    return round(max(span, 0.0), 3)


def _words(span: float) -> str:
    return f"{max(span, 0.0):.1f} s"
