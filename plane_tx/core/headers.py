"""Which headers cross the proxy, and which it adds, in either direction."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from urllib.parse import quote

import attrs

from plane_tx.core.messages import (
    Framing,
    Headers,
    RequestHead,
    ResponseHead,
    tokens_of,
    values_of,
)
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

#: What a Connection header cannot take away, whatever it lists.
_END_TO_END = frozenset({b"host", b"content-length", b"cookie", b"authorization", b"origin"})

_CORS: Headers = (
    (b"access-control-allow-origin", b"*"),
    (b"access-control-allow-methods", b"*"),
    (b"access-control-allow-headers", b"*, Authorization"),
)

VIA = b"1.1 plane-tx"


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


def passing(headers: Headers) -> Iterable[tuple[bytes, bytes]]:
    """Those of `headers` that concern more than the connection they came by."""
    listed = tokens_of(headers, b"connection") - _END_TO_END
    for name, value in headers:
        lowered = name.lower()
        if lowered not in HOP_BY_HOP and lowered not in listed:
            yield name, value


def _forged(name: bytes) -> bool:
    hyphened = _SEPARATOR.sub(b"-", name.lower())
    return hyphened.startswith(_OURS) or hyphened in _ALSO_FORGED


def request_headers(head: RequestHead, route: Route, peer: Peer) -> list[tuple[bytes, bytes]]:
    """What the upstream is sent: the client's own headers, and who is behind them."""
    headers = [header for header in passing(head.headers) if not _forged(header[0])]
    if head.host != next(iter(values_of(head.headers, b"host")), b"").strip():
        # A target in absolute form has the say (RFC 9112 section 3.2.2).
        headers = [header for header in headers if header[0].lower() != b"host"]
        headers.append((b"Host", head.host))
    if head.framing is Framing.CHUNKED:
        headers.append((b"Transfer-Encoding", b"chunked"))
    if head.upgrade:
        headers += [(b"Connection", b"Upgrade"), (b"Upgrade", head.upgrade)]
    headers += _verified(route)
    headers += _forwarded(head, route, peer)
    headers.append((b"Via", VIA))
    return headers


def request_trailers(trailers: Headers) -> Headers:
    """Those of a request's trailers that the upstream is sent."""
    return tuple(
        trailer
        for trailer in passing(trailers)
        if not _forged(trailer[0]) and trailer[0].lower() not in _NEVER_TRAILING
    )


def _verified(route: Route) -> Headers:
    token = route.token
    headers = [
        (b"x-verified-path", route.path.encode("latin-1")),
        (b"x-verified-backend", route.session.id.encode("ascii")),
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


def response_headers(head: ResponseHead, session_id: str) -> list[tuple[bytes, bytes]]:
    """What the client is sent of the upstream's headers, and what we add.

    A Content-Length passes: the parser has seen to it that it is the only one, and true. With a
    204 it is neither (RFC 9110 section 8.6).
    """
    headers = list(passing(head.headers))
    if head.status == 204:
        headers = [header for header in headers if header[0].lower() != b"content-length"]
    headers.append((b"Via", VIA))
    headers.append((b"x-plane-backend-id", session_id.encode("ascii")))
    return headers + list(cors(head.headers))


def cors(headers: Headers) -> Headers:
    """Leave for every origin, unless the upstream said itself who has it (plane.md 4.2)."""
    ours = {name for name, _ in _CORS}
    said = any(name.lower() in ours for name, _ in headers)
    return () if said else _CORS
