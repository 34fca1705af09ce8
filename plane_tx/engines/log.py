"""The output of a session on this box: its last lines are kept, each is told to who follows it."""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from plane_tx.core.model import LogLine, LogStream
from plane_tx.engines.follower import Follower
from plane_tx.engines.interface import Tell
from plane_tx.engines.lines import Pieces, Reader, is_since, last_of

MAX_LINES = 2000
MAX_BYTES = 1024 * 1024

#: How many reads are kept, however small they are.
MAX_PIECES = 8192

#: How many lines one follower is told in one turn of the reactor, about a millisecond of work.
MOST_LINES_A_TURN = 20


class Log:
    """Both streams of one session, kept as they come and cut into lines for who asks.

    No two ended lines have the same time.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._pieces = Pieces(MAX_LINES, MAX_BYTES, MAX_PIECES)
        self._followings: list[_Following] = []
        self._has_ended = False

    def add(self, stream: LogStream, data: bytes, now: float) -> None:
        """Take the next bytes, which came at `now` (seconds since epoch)."""
        self._pieces.add(stream, data, int(now * 1e9))
        self._wake()

    def lines(self, tail: int, since_ns: int | None = None) -> tuple[LogLine, ...]:
        """The last `tail` lines, oldest first; an unfinished one counts."""
        tail = min(tail, MAX_LINES)
        # Of each stream one may have lost its beginning; and one more gets the reader to the end.
        most = tail + len(LogStream)
        reader = Reader(self._pieces, most)
        ended = reader.take(most + 1)
        return last_of((*ended, *reader.unfinished()), tail, since_ns)

    def follow(self, tail: int, since_ns: int | None, tell: Tell) -> Deferred[None]:
        """Tell the last `tail` lines and all that follow; fires when the session's log ends.

        One who cannot take more for long misses lines, and is told how many.
        """
        if self._has_ended:
            return succeed(None)
        reader = Reader(self._pieces, min(tail, MAX_LINES))
        following = _Following(self._clock, reader, since_ns, tell)
        self._followings.append(following)
        following.ended.addBoth(self._left, following)
        following.wake()
        return following.ended

    def end(self) -> None:
        """Nothing more will come: what was unfinished is a line."""
        self._pieces.finish()
        self._has_ended = True
        for following in self._followings:
            following.is_last = True
        self._wake()

    def _wake(self) -> None:
        for following in tuple(self._followings):
            following.wake()

    def _left(self, result: object, following: _Following) -> object:
        self._followings.remove(following)
        return result


class _Following:
    """One who follows, and how far he has read; he may fall behind, and leaves at any moment."""

    def __init__(
        self, clock: IReactorTime, reader: Reader, since_ns: int | None, tell: Tell
    ) -> None:
        self._clock = clock
        self._reader = reader
        self._since_ns = since_ns
        self._follower = Follower(tell, self._stop)
        self._next_turn: IDelayedCall | None = None
        self._is_held_up = False
        #: Whether nothing will come after what there is.
        self.is_last = False

    @property
    def ended(self) -> Deferred[None]:
        """Fires when the log has ended and was told; cancelling it is to leave."""
        return self._follower.ended

    def wake(self) -> None:
        """There may be more to tell."""
        if not self._is_held_up and self._next_turn is None and not self.ended.called:
            self._turn()

    def _turn(self) -> None:
        self._next_turn = None
        self._is_held_up = True
        for _ in range(MOST_LINES_A_TURN):
            lines = self._reader.take(1)
            if not lines:
                self._caught_up()
                return
            if is_since(lines[0], self._since_ns) and not self._tell(lines[0]):
                return
        self._is_held_up = False
        self._next_turn = self._clock.callLater(0, self._turn)

    def _caught_up(self) -> None:
        self._is_held_up = False
        if self.is_last:
            self._follower.end(None)

    def _tell(self, line: LogLine) -> bool:
        """Whether he can take more now."""
        try:
            wait = self._follower.tell(line)
        except CancelledError:
            return False
        except Exception:  # noqa: BLE001  # whatever he raises ends his following, and no session
            self._follower.end(Failure())
            return False
        if wait is not None:
            wait.addCallback(lambda _: self._goes_on())
        return wait is None

    def _goes_on(self) -> None:
        self._is_held_up = False
        self.wake()

    def _stop(self) -> None:
        if self._next_turn is not None:
            self._next_turn.cancel()
            self._next_turn = None
