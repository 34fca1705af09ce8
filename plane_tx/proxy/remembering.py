"""What is known of a request when it is over, and how its session remembers it."""

from __future__ import annotations

from plane_tx.core.access import Access, End
from plane_tx.core.messages import RequestHead
from plane_tx.core.model import Session
from plane_tx.core.use import Use, Visit


class Remembering:
    """Notes how a request goes: for its session, and for the access log where there is one."""

    head: RequestHead
    session: Session
    visit: Visit
    access: Access | None = None
    _held_since: float | None = None
    _status: int | None = None
    _closed_by = End.NOBODY
    _error = ""

    def _replied(self, status: int, now: float) -> None:
        self._status = status
        if self.access is not None:
            self.access.replied(status, now)

    def _ended_by(self, end: End) -> None:
        self._closed_by = self._closed_by or end
        if self.access is not None:
            self.access.ended_by(end)

    def _remember(self, use: Use, now: float) -> None:
        self.session.requests.append(
            (
                self.visit,
                self.head.method,
                self._held_since or use.since,
                now,
                self._status,
                use.bytes_from_client,
                use.bytes_to_client,
                self._closed_by,
                self._error,
            )
        )
