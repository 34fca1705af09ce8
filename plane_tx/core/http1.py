"""HTTP/1.1 without sockets: bytes in, events out, for both legs of a proxy.

Two read each byte, and must agree. llhttp (through httptools) judges: strictly, and it is told
every byte. We find where heads and bodies end and what they say, which llhttp would tell one field
at a time. Where it sees another end than we do, the message is refused. What llhttp does not know
through httptools is decided here and in `heads`: which replies have no body, that a refused upgrade
has a body like any other request, and what a proxy must not let through.
"""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import httptools

from plane_tx.core.chunked import ChunkedBody, LineTooLong
from plane_tx.core.errors import BadRequest, HeadTooLarge, PlaneError, UpstreamUnreachable
from plane_tx.core.fields import REPLY_MARKS, fields_of
from plane_tx.core.heads import fields_in, request_fields, request_head, response_head
from plane_tx.core.messages import (
    END,
    Broken,
    EndOfMessage,
    Fields,
    Framing,
    RequestEvent,
    RequestHead,
    ResponseEvent,
    ResponseHead,
)

#: The longest head we read, request line and headers together; trailers may be as long.
MAX_HEAD_BYTES = 65536

#: How long a header is remembered, lest connections that wait keep much.
MOST_REMEMBERED_BYTES = 2048

Event = TypeVar("Event")


class _Reader(Generic[Event]):
    """What both parsers share: one message after the other, each byte judged by llhttp."""

    _what: str
    _error: type[PlaneError]
    _too_long: type[PlaneError]

    def __init__(self) -> None:
        self._judge = self._new_judge()
        self._events: list[Event | bytes | EndOfMessage | Broken] = []
        self._kept = b""
        self._empty = 0
        self._last_header = b""
        self._last_fields = Fields()
        self._in_body = False
        self._left = 0
        self._chunked: ChunkedBody | None = None
        # How llhttp sees it: between two messages, or with a head that is complete.
        self._between = True
        self._headed = False
        self._over = False

    def on_message_begin(self) -> None:
        """A message begins, says llhttp."""
        self._between = self._headed = False
        self._empty = 0

    def on_headers_complete(self) -> None:
        """A head is complete, says llhttp."""
        self._headed = True

    def on_message_complete(self) -> None:
        """A message is complete, says llhttp."""
        self._between = True

    def _new_judge(self) -> Any:
        raise NotImplementedError

    def _read_fields(self, lines: list[bytes]) -> Fields:
        raise NotImplementedError

    def _begin(self, first: bytes, fields: Fields) -> None:
        """Tell of a head, and of the end of the message when nothing follows."""
        raise NotImplementedError

    def _end(self, end: EndOfMessage) -> None:
        """A message is complete."""
        raise NotImplementedError

    def _take(self, data: bytes) -> bytes:
        # Returns what follows the end. What was kept of a head llhttp has seen already.
        judged, at = len(self._kept), 0
        if judged:
            data, self._kept = self._kept + data, b""
        try:
            while at < len(data) and not self._over:
                if self._in_body:
                    at = self._read_body(data, at)
                else:
                    at = self._read_head(data, at, max(judged, at))
        except PlaneError as error:
            self._break(error)
        except LineTooLong as error:
            self._break(self._too_long(f"{self._what} has {error}"))
        except ValueError as error:
            self._break(self._error(f"{self._what} has {error}"))
        return data[at:]

    def _told(self) -> list[Event | bytes | EndOfMessage | Broken]:
        events, self._events = self._events, []
        return events

    def _break(self, error: PlaneError) -> None:
        self._over = True
        self._events.append(Broken(error))

    def _read_head(self, data: bytes, start: int, judged: int) -> int:
        if self._between and data.startswith(b"\r\n", start):
            # Empty lines before a request mean nothing (RFC 9112 section 2.2).
            self._tell(data[judged : start + 2])
            self._empty += 2
            if self._empty > MAX_HEAD_BYTES:
                raise self._too_long(f"more than {MAX_HEAD_BYTES} bytes of empty lines")
            return start + 2
        found = data.find(b"\r\n\r\n", max(judged - 3, start))
        end = len(data) if found < 0 else found + 4
        if end - start > MAX_HEAD_BYTES:
            raise self._too_long(f"the head is longer than {MAX_HEAD_BYTES} bytes")
        self._headed = False
        self._tell(data[judged:end])
        if self._headed != (found >= 0):
            raise self._unclear(data[start:end])
        if found < 0:
            self._kept = data[start:]
        else:
            first, _, header = data[start:found].partition(b"\r\n")
            self._begin(first, self._fields_of(header))
        return end

    def _fields_of(self, header: bytes) -> Fields:
        # Who asks again on one connection mostly says the same of itself, byte by byte.
        if header == self._last_header:
            return self._last_fields
        fields = self._read_fields(header.split(b"\r\n") if header else [])
        if len(header) <= MOST_REMEMBERED_BYTES:
            self._last_header, self._last_fields = header, fields
        return fields

    def _expect_body(self, framing: Framing, length: int) -> None:
        self._in_body = True
        self._left = length
        self._chunked = ChunkedBody() if framing is Framing.CHUNKED else None

    def _read_body(self, data: bytes, start: int) -> int:
        if self._chunked is not None:
            return self._read_chunks(self._chunked, data, start)
        piece = data[start : start + self._left]
        self._left -= len(piece)
        self._tell(piece)
        self._agree(self._between, not self._left)
        self._events.append(piece)
        if not self._left:
            self._in_body = False
            self._end(END)
        return start + len(piece)

    def _read_chunks(self, chunked: ChunkedBody, data: bytes, start: int) -> int:
        pieces, end = chunked.read(data, start)
        self._tell(data[start:end])
        self._agree(self._between, chunked.complete)
        if pieces:
            self._events.append(b"".join(pieces))
        if chunked.complete:
            self._in_body = False
            self._end(EndOfMessage(fields_of(chunked.trailers)) if chunked.trailers else END)
        return end

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


class RequestParser(_Reader[RequestHead]):
    """Reads the requests of one client connection, one after the other.

    After `Broken`, after a request that ends the connection, and after an offer to upgrade
    nothing more is parsed; what follows an offer gathers in `surplus`.
    """

    _what = "the request"
    _error = BadRequest
    _too_long = HeadTooLarge

    def __init__(self) -> None:
        super().__init__()
        self._keep_alive = True
        self._upgraded = False
        self.surplus = b""

    @property
    def mid_head(self) -> bool:
        """Whether a head has begun and is not complete."""
        return not (self._between or self._in_body or self._over)

    def feed(self, data: bytes) -> list[RequestEvent]:
        """Take in what the client sent; return what it amounts to. Never raises."""
        rest = data if self._over else self._take(data)
        if self._upgraded:
            self.surplus += rest
        return self._told()

    def _new_judge(self) -> Any:
        return httptools.HttpRequestParser(self)

    def _read_fields(self, lines: list[bytes]) -> Fields:
        return request_fields(lines)

    def _begin(self, first: bytes, fields: Fields) -> None:
        head = request_head(first, fields)
        if self._judge.should_upgrade() and not head.upgrade:
            self._decline(head)
        self._agree(self._between, head.framing is Framing.NONE)
        self._events.append(head)
        self._keep_alive = head.keep_alive
        if head.framing is not Framing.NONE:
            self._expect_body(head.framing, fields.length)
        else:
            self._upgraded = bool(head.upgrade)
            self._end(END)

    def _end(self, end: EndOfMessage) -> None:
        self._events.append(end)
        self._over = not self._keep_alive

    def _decline(self, head: RequestHead) -> None:
        # llhttp stops at any offer to upgrade. Where it is not passed on, the request goes on as if
        # it had not been made (RFC 9110 section 7.8), body and all.
        self._judge = self._new_judge()
        self._tell(_same_framing(head))

    def _unclear(self, head: bytes) -> PlaneError:
        if head.startswith(b"PRI * HTTP/2"):
            return BadRequest("HTTP/2 is not spoken here: use HTTP/1.1")
        return super()._unclear(head)


def _same_framing(head: RequestHead) -> bytes:
    framed = (b"content-length", b"transfer-encoding")
    lines = [b"%s: %s\r\n" % field for field in head.fields.marked if field[0] in framed]
    after = b"keep-alive" if head.keep_alive else b"close"
    lines.append(b"Connection: %s\r\n" % after)
    return b"POST / HTTP/%s\r\n%s\r\n" % (head.version, b"".join(lines))


class ResponseParser(_Reader[ResponseHead]):
    """Reads one reply after the other, and the interim ones before each.

    `expect` says what is asked next. What follows a reply unasked makes the connection `dirty`: it
    must not be used again. What follows a 101 is left in `surplus`.
    """

    _what = "the session's reply"
    _error = _too_long = UpstreamUnreachable

    def __init__(self, method: bytes) -> None:
        super().__init__()
        self._method = method
        self._head: ResponseHead | None = None
        self.surplus = b""
        self.dirty = False

    def expect(self, method: bytes) -> None:
        """Read the reply to a request with `method` next; the one before it must be complete."""
        if not self._between:
            # It waits for a body that the last reply did not have.
            self._judge = self._new_judge()
            self._between = True
        self._method = method
        self._head = None
        self._in_body = self._over = self.dirty = False
        self.surplus = b""

    @property
    def keep_alive(self) -> bool:
        """Whether the connection can carry another reply after this one."""
        return self._head is not None and self._head.keep_alive and not self.dirty

    def feed(self, data: bytes) -> list[ResponseEvent]:
        """Take in what the upstream sent; return what it amounts to. Never raises."""
        rest = data if self._over else self._take(data)
        if rest and self._head is not None and self._head.status == 101:
            self.surplus += rest
        elif rest.strip(b"\r\n"):
            self.dirty = True
        return self._told()

    def close(self, *, clean: bool = True) -> list[ResponseEvent]:
        """The upstream hung up: the end of a close-delimited body, or a reply cut short.

        A connection that broke, rather than being closed (`clean`), ends no body.
        """
        if self._over:
            return []
        self._over = True
        head = self._head
        if head is not None and head.framing is Framing.UNTIL_CLOSE and clean:
            return [END]
        began = "in the middle of its reply" if head else "without a reply"
        return [Broken(UpstreamUnreachable(f"the session hung up {began}"))]

    def _new_judge(self) -> Any:
        return httptools.HttpResponseParser(self)

    def _read_fields(self, lines: list[bytes]) -> Fields:
        return fields_in(lines, REPLY_MARKS)

    def _begin(self, first: bytes, fields: Fields) -> None:
        head = response_head(self._method, first, fields)
        if head.interim:
            self._agree(self._between, True)
            self._events.append(head)
            return
        self._head = head
        if head.framing is Framing.NONE:
            self._events.append(head)
            self._end(END)
            return
        self._agree(self._between, False)
        self._events.append(head)
        self._expect_body(head.framing, fields.length)

    def _end(self, end: EndOfMessage) -> None:
        self._events.append(end)
        self._over = True

    def _read_body(self, data: bytes, start: int) -> int:
        if self._head is not None and self._head.framing is Framing.UNTIL_CLOSE:
            self._events.append(data[start:])
            return len(data)
        return super()._read_body(data, start)
