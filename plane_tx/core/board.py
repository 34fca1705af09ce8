"""What the dashboard shows: a row for each session, and the numbers of the server as a whole."""

from __future__ import annotations

import re
from typing import Any

from plane_tx.core.explain import phase, why_not_ready
from plane_tx.core.idle import next_deadlines
from plane_tx.core.measures import Histogram, Measures
from plane_tx.core.model import BOOTING, ENDING, Key, Session, Status, Terminated
from plane_tx.core.pulls import Pulling
from plane_tx.core.registry import Registry
from plane_tx.core.views import failure_of, milliseconds

#: A longer explanation of a failure ends in an ellipsis.
MOST_FAILURE_CHARACTERS = 300

#: What tells whether a session's row is another than it was: see `mark`.
Mark = tuple[int, int, int, float | None, bool, Pulling | None, bool]

#: What a session's key is named when nobody gave it one.
_RANDOM_NAME = re.compile(r"lk-[a-z0-9]{14}")


def mark(session: Session) -> Mark:
    """Two that are equal stand for equal rows; to make one is far cheaper than a row."""
    return (
        len(session.history),
        len(session.uses),
        session.leases,
        session.idle_since,
        session.claimed,
        session.pulling,
        session.unconfirmed,
    )


def row(session: Session) -> dict[str, Any]:
    """A session as one line of a table; nothing in it lets anybody in."""
    executable, state = session.spec.executable, session.state
    reason = getattr(state, "reason", None)
    ended = state if isinstance(state, Terminated) else None
    return {
        "id": session.id,
        "status": session.status.value,
        "reason": None if reason is None else reason.value,
        "detail": _detail(session),
        "key": _key(session.key, session.tag),
        "user": session.user,
        "app": executable.app,
        "image": executable.image,
        "labels": dict(session.spec.labels),
        "connections": len(session.uses) - session.leases,
        "leases": session.leases,
        "idle_since": _moment(session.idle_since),
        "ends": _ends(session),
        "created_at": milliseconds(session.created_at),
        "ready_at": _moment(session.entered(Status.READY)),
        "ended_at": None if ended is None else milliseconds(session.history[-1].at),
        "exit_code": None if ended is None else ended.exit_code,
        "failure": _failure(session),
        "adopted": session.adopted,
    }


def _detail(session: Session) -> str | None:
    if session.unconfirmed and session.status not in ENDING:
        return why_not_ready(session)
    return phase(session) if session.status in BOOTING else None


def _key(key: Key, tag: str) -> dict[str, str] | None:
    if _RANDOM_NAME.fullmatch(key.name) and not key.namespace and not tag:
        return None
    return {"name": key.name, "namespace": key.namespace}


def _ends(session: Session) -> dict[str, Any] | None:
    soonest = next(iter(next_deadlines(session)), None)
    if soonest is None:
        return None
    return {"cause": soonest.cause.value, "at": milliseconds(soonest.at)}


def _failure(session: Session) -> str | None:
    failure = failure_of(session)
    if failure is None or len(failure.message) <= MOST_FAILURE_CHARACTERS:
        return None if failure is None else failure.message
    return f"{failure.message[: MOST_FAILURE_CHARACTERS - 1]}…"


def _moment(at: float | None) -> int | None:
    return None if at is None else milliseconds(at)


def overview(registry: Registry, measures: Measures) -> dict[str, Any]:
    """How many sessions there are, and what happened to them in this run of the server."""
    lag = measures.reactor_lag
    return {
        "statuses": {status.value: registry.statuses[status] for status in Status},
        "spawns": dict(measures.spawns),
        "joins": measures.joins,
        "reaps": dict(measures.reaps),
        "ends": dict(measures.ends),
        "refusals": dict(measures.refusals),
        "boot": {
            **_buckets(measures.whole_boot),
            "count": measures.whole_boot.count,
            "seconds": _seconds(measures.whole_boot.total),
        },
        "phases": {
            name: {"count": histogram.count, "seconds": _seconds(histogram.total)}
            for name, histogram in measures.boot.items()
        },
        "lag": {**_buckets(lag), "last": _seconds(max(measures.last_lags, default=0.0))},
        "connections": {side: count() for side, count in measures.connections.items()},
        "upstream_errors": measures.upstream_errors,
    }


def _buckets(histogram: Histogram) -> dict[str, list[float]]:
    return {"bounds": list(histogram.bounds), "counts": list(histogram.counts)}


def _seconds(span: float) -> float:
    return round(span, 6)
