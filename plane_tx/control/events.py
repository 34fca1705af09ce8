"""Tells whoever listens at /ctrl/events of every new status of every session, as it comes."""

from __future__ import annotations

from collections import deque
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.web.server import Request

from plane_tx.control import sse
from plane_tx.core.model import Session, StatusEntry
from plane_tx.core.views import status_entry
from plane_tx.core.wire import dumps
from plane_tx.supervisor import Supervisor
from plane_tx.tokens import mint_id

#: How many events are kept for clients that come back: as many as a stream holds for one.
KEPT = sse.MOST_WAITING

_GAP = "events were missed: list /ctrl/backends to know where every session is now"


class EventFeed:
    """Numbers every event, keeps the last of them, and sends each to every stream."""

    def __init__(self, clock: IReactorTime, supervisor: Supervisor) -> None:
        self._clock = clock
        self._run = mint_id()  # numbers begin anew with each run of the server
        self._count = 0
        self._kept: deque[tuple[int, bytes]] = deque(maxlen=KEPT)
        self._streams: set[sse.EventStream] = set()
        supervisor.watch(self._tell)

    def __repr__(self) -> str:
        return f"<EventFeed [Streams: {len(self._streams)}]>"

    def answer(self, request: Request) -> bytes | Deferred[None]:
        """Answer with the stream: from the client's Last-Event-ID on, or from now on.

        Where events have been forgotten in between, a `gap` comes first.
        """
        if request.method == b"HEAD":
            sse.prepare(request)
            return b""
        stream = sse.EventStream(request, self._clock)
        for event in self._missed(request.getHeader("last-event-id")):
            stream.send(event)
        self._streams.add(stream)

        def left(result: Any) -> Any:
            self._streams.discard(stream)
            return result

        return stream.ended.addBoth(left)

    def _missed(self, last_event_id: str | None) -> list[bytes]:
        if not last_event_id:
            return []
        seen = self._number(last_event_id.strip())
        first = self._kept[0][0] if self._kept else self._count + 1
        if seen is None or not first - 1 <= seen <= self._count:
            return [sse.named_event("gap", dumps({"message": _GAP}))]
        return [event for number, event in self._kept if number > seen]

    def _number(self, event_id: str) -> int | None:
        run, _, number = event_id.partition("-")
        known = run == self._run and number.isascii() and number.isdigit() and len(number) < 16
        return int(number) if known else None

    def _tell(self, session: Session, entry: StatusEntry) -> None:
        self._count += 1
        event = sse.event(dumps(_told(session, entry)), f"{self._run}-{self._count}")
        self._kept.append((self._count, event))
        for stream in tuple(self._streams):
            stream.send(event)


def _told(session: Session, entry: StatusEntry) -> dict[str, Any]:
    key = session.key
    return {
        "backend_id": session.id,
        "key": {"name": key.name, "namespace": key.namespace, "tag": session.tag},
        "user": session.user,
        "labels": dict(session.spec.labels),
        **status_entry(entry, public=False),
    }
