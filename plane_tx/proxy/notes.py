"""What a connection notes for the access log of the request that it carries."""

from __future__ import annotations

from typing import Protocol as Shape

from plane_tx.accesslog import AccessLog
from plane_tx.core.access import Access, End, shown_path
from plane_tx.core.messages import RequestHead
from plane_tx.core.use import Visit
from plane_tx.reactor import INetworkReactor


class Noted(Shape):
    """Whatever carries a request to its session."""

    access: Access | None
    visit: Visit


class Notes:
    """One request at a time, as a connection has it; nothing while there is none."""

    def __init__(self, log: AccessLog, reactor: INetworkReactor) -> None:
        self._log = log
        self._now = reactor.seconds
        self._access: Access | None = None

    def begin(self, head: RequestHead, peer: str) -> None:
        """A request has come."""
        method, path = head.method.decode("ascii"), shown_path(head.target)
        self._access = Access(self._now(), peer, method, path)

    def carried(self, session_id: str, exchange: Noted) -> None:
        """It is for a session, and `exchange` will know more of it."""
        if self._access is not None:
            self._access.reaches(session_id, exchange.visit)
            exchange.access = self._access

    def answered(self, said: bytes, error: str) -> None:
        """We answered it ourselves."""
        if self._access is not None:
            self._access.answered(said, error, self._now())

    def refused(self, said: bytes, error: str, peer: str) -> None:
        """We refused it, or what could not be read as one."""
        if self._access is None:
            self._access = Access(self._now(), peer)
        self.answered(said, error)

    def hand_over(self) -> Access | None:
        """Note nothing more: somebody else does."""
        access, self._access = self._access, None
        return access

    def end(self, by: End = End.NOBODY) -> None:
        """It is over; `by` whom, when it was not complete and nobody is known to have ended it."""
        access = self.hand_over()
        if access is not None:
            access.ended_by(by)
            self._log.append(access)
