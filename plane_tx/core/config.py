"""A configuration file's text into a frozen `Config`, naming what does not fit in one line."""

from __future__ import annotations

import ipaddress
import re
import tomllib
from collections.abc import Mapping
from urllib.parse import urlsplit

from plane_tx.core import strict
from plane_tx.core.access import FORMATS
from plane_tx.core.apikeys import FORM, ApiKey, KeyFile, parse_key
from plane_tx.core.containers import GUARDED, RUNTIME, check_hardening
from plane_tx.core.endpoints import as_ssl, complaint, http_url, is_loopback, kind_of
from plane_tx.core.errors import ConfigError, InvalidRequest
from plane_tx.core.forwarded import trusted_proxies
from plane_tx.core.hardening import Addressing, Egress
from plane_tx.core.idlerule import check_idle
from plane_tx.core.routes import scheme_of
from plane_tx.core.sections import Config, ProxyConfig
from plane_tx.core.wire import (
    check_executable,
    request_converter,
)

#: An instance names files and labels.
_INSTANCE = re.compile(r"[A-Za-z0-9_.-]{1,64}")

#: An absolute path, or one below the home of the server's user.
_STATE_DIR = re.compile(r"(~?/[^\0]*)?")

#: A public host, with or without a port: what can stand in a URL between `//` and `/`.
_CLUSTER = re.compile(
    r"([a-z0-9-]+(\.[a-z0-9-]+)*|\[(?P<literal>[0-9a-f:]+)\])(:(?P<port>[1-9]\d{0,4}))?",
    re.IGNORECASE | re.ASCII,
)

#: What is wrong with a control endpoint that more than this box reaches, and half of the cure.
OPEN = "is open to the network, where api_keys must say who may call: set them"

#: What a URL leads to: no login, no fragment. Names within a company may have underscores.
_URL = re.compile(
    r"(?P<scheme>https?)://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:\d{1,5})?([/?][!\"$-~]*)?", re.IGNORECASE
)


def _key(value: object, _type: object) -> ApiKey | KeyFile:
    if isinstance(value, str):
        return parse_key(value)
    match value:
        case {"file": str(file), **others} if file and file.isprintable() and not others:
            return KeyFile(file)
    raise ValueError(f'expected "{FORM}" or {{ file = "path" }}')


_CONVERTER = request_converter()
strict.one_of(_CONVERTER, Addressing)
_CONVERTER.register_structure_hook(ApiKey | KeyFile, _key)


def parse_config(text: str, name: str) -> Config:
    """Read the TOML `text` of the file called `name`.

    Raises `ConfigError`, one line that names the file, the key and what is allowed.
    """
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{name}: not TOML: {error}") from None
    for section in ("control", "proxy"):
        for key in ("endpoint", "redirect_endpoint"):
            _settle_endpoints(data, section, key)
    try:
        _keys_are_a_list(data)
        config = strict.structure(_CONVERTER, data, Config)
        _check(config)
    except (strict.Misfit, InvalidRequest) as misfit:
        raise ConfigError(f"{name}: {misfit}") from None
    return config


def _settle_endpoints(data: dict[str, object], section: str, key: str) -> None:
    # One of them is a list too, and one kind of TLS is enough to know for all who ask.
    table = data.get(section)
    if not isinstance(table, dict):
        return
    if isinstance(table.get(key), str):
        table[key] = [table[key]] if table[key] else []
    if isinstance(table.get(key), list):
        table[key] = [as_ssl(each) if isinstance(each, str) else each for each in table[key]]


def _check_endpoints(key: str, endpoints: tuple[str, ...]) -> None:
    if not endpoints:
        raise strict.Misfit(key, "expected at least one endpoint")
    for endpoint in endpoints:
        if wrong := complaint(endpoint):
            raise strict.Misfit(key, f"{strict.show(endpoint)} is no endpoint: {wrong}")


def _check_state(config: Config) -> None:
    if not _INSTANCE.fullmatch(config.engine.instance):
        got = strict.show(config.engine.instance)
        allowed = "1 to 64 letters, digits, '.', '_' or '-'"
        raise strict.Misfit("engine.instance", f"expected {allowed}, got {got}")
    if not _STATE_DIR.fullmatch(config.state.dir):
        got = strict.show(config.state.dir)
        raise strict.Misfit("state.dir", f"expected a path that begins with / or ~/, got {got}")


def _keys_are_a_list(data: dict[str, object]) -> None:
    # Here, since what is of another shape is else shown, and it may be a secret.
    table = data.get("control")
    if isinstance(table, dict) and not isinstance(table.get("api_keys", []), list):
        raise strict.Misfit(
            "control.api_keys", f'expected a list of "{FORM}" and {{ file = "path" }}'
        )


def _check(config: Config) -> None:
    _check_state(config)
    kinds = ("auto", "docker", "process")
    if config.engine.kind not in kinds:
        allowed = " or ".join(f'"{kind}"' for kind in kinds)
        got = strict.show(config.engine.kind)
        raise strict.Misfit("engine.kind", f"expected {allowed}, got {got}")
    if config.engine.process_first_port > config.engine.process_last_port:
        raise strict.Misfit("engine.process_last_port", "expected at least process_first_port")
    _check_mounts(config)
    _check_shut_in(config)
    if not _is_cluster(config.proxy.cluster):
        got = strict.show(config.proxy.cluster)
        raise strict.Misfit("proxy.cluster", f"expected a host name, or host:port, got {got}")
    _check_endpoints("control.endpoint", config.control.endpoint)
    _check_endpoints("proxy.endpoint", config.proxy.endpoint)
    if config.proxy.redirect_endpoint:
        _check_endpoints("proxy.redirect_endpoint", config.proxy.redirect_endpoint)
    _check_root_redirect(config.proxy.root_redirect_url)
    _check_trusted_proxies(config.proxy)
    _check_access_log(config.proxy)
    if not config.pages.dir.isprintable():
        got = strict.show(config.pages.dir)
        raise strict.Misfit("pages.dir", f'expected a path, or "", got {got}')
    _check_protection(config)
    if config.demo.app and config.demo.app not in config.apps:
        raise strict.Misfit("demo.app", f"no app {strict.show(config.demo.app)} in this file")
    check_idle("defaults.idle", config.defaults.idle)
    for name, app in config.apps.items():
        check_executable(f"apps.{strict.show(name)}", app.to_app().executable)
        check_idle(f"apps.{strict.show(name)}.idle", app.idle)


def _is_cluster(cluster: str) -> bool:
    found = _CLUSTER.fullmatch(cluster)
    if found is None or int(found["port"] or 1) > 65535:
        return False
    try:
        return found["literal"] is None or bool(ipaddress.IPv6Address(found["literal"]))
    except ValueError:
        return False


def _check_mounts(config: Config) -> None:
    base = config.engine.mount_base
    if base and not base.startswith("/"):
        got = strict.show(base)
        raise strict.Misfit("engine.mount_base", f'expected an absolute path, or "", got {got}')
    for name in config.engine.allow_requests:
        if name not in GUARDED:
            allowed, got = ", ".join(GUARDED), strict.show(name)
            raise strict.Misfit("engine.allow_requests", f"expected some of {allowed}, got {got}")
    for name, app in config.apps.items():
        if app.mount and not base:
            where = f"apps.{strict.show(name)}.mount"
            raise strict.Misfit(where, "there is no place for it: set engine.mount_base")


def _check_shut_in(config: Config) -> None:
    engine = config.engine
    if engine.runtime and not RUNTIME.fullmatch(engine.runtime):
        got = strict.show(engine.runtime)
        raise strict.Misfit("engine.runtime", f'expected the name of a runtime, or "", got {got}')
    check_hardening("engine.hardening", engine.hardening)
    closed = {"engine.egress": engine.egress}
    for name, app in config.apps.items():
        where = f"apps.{strict.show(name)}"
        check_hardening(f"{where}.hardening", app.hardening)
        closed[f"{where}.egress"] = app.egress or Egress.OPEN
        if app.egress is Egress.NONE and app.network_name is not None:
            raise strict.Misfit(f"{where}.egress", '"none" does not go with a network_name')
    for where, egress in closed.items():
        if egress is Egress.NONE and engine.address is Addressing.PUBLISHED:
            raise strict.Misfit(
                where, '"none" publishes no port: engine.address must not be "published"'
            )


def _check_access_log(proxy: ProxyConfig) -> None:
    if proxy.access_log_format not in FORMATS:
        allowed = " or ".join(f'"{name}"' for name in FORMATS)
        got = strict.show(proxy.access_log_format)
        raise strict.Misfit("proxy.access_log_format", f"expected {allowed}, got {got}")
    if not proxy.access_log.isprintable():
        got = strict.show(proxy.access_log)
        allowed = 'a path without control characters, "-" or ""'
        raise strict.Misfit("proxy.access_log", f"expected {allowed}, got {got}")


def _check_trusted_proxies(proxy: ProxyConfig) -> None:
    for index, entry in enumerate(proxy.trusted_proxies):
        try:
            trusted_proxies([entry])
        except ValueError:
            raise strict.Misfit(
                f"proxy.trusted_proxies[{index}]",
                'expected an address, a network like "10.0.0.0/8" (its host bits zero), or "unix",'
                f" got {strict.show(entry)}",
            ) from None


def _check_protection(config: Config) -> None:
    control = config.control
    _check_url("control.url", control.url, "http", "https")
    if kind_of(control.endpoint[0]) == "systemd" and not control.url:
        raise strict.Misfit(
            "control.url", "say where clients find the socket of systemd: http://127.0.0.1:8080"
        )
    _check_url("control.forward_auth", control.forward_auth, "http")
    if control.api_keys and control.forward_auth:
        raise strict.Misfit("control.forward_auth", "not together with api_keys: choose one")
    if control.api_keys or control.forward_auth:
        if config.demo.app:
            raise strict.Misfit(
                "demo.app", "everyone may visit the demo: not with control.api_keys or forward_auth"
            )
        return
    for endpoint in control.endpoint:
        # Where systemd listens only its socket tells, which is asked before anything is served.
        if kind_of(endpoint) != "systemd" and not is_loopback(endpoint):
            cure = 'use "tcp:PORT:interface=127.0.0.1" or a unix socket'
            raise strict.Misfit("control.endpoint", f"{strict.show(endpoint)} {OPEN}, or {cure}")


def _check_url(key: str, url: str, *schemes: str) -> None:
    parts = _URL.fullmatch(url)
    if url and (parts is None or parts["scheme"].lower() not in schemes):
        # It is not shown: a login may stand in it.
        raise strict.Misfit(key, f"expected {' or '.join(schemes)}://host[:port][/path], no login")


def _check_root_redirect(url: str) -> None:
    address, _, fragment = url.partition("#")
    if url and not (_URL.fullmatch(address) and re.fullmatch("[!-~]*", fragment)):
        allowed = 'http or https://host[:port][/path] in ASCII without spaces, or ""'
        raise strict.Misfit("proxy.root_redirect_url", f"expected {allowed}, no login")


def own_origin(config: Config) -> tuple[str, str] | None:
    """Scheme and host of the pages that the control listener serves under its configured URL."""
    parts = urlsplit(config.control.url)
    return (parts.scheme, parts.netloc) if parts.netloc else None


def control_url(config: Config) -> str:
    """Where the control listener is found: as configured, or as its first endpoint tells."""
    if config.control.url:
        return config.control.url.removesuffix("/")
    return http_url(config.control.endpoint[0])


def proxy_url(config: Config) -> str:
    """Where the proxy is found by those who come in from outside."""
    scheme = scheme_of(config.proxy.cluster, secure=is_secure(config))
    return f"{scheme}://{config.proxy.cluster}"


def is_secure(config: Config) -> bool:
    """Whether the proxy speaks nothing but TLS, whatever its port."""
    return all(kind_of(endpoint) == "ssl" for endpoint in config.proxy.endpoint)


def state_dir(config: Config, environ: Mapping[str, str]) -> str:
    """Where the server keeps what outlives it, with `~` for the home of its user.

    What `[state] dir` says; else the first of systemd's $STATE_DIRECTORY (systemd.exec(5)); else
    below $XDG_STATE_HOME, or its default (XDG Base Directory Specification, which has a relative
    one ignored).
    """
    given = config.state.dir or environ.get("STATE_DIRECTORY", "").partition(":")[0]
    if given:
        return given
    base = environ.get("XDG_STATE_HOME", "")
    return f"{base if base.startswith('/') else '~/.local/state'}/plane_tx"
