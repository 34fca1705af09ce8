"""Which sessions a listing shows, and where its next page goes on."""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterable

import attrs

from plane_tx.control.query import Query
from plane_tx.core.errors import InvalidRequest
from plane_tx.core.model import Session, Status

DEFAULT_LIMIT = 100
MOST_LIMIT = 1000

_CURSOR = re.compile(r"(?P<created>[0-9]+(\.[0-9]+)?(e\+?[0-9]+)?)_(?P<id>[a-z0-9-]+)")

#: Sessions are listed by when they were made; the id decides between those of one moment.
Place = tuple[float, str]


@attrs.frozen
class Wanted:
    """What a listing was asked for; None and empty mean all."""

    statuses: frozenset[Status] = frozenset()
    user: str | None = None
    key: str | None = None
    namespace: str | None = None
    labels: frozenset[tuple[str, str]] = frozenset()
    limit: int = DEFAULT_LIMIT
    after: Place | None = None

    def shows(self, session: Session) -> bool:
        """Whether the listing shows this session."""
        return (
            (not self.statuses or session.status in self.statuses)
            and self.user in (None, session.user)
            and self.key in (None, session.key.name)
            and self.namespace in (None, session.key.namespace)
            and self.labels <= session.spec.labels.items()
            and (self.after is None or _place(session) < self.after)
        )


def parse_wanted(uri: bytes) -> Wanted:
    """Read what a listing is asked for. Raises `InvalidRequest` naming the parameter."""
    names = ("status", "user", "key", "namespace", "label", "limit", "after")
    query = Query(uri, *names)
    return Wanted(
        statuses=frozenset(_status(value) for value in query.all("status")),
        user=query.one("user"),
        key=query.one("key"),
        namespace=query.one("namespace"),
        labels=frozenset(_label(value) for value in query.all("label")),
        limit=query.count("limit", DEFAULT_LIMIT, MOST_LIMIT),
        after=_after(query.one("after")),
    )


def page(sessions: Iterable[Session], wanted: Wanted) -> tuple[list[Session], str | None]:
    """The sessions of one page, newest first, and the cursor of the next if there is one.

    A cursor stays good whatever comes and goes between two pages.
    """
    shown = (session for session in sessions if wanted.shows(session))
    found = heapq.nlargest(wanted.limit + 1, shown, key=_place)
    items = found[: wanted.limit]
    if len(found) == len(items):
        return items, None
    created, session_id = _place(items[-1])
    return items, f"{created!r}_{session_id}"


def _place(session: Session) -> Place:
    return session.created_at, session.id


def _status(value: str) -> Status:
    try:
        return Status(value)
    except ValueError:
        allowed = ", ".join(Status)
        raise InvalidRequest(f"status: expected one of {allowed}; got {value[:64]!r}") from None


def _label(value: str) -> tuple[str, str]:
    name, equals, wanted = value.partition("=")
    if not equals:
        raise InvalidRequest(f"label: expected NAME=VALUE, got {value[:64]!r}")
    return name, wanted


def _after(value: str | None) -> Place | None:
    if value is None:
        return None
    cursor = _CURSOR.fullmatch(value)
    if cursor is None:
        raise InvalidRequest("after: expected the `next` of an earlier page")
    return float(cursor["created"]), cursor["id"]
