"""What a Twisted endpoint description tells: who reaches it, by which URL, and what it lacks."""

from __future__ import annotations

import ipaddress
import posixpath
import re
from collections.abc import Mapping

#: A part of an endpoint description and what ends it; a backslash takes its meaning from `:`, `=`.
_PART = re.compile(r"((?:[^:\\]|\\.)*)(:|\Z)", re.DOTALL)
_NAMED = re.compile(r"((?:[^=\\]|\\.)*)=(.*)", re.DOTALL)

#: How many connections may wait to be accepted where a description does not say. The kernel takes
#: no more than net.core.somaxconn; Twisted's own 50 is used up by one burst of a page's requests.
BACKLOG = 4096

#: What each kind takes, in the order in which it may also stand there without its name.
_OPTIONS: Mapping[str, tuple[str, ...]] = {
    "tcp": ("port", "interface", "backlog"),
    "tcp6": ("port", "backlog", "interface"),
    "ssl": (
        "port", "privateKey", "certKey", "sslmethod", "interface", "backlog", "extraCertChain",
        "dhParameters",
    ),
    "tls": ("path", "port", "backlog", "interface"),
    "unix": ("address", "mode", "backlog", "lockfile"),
}  # fmt: skip

_FILES = ("privateKey", "certKey", "extraCertChain", "dhParameters")

#: Options with a form of their own, and that form in words.
_VALUES = {
    "port": (re.compile(r"[0-9]{1,5}"), "a port from 0 to 65535"),
    "address": (re.compile(r".+"), "a path"),
    "path": (re.compile(r".+"), "the path of a file with the key and its certificate"),
    "backlog": (re.compile(r"[0-9]{1,9}"), "a number"),
    "mode": (re.compile(r"[0-7]{3,4}"), 'an octal number, like "660"'),
    "lockfile": (re.compile(r"[01]"), "0 or 1"),
    "sslmethod": (re.compile(r"(TLS|TLSv1_[12]|TLSv1|SSLv23)_METHOD"), '"TLSv1_2_METHOD"'),
}


def complaint(endpoint: str) -> str:
    """What is wrong with a description of a kind that is known here, as far as it tells by itself.

    "" where nothing is, and for kinds that only Twisted and its plugins know.
    """
    (kind, *positional), named = _parts(endpoint)
    options = _OPTIONS.get(kind)
    if not endpoint.isprintable() or not kind:
        return 'expected "tcp:PORT:interface=ADDRESS" or another description of an endpoint'
    if options is None:
        return ""
    if len(positional) > len(options):
        return f"{kind}: takes {', '.join(options)}, and nothing more"
    names = [*options[: len(positional)], *(name for name, _ in named)]
    for name in names:
        if name not in options:
            return f"{kind}: has no {name!r}, only {', '.join(options)}"
        if names.count(name) > 1:
            return f"{name} is said twice"
    return _wrong_value(_values(endpoint), options[0])


def _wrong_value(values: Mapping[str, str], first: str) -> str:
    if first not in values:
        return f"it has no {first}"
    for name, (form, words) in _VALUES.items():
        value = values.get(name)
        if value is not None and not form.fullmatch(value):
            return f"{name}: expected {words}, got {value!r}"
    if int(values.get("port", 0)) > 65535:
        return f"port: expected {_VALUES['port'][1]}, got {values['port']!r}"
    return ""


def with_backlog(endpoint: str) -> str:
    """The same, with room for `BACKLOG` connections where it does not say for how many."""
    known = kind_of(endpoint) in _OPTIONS and "backlog" not in _values(endpoint)
    return f"{endpoint}:backlog={BACKLOG}" if known else endpoint


def with_files_below(endpoint: str, folder: str) -> str:
    """The same `ssl:` description, with relative files taken to be below `folder`."""
    key, certificate, *_ = tls_files(endpoint)
    values = {**_values(endpoint), "privateKey": key, "certKey": certificate}
    for name in _FILES:
        if name in values:
            values[name] = posixpath.join(folder, values[name])
    return _described(kind_of(endpoint), values)


def as_ssl(endpoint: str) -> str:
    """The `ssl:` description that means the same as a `tls:` one; any other as it is.

    As in Twisted the port of `tls:PATH` is 443, its interface all. There PATH is a directory that
    is read again, on the reactor, whenever a stranger asks for a name that is not in it; here it is
    one file.
    """
    kind = kind_of(endpoint)
    if kind.lower() != "tls":
        return endpoint
    plain = f"tls{endpoint.removeprefix(kind)}"
    if complaint(plain):
        return plain
    values = {"port": "443", "interface": "::", **_values(plain)}
    path = values.pop("path")
    return _described("ssl", {**values, "privateKey": path, "certKey": path})


def is_loopback(endpoint: str) -> bool:
    """Whether only this box can reach what a Twisted endpoint description listens at.

    Read as Twisted reads it. What it is not sure about (other kinds, an interface that is not
    named or that is named twice, positional arguments) is said to be open.
    """
    (kind, *positional), named = _parts(endpoint)
    if kind == "unix":
        return True
    interfaces = [value for name, value in named if name == "interface"]
    if kind not in ("tcp", "tcp6", "ssl") or len(positional) > 1 or len(interfaces) != 1:
        return False
    try:
        return interfaces[0] == "localhost" or ipaddress.ip_address(interfaces[0]).is_loopback
    except ValueError:
        return False


def http_url(endpoint: str) -> str:
    """The URL at which this box finds an HTTP server that listens there.

    A unix socket has none; `http://localhost` stands for it.
    """
    (kind, *positional), named = _parts(endpoint)
    said = dict(named)
    port = said.get("port", positional[0] if positional else "")
    if kind not in ("tcp", "tcp6", "ssl") or not port.isdigit():
        return "http://localhost"
    host = said.get("interface", "127.0.0.1")
    scheme = "https" if kind == "ssl" else "http"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def kind_of(endpoint: str) -> str:
    """What stands before the first colon; Twisted's plugins are found by it in any letters."""
    return endpoint.partition(":")[0]


def tls_files(endpoint: str) -> tuple[str, ...]:
    """The files that an `ssl:` description names: with the key, with the certificate, and others.

    Read as Twisted reads it: by name or in order, "server.pem" for the key, and the key's file for
    a certificate that is not named.
    """
    values = _values(endpoint)
    key = values.get("privateKey", "server.pem")
    others = (values[name] for name in _FILES[2:] if name in values)
    return key, values.get("certKey", key), *others


def _values(endpoint: str) -> dict[str, str]:
    (kind, *positional), named = _parts(endpoint)
    return dict(zip(_OPTIONS.get(kind, ()), positional, strict=False)) | dict(named)


def _parts(endpoint: str) -> tuple[list[str], list[tuple[str, str]]]:
    positional, named, at = [], [], 0
    while found := _PART.match(endpoint, at):
        pair = _NAMED.fullmatch(found[1])
        if pair:
            named.append((_unescaped(pair[1]), _unescaped(pair[2])))
        else:
            positional.append(_unescaped(found[1]))
        if not found[2]:
            return positional or [""], named
        at = found.end()
    return [""], []  # a backslash that ends it, which Twisted does not take either


def _described(kind: str, values: Mapping[str, str]) -> str:
    return ":".join((kind, *(f"{name}={_escaped(value)}" for name, value in values.items())))


def _unescaped(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text, flags=re.DOTALL)


def _escaped(text: str) -> str:
    return re.sub(r"([\\:=])", r"\\\1", text)
