"""Which headers cross the proxy, and which it adds, in either direction."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from urllib.parse import quote

import attrs

from plane_tx.core.fields import CORS, HOP_BY_HOP, LOWERED, REPLY_MARKS, Headers, is_forged, name_of
from plane_tx.core.messages import Fields, Framing, RequestHead, ResponseHead
from plane_tx.core.model import Token
from plane_tx.core.routes import Route

_PERCENT_ENCODED = re.compile(r"%[0-9A-Fa-f]{2}")

#: What would change the message it trails (RFC 9110 section 6.5.1); servers that merge trailers
#: into the headers would believe it.
_NEVER_TRAILING = HOP_BY_HOP | {b"host", b"content-length", b"cookie", b"authorization"}

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

VIA = b"1.1 plane-tx"

_CORS_LINES = tuple(map(b": ".join, _CORS))
_VIA_LINE = b"Via: " + VIA


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


def passing(headers: Headers, listed: AbstractSet[bytes] = frozenset()) -> Headers:
    """Those of `headers` that concern more than the connection they came by.

    `listed` is what their Connection field names.
    """
    dropped = HOP_BY_HOP | (listed - _NEVER_DROPPED)
    return tuple(header for header in headers if LOWERED[header[0]] not in dropped)


def _unlisted(head: RequestHead | ResponseHead) -> Iterable[bytes]:
    listed = head.fields.listed
    dropped = listed - _NEVER_DROPPED if listed else None
    if not dropped:
        return head.plain
    return [line for line in head.plain if name_of(line) not in dropped]


class Introductions:
    """The header that one client's requests have at its sessions, made anew where it changes."""

    __slots__ = ("_asked", "_end", "_fields", "_header", "_plain", "_told", "_upgrade")

    def __init__(self) -> None:
        self._asked: tuple[Token, Peer, bytes, str] | None = None
        self._fields: Fields | None = None
        self._plain: tuple[bytes, ...] = ()
        self._upgrade = self._header = self._told = self._end = b""

    def header(self, head: RequestHead, route: Route, peer: Peer) -> bytes:
        """All of it but the path, which each request has another of; a line's end comes first."""
        asked = self._asked
        if (
            asked is None
            or asked[0] is not route.token
            or asked[1] is not peer
            or asked[2] != head.host
            or asked[3] != route.prefix
        ):
            self._asked = (route.token, peer, head.host, route.prefix)
            self._told = b"\r\n".join([b"", *_introduction(head, route, peer)])
            self._fields = None
        if head.fields is not self._fields or head.upgrade != self._upgrade:
            self._fields, self._upgrade = head.fields, head.upgrade
            self._end = b"\r\n".join([*_last_lines(head), b""])
        elif head.plain is self._plain:
            return self._header
        self._plain = head.plain
        self._header = b"\r\n".join([self._told, *_unlisted(head), self._end])
        return self._header


def _introduction(head: RequestHead, route: Route, peer: Peer) -> list[bytes]:
    told = (*_verified(route.token), *_forwarded(head, route, peer))
    return [b"Host: " + head.host, *map(b": ".join, told)]


def _last_lines(head: RequestHead) -> list[bytes]:
    # They follow from the marked fields of the head, and from what is passed on of an upgrade.
    lines = [_VIA_LINE]
    if head.framing is Framing.CHUNKED:
        lines.append(b"Transfer-Encoding: chunked")
    else:
        lines += [b"Content-Length: " + value for value in head.fields.values(b"content-length")]
    if head.upgrade:
        lines += [b"Connection: Upgrade", b"Upgrade: " + head.upgrade]
    return lines


def request_head_of(
    head: RequestHead, route: Route, peer: Peer, introductions: Introductions
) -> bytes:
    """What the upstream is sent: the client's own header, and who is behind it."""
    header = introductions.header(head, route, peer)
    target, path = route.target.encode("latin-1"), route.path.encode("latin-1")
    return b"%s %s HTTP/1.1%sx-verified-path: %s\r\n\r\n" % (head.method, target, header, path)


def request_trailers(trailers: Headers) -> Headers:
    """Those of a request's trailers that the upstream is sent."""
    return tuple(
        trailer
        for trailer in trailers
        if not is_forged(trailer[0]) and LOWERED[trailer[0]] not in _NEVER_TRAILING
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


def response_lines(head: ResponseHead, session_id: str) -> list[bytes]:
    """What the client is sent of the upstream's header, and what we add.

    A Content-Length passes: the parser has seen to it that it is the only one, and true. With a
    101 or 204 it is neither (RFC 9110 section 8.6). Without word of the upstream who may read the
    reply, every origin may (plane.md 4.2).
    """
    lines = list(_unlisted(head))
    added = _CORS_LINES
    for name, value in head.fields.marked:
        if name in CORS:
            added = ()
            lines.append(b"%s: %s" % (name, value))
        elif name == b"content-length" and head.status not in (101, 204):
            lines.append(b"Content-Length: %d" % head.fields.length)
        elif name == b"upgrade" and head.status == 426:
            # It says what to upgrade to (RFC 9110 section 15.5.22).
            lines += [b"Upgrade: " + value, b"Connection: Upgrade"]
    lines += (_VIA_LINE, b"x-plane-backend-id: " + session_id.encode("ascii"))
    lines += added
    return lines


class Renditions:
    """What clients are sent of the heads of one upstream's replies, made anew where they change."""

    __slots__ = ("_head", "_rendition")

    def __init__(self) -> None:
        self._head: ResponseHead | None = None
        self._rendition = b""

    def of(self, head: ResponseHead, session_id: str) -> bytes:
        """The status line and `response_lines`, without the end of the last one."""
        if head is not self._head:
            first = b"HTTP/1.1 %d %s" % (head.status, head.reason)
            lines = response_lines(head, session_id)
            self._head, self._rendition = head, b"\r\n".join([first, *lines])
        return self._rendition


def reply_trailers(trailers: Headers) -> Headers:
    """Those of a reply's trailers that the client is sent: none that would change its head."""
    return tuple(
        trailer
        for trailer in trailers
        if not REPLY_MARKS[trailer[0]] and LOWERED[trailer[0]] != b"set-cookie"
    )


def interim_lines(head: ResponseHead) -> list[bytes]:
    """What the client is sent of the header of an interim reply: no length, for it has no body."""
    return list(_unlisted(head))


def cors(headers: Headers) -> Headers:
    """Leave for every origin, unless the upstream said itself who has it (plane.md 4.2)."""
    return () if any(LOWERED[name] in CORS for name, _ in headers) else _CORS
