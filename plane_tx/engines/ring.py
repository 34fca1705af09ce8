"""The last lines of a session's output, in bounded memory."""

from __future__ import annotations

from collections import deque
from itertools import islice

MAX_LINES = 2000
MAX_BYTES = 1024 * 1024
MAX_LINE_BYTES = 16 * 1024


class Ring:
    """Keeps the last `MAX_LINES` lines or `MAX_BYTES` bytes of what is added, whichever is less.

    A line over `MAX_LINE_BYTES` loses its end. The last line counts before its newline came.
    """

    def __init__(self) -> None:
        self._lines: deque[bytes] = deque()
        self._bytes = 0
        self._partial = b""

    def add(self, data: bytes) -> None:
        """Take the next bytes, however they were cut into pieces on their way."""
        *ended, rest = data.split(b"\n")
        for piece in ended:
            self._end_line(self._longer(piece))
            self._partial = b""
        self._partial = self._longer(rest)
        self._drop_oldest()

    def lines(self, tail: int) -> tuple[str, ...]:
        """The last `tail` lines, oldest first; what is not UTF-8 in them is replaced."""
        kept = [*self._lines, self._partial] if self._partial else self._lines
        return tuple(
            line.decode("utf-8", "replace")
            for line in islice(kept, max(0, len(kept) - max(0, tail)), None)
        )

    def _longer(self, piece: bytes) -> bytes:
        return self._partial + piece[: MAX_LINE_BYTES - len(self._partial)]

    def _end_line(self, line: bytes) -> None:
        line = line.removesuffix(b"\r")
        self._lines.append(line)
        self._bytes += len(line)

    def _drop_oldest(self) -> None:
        while self._lines and (
            len(self._lines) + bool(self._partial) > MAX_LINES
            or self._bytes + len(self._partial) > MAX_BYTES
        ):
            self._bytes -= len(self._lines.popleft())
