"""The output of a session on this box: its last lines are kept, each is told to who follows it."""

from __future__ import annotations

from collections.abc import Callable

import attrs
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.python.failure import Failure

from plane_tx.core.model import LogLine, LogStream
from plane_tx.engines.follower import Follower
from plane_tx.engines.lines import Cutter, Ring, last_of

MAX_LINES = 2000
MAX_CHARACTERS = 1024 * 1024


class Log:
    """Both streams of one session; no two ended lines have the same time."""

    def __init__(self) -> None:
        self._ring = Ring(MAX_LINES, MAX_CHARACTERS)
        self._cutters = {stream: Cutter(stream) for stream in LogStream}
        self._followers: list[Follower] = []
        self._last_ns = 0
        self._has_ended = False

    def add(self, stream: LogStream, data: bytes, now: float) -> None:
        """Take the next bytes, which came at `now` (seconds since epoch)."""
        for line in self._cutters[stream].cut(data, int(now * 1e9)):
            self._add(line)

    def lines(self, tail: int, since_ns: int | None = None) -> tuple[LogLine, ...]:
        """The last `tail` lines, oldest first; an unfinished one counts."""
        unfinished = filter(None, (cutter.unfinished() for cutter in self._cutters.values()))
        return last_of((*self._ring.lines(), *unfinished), tail, since_ns)

    def follow(
        self, tail: int, since_ns: int | None, tell: Callable[[LogLine], None]
    ) -> Deferred[None]:
        """Tell the last `tail` lines and all that follow; fires when the session's log ends."""
        if self._has_ended:
            return succeed(None)
        follower = Follower(tell, lambda: self._followers.remove(follower))
        self._followers.append(follower)
        for line in last_of(self._ring.lines(), tail, since_ns):
            if follower in self._followers:
                self._tell(follower, line)
        return follower.ended

    def end(self) -> None:
        """Nothing more will come: what was unfinished is a line."""
        for cutter in self._cutters.values():
            if cutter.unfinished() is not None:
                self._add(*cutter.cut(b"\n", None))
        self._has_ended = True
        followers, self._followers = self._followers, []
        for follower in followers:
            follower.end(None)

    def _add(self, line: LogLine) -> None:
        # Told apart by their time: whoever comes back asks for what came after the last he has.
        self._last_ns = max(line.at_ns or 0, self._last_ns + 1)
        line = attrs.evolve(line, at_ns=self._last_ns)
        self._ring.add(line)
        for follower in tuple(self._followers):
            if follower in self._followers:
                self._tell(follower, line)

    def _tell(self, follower: Follower, line: LogLine) -> None:
        try:
            follower.tell(line)
        except CancelledError:
            self._followers.remove(follower)
        except Exception:  # noqa: BLE001  # whatever he raises ends his following, and no session
            self._followers.remove(follower)
            follower.end(Failure())
