"""What an HTTP/1.1 message is made of, where it ends, and how it is written."""

from __future__ import annotations

import enum
from collections.abc import Iterable
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

#: Fields that a proxy must look at, by name in lower case and value, in order.
Marked = tuple[tuple[bytes, bytes], ...]


@attrs.frozen
class RequestHead:
    """A request line and its header; `target` is in origin form, or `*`.

    `plain` are the lines of all fields that just pass, as they were sent; the others are `marked`.
    `host` is that of the target if it had one, else of the Host field. `listed` is what the
    Connection field names.
    """

    method: bytes
    target: bytes
    version: bytes
    plain: tuple[bytes, ...]
    marked: Marked
    framing: Framing
    host: bytes
    keep_alive: bool
    upgrade: bytes = b""
    listed: frozenset[bytes] = frozenset()

    @property
    def repeatable(self) -> bool:
        """Whether it may be sent twice: it is idempotent, and nothing goes with it."""
        bodiless = self.framing is Framing.NONE and not self.upgrade
        return bodiless and self.method in _IDEMPOTENT

    @property
    def headers(self) -> Headers:
        """All fields, for those who look at one request in many."""
        return fields_of(self.plain) + self.marked


@attrs.frozen
class ResponseHead:
    """A status line and its header, parted as a request's; `listed` likewise.

    Interim ones (1xx but 101) have another head after them.
    """

    status: int
    reason: bytes
    plain: tuple[bytes, ...]
    marked: Marked
    framing: Framing
    keep_alive: bool
    listed: frozenset[bytes] = frozenset()

    @property
    def headers(self) -> Headers:
        """All fields, for those who look at one reply in many."""
        return fields_of(self.plain) + self.marked

    @property
    def interim(self) -> bool:
        """Whether the real answer is still to come."""
        return 100 <= self.status < 200 and self.status != 101


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
ResponseEvent = ResponseHead | bytes | EndOfMessage | Broken


def framing_of(marked: Marked, otherwise: Framing) -> tuple[Framing, int]:
    """How a body ends, and after how many bytes; as `otherwise` when nothing is said of it.

    Raises ValueError for an encoding other than chunked, for more than one length, for one that
    whoever is next could read differently, and for both (RFC 9112 section 6.3).
    """
    codings = [value for name, value in marked if name == b"transfer-encoding"]
    lengths = [value for name, value in marked if name == b"content-length"]
    if codings:
        if [coding.lower() for coding in codings] != [b"chunked"]:
            raise ValueError("a Transfer-Encoding other than chunked")
        if lengths:
            raise ValueError("a Content-Length beside its Transfer-Encoding")
        return Framing.CHUNKED, 0
    if not lengths:
        return otherwise, 0
    if len(lengths) > 1 or not lengths[0].isdigit():
        raise ValueError("a Content-Length that is not one number")
    if len(lengths[0]) > 1 and lengths[0].startswith(b"0"):
        raise ValueError("a Content-Length that begins with a 0, which some read as octal")
    length = int(lengths[0])
    return (Framing.LENGTH, length) if length else (Framing.NONE, 0)


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


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body; `data` must not be empty, for that would end it."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def last_chunk(trailers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The end of a chunked body, with its trailers."""
    return write_head(b"0", trailers)
