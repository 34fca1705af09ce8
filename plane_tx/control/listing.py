"""Which sessions a listing shows, and where its next page goes on."""

from __future__ import annotations

import re
from collections.abc import Iterator

import attrs

from plane_tx.control.query import Query
from plane_tx.core.errors import InvalidRequest
from plane_tx.core.model import Session, Status
from plane_tx.core.registry import Place, Registry, place_of

DEFAULT_LIMIT = 100
MOST_LIMIT = 1000

_CURSOR = re.compile(r"(?P<created>[0-9]+(\.[0-9]+)?(e\+?[0-9]+)?)_(?P<id>[a-z0-9-]+)")

#: How many sessions one turn of the reactor looks at, and how many it tells: each about 0.1 ms.
LOOKED_AT = 200
TOLD = 5


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


class Listing:
    """One page being put together, a slice at a time, so that others have their turns.

    A slice looks at `LOOKED_AT` sessions at most, or tells `TOLD` of them. What comes and goes
    meanwhile is told or not, but nothing is told twice or left out that was there all the time.
    """

    def __init__(self, registry: Registry, wanted: Wanted) -> None:
        self._registry = registry
        self._wanted = wanted
        self._place = wanted.after
        self._last: Place | None = None
        self._count = 0
        self.next: str | None = None

    def slices(self) -> Iterator[list[Session]]:
        """The sessions of the page, newest first; after the last slice, `next` is known."""
        while self.next is None and (looked_at := self._registry.before(self._place, LOOKED_AT)):
            shown: list[Session] = []
            for session in looked_at:
                self._place = place_of(session)
                if not self._wanted.shows(session):
                    continue
                if self._count == self._wanted.limit:
                    self.next = _cursor(self._last)
                    break
                shown.append(session)
                self._last, self._count = self._place, self._count + 1
                if len(shown) == TOLD:
                    break
            yield shown


def _cursor(place: Place | None) -> str:
    assert place is not None
    created, session_id = place
    return f"{created!r}_{session_id}"


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
