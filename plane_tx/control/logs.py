"""GET /ctrl/b/{id}/logs: what a session writes to its stdout and stderr, now or as it comes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import attrs
from twisted.internet.defer import CancelledError, Deferred, ensureDeferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.server import Request

from plane_tx.control import sse
from plane_tx.control.envelope import answer_json
from plane_tx.control.feed import StatusFeed
from plane_tx.control.query import Query
from plane_tx.core.errors import EngineUnavailable
from plane_tx.core.model import LogLine, Session, StatusEntry, Terminated
from plane_tx.core.wire import dumps
from plane_tx.supervisor import Supervisor

DEFAULT_LINES = 100
MOST_LINES = 10_000

#: Nanoseconds, in which log lines have their times.
_MILLISECOND = 1_000_000


@attrs.frozen
class WantedLines:
    """The last `tail` lines, of those that came at `since_ns` or later."""

    tail: int
    since_ns: int | None
    follow: bool

    def of(self, lines: Iterable[LogLine]) -> tuple[LogLine, ...]:
        """Those of `lines` that are wanted; a line whose time nobody knows is."""
        since = self.since_ns
        found = tuple(
            line for line in lines if since is None or line.at_ns is None or line.at_ns >= since
        )
        return found[-self.tail :] if self.tail else ()

    def after(self, seen_ns: int) -> WantedLines:
        """What is wanted once the line of that time was told: all that came later."""
        return attrs.evolve(self, tail=MOST_LINES, since_ns=seen_ns + 1)


def parse_wanted(request: Request) -> WantedLines:
    """Read which lines are asked for. Raises `InvalidRequest` naming the parameter.

    Last-Event-ID, the time of the last line that was seen, has the say over `since`.
    """
    query = Query(request.uri, "tail", "since", "follow")
    since = query.milliseconds("since")
    wanted = WantedLines(
        tail=query.count("tail", DEFAULT_LINES, MOST_LINES, least=0),
        since_ns=None if since is None else since * _MILLISECOND,
        follow=query.flag("follow"),
    )
    seen = (request.getHeader("last-event-id") or "").strip()
    if wanted.follow and seen.isascii() and seen.isdigit() and len(seen) < 20:
        return wanted.after(int(seen))
    return wanted


class LogFeed:
    """Reads the logs of sessions; each stream of lines is followed by itself."""

    _log = Logger()

    def __init__(self, clock: IReactorTime, supervisor: Supervisor, feed: StatusFeed) -> None:
        self._clock = clock
        self._supervisor = supervisor
        self._feed = feed

    def answer(self, request: Request, session: Session, wanted: WantedLines) -> Deferred[bytes]:
        """Answer with the lines that there are: of a session that has ended, those kept with it.

        Fails with `EngineUnavailable`.
        """
        if isinstance(session.state, Terminated):
            lines = succeed(wanted.of(session.state.log_tail))
        else:
            lines = self._supervisor.logs(session, wanted.tail, wanted.since_ns)
        return lines.addCallback(lambda lines: answer_json(request, _told(session, lines)))

    def follow(
        self, request: Request, session: Session, wanted: WantedLines
    ) -> bytes | Deferred[None]:
        """Answer with the lines as server-sent events, until the session has ended."""
        if request.method == b"HEAD":
            sse.prepare(request)
            return b""
        stream = sse.EventStream(request, self._clock)
        following = _Following(self._supervisor, stream, session, wanted)
        unfollow = self._feed.follow(session.id, following.moved)
        running = ensureDeferred(following.run())
        running.addErrback(self._gave_up, stream)

        def left(result: Any) -> Any:
            unfollow()
            running.cancel()
            return result

        return stream.ended.addBoth(left)

    def _gave_up(self, failure: Failure, stream: sse.EventStream) -> None:
        if failure.check(CancelledError):
            return
        if not failure.check(EngineUnavailable):
            self._log.failure("following a log failed", failure)
        # A client of server-sent events comes back by itself, with its Last-Event-ID.
        stream.end()


class _Following:
    """One stream: follows the engine's log again and again, until the session has ended.

    The engine ends a log when the session is not made yet, when it has just gone, or when the
    engine itself does; what comes next is known with the session's next status.
    """

    def __init__(
        self,
        supervisor: Supervisor,
        stream: sse.EventStream,
        session: Session,
        wanted: WantedLines,
    ) -> None:
        self._supervisor = supervisor
        self._stream = stream
        self._session = session
        self._wanted = wanted
        self._moved = False
        self._waiting: Deferred[None] | None = None

    async def run(self) -> None:
        """Tell every line; fails with `EngineUnavailable`."""
        session = self._session
        while not isinstance(session.state, Terminated):
            wanted, self._moved = self._wanted, False
            await self._supervisor.follow_logs(session, wanted.tail, wanted.since_ns, self._tell)
            await self._next_status()
        for line in self._wanted.of(session.state.log_tail):
            self._tell(line)
        self._stream.end()

    def _tell(self, line: LogLine) -> Deferred[None] | None:
        data = dumps(_line(line))
        if line.at_ns is None:
            self._stream.send(sse.event(data))
        else:
            self._wanted = self._wanted.after(line.at_ns)
            self._stream.send(sse.event(data, str(line.at_ns)))
        # A client that reads slowly slows its own stream, and nothing else.
        return self._stream.until_read()

    def moved(self, _entry: StatusEntry) -> None:
        """The session has a new status."""
        self._moved = True
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)

    def _next_status(self) -> Deferred[None]:
        if self._moved:
            return succeed(None)
        self._waiting = Deferred()
        return self._waiting


def _told(session: Session, lines: Iterable[LogLine]) -> dict[str, Any]:
    return {"backend_id": session.id, "lines": [_line(line) for line in lines]}


def _line(line: LogLine) -> dict[str, Any]:
    time = None if line.at_ns is None else line.at_ns // _MILLISECOND
    return {"time": time, "stream": line.stream.value, "text": line.text}
