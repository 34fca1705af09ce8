"""Header fields one by one: what their names alone decide, and how they are read."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

T = TypeVar("T")

#: Fields by name and value, in order and as often as sent.
Headers = tuple[tuple[bytes, bytes], ...]

#: Fields that concern one connection only (RFC 9110 section 7.6.1); framing is our own.
HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"http2-settings",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)

#: What tells who may read a reply (the Fetch standard, "CORS protocol").
CORS = frozenset(
    {
        b"access-control-allow-origin",
        b"access-control-allow-methods",
        b"access-control-allow-headers",
    }
)

#: By this our own waiting page asks for news; no session sees it.
WAITING = b"x-plane-tx-waiting"

#: What the proxy says itself: a client's own would be a forgery.
_OURS = (b"x-verified-", b"x-forwarded-")

#: Many frameworks cannot tell underscores or dots from hyphens.
_SEPARATOR = re.compile(rb"[^a-z0-9]")

#: Other names under which a client could tell an address that is not its own.
_ALSO_FORGED = frozenset({b"forwarded", b"x-real-ip", b"x-client-ip", b"true-client-ip"})

#: How many spellings of names `ByName` keeps, and how long they may be.
NAMES_KEPT = 1024
LONGEST_NAME_KEPT = 64


class ByName(dict[bytes, T]):
    """What a field's name decides, worked out once for each spelling of a name.

    Only so many are kept, and no long ones: clients choose the names. When they are too many all
    are forgotten, so that nobody fills the place for good.
    """

    def __init__(self, decide: Callable[[bytes], T]) -> None:
        super().__init__()
        self._decide = decide

    def __missing__(self, name: bytes) -> T:
        decided = self._decide(name)
        if len(name) <= LONGEST_NAME_KEPT:
            if len(self) >= NAMES_KEPT:
                self.clear()
            self[name] = decided
        return decided


#: Every name in lower case, as names are compared (RFC 9110 section 5.1).
LOWERED: ByName[bytes] = ByName(bytes.lower)


def is_forged(name: bytes) -> bool:
    """Whether a client's field of this name would pass for a word of the proxy's."""
    hyphened = _SEPARATOR.sub(b"-", name.lower())
    return hyphened.startswith(_OURS) or hyphened in _ALSO_FORGED


def _mark_of_request(name: bytes) -> bytes:
    lowered = name.lower()
    ours = lowered in (b"host", b"content-length", WAITING)
    return lowered if ours or lowered in HOP_BY_HOP or is_forged(name) else b""


def _mark_of_reply(name: bytes) -> bytes:
    lowered = name.lower()
    ours = lowered in (b"content-length", b"x-plane-backend-id")
    return lowered if ours or lowered in HOP_BY_HOP or lowered in CORS else b""


#: The name in lower case of each field that a proxy must look at; b"" for one that just passes.
REQUEST_MARKS: ByName[bytes] = ByName(_mark_of_request)
REPLY_MARKS: ByName[bytes] = ByName(_mark_of_reply)


def name_of(line: bytes) -> bytes:
    """The name of the field in `line`, in lower case."""
    return LOWERED[line[: line.index(b":")]]


def fields_of(lines: Iterable[bytes]) -> Headers:
    """The fields in `lines`, without the white space around their values."""
    parted = (line.partition(b":") for line in lines)
    return tuple((name, value.strip(b" \t")) for name, _, value in parted)


def values_of(headers: Headers, name: bytes) -> list[bytes]:
    """Every value of the field `name` (lower case), in order."""
    return [value for key, value in headers if LOWERED[key] == name]


def takes_html(accepted: Iterable[bytes]) -> bool:
    """Whether the values of an Accept name text/html, as those of a browser that goes somewhere."""
    return any(b"text/html" in value.lower() for value in accepted)


def tokens_of(values: Sequence[bytes]) -> frozenset[bytes]:
    """The comma-separated members of a list, in lower case (RFC 9110 section 5.6.1)."""
    if not values:
        return frozenset()
    members = (token.strip().lower() for token in b",".join(values).split(b","))
    return frozenset(token for token in members if token)
