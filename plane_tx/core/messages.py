"""What an HTTP/1.1 message is made of, where it ends, and how it is written."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet

import attrs

from plane_tx.core.errors import PlaneError
from plane_tx.core.fields import Headers, fields_of


class Framing(enum.Enum):
    """How the end of a body is told (RFC 9112 section 6)."""

    NONE = "none"
    LENGTH = "length"
    CHUNKED = "chunked"
    UNTIL_CLOSE = "until close"


#: Methods that may be sent twice (RFC 9110 section 9.2.2).
_IDEMPOTENT = frozenset({b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE", b"TRACE"})


@attrs.frozen
class Fields:
    """The fields of a header that a proxy must look at, and what they say.

    `marked` are their names in lower case, and values; all else follows from them. `host` is that
    of the only Host field, None without one. `listed` is what the Connection field names. `framing`
    is None when nothing is said of it, `length` that of a body that has one. What is wrong with any
    of them is a `fault`. `waiting` is what our own waiting page has heard last, None of any other
    request.
    """

    marked: Headers = ()
    host: bytes | None = None
    listed: frozenset[bytes] = frozenset()
    framing: Framing | None = None
    length: int = 0
    fault: str = ""
    waiting: bytes | None = None

    def values(self, name: bytes) -> list[bytes]:
        """Every value of a marked field (lower case), in order."""
        return [value for marked, value in self.marked if marked == name]


@attrs.frozen
class RequestHead:
    """A request line and its header; `target` is in origin form, or `*`.

    `host` is that of the target if it had one, else of the Host field. `plain` are the lines of all
    fields that just pass, as sent.
    """

    method: bytes
    target: bytes
    version: bytes
    fields: Fields
    framing: Framing
    host: bytes
    keep_alive: bool
    upgrade: bytes = b""
    plain: tuple[bytes, ...] = ()
    #: Whether it ends here; worked out once, for each request asks a few times.
    bodiless: bool = attrs.field(init=False, eq=False, repr=False)

    @bodiless.default
    def _is_bodiless(self) -> bool:
        return self.framing is Framing.NONE

    def beside(self, plain: tuple[bytes, ...]) -> RequestHead:
        """The same head, but for the fields that just pass."""
        return RequestHead(
            self.method, self.target, self.version, self.fields,
            self.framing, self.host, self.keep_alive, self.upgrade, plain,
        )  # fmt: skip

    @property
    def repeatable(self) -> bool:
        """Whether it may be sent twice: it is idempotent, and nothing goes with it."""
        return self.bodiless and not self.upgrade and self.method in _IDEMPOTENT

    @property
    def headers(self) -> Headers:
        """All its fields."""
        return fields_of(self.plain) + self.fields.marked

    @property
    def last(self) -> bool:
        """Whether nothing follows on its connection, not even another protocol."""
        return not self.keep_alive and not self.upgrade


@attrs.frozen
class ResponseHead:
    """A status line and its header; interim ones (1xx but 101) have another head after them."""

    status: int
    reason: bytes
    fields: Fields
    framing: Framing
    keep_alive: bool
    plain: tuple[bytes, ...] = ()

    def beside(self, plain: tuple[bytes, ...]) -> ResponseHead:
        """The same head, but for the fields that just pass."""
        fields, framing = self.fields, self.framing
        return ResponseHead(self.status, self.reason, fields, framing, self.keep_alive, plain)

    @property
    def headers(self) -> Headers:
        """All its fields."""
        return fields_of(self.plain) + self.fields.marked

    @property
    def interim(self) -> bool:
        """Whether the real answer is still to come."""
        return self.status < 200 and self.status != 101


@attrs.frozen
class EndOfMessage:
    """The last byte of a message was seen; trailers are those of a chunked body."""

    trailers: Headers = ()


@attrs.frozen
class Broken:
    """Nothing after this can be read; `error` says how to answer it."""

    error: PlaneError


#: The end of a message that has no trailers, which is that of nearly all.
END = EndOfMessage()

RequestEvent = RequestHead | bytes | EndOfMessage | Broken
#: A body that is long may be told as a view of what came: then it is not copied.
ResponseEvent = ResponseHead | bytes | memoryview | EndOfMessage | Broken


def ends_with_last(events: Sequence[RequestEvent]) -> bool:
    """Whether the last of these is a whole request without a body, and its connection's last."""
    head = events[-2] if len(events) > 1 and isinstance(events[-1], EndOfMessage) else None
    return isinstance(head, RequestHead) and head.last


def keeps_alive(version: bytes, listed: AbstractSet[bytes]) -> bool:
    """Whether a sender whose Connection header names `listed` lets the connection go on.

    RFC 9112 section 9.3.
    """
    if version == b"1.1":
        return b"close" not in listed
    return b"keep-alive" in listed and b"close" not in listed


def write_head(first_line: bytes, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A head as it goes over the wire."""
    return join_head(first_line, map(b": ".join, headers))


def join_head(first_line: bytes, lines: Iterable[bytes]) -> bytes:
    """A head as it goes over the wire, of lines that are written already."""
    return b"\r\n".join([first_line, *lines, b"", b""])


def chunk(data: bytes | memoryview) -> bytes:
    """One chunk of a chunked body; `data` must not be empty, for that would end it."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def last_chunk(trailers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The end of a chunked body, with its trailers."""
    return write_head(b"0", trailers)
