"""Looks at the box that a server runs on: configuration, ports, names, disk and open files."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from plane_tx.cli.findings import Finding, bad, ok, warn
from plane_tx.core.config import control_url, parse_config, state_dir
from plane_tx.core.endpoints import http_url, kind_of
from plane_tx.core.errors import ConfigError
from plane_tx.core.sections import Config

Resolve = Callable[[str], None]

SECONDS = 5.0

#: Below this a journal may soon not be written any more.
LITTLE_DISK_BYTES, NO_DISK_BYTES = 1024**3, 64 * 1024**2

#: A connection through the proxy is two open files.
FEW_FILES = 4096

#: A name below the cluster, as a token is one.
BELOW = "plane-tx-doctor"


def read_config(path: Path) -> tuple[Config | None, Finding]:
    """The configuration in the file, if it can be read."""
    try:
        config = parse_config(path.read_text(encoding="utf-8"), str(path))
    except OSError as error:
        wrong = f"{path} cannot be read: {error.strerror}"
        return None, bad("configuration", wrong, f"see to it that your user can read {path}")
    except UnicodeDecodeError as error:
        wrong = f"{path} is not UTF-8: {error.reason} at byte {error.start}"
        return None, bad("configuration", wrong, "save it as UTF-8")
    except ConfigError as error:
        cure = "correct that line; conf/plane.toml has every key with its default"
        return None, bad("configuration", str(error), cure)
    return config, ok("configuration", f"{path} can be read and has no mistake")


def control(config: Config) -> str:
    """Where the control API of that server is, as clients name it."""
    first = config.control.endpoint[0]
    if kind_of(first) == "unix" and not config.control.url:
        path = first.removeprefix("unix:").partition(":")[0]
        return f"unix:{path.removeprefix('address=')}"
    return control_url(config)


def ports(config: Config) -> Iterator[Finding]:
    """Whether the server can listen where it is to, or does so already."""
    for name, endpoints in (("control", config.control.endpoint), ("proxy", config.proxy.endpoint)):
        for endpoint in endpoints:
            if kind_of(endpoint) in ("tcp", "tcp6", "ssl"):
                yield port(f"{name} port", http_url(endpoint))


def port(name: str, url: str) -> Finding:
    """Whether `url`'s address is free, or one of our servers listens there."""
    parts = urlsplit(url)
    host, number = parts.hostname or "", parts.port or 0
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with closing(socket.socket(family)) as asking:
        asking.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            asking.bind((host, number))
        except OSError as error:
            return _cannot_bind(name, url, error)
    return ok(name, f"{host}:{number} is free")


def _cannot_bind(name: str, url: str, error: OSError) -> Finding:
    where = urlsplit(url).netloc
    section = f"[{name.removesuffix(' port')}]"
    if error.errno == errno.EADDRINUSE:
        if _is_ours(url):
            return ok(name, f"a plane_tx server listens at {where}")
        cure = "stop what listens there (`ss -ltnp` names it), or set another port"
        return bad(name, f"{where} is taken by another program", f"{cure} in {section}")
    if error.errno == errno.EACCES:
        cure = "let systemd open it (socket activation), or set a port from 1024 on"
        return bad(name, f"your user may not listen at {where}", cure)
    cure = f"set an interface in {section} endpoint that `ip address` lists"
    return bad(name, f"{where} is no address of this box: {error.strerror}", cure)


def _is_ours(url: str) -> bool:
    # It is only asked for its name, so that its certificate does not matter.
    client = httpx.Client(trust_env=False, verify=False, timeout=SECONDS)
    try:
        with client, client.stream("GET", url) as answer:
            server: str = answer.headers.get("server", "")
    except httpx.HTTPError:
        return False
    return server.startswith("plane-tx")


def resolved(host: str) -> None:
    """Resolve a name as this box does. Raises `OSError`."""
    socket.getaddrinfo(host, None)


def names(config: Config, resolve: Resolve = resolved) -> Iterator[Finding]:
    """Whether the cluster's name, and names below it, lead anywhere."""
    host = urlsplit(f"//{config.proxy.cluster}").hostname or ""
    if host == "localhost":
        yield ok("cluster name", "localhost is this box")
        yield ok("names below", "browsers know *.localhost by themselves")
        return
    if ":" in host or host.replace(".", "").isdigit():
        yield ok("cluster name", f"{host} is an address")
        cure = 'set a name in [proxy] cluster, or leave routing = "host" and subdomains out'
        yield warn("names below", f"{host} is an address, and nothing can be below it", cure)
        return
    if not _resolves(host, resolve):
        cure = f"add a DNS record for {host} that leads to this box, or correct [proxy] cluster"
        yield bad("cluster name", f"{host} does not resolve here", cure)
        return
    yield ok("cluster name", f"{host} resolves")
    if _resolves(f"{BELOW}.{host}", resolve):
        yield ok("names below", f"*.{host} resolves")
    else:
        cure = f"add a DNS record for *.{host}, or leave routing = host and subdomains out"
        yield warn("names below", f"*.{host} does not resolve here", cure)


def _resolves(host: str, resolve: Resolve) -> bool:
    try:
        resolve(host)
    except (OSError, UnicodeError):
        return False
    return True


def state(config: Config, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Whether what outlives the server can be written."""
    try:
        path = Path(state_dir(config, environ)).expanduser()
    except RuntimeError:
        yield bad("state", "the user of this server has no home", "set [state] dir to a directory")
        return
    there = _nearest(path)
    if there is None:
        cure = f"make {path} for the server's user, or set [state] dir to a directory of theirs"
        yield bad("state", f"{path} cannot be written by your user", cure)
        return
    yield ok("state", f"{path} can be written")
    yield disk(there, shutil.disk_usage(there).free)


def _nearest(path: Path) -> Path | None:
    """The directory in which `path` can be made, or that it is; None where it cannot."""
    for each in (path, *path.parents):
        try:
            if each.exists():
                may = each.is_dir() and os.access(each, os.W_OK | os.X_OK)
                return each if may else None
        except OSError:
            return None
    return None


def disk(path: Path, free: int) -> Finding:
    """Whether there is room for journal and autopsies."""
    cure = f"make room where {path} is, or set [state] dir to another disk"
    sentence = f"{free // 1024**2} MiB are free at {path}"
    if free < NO_DISK_BYTES:
        return bad("disk", sentence, cure)
    return warn("disk", sentence, cure) if free < LITTLE_DISK_BYTES else ok("disk", sentence)


def open_files() -> Finding:
    """Whether the server, which takes all it may, can have many connections."""
    return files_allowed(resource.getrlimit(resource.RLIMIT_NOFILE)[1])


def files_allowed(hard: int) -> Finding:
    """How it is with that many; each connection through the proxy takes two."""
    if hard == resource.RLIM_INFINITY or hard >= FEW_FILES:
        return ok("open files", "enough may be open")
    cure = "raise the limit: LimitNOFILE=65536 in the unit, or nofile in /etc/security/limits.conf"
    return warn("open files", f"only {hard} may be open, 2 for each connection", cure)
