"""Who may call what is not public: whom a key, another service or being on this box vouches for.

Without keys, being on this box is the only credential. A browser is on this box too, and takes
every page it opens along; Host, Origin and Sec-Fetch-Site tell its requests apart. With keys no
such rule is needed: what a page sends by itself has no Authorization header. That is why a key is
not taken as the password of Basic, which browsers remember and repeat for any page.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
from collections.abc import Callable
from functools import lru_cache

import attrs
from twisted.internet.address import UNIXAddress
from twisted.internet.defer import Deferred
from twisted.web.server import Request

from plane_tx.control.forward_auth import ForwardAuth
from plane_tx.control.request import ControlRequest, has_body
from plane_tx.core.apikeys import ApiKeys, needed_scope
from plane_tx.core.errors import (
    Forbidden,
    MalformedRequest,
    Unauthorized,
    UnsupportedContentType,
)

_HOST = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:(?P<port>[0-9]{1,5}))?")
_JSON = re.compile(r"application/([a-z0-9!#$&^_.+-]+\+)?json", re.IGNORECASE)
_DEFAULT_PORTS = {"http": "80", "https": "443"}
_THIS_MACHINE_6 = ipaddress.IPv6Address("::1")

#: What tells nothing of this server; with keys or forward auth everyone may have it.
_OPEN = frozenset({"/", "/openapi.json"})
_OPEN_BELOW = "/web/"

# The one call that a session may make itself.
_SESSIONS, _KEEPALIVE = "/ctrl/b/", "/keepalive"


@attrs.frozen
class Access:
    """What vouches for callers, as configured: keys, a service, or neither."""

    keys: ApiKeys = attrs.field(factory=ApiKeys)
    forward_auth: ForwardAuth | None = None
    #: Scheme and host of pages of our own, when they are not those that a request came by.
    own_origin: tuple[str, str] | None = None


@attrs.frozen
class Guard:
    """Decides who comes in; `session_secret` tells what a session proves itself with, if any."""

    access: Access
    session_secret: Callable[[str], str | None]

    def check(self, request: ControlRequest, path: str) -> Deferred[None] | None:
        """Let in a call of `path`, which is not public and is given as it is routed, or raise.

        The Deferred is there when a service has to be asked first. Either fails with
        `Unauthorized`, `Forbidden`, or an error that says what is wrong with the request.
        """
        method = request.method.upper()
        service = None
        if not self._is_a_session(request, method, path):
            service = self._check_rules(request, method, path)
        # A POST that is no JSON is one that a page may send without asking first.
        if method == b"POST" and has_body(request):
            check_is_json(request)
        if service is None:
            return None
        return service.ask(method, path, request.requestHeaders)

    def _check_rules(self, request: ControlRequest, method: bytes, path: str) -> ForwardAuth | None:
        keys, service = self.access.keys, self.access.forward_auth
        if not keys and service is None:
            _check_host(request)
            self._check_page(request, path)
            return None
        if _is_open(path):
            return None
        if keys:
            _check_key(request, method, path, keys)
            return None
        # The service may go by cookies, which a browser sends with what a foreign page asks for.
        self._check_page(request, path)
        return service

    def _check_page(self, request: Request, path: str) -> None:
        origins = _headers(request, b"Origin")
        if origins and not all(self._is_own(request, origin) for origin in origins):
            raise Forbidden(f"a page of {origins[0][:200]!r} may not call this server")
        if path == "/demo":
            _check_visit(request)
        elif not _is_open(path):
            _check_fetched_at_home(request)

    def _is_own(self, request: Request, origin: str) -> bool:
        own = self.access.own_origin
        scheme = "https" if request.isSecure() else "http"
        return is_same_origin(origin, scheme, _the_host(request)) or (
            own is not None and is_same_origin(origin, *own)
        )

    def _is_a_session(self, request: ControlRequest, method: bytes, path: str) -> bool:
        """Whether a session calls, with its own secret, the one thing that it may."""
        if method != b"POST" or not path.startswith(_SESSIONS) or not path.endswith(_KEEPALIVE):
            return False
        session_id = path.removeprefix(_SESSIONS).removesuffix(_KEEPALIVE)
        said, secret = _bearer(request), self.session_secret(session_id)
        if not said or not secret or not hmac.compare_digest(said, secret.encode("utf-8")):
            return False
        request.caller = f"session:{session_id}"
        return True


def _is_open(path: str) -> bool:
    return path in _OPEN or path.startswith(_OPEN_BELOW)


def check_is_json(request: Request) -> None:
    """Raise `UnsupportedContentType` unless the body says it is JSON."""
    said = _headers(request, b"Content-Type")
    if said == ["application/json"]:
        return
    if len(said) != 1 or not _JSON.fullmatch(said[0].partition(";")[0].strip()):
        raise UnsupportedContentType("the body must be JSON: send content-type: application/json")


@lru_cache(maxsize=64)
def is_loopback_name(host: str) -> bool:
    """Whether a Host, with or without a port, is a name that only this box has for itself."""
    parts = _HOST.fullmatch(host)
    if parts is None:
        return False
    name = parts["name"].lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        if name.startswith("["):
            return ipaddress.IPv6Address(name[1:-1]) == _THIS_MACHINE_6
        return ipaddress.IPv4Address(name).is_loopback
    except ValueError:
        return False


def is_same_origin(origin: str, scheme: str, host: str) -> bool:
    """Whether an Origin is that of pages served by `scheme` at `host`."""
    its_scheme, separator, its_host = origin.lower().partition("://")
    return bool(separator) and (its_scheme, _with_port(its_host, its_scheme)) == (
        scheme,
        _with_port(host.lower(), scheme),
    )


def _with_port(host: str, scheme: str) -> tuple[str, str]:
    parts = _HOST.fullmatch(host)
    if parts is None:
        return host, ""
    return parts["name"], parts["port"] or _DEFAULT_PORTS.get(scheme, "")


def _check_key(request: ControlRequest, method: bytes, path: str, keys: ApiKeys) -> None:
    secret = _bearer(request)
    if not secret:
        raise Unauthorized("this needs a key: send it once, as Authorization: Bearer SECRET")
    key = keys.find(secret)
    if key is None:
        raise Unauthorized("no key has this secret: see [control] api_keys in the configuration")
    request.caller = key.name
    needed = needed_scope(method, path)
    if needed not in key.scopes:
        raise Forbidden(f"this needs a key with the scope {needed}, which {key.name!r} has not")


def _bearer(request: Request) -> bytes:
    """What stands in the one Authorization header, if it is a Bearer's (RFC 6750 section 2.1)."""
    said = request.requestHeaders.getRawHeaders(b"Authorization", ())
    if len(said) != 1:
        return b""
    scheme, _, secret = said[0].partition(b" ")
    return secret.strip(b" ") if scheme.lower() == b"bearer" else b""


def _check_host(request: Request) -> None:
    host = _the_host(request)
    if not isinstance(request.getHost(), UNIXAddress) and not is_loopback_name(host):
        raise Forbidden(
            f"this address is for this box alone, and {host[:200]!r} is not a name of it:"
            " ask for localhost"
        )


def _check_fetched_at_home(request: Request) -> None:
    if not _fetched_at_home(request):
        raise Forbidden("a page of another site may not call this server")


def _check_visit(request: Request) -> None:
    # From elsewhere only when a person followed a link.
    destinations = _headers(request, b"Sec-Fetch-Dest") or ["document"]
    visits = _headers(request, b"Sec-Fetch-Mode") == ["navigate"] and destinations == ["document"]
    if not visits and not _fetched_at_home(request):
        raise Forbidden("a page of another site may link here, but not load this by itself")


def _fetched_at_home(request: Request) -> bool:
    # same-site is not home: a session at another port of localhost runs code of others.
    return all(site in ("same-origin", "none") for site in _headers(request, b"Sec-Fetch-Site"))


def _the_host(request: Request) -> str:
    hosts = _headers(request, b"Host")
    if len(hosts) != 1 or not hosts[0]:
        raise MalformedRequest("a request must name its host: send exactly one Host header")
    return hosts[0]


def _headers(request: Request, name: bytes) -> list[str]:
    values = request.requestHeaders.getRawHeaders(name, ())
    return [value.decode("latin-1") for value in values]
