"""One HTTP/1.1 message after the other: where each part of it ends, in requests and replies alike.

Two read, and must agree. llhttp (through httptools) judges, strictly: it is told every byte of a
message but those of a body that ends where its connection does, and those of one that comes again
byte by byte. We find where heads and bodies end and what they say, which llhttp would tell one
field at a time. Where it sees another end than we do, the message is refused.
"""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import httptools

from plane_tx.core.chunked import ChunkedBody, LineTooLong
from plane_tx.core.errors import PlaneError
from plane_tx.core.fields import LOWERED, ByName, Headers, fields_of
from plane_tx.core.heads import sorted_lines
from plane_tx.core.messages import (
    END,
    Broken,
    EndOfMessage,
    Fields,
    Framing,
    RequestHead,
    ResponseHead,
)

#: The longest head we read, request line and headers together; trailers may be as long.
MAX_HEAD_BYTES = 65536

#: How many fields a head may have: thousands of short ones would take the reactor's time.
MAX_FIELDS = 256

#: How much is read in one go, counted in heads and in lines of chunked bodies.
MOST_AT_ONCE = 256

#: How long a head is remembered, lest connections that wait keep much.
MOST_REMEMBERED_BYTES = 2048

Head = TypeVar("Head", RequestHead, ResponseHead)


class _Verdict:
    """How llhttp sees it: between two messages, or with a head that is complete."""

    __slots__ = ("between", "headed")

    def __init__(self) -> None:
        self.between = True
        self.headed = False

    def on_message_begin(self) -> None:
        self.between = self.headed = False

    def on_headers_complete(self) -> None:
        self.headed = True

    def on_message_complete(self) -> None:
        self.between = True


class Reader(Generic[Head]):
    """What both parsers share: one message after the other, with what is remembered of the last."""

    _what: str
    _error: type[PlaneError]
    _too_long: type[PlaneError]
    _marks: ByName[bytes]

    def __init__(self) -> None:
        # Not llhttp's own callbacks: each would hold the other until the collector comes by.
        self._verdict = _Verdict()
        self._judge = self._new_judge()
        self._events: list[Head | bytes | EndOfMessage | Broken] = []
        self._kept = b""
        self._empty = 0
        self._last_bytes = b""
        self._last_head: Head | None = None
        self._last_first = self._last_header = b""
        self._last_marked: list[bytes] = []
        self._last_fields = Fields()
        self._last_plain: tuple[bytes, ...] = ()
        self._in_body = False
        self._left = 0
        self._chunked: ChunkedBody | None = None
        #: What came and was not read; `feed(b"")` goes on with it, in another turn.
        self.pending = b""
        self._over = False

    @property
    def _at_rest(self) -> bool:
        # Nothing of another message is here, not even an empty line.
        return not (self._over or self._in_body or self._kept or self.pending)

    def _new_judge(self) -> Any:
        raise NotImplementedError

    def _read_marked(self, lines: list[bytes]) -> Fields:
        """What the marked lines of a header say."""
        raise NotImplementedError

    def _head_of(self, first: bytes, fields: Fields, plain: tuple[bytes, ...]) -> Head:
        """What a head's first line and its fields say."""
        raise NotImplementedError

    def _begin(self, head: Head) -> None:
        """Tell of a head, and of the end of the message when nothing follows."""
        raise NotImplementedError

    def _end(self, end: EndOfMessage) -> None:
        """A message is complete."""
        raise NotImplementedError

    def _take(self, data: bytes) -> bytes:
        # Returns what follows the end. What was kept of a head llhttp has seen already.
        judged, at, left = len(self._kept), 0, MOST_AT_ONCE
        if judged:
            data, self._kept = self._kept + data, b""
        elif self.pending:
            data, self.pending = self.pending + data, b""
        try:
            while at < len(data) and not self._over and left > 0:
                left -= 1
                if self._chunked is not None:
                    at, left = self._read_chunks(self._chunked, data, at, left)
                elif self._in_body:
                    at = self._read_body(data, at)
                else:
                    at = self._read_head(data, at, max(judged, at))
        except PlaneError as error:
            self._break(error)
        except LineTooLong as error:
            self._break(self._too_long(f"{self._what} has {error}"))
        except ValueError as error:
            self._break(self._error(f"{self._what} has {error}"))
        if not self._over:
            self.pending = data[at:]
            return b""
        return data[at:]

    def _told(self) -> list[Head | bytes | EndOfMessage | Broken]:
        events, self._events = self._events, []
        return events

    def _break(self, error: PlaneError) -> None:
        self._over = True
        self._events.append(Broken(error))

    def _read_head(self, data: bytes, start: int, judged: int) -> int:
        last = self._last_head
        if last is not None and judged == start and data.startswith(self._last_bytes, start):
            return self._read_again(last, start)
        if data.startswith(b"\r\n", start) and self._verdict.between:
            return self._pass_over_empty_lines(data, start, judged)
        found = data.find(b"\r\n\r\n", max(judged - 3, start))
        end = len(data) if found < 0 else found + 4
        if end - start > MAX_HEAD_BYTES:
            raise self._too_long(f"the head is longer than {MAX_HEAD_BYTES} bytes")
        self._empty = 0
        self._verdict.headed = False
        self._tell(data[judged:end])
        if self._verdict.headed != (found >= 0):
            raise self._unclear(data[start:end])
        if found < 0:
            self._kept = data[start:]
            return end
        first, _, header = data[start:found].partition(b"\r\n")
        if first.splitlines() != [first]:
            # llhttp ends a request line of HTTP/0.9 at a bare LF, and reads fields behind it.
            raise self._error(f"{self._what} has a line that no CR LF ends")
        fields, plain = self._fields_of(header)
        if last is not None and last.fields is fields and first == self._last_first:
            head = last.beside(plain)
        else:
            head = self._head_of(first, fields, plain)
        self._begin(head)
        if end - start <= MOST_REMEMBERED_BYTES:
            self._last_bytes, self._last_first, self._last_head = data[start:end], first, head
        return end

    def _read_again(self, head: Head, start: int) -> int:
        # Who asks for the same again says the same, byte by byte, and so does who replies; llhttp
        # judges it anew all the same.
        self._empty = 0
        self._verdict.headed = False
        self._tell(self._last_bytes)
        if not self._verdict.headed:
            raise self._unclear(self._last_bytes)
        self._begin(head)
        return start + len(self._last_bytes)

    def _pass_over_empty_lines(self, data: bytes, start: int, judged: int) -> int:
        # Before a request they mean nothing (RFC 9112 section 2.2).
        end = start
        while data.startswith(b"\r\n", end):
            end += 2
        self._tell(data[judged:end])
        self._empty += end - start
        if self._empty > MAX_HEAD_BYTES:
            raise self._too_long(f"more than {MAX_HEAD_BYTES} bytes of empty lines")
        return end

    def _fields_of(self, header: bytes) -> tuple[Fields, tuple[bytes, ...]]:
        # Who asks again on one connection mostly says the same of itself, byte by byte.
        if header == self._last_header:
            return self._last_fields, self._last_plain
        lines = header.splitlines()
        if b"\r\n".join(lines) != header:
            raise self._error(f"{self._what} has a line that no CR LF ends")
        if len(lines) > MAX_FIELDS:
            raise self._too_long(f"the head has more than {MAX_FIELDS} fields")
        plain, marked = sorted_lines(lines, self._marks)
        # What differs from one request to the next is mostly among the fields that just pass.
        fields = self._last_fields
        if marked != self._last_marked:
            fields = self._read_marked(marked)
        if len(header) <= MOST_REMEMBERED_BYTES:
            self._last_header, self._last_plain = header, plain
            self._last_marked, self._last_fields = marked, fields
        return fields, plain

    def _expect_body(self, framing: Framing, length: int) -> None:
        self._in_body = True
        self._left = length
        self._chunked = ChunkedBody() if framing is Framing.CHUNKED else None

    def _read_body(self, data: bytes, start: int) -> int:
        piece = data[start : start + self._left]
        self._left -= len(piece)
        self._tell(piece)
        self._agree(self._verdict.between, not self._left)
        self._events.append(piece)
        if not self._left:
            self._in_body = False
            self._end(END)
        return start + len(piece)

    def _read_chunks(
        self, chunked: ChunkedBody, data: bytes, start: int, most: int
    ) -> tuple[int, int]:
        pieces, end, left = chunked.read(data, start, most)
        self._tell(data[start:end])
        self._agree(self._verdict.between, chunked.complete)
        if pieces:
            self._events.append(b"".join(pieces))
        if chunked.complete:
            self._in_body, self._chunked = False, None
            self._end(EndOfMessage(_trailers_of(chunked)) if chunked.trailers else END)
        return end, left

    def _tell(self, data: bytes) -> None:
        try:
            self._judge.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._agree(upgrade.args[0], len(data))
        except httptools.HttpParserError as error:
            raise self._error(f"{self._what} cannot be read: {error}") from None

    def _unclear(self, _head: bytes) -> PlaneError:
        return self._error(f"{self._what} can be read in two ways: a part of it has no clear end")

    def _agree(self, theirs: int, ours: int) -> None:
        if theirs != ours:
            raise self._unclear(b"")


def _trailers_of(chunked: ChunkedBody) -> Headers:
    trailers = fields_of(chunked.trailers)
    # llhttp would act on it: the connection would end for it, and not for us.
    if any(LOWERED[name] in (b"connection", b"proxy-connection") for name, _ in trailers):
        raise ValueError("a Connection field among its trailers")
    return trailers
