"""Who may call what is not public: programs on this box, and no foreign web page.

Without keys, being on this box is the only credential. A browser is on this box too, and takes
every page it opens along; Host, Origin and Sec-Fetch-Site tell its requests apart.
"""

from __future__ import annotations

import ipaddress
import re

from twisted.internet.address import UNIXAddress
from twisted.web.server import Request

from plane_tx.control.request import body_of
from plane_tx.core.errors import Forbidden, MalformedRequest, UnsupportedContentType

_HOST = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:(?P<port>[0-9]{1,5}))?")
_JSON = re.compile(r"application/([a-z0-9!#$&^_.+-]+\+)?json", re.IGNORECASE)
_DEFAULT_PORTS = {"http": "80", "https": "443"}
_THIS_MACHINE_6 = ipaddress.IPv6Address("::1")


def check_caller(request: Request) -> None:
    """Raise `Forbidden` for a request that a foreign web page may have sent.

    Raises `MalformedRequest` when there is not exactly one Host, `UnsupportedContentType` for a
    POST whose body does not say it is JSON: those a page may send without asking first.
    """
    host = _the_host(request)
    if not isinstance(request.getHost(), UNIXAddress) and not is_loopback_name(host):
        raise Forbidden(
            f"this address is for this box alone, and {host[:200]!r} is not a name of it:"
            " ask for localhost"
        )
    scheme = "https" if request.isSecure() else "http"
    for origin in _headers(request, "origin"):
        if not is_same_origin(origin, scheme, host):
            raise Forbidden(f"a page of {origin[:200]!r} may not call this server")
    if request.method == b"POST" and body_of(request):
        check_is_json(request)


def check_fetched_at_home(request: Request) -> None:
    """Raise `Forbidden` when a browser says that a page of another site or port asks."""
    if not _fetched_at_home(request):
        raise Forbidden("a page of another site may not call this server")


def check_visit(request: Request) -> None:
    """Raise `Forbidden` when a browser asks from elsewhere, unless a person followed a link."""
    destinations = _headers(request, "sec-fetch-dest") or ["document"]
    visits = _headers(request, "sec-fetch-mode") == ["navigate"] and destinations == ["document"]
    if not visits and not _fetched_at_home(request):
        raise Forbidden("a page of another site may link here, but not load this by itself")


def check_is_json(request: Request) -> None:
    """Raise `UnsupportedContentType` unless the body says it is JSON."""
    said = _headers(request, "content-type")
    if len(said) != 1 or not _JSON.fullmatch(said[0].partition(";")[0].strip()):
        raise UnsupportedContentType("the body must be JSON: send content-type: application/json")


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


def _fetched_at_home(request: Request) -> bool:
    # same-site is not home: a session at another port of localhost runs code of others.
    return all(site in ("same-origin", "none") for site in _headers(request, "sec-fetch-site"))


def _the_host(request: Request) -> str:
    hosts = _headers(request, "host")
    if len(hosts) != 1 or not hosts[0]:
        raise MalformedRequest("a request must name its host: send exactly one Host header")
    return hosts[0]


def _headers(request: Request, name: str) -> list[str]:
    values = request.requestHeaders.getRawHeaders(name.encode("ascii"), [])
    return [value.decode("latin-1") for value in values]
