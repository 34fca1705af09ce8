"""Which session a host and a path belong to, and the URLs that lead there."""

from __future__ import annotations

import ipaddress
import re
import string
from functools import lru_cache
from urllib.parse import quote

import attrs

from plane_tx.core.errors import BadRequest, UnknownToken, WrongHost
from plane_tx.core.model import HOST_TOKEN, Routing, Session, Token
from plane_tx.core.registry import Registry
from plane_tx.core.use import Visit

#: How much of a path is shown.
MOST_SHOWN = 200

#: How long a target is remembered, lest connections that wait keep much.
MOST_REMEMBERED = 2048

_HOST_LABEL = re.compile(HOST_TOKEN)
_LABELS = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*")
_NUMBER = re.compile(r"\d+|0x[0-9a-f]*")
_PORT = re.compile(r":\d*$")


#: Whatever could be a token, or the greater part of one that was cut.
_TOKEN_LIKE = re.compile(r"(s\.)?([A-Za-z0-9_-]|%[0-9A-Fa-f]{2}){43,}")

#: The shortest text that could hold one.
_SHORTEST_TOKEN = 43


def hide_tokens(text: str) -> str:
    """The same, with no more than 6 characters left of whatever could be a token."""
    if len(text) < _SHORTEST_TOKEN:
        return text
    return _TOKEN_LIKE.sub(lambda found: f"{found[0][:6]}…", text)


@attrs.frozen
class Route:
    """Where a request goes: its session, by which token, under which path upstream.

    `path` is the one that was asked for, token and all, without the query. `slash_missing`
    tells of `/token`: a page there would resolve its relative links against the root.
    """

    session: Session
    token: Token
    target: str
    path: str
    prefix: str
    slash_missing: bool = False


def visit_of(route: Route, peer: str) -> Visit:
    """Who comes by this route and where to, as it may be shown: without query and any token."""
    token = route.token
    path = route.target.partition("?")[0].replace(token.value, f"{token.value[:6]}…")
    return Visit(peer, hide_tokens(path)[:MOST_SHOWN], token.user, token.value)


@lru_cache(maxsize=256)
def host_below(host: str, cluster: str) -> str:
    """What stands before the cluster in a Host header: "" for the cluster itself.

    Case does not matter, nor a trailing dot, nor the port that the cluster's scheme implies: 80 for
    a cluster at 80, as browsers leave it out, and else 443 (Node's `ws` sends it). An empty port is
    none (RFC 3986 section 3.2.3). Nothing stands before an IP literal, nor is a name longer than
    253 (RFC 1035 section 2.3.4): what is found here is kept.
    Raises `WrongHost` for any other host.
    """
    implied = "80" if cluster.endswith(":80") else "443"
    name, wanted = _normal(host, implied), _normal(cluster, implied)
    if name == wanted:
        return ""
    below = name.removesuffix(f".{wanted}")
    if below not in ("", name) and len(name) < 260 and not wanted.startswith("["):
        return below
    raise WrongHost(f"this proxy serves {cluster}, not {host[:200]!r}")


def _normal(host: str, implied: str) -> str:
    if host.startswith("["):
        return _normal_literal(host, implied)
    name, _, port = host.lower().partition(":")
    name = name.removesuffix(".")
    return name if port in ("", implied) else f"{name}:{port}"


def _normal_literal(host: str, implied: str) -> str:
    # An address has many spellings; browsers send the shortest (RFC 5952).
    address, bracket, port = host[1:].partition("]")
    try:
        name = f"[{ipaddress.IPv6Address(address)}]"
    except ValueError:
        return host
    if not bracket:
        return host
    return name if port in ("", ":", f":{implied}") else f"{name}{port}"


def find(registry: Registry, cluster: str, host: str, target: str) -> Route:
    """Find the session that `target` (path and query, as sent) at `host` belongs to.

    Raises `BadRequest` for a path without a token, `UnknownToken`, and `WrongHost` for a host
    that is not where the session lives.
    """
    if not host:
        raise BadRequest("expected a Host header")
    below = host_below(host, cluster)
    path, question, query = target.partition("?")
    if not path.startswith("/"):
        raise BadRequest(f"expected a path that begins with '/', got {target[:200]!r}")
    if below and _HOST_LABEL.fullmatch(below):
        token = _known(registry, below)
        return Route(_session(registry, token), token, target, path, "")
    value, slash, rest = path[1:].partition("/")
    if not value:
        raise BadRequest("the path names no session: use the URL that the app was given")
    token = _known(registry, value)
    session = _session(registry, token)
    _check_home(session, below)
    if token.static:
        return Route(session, token, target, path, "")
    upstream = f"/{rest}{question}{query}"
    return Route(session, token, upstream, path, f"/{value}", slash_missing=not slash)


class Way:
    """Where one client's last request led, for the next one, which is often for the same."""

    __slots__ = ("_asked", "_route", "_visit")

    def __init__(self) -> None:
        self._asked: tuple[bytes, bytes] | None = None
        self._route: Route | None = None
        self._visit: Visit | None = None

    def find(self, registry: Registry, cluster: str, host: bytes, target: bytes) -> Route:
        """The same as `find`, of a Host header and a target as they were sent."""
        route = self._route
        if route is None or self._asked != (host, target) or not _leads_on(registry, route):
            route = find(registry, cluster, host.decode("latin-1"), target.decode("latin-1"))
            if len(target) <= MOST_REMEMBERED:
                self._asked, self._route, self._visit = (host, target), route, None
        return route

    def visit(self, route: Route, peer: str) -> Visit:
        """The same as `visit_of`."""
        if route is not self._route:
            return visit_of(route, peer)
        if self._visit is None or self._visit.peer != peer:
            self._visit = visit_of(route, peer)
        return self._visit


def _leads_on(registry: Registry, route: Route) -> bool:
    """Whether the token was not taken back, and its session not forgotten."""
    return (
        registry.grants.get(route.token.value) is route.token
        and registry.get(route.session.id) is route.session
    )


def _known(registry: Registry, value: str) -> Token:
    token = registry.grants.get(value)
    if token is None:
        raise UnknownToken("this link leads to no session: it was never given out, or is too old")
    return token


def _session(registry: Registry, token: Token) -> Session:
    session = registry.get(token.session_id)
    if session is None:
        raise UnknownToken("the session of this link ended long ago")
    return session


def _check_home(session: Session, below: str) -> None:
    home = session.spec.subdomain or ""
    if below != home or session.spec.routing is Routing.HOST:
        raise WrongHost("this session lives under another host: use the URL that was given out")


def scheme_of(cluster: str, *, secure: bool = False) -> str:
    """https when the proxy is `secure`, which is to speak nothing but TLS; else by the cluster.

    That is https when it names no port, or 443; else http (plane.md 1.5).
    """
    _, _, port = cluster.rpartition(":")
    return "http" if port.isdigit() and port != "443" and not secure else "https"


def session_url(cluster: str, session: Session, token: str, *, secure: bool = False) -> str:
    """The URL of a session, `secure` as `scheme_of` has it."""
    scheme = scheme_of(cluster, secure=secure)
    if session.spec.routing is Routing.HOST:
        return f"{scheme}://{token}.{cluster}/"
    home = f"{session.spec.subdomain}." if session.spec.subdomain else ""
    return f"{scheme}://{home}{cluster}/{token}/"


def has_hosts_below(cluster: str) -> bool:
    """Whether a host can stand below it: a name's can, an address has none.

    What ends in a number is an IPv4 address to browsers (WHATWG URL, "ends in a number").
    """
    last = _name(cluster).rpartition(".")[2]
    return not cluster.startswith("[") and not _NUMBER.fullmatch(last)


def secure_url(cluster: str, host: str, target: str) -> str:
    """Where `target` (as sent) at `host` is found by https: at the cluster and its own port.

    A subdomain of the cluster stays; any other host, also one that makes no sense, is taken for
    the cluster itself, so that nobody is sent elsewhere.
    """
    below = _name(host).removesuffix(f".{_name(cluster)}")
    is_below = below != _name(host) and not cluster.startswith("[")
    home = f"{below}." if is_below and _LABELS.fullmatch(below) else ""
    path = target if target.startswith("/") else "/"
    return f"https://{home}{cluster}{quote(path.encode('latin-1'), safe=string.punctuation)}"


def _name(host: str) -> str:
    return _PORT.sub("", host.lower()).removesuffix(".")
