"""What an HTTP/1.1 message is made of, where it ends, and how it is written."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet
from typing import TypeVar

import attrs

from plane_tx.core.errors import PlaneError

Headers = tuple[tuple[bytes, bytes], ...]

#: How many spellings of names `ByName` keeps, and how long they may be.
NAMES_KEPT = 1024
LONGEST_NAME_KEPT = 64

T = TypeVar("T")


class Framing(enum.Enum):
    """How the end of a body is told (RFC 9112 section 6)."""

    NONE = "none"
    LENGTH = "length"
    CHUNKED = "chunked"
    UNTIL_CLOSE = "until close"


@attrs.frozen
class RequestHead:
    """A request line and its headers; `target` is in origin form, or `*`.

    `host` is that of the target if it had one, else of the Host header, which then says the same.
    `listed` is what its Connection header names.
    """

    method: bytes
    target: bytes
    version: bytes
    headers: Headers
    framing: Framing
    host: bytes
    keep_alive: bool
    upgrade: bytes = b""
    listed: frozenset[bytes] = frozenset()


@attrs.frozen
class ResponseHead:
    """A status line and its headers; interim ones (1xx but 101) have another head after them."""

    status: int
    reason: bytes
    headers: Headers
    framing: Framing
    keep_alive: bool
    listed: frozenset[bytes] = frozenset()

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


class ByName(dict[bytes, T]):
    """What a header's name alone decides, worked out once for each spelling of a name.

    Only so many are kept, and no long ones: clients choose the names.
    """

    def __init__(self, decide: Callable[[bytes], T]) -> None:
        super().__init__()
        self._decide = decide

    def __missing__(self, name: bytes) -> T:
        decided = self._decide(name)
        if len(self) < NAMES_KEPT and len(name) <= LONGEST_NAME_KEPT:
            self[name] = decided
        return decided


#: Every name in lower case, as names are compared (RFC 9110 section 5.1).
LOWERED: ByName[bytes] = ByName(bytes.lower)

#: The names that decide how a message is framed, where it goes, and what follows it.
_TELLING = frozenset(
    {b"connection", b"content-length", b"host", b"transfer-encoding", b"upgrade"},
)
_TOLD_BY: ByName[bytes] = ByName(lambda name: name.lower() if name.lower() in _TELLING else b"")

#: The values of the headers that tell how to read a message, by name.
Telling = dict[bytes, list[bytes]]


def telling(headers: Headers) -> Telling:
    """What the headers say that framing, the target and the connection depend on."""
    told: Telling = {}
    for name, value in headers:
        known = _TOLD_BY[name]
        if known:
            told.setdefault(known, []).append(value)
    return told


def values_of(headers: Headers, name: bytes) -> list[bytes]:
    """Every value of the header `name` (lower case), in order."""
    return [value for key, value in headers if LOWERED[key] == name]


def tokens_of(values: Sequence[bytes]) -> frozenset[bytes]:
    """The comma-separated members of a list header, in lower case (RFC 9110 section 5.6.1)."""
    if not values:
        return frozenset()
    members = (token.strip().lower() for token in b",".join(values).split(b","))
    return frozenset(token for token in members if token)


def framing_of(told: Telling, otherwise: Framing) -> Framing:
    """How a body ends; as `otherwise` when nothing is said of it.

    There must be one length at most, and none beside an encoding. Raises ValueError for an
    encoding other than chunked.
    """
    codings = told.get(b"transfer-encoding")
    if codings:
        if [coding.strip().lower() for coding in codings] != [b"chunked"]:
            raise ValueError("a Transfer-Encoding other than chunked")
        return Framing.CHUNKED
    lengths = told.get(b"content-length")
    if lengths:
        return Framing.NONE if lengths[0].strip(b"0 \t") == b"" else Framing.LENGTH
    return otherwise


def keeps_alive(version: bytes, listed: AbstractSet[bytes]) -> bool:
    """Whether a sender whose Connection header names `listed` lets the connection go on.

    RFC 9112 section 9.3.
    """
    if version == b"1.1":
        return b"close" not in listed
    return b"keep-alive" in listed and b"close" not in listed


def write_head(first_line: bytes, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A head as it goes over the wire."""
    return b"\r\n".join([first_line, *map(b": ".join, headers), b"", b""])


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body; `data` must not be empty, for that would end it."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def last_chunk(trailers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The end of a chunked body, with its trailers."""
    return write_head(b"0", trailers)
