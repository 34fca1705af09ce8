"""How sessions are told in JSON: to everyone on /pub, and in full on /ctrl."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Mapping
from typing import Any

import attrs

from plane_tx.core.boot import boot_seconds
from plane_tx.core.explain import phase, pull_of
from plane_tx.core.ledger import Connection, verdict
from plane_tx.core.model import (
    Failure,
    HardTerminating,
    Reason,
    Session,
    StatusEntry,
    Terminated,
    Terminating,
    TerminationKind,
)
from plane_tx.core.pulls import short_name
from plane_tx.core.use import Use

#: How many of a session's connections are told one by one: more would hold up everyone else.
MOST_USES = 200

#: Plane's reasons, as its clients parse them; None leaves the field out, as Plane does.
_PLANE_REASONS: Mapping[Reason, str | None] = {
    Reason.EXTERNAL: "external",
    Reason.IDLE: "swept",
    Reason.LIFETIME: "swept",
    Reason.UNCLAIMED: "swept",
    Reason.STARTUP_TIMEOUT: "startuptimeout",
    Reason.LOST: "lost",
    Reason.EXITED: None,
    Reason.FAILED: None,
    Reason.OOM: None,
}


def milliseconds(at: float) -> int:
    """A moment in seconds since epoch as the API gives it."""
    return int(at * 1000)


def status_entry(entry: StatusEntry, *, public: bool = True) -> dict[str, Any]:
    """One line of history in Plane's order of fields (plane.md 1.6), absent ones left out.

    With `public` false, reasons are our own, finer ones, and a failure is told.
    """
    state = entry.state
    line: dict[str, Any] = {"status": state.status.value}
    if isinstance(state, Terminating | HardTerminating | Terminated):
        reason = _PLANE_REASONS[state.reason] if public else state.reason.value
        kind = _termination_kind(state)
        line |= {"termination_reason": reason} if reason is not None else {}
        line |= {"termination_kind": kind.value} if kind is not None else {}
    if isinstance(state, Terminated):
        line["exit_error"] = bool(state.exit_code)
    elif isinstance(state, Terminating | HardTerminating) and state.by and not public:
        line["by"] = state.by
    line["time"] = milliseconds(entry.at)
    return line


def last_status(session: Session) -> dict[str, Any]:
    """The last line of its history, and of one that boots what it is doing now."""
    line = status_entry(session.history[-1])
    doing, pull = phase(session), pull_of(session)
    line |= {"detail": doing} if doing is not None else {}
    if pull is not None:
        size = {"bytes": pull.current, "total_bytes": pull.total or None}
        line["pull"] = {"image": short_name(pull.image), **size}
    return line


def _termination_kind(
    state: Terminating | HardTerminating | Terminated,
) -> TerminationKind | None:
    match state:
        case Terminating():
            return TerminationKind.SOFT
        case HardTerminating():
            return TerminationKind.HARD
        case _:
            return state.kind


def failure_of(session: Session) -> Failure | None:
    """What went wrong with this session, if anything did."""
    return getattr(session.state, "failure", None)


def _failure(told: Session) -> dict[str, Any] | None:
    failure = failure_of(told)
    if failure is None:
        return None
    lines = told.state.log_tail if isinstance(told.state, Terminated) else ()
    return {
        "kind": failure.kind,
        "message": failure.message,
        "log_tail": [line.text for line in lines],
    }


def session(told: Session, deadlines: Mapping[str, float]) -> dict[str, Any]:
    """All about one session, for those who may call /ctrl; environment values are left out."""
    spec, state = told.spec, told.state
    connections, leases = _uses(told)
    return {
        "backend_id": told.id,
        "status": told.status.value,
        "detail": phase(told),
        "key": {"name": told.key.name, "namespace": told.key.namespace, "tag": told.tag},
        "user": told.user,
        "app": spec.executable.app,
        "image": spec.executable.image,
        "subdomain": spec.subdomain,
        "routing": spec.routing.value,
        "labels": dict(spec.labels),
        "limits": attrs.asdict(spec.limits),
        "idle": {"count": spec.idle.count.value, "ignore": list(spec.idle.ignore)},
        "resource_limits": attrs.asdict(spec.executable.limits),
        "created_at": milliseconds(told.created_at),
        "status_history": [status_entry(entry, public=False) for entry in told.history],
        "boot_seconds": attrs.asdict(boot_seconds(told)),
        "connection_count": len(told.uses) - len(leases),
        "connections": connections,
        "leases": leases,
        "traffic": attrs.asdict(told.traffic),
        "idle_since": None if told.idle_since is None else milliseconds(told.idle_since),
        "deadlines": {reason: milliseconds(at) for reason, at in deadlines.items()},
        "exit_code": state.exit_code if isinstance(state, Terminated) else None,
        "oom": state.oom if isinstance(state, Terminated) else False,
        "failure": _failure(told),
    }


def oldest_first(uses: Collection[Use]) -> list[Use]:
    """Those of `uses` that began first, `MOST_USES` at most, and every lease."""
    leases = [use for use in uses if use.until is not None]
    others = (use for use in uses if use.until is None)
    oldest = heapq.nsmallest(MOST_USES, others, key=lambda use: use.since)
    return sorted(leases + oldest, key=lambda use: use.since)


def _uses(told: Session) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    connections, leases = [], []
    for use in oldest_first(told.uses):
        since = milliseconds(use.since)
        if use.until is not None:
            until = milliseconds(use.until)
            leases.append({"since": since, "until": until, "reason": use.reason})
        else:
            visit, heard = use.visit, use.last_data
            connections.append(
                {
                    "kind": use.kind.value,
                    "since": since,
                    "peer": visit.peer,
                    "path": visit.path,
                    "user": visit.user,
                    "last_data": None if heard is None else milliseconds(heard),
                    "passive": use.passive,
                }
            )
    return connections, leases


def connection(told: Connection, now: float) -> dict[str, Any]:
    """A WebSocket or tunnel as its session's ledger has it at `now` (seconds since epoch)."""
    visit, traffic = told.visit, told.traffic
    return {
        "kind": told.kind.value,
        "opened": milliseconds(told.opened),
        "closed": None if told.closed_at is None else milliseconds(told.closed_at),
        "duration_seconds": round(told.seconds(now), 3),
        "peer": visit.peer,
        "path": visit.path,
        "user": visit.user,
        "how": None if told.how is None else told.how.value,
        "code": told.code,
        "reason": told.reason,
        "bytes_from_client": traffic.bytes_from_clients,
        "bytes_to_client": traffic.bytes_to_clients,
        "messages_from_client": traffic.messages_from_clients,
        "messages_to_client": traffic.messages_to_clients,
        "backlog_to_client_bytes": told.backlog_to_client,
        "backlog_to_session_bytes": told.backlog_to_session,
        "round_trip_seconds": _microseconds(told.round_trip),
        "best_round_trip_seconds": _microseconds(told.best_round_trip),
        "verdict": verdict(told, now),
    }


def _microseconds(span: float | None) -> float | None:
    return None if span is None else round(span, 6)
