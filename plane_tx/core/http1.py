"""HTTP/1.1 without sockets: bytes in, events out, for both legs of a proxy.

What llhttp does not know through httptools is decided here and in `heads`: which replies have no
body, that a refused upgrade has a body like any other request, and what a proxy must not let
through.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import httptools

from plane_tx.core.errors import BadRequest, HeadTooLarge, PlaneError, UpstreamUnreachable
from plane_tx.core.fields import REPLY_MARKS, REQUEST_MARKS
from plane_tx.core.heads import marked_fields, marked_request_fields, request_head, response_head
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
from plane_tx.core.reader import Reader

#: How many replies may come before the one that was asked for.
MAX_INTERIMS = 100

#: Of a longer reply that came in one piece the body is told as a view.
MOST_COPIED_BYTES = 16384


class RequestParser(Reader[RequestHead]):
    """Reads the requests of one client connection, one after the other.

    After `Broken`, after a request that ends the connection, and after an offer to upgrade
    nothing more is parsed; what follows an offer gathers in `surplus`.
    """

    _what = "the request"
    _error = BadRequest
    _too_long = HeadTooLarge
    _marks = REQUEST_MARKS

    def __init__(self) -> None:
        super().__init__()
        self._keep_alive = True
        self._upgraded = False
        self.surplus = b""

    @property
    def mid_head(self) -> bool:
        """Whether a head has begun and is not complete."""
        return not (self._verdict.between or self._in_body or self._over)

    def feed(self, data: bytes) -> list[RequestEvent]:
        """Take in what the client sent; return what it amounts to. Never raises."""
        head = self._last_head
        if (
            head is not None
            and data == self._last_bytes
            and head.bodiless
            and head.keep_alive
            and not head.upgrade
            and self._at_rest
        ):
            # Between two messages llhttp is as it was before these bytes, and would judge the same.
            self._empty = 0
            return [head, END]
        rest = data if self._over else self._take(data)
        if self._upgraded:
            self.surplus += rest
        return self._told()

    def _new_judge(self) -> Any:
        return httptools.HttpRequestParser(self._verdict)

    def _read_marked(self, lines: list[bytes]) -> Fields:
        return marked_request_fields(lines)

    def _head_of(self, first: bytes, fields: Fields, plain: tuple[bytes, ...]) -> RequestHead:
        return request_head(first, fields, plain)

    def _begin(self, head: RequestHead) -> None:
        if self._judge.should_upgrade() and not head.upgrade:
            self._decline(head)
        if self._verdict.between != head.bodiless:
            raise self._unclear(b"")
        self._events.append(head)
        self._keep_alive = head.keep_alive
        if not head.bodiless:
            self._expect_body(head.framing, head.fields.length)
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


class ResponseParser(Reader[ResponseHead]):
    """Reads one reply after the other, and the interim ones before each.

    `expect` says what is asked next. What follows a reply unasked makes the connection `dirty`, as
    what cannot be read does: it must not be used again. What follows a 101 is left in `surplus`.
    """

    _what = "the session's reply"
    _error = _too_long = UpstreamUnreachable
    _marks = REPLY_MARKS

    def __init__(self, method: bytes) -> None:
        super().__init__()
        self._method = method
        self._head: ResponseHead | None = None
        self._interims = 0
        self.surplus = b""
        self.dirty = False

    def expect(self, method: bytes) -> None:
        """Read the reply to a request with `method` next; the one before it must be complete."""
        if not self._verdict.between:
            # It waits for a body that the last reply did not have.
            self._judge = self._new_judge()
            self._verdict.between = True
        if method != self._method:
            # Whether a body follows depends on it.
            self._method, self._last_head = method, None
        self._head = None
        self._interims = 0
        self._in_body = self._over = self.dirty = False
        self.surplus = b""

    @property
    def keep_alive(self) -> bool:
        """Whether the connection can carry another reply after this one."""
        return self._head is not None and self._head.keep_alive and not self.dirty

    def feed(self, data: bytes) -> Sequence[ResponseEvent]:
        """Take in what the upstream sent; return what it amounts to. Never raises."""
        head, long = self._last_head, len(self._last_bytes)
        if (
            head is not None
            and head.framing is Framing.LENGTH
            and len(data) == long + head.fields.length
            and data.startswith(self._last_bytes)
            and head.keep_alive
            and self._at_rest
        ):
            # Between two messages llhttp is as it was before this head, and would judge the same;
            # of a body whose length was told it would count the bytes.
            self._empty = 0
            self._head, self._over = head, True
            body = data[long:] if len(data) <= MOST_COPIED_BYTES else memoryview(data)[long:]
            return [head, body, END]
        rest = data if self._over else self._take(data)
        if rest and self._head is not None and self._head.status == 101:
            self.surplus += rest
        elif rest.strip(b"\r\n"):
            self.dirty = True
        return self._told()

    def close(self, *, clean: bool = True) -> Sequence[ResponseEvent]:
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

    def _break(self, error: PlaneError) -> None:
        super()._break(error)
        self.dirty = True

    def _new_judge(self) -> Any:
        return httptools.HttpResponseParser(self._verdict)

    def _read_marked(self, lines: list[bytes]) -> Fields:
        return marked_fields(lines, REPLY_MARKS)

    def _head_of(self, first: bytes, fields: Fields, plain: tuple[bytes, ...]) -> ResponseHead:
        return response_head(self._method, first, fields, plain)

    def _begin(self, head: ResponseHead) -> None:
        if head.interim:
            self._interims += 1
            if self._interims > MAX_INTERIMS:
                raise UpstreamUnreachable(f"more than {MAX_INTERIMS} interim replies came")
            self._agree(self._verdict.between, True)
            self._events.append(head)
            return
        self._head = head
        if head.framing is Framing.NONE:
            self._events.append(head)
            self._end(END)
            return
        self._agree(self._verdict.between, False)
        self._events.append(head)
        self._expect_body(head.framing, head.fields.length)

    def _end(self, end: EndOfMessage) -> None:
        self._events.append(end)
        self._over = True

    def _read_body(self, data: bytes, start: int) -> int:
        if self._head is not None and self._head.framing is Framing.UNTIL_CLOSE:
            self._events.append(data[start:])
            return len(data)
        return super()._read_body(data, start)
