"""A session's output as lines: cut from bytes, and the last of them kept."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from itertools import islice

from plane_tx.core.model import LogLine, LogStream

#: What is kept of one line, in bytes.
MAX_LINE_BYTES = 16 * 1024

#: What of a session's output is told with its end, and kept when it is gone.
TAIL_LINES = 50
TAIL_CHARACTERS = 64 * 1024


class Cutter:
    """Cuts one stream into lines; one over `MAX_LINE_BYTES` loses its end.

    What is not UTF-8 is replaced. A line's time is that of its first byte.
    """

    def __init__(self, stream: LogStream) -> None:
        self._stream = stream
        self._partial = b""
        self._began: int | None = None

    def cut(self, data: bytes, at_ns: int | None) -> list[LogLine]:
        """The lines that `data` ends, however it was cut into pieces on its way."""
        *ended, rest = data.split(b"\n")
        lines = []
        for piece in ended:
            self._lengthen(piece, at_ns)
            lines.append(self._line())
            self._partial, self._began = b"", None
        if rest:
            self._lengthen(rest, at_ns)
        return lines

    def unfinished(self) -> LogLine | None:
        """What came after the last line break."""
        return self._line() if self._partial else None

    def _lengthen(self, piece: bytes, at_ns: int | None) -> None:
        if not self._partial:
            self._began = at_ns
        self._partial += piece[: MAX_LINE_BYTES - len(self._partial)]

    def _line(self) -> LogLine:
        text = self._partial.removesuffix(b"\r").decode("utf-8", "replace")
        return LogLine(self._began, self._stream, text)


class Ring:
    """Keeps the last lines that are added: so many, or of so many characters, whichever is less."""

    def __init__(self, max_lines: int, max_characters: int) -> None:
        self._max_lines = max_lines
        self._max_characters = max_characters
        self._lines: deque[LogLine] = deque()
        self._characters = 0

    def add(self, line: LogLine) -> None:
        """Keep `line`, and let go of the oldest ones that there is no room for."""
        self._lines.append(line)
        self._characters += len(line.text)
        while len(self._lines) > self._max_lines or self._characters > self._max_characters:
            self._characters -= len(self._lines.popleft().text)

    def lines(self) -> tuple[LogLine, ...]:
        """All that is kept, oldest first."""
        return tuple(self._lines)


def last_of(lines: Iterable[LogLine], tail: int, since_ns: int | None) -> tuple[LogLine, ...]:
    """The last `tail` of `lines`, and of these the ones from `since_ns` on."""
    kept = tuple(lines)
    last = islice(kept, max(0, len(kept) - tail), None)
    return tuple(line for line in last if _is_since(line, since_ns))


def told_with_end(lines: Iterable[LogLine]) -> tuple[LogLine, ...]:
    """What of `lines` is told with a session's end."""
    ring = Ring(TAIL_LINES, TAIL_CHARACTERS)
    for line in lines:
        ring.add(line)
    return ring.lines()


def _is_since(line: LogLine, since_ns: int | None) -> bool:
    return since_ns is None or line.at_ns is None or line.at_ns >= since_ns
