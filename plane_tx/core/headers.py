"""Which headers cross the proxy, and which it adds, in either direction."""

from __future__ import annotations

import enum
import json
import re
from collections.abc import Set as AbstractSet
from urllib.parse import quote

import attrs

from plane_tx.core.messages import (
    LOWERED,
    ByName,
    Framing,
    Headers,
    RequestHead,
    ResponseHead,
)
from plane_tx.core.model import Token
from plane_tx.core.routes import Route

#: Headers that concern one connection only (RFC 9110 section 7.6.1); framing is our own.
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

#: What the proxy says itself; a client's own would be a forgery, also with underscores or dots,
#: which many frameworks cannot tell from hyphens.
_SEPARATOR = re.compile(rb"[^a-z0-9]")
_OURS = (b"x-verified-", b"x-forwarded-")

_PERCENT_ENCODED = re.compile(r"%[0-9A-Fa-f]{2}")

#: Other names under which a client could tell an address that is not its own.
_ALSO_FORGED = frozenset({b"forwarded", b"x-real-ip", b"x-client-ip", b"true-client-ip"})

#: What would change the message it trails (RFC 9110 section 6.5.1); servers that merge trailers
#: into the headers would believe it.
_NEVER_TRAILING = frozenset({b"host", b"content-length", b"cookie", b"authorization"})

#: What a Connection header cannot take away, whatever it lists; hop-by-hop headers go anyway.
_NEVER_DROPPED = HOP_BY_HOP | {
    b"close",
    b"host",
    b"content-length",
    b"cookie",
    b"authorization",
    b"origin",
}

_CORS: Headers = (
    (b"access-control-allow-origin", b"*"),
    (b"access-control-allow-methods", b"*"),
    (b"access-control-allow-headers", b"*, Authorization"),
)

_CORS_NAMES = frozenset(name for name, _ in _CORS)

VIA = b"1.1 plane-tx"


class Fate(enum.Enum):
    """What becomes of a header of a reply."""

    PASSED = "passed"
    DROPPED = "dropped"
    LENGTH = "passed, unless the reply can have no body"
    CORS = "passed, and ours are not added"


@attrs.frozen
class Peer:
    """Who asks, as the upstream is to know it.

    What follows `secure` is what proxies in front of us told, of whom we trust the nearest:
    everyone on the way, the host and port that were asked, and the path they took off.
    """

    address: str
    secure: bool
    chain: bytes = b""
    host: bytes = b""
    port: bytes = b""
    prefix: bytes = b""


def _forged(name: bytes) -> bool:
    hyphened = _SEPARATOR.sub(b"-", name.lower())
    return hyphened.startswith(_OURS) or hyphened in _ALSO_FORGED


#: By a header's name: whether it goes beyond its connection, and whether a client may say it.
_GOES_ON: ByName[bool] = ByName(lambda name: name.lower() not in HOP_BY_HOP)
_MAY_SAY: ByName[bool] = ByName(lambda name: _GOES_ON[name] and not _forged(name))


def passing(
    headers: Headers, listed: AbstractSet[bytes] = frozenset()
) -> list[tuple[bytes, bytes]]:
    """Those of `headers` that concern more than the connection they came by.

    `listed` is what their Connection header names.
    """
    return _unlisted([header for header in headers if _GOES_ON[header[0]]], listed)


def _unlisted(
    headers: list[tuple[bytes, bytes]], listed: AbstractSet[bytes]
) -> list[tuple[bytes, bytes]]:
    dropped = listed - _NEVER_DROPPED
    if not dropped:
        return headers
    return [header for header in headers if LOWERED[header[0]] not in dropped]


class Introductions:
    """What one client's requests tell of who asks: made anew only when that has changed."""

    __slots__ = ("_asked", "_headers")

    def __init__(self) -> None:
        self._asked: tuple[Token, Peer, bytes, str] | None = None
        self._headers: Headers = ()

    def headers(self, head: RequestHead, route: Route, peer: Peer) -> Headers:
        """All of it but the path, which each request has another of."""
        asked = self._asked
        if (
            asked is None
            or asked[0] is not route.token
            or asked[1] is not peer
            or asked[2] != head.host
            or asked[3] != route.prefix
        ):
            self._asked = (route.token, peer, head.host, route.prefix)
            self._headers = (*_verified(route.token), *_forwarded(head, route, peer), (b"Via", VIA))
        return self._headers


def request_headers(
    head: RequestHead, route: Route, introduction: Headers
) -> list[tuple[bytes, bytes]]:
    """What the upstream is sent: the client's own headers, and who is behind them."""
    headers = [header for header in head.headers if _MAY_SAY[header[0]]]
    if head.listed:
        headers = _unlisted(headers, head.listed)
    if head.framing is Framing.CHUNKED:
        headers.append((b"Transfer-Encoding", b"chunked"))
    if head.upgrade:
        headers += [(b"Connection", b"Upgrade"), (b"Upgrade", head.upgrade)]
    headers.append((b"x-verified-path", route.path.encode("latin-1")))
    headers += introduction
    return headers


def request_trailers(trailers: Headers) -> Headers:
    """Those of a request's trailers that the upstream is sent."""
    return tuple(
        trailer
        for trailer in trailers
        if _MAY_SAY[trailer[0]] and LOWERED[trailer[0]] not in _NEVER_TRAILING
    )


def _verified(token: Token) -> Headers:
    headers = [
        (b"x-verified-backend", token.session_id.encode("ascii")),
        (b"x-verified-secret", token.secret.encode("ascii")),
    ]
    if token.user is not None:
        headers.append((b"x-verified-username", _username(token.user).encode("ascii")))
    if not token.static:
        claims = json.dumps(dict(token.claims), separators=(",", ":"))
        headers.append((b"x-verified-user-data", claims.encode("ascii")))
    return tuple(headers)


def _username(user: str) -> str:
    # One that looks percent-encoded is encoded too, or two users would have one name.
    plain = user.isascii() and not _PERCENT_ENCODED.search(user)
    return user if plain else quote(user, safe=" ")


def _forwarded(head: RequestHead, route: Route, peer: Peer) -> Headers:
    host = peer.host or head.host
    _, colon, port = host.rpartition(b":")
    default = b"443" if peer.secure else b"80"
    headers = [
        (b"X-Forwarded-For", peer.chain or peer.address.encode("ascii")),
        (b"X-Forwarded-Proto", b"https" if peer.secure else b"http"),
        (b"X-Forwarded-Host", host),
        (b"X-Forwarded-Port", peer.port or (port if colon and port.isdigit() else default)),
    ]
    prefix = peer.prefix + route.prefix.encode("ascii")
    if prefix:
        headers.append((b"X-Forwarded-Prefix", prefix))
    return tuple(headers)


#: By a header's name: what becomes of a reply's.
_REPLIED: ByName[Fate] = ByName(lambda name: _fate(name.lower()))


def _fate(name: bytes) -> Fate:
    if name in HOP_BY_HOP:
        return Fate.DROPPED
    if name == b"content-length":
        return Fate.LENGTH
    return Fate.CORS if name in _CORS_NAMES else Fate.PASSED


def response_headers(head: ResponseHead, session_id: str) -> list[tuple[bytes, bytes]]:
    """What the client is sent of the upstream's headers, and what we add.

    A Content-Length passes: the parser has seen to it that it is the only one, and true. With a
    204 it is neither (RFC 9110 section 8.6).
    """
    headers = []
    added = _CORS
    for header in head.headers:
        fate = _REPLIED[header[0]]
        if fate is Fate.PASSED:
            headers.append(header)
        elif fate is Fate.CORS:
            added = ()
            headers.append(header)
        elif fate is Fate.LENGTH and head.status != 204:
            headers.append(header)
    if head.listed:
        headers = _unlisted(headers, head.listed)
    headers.append((b"Via", VIA))
    headers.append((b"x-plane-backend-id", session_id.encode("ascii")))
    headers += added
    return headers


def cors(headers: Headers) -> Headers:
    """Leave for every origin, unless the upstream said itself who has it (plane.md 4.2)."""
    return () if any(LOWERED[name] in _CORS_NAMES for name, _ in headers) else _CORS
