"""Where a chunked body ends, and what it carries (RFC 9112 section 7.1)."""

from __future__ import annotations

import re

#: The longest line in a chunked body, and the most that its trailers may be.
MAX_LINE_BYTES = 65536

#: How many trailers there may be.
MAX_TRAILERS = 256

#: A size that fits 64 bits; what may follow it is an extension, which goes no further.
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,16})(?:[ \t]*;.*)?")


class LineTooLong(ValueError):
    """A line, or all trailers together, that nobody would want to gather."""


class ChunkedBody:
    """Reads one chunked body in whatever pieces it comes."""

    def __init__(self) -> None:
        self.trailers: list[bytes] = []
        self.complete = False
        self._line = b""
        self._left = 0
        self._after_data = False
        self._in_trailers = False
        self._trailer_bytes = 0

    def read(self, data: bytes, start: int, most: int) -> tuple[list[bytes], int, int]:
        """What `data` from `start` on carries of the body, where that stops, and what is left
        of the `most` lines that are read.

        It stops before the end of `data` when the body is `complete`, or for the lines. Raises
        ValueError for what is not chunked, and `LineTooLong`.
        """
        pieces: list[bytes] = []
        at = start
        while at < len(data) and not self.complete and most > 0:
            if self._left:
                piece = data[at : at + self._left]
                pieces.append(piece)
                at += len(piece)
                self._left -= len(piece)
                self._after_data = not self._left
                continue
            end = data.find(b"\n", at) + 1
            self._line += data[at : end or len(data)]
            if len(self._line) > MAX_LINE_BYTES:
                raise LineTooLong(f"a line in its body longer than {MAX_LINE_BYTES} bytes")
            at = end or len(data)
            most -= 1
            if end:
                line, self._line = self._line, b""
                self._read_line(line)
        return pieces, at, most

    def _read_line(self, line: bytes) -> None:
        if not line.endswith(b"\r\n"):
            raise ValueError("a line in its body that no CR LF ends")
        text = line[:-2]
        if self._in_trailers:
            self._read_trailer(text)
        elif self._after_data:
            if text:
                raise ValueError("a chunk that is longer than it says")
            self._after_data = False
        else:
            size = _SIZE.fullmatch(text)
            if size is None:
                raise ValueError("a chunk size that is no number")
            self._left = int(size[1], 16)
            self._in_trailers = not self._left

    def _read_trailer(self, text: bytes) -> None:
        self._trailer_bytes += len(text) + 2
        if self._trailer_bytes > MAX_LINE_BYTES:
            raise LineTooLong(f"trailers longer than {MAX_LINE_BYTES} bytes")
        if len(self.trailers) >= MAX_TRAILERS:
            raise LineTooLong(f"more than {MAX_TRAILERS} trailers")
        if text:
            self.trailers.append(text)
        else:
            self.complete = True
