"""Tells each client that follows a session's statuses of every one of them, once and in order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.web.server import Request

from plane_tx.control import sse
from plane_tx.core.errors import InvalidRequest
from plane_tx.core.explain import pull_of
from plane_tx.core.model import ORDINAL, Session, Status, StatusEntry
from plane_tx.core.views import last_status, status_entry
from plane_tx.core.wire import dumps
from plane_tx.supervisor import Supervisor

T = TypeVar("T")

Follower = Callable[[StatusEntry], None]


class _Followers(Generic[T]):
    """Those who follow a session, by its id; who follows none any more leaves no trace."""

    def __init__(self) -> None:
        self._by_id: dict[str, list[T]] = {}

    def __len__(self) -> int:
        return len(self._by_id)

    def add(self, session_id: str, follower: T) -> Callable[[], None]:
        """Let `follower` follow; call the result, once, to end that."""
        self._by_id.setdefault(session_id, []).append(follower)
        return lambda: self._leave(session_id, follower)

    def of(self, session_id: str) -> tuple[T, ...]:
        """Those who follow this session now."""
        return tuple(self._by_id.get(session_id, ()))

    def _leave(self, session_id: str, follower: T) -> None:
        followers = self._by_id[session_id]
        followers.remove(follower)
        if not followers:
            del self._by_id[session_id]


class StatusFeed:
    """One watcher of all sessions, so that a change costs what follows it, not what exists."""

    _log = Logger()

    def __init__(self, clock: IReactorTime, supervisor: Supervisor) -> None:
        self._clock = clock
        self._followers: _Followers[Follower] = _Followers()
        self._streams: _Followers[sse.EventStream] = _Followers()
        supervisor.watch(self._tell)
        supervisor.watch_pulls(self._pull_came_on)

    def __repr__(self) -> str:
        return f"<StatusFeed [Followed: {len(self._followers)}]>"

    def follow(self, session_id: str, follower: Follower) -> Callable[[], None]:
        """Tell `follower` of every status from now on; call the result, once, to end that."""
        return self._followers.add(session_id, follower)

    def answer(self, request: Request, session: Session) -> bytes | Deferred[None]:
        """Answer with the stream of the session's statuses: all there were, then as they come.

        It ends with `terminated`. Statuses up to the client's Last-Event-ID are left out; one
        that has seen the end is told (by 204) not to come back. Who asks for `detail=true` is told
        by events of that name how far the pull of its image has come, unless they do not keep up:
        Plane's clients know no such events. Raises `InvalidRequest`.
        """
        seen, detailed = last_seen(request), wants_detail(request)
        if seen is Status.TERMINATED and session.status is seen:
            request.setResponseCode(204)
            return b""
        if request.method == b"HEAD":
            sse.prepare(request)
            return b""
        return self._stream(request, session, seen, detailed=detailed)

    def _stream(
        self, request: Request, session: Session, seen: Status | None, *, detailed: bool
    ) -> Deferred[None]:
        stream = sse.EventStream(request, self._clock)

        def tell(entry: StatusEntry) -> None:
            status = entry.state.status
            if seen is None or ORDINAL[status] > ORDINAL[seen]:
                stream.send(sse.event(dumps(status_entry(entry)), status.value))
            if status is Status.TERMINATED:
                stream.end()

        # Followed before it is read, all in one turn: nothing can be missed or told twice.
        leaving = [self.follow(session.id, tell)]
        if detailed:
            leaving.append(self._streams.add(session.id, stream))

        def left(result: T) -> T:
            for leave in leaving:
                leave()
            return result

        stream.ended.addBoth(left)
        for entry in tuple(session.history):
            tell(entry)
        if detailed and pull_of(session) is not None:
            _tell_pull(session, stream)
        return stream.ended

    def _tell(self, session: Session, entry: StatusEntry) -> None:
        for follower in self._followers.of(session.id):
            with self._log.failuresHandled("a follower of {session} failed", session=session.id):
                follower(entry)

    def _pull_came_on(self, session: Session) -> None:
        for stream in self._streams.of(session.id):
            _tell_pull(session, stream)


def _tell_pull(session: Session, stream: sse.EventStream) -> None:
    if stream.keeps_up:
        stream.send(sse.named_event("detail", dumps(last_status(session))))


def last_seen(request: Request) -> Status | None:
    """The status that the client saw last; None when it says none, or none we know."""
    try:
        return Status(request.getHeader("last-event-id") or "")
    except ValueError:
        return None


def wants_detail(request: Request) -> bool:
    """Whether `detail=true` stands in the query, which may have anything else in it too."""
    said = [value for value in (request.args or {}).get(b"detail", ()) if value]
    if said not in ([], [b"true"], [b"false"]):
        raise InvalidRequest("detail: expected true or false, once")
    return said == [b"true"]
