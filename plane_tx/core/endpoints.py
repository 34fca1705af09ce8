"""What a Twisted endpoint description tells: who can reach it, and under which URL."""

from __future__ import annotations

import ipaddress
import re

#: A part of an endpoint description and what ends it; a backslash takes its meaning from `:`, `=`.
_PART = re.compile(r"((?:[^:\\]|\\.)*)(:|\Z)", re.DOTALL)
_NAMED = re.compile(r"((?:[^=\\]|\\.)*)=(.*)", re.DOTALL)


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


def tls_files(endpoint: str) -> tuple[str, str]:
    """The files with the key and with the certificate that an `ssl:` description names.

    Read as Twisted reads it: by name or in order, "server.pem" for the key, and the key's file for
    a certificate that is not named.
    """
    (_, *positional), named = _parts(endpoint)
    said = dict(zip(("port", "privateKey", "certKey"), positional, strict=False)) | dict(named)
    key = said.get("privateKey", "server.pem")
    return key, said.get("certKey", key)


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


def _unescaped(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text, flags=re.DOTALL)
