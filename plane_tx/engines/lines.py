"""A session's output as lines: cut from bytes, and the last of them kept."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from itertools import islice
from typing import NamedTuple

from plane_tx.core.model import LogLine, LogStream

#: What is kept of one line, in bytes.
MAX_LINE_BYTES = 16 * 1024

#: What of a session's output is told with its end, and kept when it is gone.
TAIL_LINES = 50
TAIL_CHARACTERS = 64 * 1024

#: What of it is told with what a session leaves behind.
REMAINS_LINES = 2000
REMAINS_CHARACTERS = 2 * 1024 * 1024


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
        return line_of(self._began, self._stream, self._partial)


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


class Piece(NamedTuple):
    """What was read at once, not yet cut into lines; the first of them is the `number`-th."""

    at_ns: int
    stream: LogStream
    data: bytes
    number: int
    line_ends: int


class Pieces:
    """Keeps the last of what is read, uncut: adding to it costs next to nothing.

    A line's time is that of its end. No two have the same, and a later one has a later.
    """

    def __init__(self, max_lines: int, max_bytes: int, max_pieces: int) -> None:
        self._max_lines, self._max_bytes, self._max_pieces = max_lines, max_bytes, max_pieces
        self._kept: deque[Piece] = deque()
        self._bytes = 0
        self._next_ns = 0
        self._unfinished = dict.fromkeys(LogStream, 0)
        #: The number of the first piece that is kept.
        self.first = 0
        #: The number of the next line to come.
        self.lines = 0
        #: Streams whose first kept byte is amid a line.
        self.beheaded: set[LogStream] = set()

    def add(self, stream: LogStream, data: bytes, at_ns: int) -> None:
        """Keep `data` but for what makes a line longer than `MAX_LINE_BYTES`."""
        head, end, rest = data.partition(b"\n")
        data = head[: MAX_LINE_BYTES - self._unfinished[stream]] + end + rest
        if not data:
            return
        before = 0 if end else self._unfinished[stream]
        self._unfinished[stream] = before + len(data) - data.rfind(b"\n") - 1
        line_ends = data.count(b"\n")
        piece = Piece(max(at_ns, self._next_ns), stream, data, self.lines, line_ends)
        # A line that is not finished has a time of its own too.
        self._next_ns = piece.at_ns + line_ends + bool(self._unfinished[stream])
        self.lines += line_ends
        self._bytes += len(data)
        self._kept.append(piece)
        self._make_room()

    def finish(self) -> None:
        """Nothing more will come: what is unfinished is a line."""
        for stream, length in self._unfinished.items():
            if length:
                self.add(stream, b"\n", 0)

    def get(self, number: int) -> Piece | None:
        """The piece of that number, which is at least `first`; None when it has not come."""
        index = number - self.first
        return self._kept[index] if index < len(self._kept) else None

    def _make_room(self) -> None:
        # Each stream may have lost the beginning of one line more, which is then not told.
        kept = self._kept
        while (
            self._bytes > self._max_bytes
            or len(kept) > self._max_pieces
            or (len(kept) > 1 and self.lines - kept[1].number >= self._max_lines + len(LogStream))
        ):
            oldest = kept.popleft()
            self._bytes -= len(oldest.data)
            self.first += 1
            if not oldest.data.endswith(b"\n"):
                self.beheaded.add(oldest.stream)
            else:
                self.beheaded.discard(oldest.stream)


class Reader:
    """Cuts what is kept into lines, some at a time, beginning with the last `tail` of now.

    A line is told when it is complete. What made room before it was read is told as one line
    that says so.
    """

    def __init__(self, pieces: Pieces, tail: int) -> None:
        self._pieces = pieces
        self._next = pieces.first
        self._beginnings = dict.fromkeys(LogStream, b"")
        self._beheaded = set(pieces.beheaded)
        self._wanted = pieces.lines - tail
        self._expected: int | None = None
        self._at_ns = 0
        self._stream = LogStream.STDOUT
        self._ready: deque[bytes] = deque()

    def take(self, most: int) -> list[LogLine]:
        """The next lines, no more than `most`; none when all that is complete was taken."""
        lines: list[LogLine] = []
        while len(lines) < most:
            if self._ready:
                lines.append(line_of(self._at_ns, self._stream, self._ready.popleft()))
                self._at_ns += 1
                continue
            if self._next < self._pieces.first and (lost := self._skip()) is not None:
                lines.append(lost)
            elif (piece := self._pieces.get(self._next)) is not None:
                self._cut(piece)
            else:
                break
        return lines

    def unfinished(self) -> list[LogLine]:
        """What came after the last line break of each stream, once everything was taken."""
        return [
            line_of(self._at_ns, stream, text)
            for stream, text in self._beginnings.items()
            if text and stream not in self._beheaded
        ]

    def _skip(self) -> LogLine | None:
        """Go on with what is kept; the lines in between, if there are any, are lost."""
        self._next = self._pieces.first
        self._beginnings = dict.fromkeys(LogStream, b"")
        self._beheaded = set(self._pieces.beheaded)
        piece = self._pieces.get(self._next)
        if piece is None or self._expected is None:
            return None
        lost = piece.number - self._expected
        self._expected = piece.number
        text = f"[{lost} lines are missing here: they came faster than they were read]"
        return LogLine(piece.at_ns - 1, LogStream.STDERR, text) if lost else None

    def _cut(self, piece: Piece) -> None:
        self._next += 1
        self._expected = piece.number + piece.line_ends
        *ended, rest = piece.data.split(b"\n")
        if ended:
            ended[0] = self._beginnings[piece.stream] + ended[0]
            self._beginnings[piece.stream] = rest
        else:
            self._beginnings[piece.stream] += rest
        passed = max(0, self._wanted - piece.number)
        if ended and piece.stream in self._beheaded:
            self._beheaded.discard(piece.stream)
            passed = max(1, passed)
        self._stream = piece.stream
        self._at_ns = piece.at_ns + min(passed, len(ended))
        self._ready.extend(ended[passed:])


def line_of(at_ns: int | None, stream: LogStream, data: bytes) -> LogLine:
    """A line without its end, cut and decoded."""
    text = data[:MAX_LINE_BYTES].removesuffix(b"\r").decode("utf-8", "replace")
    return LogLine(at_ns, stream, text)


def last_of(lines: Iterable[LogLine], tail: int, since_ns: int | None) -> tuple[LogLine, ...]:
    """The last `tail` of `lines`, and of these the ones from `since_ns` on."""
    kept = tuple(lines)
    last = islice(kept, max(0, len(kept) - tail), None)
    return tuple(line for line in last if is_since(line, since_ns))


def told_with_end(lines: Iterable[LogLine]) -> tuple[LogLine, ...]:
    """What of `lines` is told with a session's end."""
    ring = Ring(TAIL_LINES, TAIL_CHARACTERS)
    for line in lines:
        ring.add(line)
    return ring.lines()


def left_behind(lines: Iterable[LogLine]) -> tuple[LogLine, ...]:
    """What of `lines` is told with what a session leaves behind."""
    ring = Ring(REMAINS_LINES, REMAINS_CHARACTERS)
    for line in lines:
        ring.add(line)
    return ring.lines()


def is_since(line: LogLine, since_ns: int | None) -> bool:
    """Whether it came at `since_ns` or later, or nobody knows when."""
    return since_ns is None or line.at_ns is None or line.at_ns >= since_ns
