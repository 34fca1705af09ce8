"""One who follows a log."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from plane_tx.core.model import LogLine
from plane_tx.engines.interface import Tell


class Follower:
    """Told every line until the log ends, or until he leaves by cancelling `ended`.

    `leave` is called when he does, unless he does so while he is told a line: then the one who
    tells it hears of that by `CancelledError`.
    """

    def __init__(self, tell: Tell, leave: Callable[[], None]) -> None:
        self.ended: Deferred[Any] = Deferred(lambda _ended: self._left())
        self._tell = tell
        self._leave = leave
        self._is_being_told = False

    def tell(self, line: LogLine) -> Deferred[None] | None:
        """Tell a line; the result fires when he can take more, and None is at once.

        Raises `CancelledError` when he has left, and whatever he raises.
        """
        wait = None
        if not self.ended.called:
            self._is_being_told = True
            try:
                wait = self._tell(line)
            finally:
                self._is_being_told = False
        if self.ended.called:
            raise CancelledError
        return wait

    def end(self, outcome: Failure | None) -> None:
        """The log has ended, or broken off; nothing if he has left."""
        if not self.ended.called:
            self.ended.callback(outcome)

    def _left(self) -> None:
        if not self._is_being_told:
            self._leave()
