"""What an HTTP/1.1 message is made of, where it ends, and how it is written."""

from __future__ import annotations

import enum
from collections.abc import Iterable

import attrs

from plane_tx.core.errors import PlaneError

Headers = tuple[tuple[bytes, bytes], ...]


class Framing(enum.Enum):
    """How the end of a body is told (RFC 9112 section 6)."""

    NONE = "none"
    LENGTH = "length"
    CHUNKED = "chunked"
    UNTIL_CLOSE = "until close"


@attrs.frozen
class RequestHead:
    """A request line and its headers; `target` is in origin form, or `*`."""

    method: bytes
    target: bytes
    version: bytes
    headers: Headers
    framing: Framing
    host: bytes
    keep_alive: bool
    upgrade: bytes = b""


@attrs.frozen
class ResponseHead:
    """A status line and its headers; interim ones (1xx but 101) have another head after them."""

    status: int
    reason: bytes
    headers: Headers
    framing: Framing
    keep_alive: bool

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


RequestEvent = RequestHead | bytes | EndOfMessage | Broken
ResponseEvent = ResponseHead | bytes | EndOfMessage | Broken


def values_of(headers: Headers, name: bytes) -> list[bytes]:
    """Every value of the header `name` (lower case), in order."""
    return [value for key, value in headers if key.lower() == name]


def tokens_of(headers: Headers, name: bytes) -> set[bytes]:
    """The comma-separated members of a list header, in lower case (RFC 9110 section 5.6.1)."""
    joined = b",".join(values_of(headers, name))
    return {token.strip().lower() for token in joined.split(b",") if token.strip()}


def framing_of(headers: Headers, otherwise: Framing) -> Framing:
    """How a body ends; as `otherwise` when nothing is said of it.

    There must be one length at most, and none beside an encoding. Raises ValueError for an
    encoding other than chunked.
    """
    codings = values_of(headers, b"transfer-encoding")
    if codings:
        if [coding.strip().lower() for coding in codings] != [b"chunked"]:
            raise ValueError("a Transfer-Encoding other than chunked")
        return Framing.CHUNKED
    lengths = values_of(headers, b"content-length")
    if lengths:
        return Framing.NONE if lengths[0].strip(b"0 \t") == b"" else Framing.LENGTH
    return otherwise


def keeps_alive(version: bytes, headers: Headers) -> bool:
    """Whether the sender of `headers` lets the connection go on (RFC 9112 section 9.3)."""
    tokens = tokens_of(headers, b"connection")
    if version == b"1.1":
        return b"close" not in tokens
    return b"keep-alive" in tokens and b"close" not in tokens


def write_head(first_line: bytes, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A head as it goes over the wire."""
    lines = [first_line, *(b"%s: %s" % header for header in headers), b"", b""]
    return b"\r\n".join(lines)


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body; `data` must not be empty, for that would end it."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def last_chunk(trailers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The end of a chunked body, with its trailers."""
    return write_head(b"0", trailers)
