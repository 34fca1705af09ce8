"""Tells each client that follows a session's statuses of every one of them, once and in order."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.web.server import Request

from plane_tx.control import sse
from plane_tx.core.model import ORDINAL, Session, Status, StatusEntry
from plane_tx.core.views import status_entry
from plane_tx.core.wire import dumps
from plane_tx.supervisor import Supervisor

T = TypeVar("T")

Follower = Callable[[StatusEntry], None]


class StatusFeed:
    """One watcher of all sessions, so that a change costs what follows it, not what exists."""

    _log = Logger()

    def __init__(self, clock: IReactorTime, supervisor: Supervisor) -> None:
        self._clock = clock
        self._followers: dict[str, list[Follower]] = {}
        supervisor.watch(self._tell)

    def __repr__(self) -> str:
        return f"<StatusFeed [Followed: {len(self._followers)}]>"

    def follow(self, session_id: str, follower: Follower) -> Callable[[], None]:
        """Tell `follower` of every status from now on; call the result, once, to end that."""
        self._followers.setdefault(session_id, []).append(follower)
        return lambda: self._leave(session_id, follower)

    def answer(self, request: Request, session: Session) -> bytes | Deferred[None]:
        """Answer with the stream of the session's statuses: all there were, then as they come.

        It ends with `terminated`. Statuses up to the client's Last-Event-ID are left out; one
        that has seen the end is told (by 204) not to come back.
        """
        seen = last_seen(request)
        if seen is Status.TERMINATED and session.status is seen:
            request.setResponseCode(204)
            return b""
        if request.method == b"HEAD":
            sse.prepare(request)
            return b""
        return self._stream(request, session, seen)

    def _stream(self, request: Request, session: Session, seen: Status | None) -> Deferred[None]:
        stream = sse.EventStream(request, self._clock)

        def tell(entry: StatusEntry) -> None:
            status = entry.state.status
            if seen is None or ORDINAL[status] > ORDINAL[seen]:
                stream.send(sse.event(dumps(status_entry(entry)), status.value))
            if status is Status.TERMINATED:
                stream.end()

        # Followed before it is read, all in one turn: nothing can be missed or told twice.
        unfollow = self.follow(session.id, tell)

        def left(result: T) -> T:
            unfollow()
            return result

        stream.ended.addBoth(left)
        for entry in tuple(session.history):
            tell(entry)
        return stream.ended

    def _tell(self, session: Session, entry: StatusEntry) -> None:
        for follower in tuple(self._followers.get(session.id, ())):
            with self._log.failuresHandled("a follower of {session} failed", session=session.id):
                follower(entry)

    def _leave(self, session_id: str, follower: Follower) -> None:
        followers = self._followers[session_id]
        followers.remove(follower)
        if not followers:
            del self._followers[session_id]


def last_seen(request: Request) -> Status | None:
    """The status that the client saw last; None when it says none, or none we know."""
    try:
        return Status(request.getHeader("last-event-id") or "")
    except ValueError:
        return None
