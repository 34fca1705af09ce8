"""The wire contract: what a connect may ask for, and what it is answered."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

import attrs
from cattrs import Converter

from plane_tx.core import strict
from plane_tx.core.containers import (
    ContainerFields,
    Gpus,
    bool_or_string,
    check_container,
    gpus_or_all,
)
from plane_tx.core.errors import InvalidRequest, MalformedRequest
from plane_tx.core.hardening import Egress
from plane_tx.core.idlerule import IdleRequest, check_idle
from plane_tx.core.model import HOST_TOKEN, IdleCount, Key, PullPolicy, Routing
from plane_tx.core.strict import Count, Most, Name, Port, Seconds, Text

#: What to say to a caller who gives a user or claims to a static token.
STATIC_TOKEN_CARRIES_NOTHING = (
    "user, auth: a static token is shared by everyone and can carry neither; leave both out, or"
    " make the session without use_static_token"
)

#: The claims must fit, as a header, into the head that any server takes.
MAX_CLAIMS_BYTES = 8192

#: Deeper nesting could not be written again from everywhere: writing JSON is recursive.
MOST_CLAIMS_LEVELS = 64

#: A word of a command, or a variable's value: Linux takes none longer (execve(2), MAX_ARG_STRLEN).
Word = Annotated[str, Most(131_071)]

Words = Annotated[tuple[Word, ...], Most(1024)]

Claims = Annotated[Mapping[str, Any], "see `claims`"]

T = TypeVar("T")

_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
_ENV_NAME = re.compile(r"[^=\x00]+")
_URL_PATH = re.compile(r"/[!-~]*")


@attrs.frozen
class KeyRequest:
    """The lock a connect asks for, with the tag its session must carry."""

    name: str
    namespace: str = ""
    tag: str = ""

    def to_key(self) -> Key:
        """The lock itself: the tag is only compared, it is no part of the identity."""
        return Key(self.name, self.namespace)


@attrs.frozen
class CredentialsRequest:
    """A registry login for the pull."""

    username: Text
    password: Annotated[str, Most(16_384)] = attrs.field(repr=False)


@attrs.frozen
class ResourceLimitsRequest:
    """What a session may take of the box, in Plane's units (plane.md 3.4) and ours."""

    cpu_period: Count | None = None
    cpu_period_percent: Count | None = None
    cpu_time_limit: Count | None = None
    cpus: Seconds | None = None
    memory_limit_bytes: Count | None = None
    disk_limit_bytes: Count | None = None
    pids_limit: Count | None = None


@attrs.frozen
class ReadinessRequest:
    """How to tell that a session answers."""

    path: Text = "/"
    statuses: Annotated[tuple[int, ...], Most(500)] = ()
    timeout_seconds: Seconds | None = None


@attrs.frozen(kw_only=True)
class ExecutableFields(ContainerFields):
    """What requests and configured apps can both say of what to run."""

    image: Text | None = None
    command: Words | None = None
    entrypoint: Words | None = None
    env: Annotated[Mapping[Name, Word], Most(1000)] = attrs.field(factory=dict)
    port: Port | None = None
    user: Name | None = None
    workdir: Text | None = None
    pull_policy: PullPolicy | None = None
    credentials: CredentialsRequest | None = None
    resource_limits: ResourceLimitsRequest = ResourceLimitsRequest()
    readiness: ReadinessRequest | None = None


@attrs.frozen(kw_only=True)
class ExecutableRequest(ExecutableFields):
    """What to run: an image, a command, or a named app of the configuration."""

    app: Name | None = None


@attrs.frozen
class SpawnConfig:
    """What to spawn when nobody holds the key."""

    executable: ExecutableRequest
    id: str | None = None
    cluster: Text | None = None
    pool: Text = ""
    lifetime_limit_seconds: Seconds | None = None
    max_idle_seconds: Seconds | None = None
    claim_within_seconds: Seconds | None = None
    stop_grace_seconds: Seconds | None = None
    token_ttl_seconds: Seconds | None = None
    use_static_token: bool = False
    subdomain: str | None = None
    routing: Routing | None = None
    labels: Annotated[Mapping[Name, Text], Most(64)] = attrs.field(factory=dict)
    idle: IdleRequest | None = None


@attrs.frozen
class ConnectRequest:
    """Plane's connect request (plane.md 1.4), with our additions."""

    key: KeyRequest | None = None
    spawn_config: SpawnConfig | None = None
    user: str | None = None
    auth: Claims = attrs.field(factory=dict)


@attrs.frozen
class ConnectResponse:
    """Plane's connect response (plane.md 1.5): every field is always there."""

    backend_id: str
    spawned: bool
    status: str
    token: str
    url: str
    subdomain: str | None
    secret_token: str | None
    status_url: str
    drone: str | None
    expires_at: int | None


@attrs.frozen
class KeepAliveRequest:
    """A lease: for how long a session is to live without a connection, and what for."""

    seconds: Seconds
    reason: str = ""


@attrs.frozen
class LinkRequest:
    """Whom a new link to a session is for, and the tag that the session must carry."""

    user: str | None = None
    tag: str = ""


@attrs.frozen
class RevokeRequest:
    """Whose tokens to which session are taken back (plane.md 1.3)."""

    backend_id: Text
    user: Text


def request_converter() -> Converter:
    """The converter of requests; the configuration uses it too, for what it shares with them."""
    converter = strict.make_converter()
    strict.one_of(converter, Routing)
    strict.one_of(converter, PullPolicy)
    strict.one_of(converter, Egress)
    strict.one_of(converter, IdleCount)
    converter.register_structure_hook(bool | str | None, bool_or_string)
    converter.register_structure_hook(Gpus | None, gpus_or_all)
    converter.register_structure_hook_func(lambda kind: kind == Claims, claims)
    return converter


def claims(value: object, _type: object) -> Mapping[str, Any]:
    """Read `auth` from JSON, level by level and no more than can fit. Raises `ValueError`."""
    if not isinstance(value, dict):
        raise ValueError(f"expected an object, got {strict.show(value)}")
    too_large = ValueError(f"expected at most {MAX_CLAIMS_BYTES} bytes of JSON")
    size = levels = 0
    level: list[object] = [value]
    while level:
        levels += 1
        if levels > MOST_CLAIMS_LEVELS:
            raise ValueError(f"too deeply nested, expected at most {MOST_CLAIMS_LEVELS} levels")
        size += sum(map(_least_bytes, level))
        if size > MAX_CLAIMS_BYTES:
            raise too_large
        level = [part for whole in level for part in _parts(whole)]
    if len(json.dumps(value)) > MAX_CLAIMS_BYTES:
        raise too_large
    return value


def _least_bytes(value: object) -> int:
    """What `value` takes at least as JSON, without its parts."""
    match value:
        case str():
            return len(value) + 2
        case list():
            return 2 * max(len(value), 1)
        case dict():
            return 4 * len(value) or 2
        case int():
            return 1 + value.bit_length() // 4
    return 1


def _parts(value: object) -> list[object]:
    if isinstance(value, dict):
        return [*value, *value.values()]
    return value if isinstance(value, list) else []


_CONVERTER = request_converter()


def parse_connect(body: bytes) -> ConnectRequest:
    """Read a connect request.

    Raises `MalformedRequest` when it is not JSON, `InvalidRequest` naming what does not fit.
    """
    request = _structured(body, ConnectRequest)
    _check(request)
    return request


def parse_keep_alive(body: bytes) -> KeepAliveRequest:
    """Read a request for a lease; raises as `parse_connect` does."""
    request = _structured(body, KeepAliveRequest)
    _check_text("reason", request.reason, 255)
    return request


def parse_link(body: bytes) -> LinkRequest:
    """Read a request for a link; raises as `parse_connect` does."""
    request = _structured(body, LinkRequest)
    _check(ConnectRequest(user=request.user))
    _check_text("tag", request.tag, 255)
    return request


def parse_revoke(body: bytes) -> RevokeRequest:
    """Read a request to take tokens back; raises as `parse_connect` does."""
    return _structured(body, RevokeRequest)


def _structured(body: bytes, kind: type[T]) -> T:
    data = _load(body)
    try:
        request = strict.structure(_CONVERTER, data, kind)
    except strict.Misfit as misfit:
        raise InvalidRequest(str(misfit)) from None
    # Last, as it takes as long as there is much: by now all of it is bounded.
    _check_can_be_said_again(data)
    return request


def _load(body: bytes) -> object:
    try:
        return json.loads(body.decode("utf-8"), parse_constant=_no_number)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise MalformedRequest(f"the body is not JSON: {error}") from None
    except RecursionError:
        raise MalformedRequest("the body is too deeply nested") from None
    except ValueError:
        # The one that is left: see "Integer string conversion length limitation" in Python's docs.
        raise MalformedRequest("the body has a number of too many digits") from None


def _no_number(word: str) -> object:
    raise MalformedRequest(f"the body is not JSON: {word} is no number there")


def _check_can_be_said_again(data: object) -> None:
    """Raise `MalformedRequest` for what would fail whoever passes it on."""
    try:
        dumps(data)
    except UnicodeEncodeError:
        raise MalformedRequest("the body has a character that is half of a pair") from None
    except ValueError:
        raise MalformedRequest("the body has a number that is too large") from None


def check_name(field: str, value: str, most: int) -> None:
    """Raise `InvalidRequest` unless `value` can stand in URLs, host names and container names."""
    if len(value) > most or not _NAME.fullmatch(value):
        raise InvalidRequest(
            f"{field}: expected at most {most} of a-z, 0-9 and inner '-', got {strict.show(value)}"
        )


def _check(request: ConnectRequest) -> None:
    if request.user is not None:
        _check_text("user", request.user, 1024)
        if request.user != request.user.strip():
            raise InvalidRequest("user: expected no space at either end, where a header loses it")
    if request.key is not None:
        for field in ("name", "namespace", "tag"):
            _check_text(f"key.{field}", getattr(request.key, field), 255)
    if request.spawn_config is not None:
        _check_spawn_config(request.spawn_config, request)


def _check_spawn_config(config: SpawnConfig, request: ConnectRequest) -> None:
    if config.id is not None:
        check_name("spawn_config.id", config.id, 45)
    if config.subdomain is not None:
        check_name("spawn_config.subdomain", config.subdomain, 63)
        if re.fullmatch(HOST_TOKEN, config.subdomain):
            raise InvalidRequest("spawn_config.subdomain: this could be a token; choose another")
    if config.use_static_token and (request.user is not None or request.auth):
        raise InvalidRequest(STATIC_TOKEN_CARRIES_NOTHING)
    if config.use_static_token and config.token_ttl_seconds is not None:
        raise InvalidRequest(
            "spawn_config.token_ttl_seconds: a static token lives as long as its session; leave"
            " this or use_static_token out"
        )
    if config.token_ttl_seconds is not None and not config.token_ttl_seconds:
        raise InvalidRequest("spawn_config.token_ttl_seconds: expected a number > 0, or null")
    if config.use_static_token and config.routing is Routing.HOST:
        raise InvalidRequest('spawn_config.routing: "host" does not go with use_static_token')
    if config.subdomain is not None and config.routing is Routing.HOST:
        raise InvalidRequest('spawn_config.routing: "host" does not go with a subdomain')
    _check_labels("spawn_config.labels", config.labels)
    check_idle("spawn_config.idle", config.idle)
    check_executable("spawn_config.executable", config.executable)


def _check_labels(where: str, labels: Mapping[str, str]) -> None:
    for name in labels:
        # A query's `label=NAME=VALUE` is read up to its first "=".
        if not name or "=" in name:
            raise InvalidRequest(
                f"{where}: the name {strict.show(name)}: expected one character or more, no '='"
            )


def _check_text(field: str, value: str, most: int) -> None:
    if len(value) > most or not value.isprintable():
        raise InvalidRequest(f"{field}: expected at most {most} printable characters")


def check_executable(where: str, executable: ExecutableRequest) -> None:
    """Raise `InvalidRequest` for what no engine could run; `where` is the field it stands in."""
    for name, value in executable.env.items():
        if not _ENV_NAME.fullmatch(name) or "\x00" in value:
            raise InvalidRequest(f"{where}.env: {name[:64]!r} cannot be an environment variable")
    if executable.command == ():
        raise InvalidRequest(f"{where}.command: expected at least one word")
    for field in ("image", "command", "entrypoint", "user", "workdir"):
        given: str | tuple[str, ...] = getattr(executable, field) or ()
        if any("\x00" in part for part in given):
            raise InvalidRequest(f"{where}.{field}: expected no NUL")
    if executable.readiness is not None:
        _check_readiness(f"{where}.readiness", executable.readiness)
    check_container(where, executable)


def _check_readiness(where: str, readiness: ReadinessRequest) -> None:
    if not _URL_PATH.fullmatch(readiness.path):
        raise InvalidRequest(f"{where}.path: expected '/' and visible ASCII, as in a URL")
    if not all(100 <= status <= 599 for status in readiness.statuses):
        raise InvalidRequest(f"{where}.statuses: expected numbers from 100 to 599")


def dumps(data: object) -> bytes:
    """JSON as it goes over the wire: compact, UTF-8."""
    return _ENCODER.encode(data).encode("utf-8")
