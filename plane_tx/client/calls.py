"""The calls of the control API as plain values: what is sent, and how its answer is read."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Generic, TypedDict, TypeVar

import attrs

from plane_tx.client import models, reading
from plane_tx.client.errors import InvalidRequest, Unreadable

T = TypeVar("T")

_ID = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")

_IDEMPOTENCY_KEY = re.compile(r"[!-~]{1,255}")

#: As many sessions as one page of a list has.
PAGE = 200


@attrs.frozen(kw_only=True)
class Call(Generic[T]):
    """One request. `again` says whether sending it twice does what sending it once does."""

    method: str
    path: str
    read: Callable[[object], T] = attrs.field(repr=False)
    query: tuple[tuple[str, str], ...] = ()
    headers: Mapping[str, str] = attrs.field(factory=dict)
    body: bytes | None = attrs.field(default=None, repr=False)
    again: bool = False
    wait_seconds: float = 0.0
    #: Answers that are as good as 200.
    statuses: frozenset[int] = frozenset({200})


@attrs.frozen(kw_only=True)
class ConnectOptions:
    """What to connect to, and what to spawn when nobody holds the key.

    One of `app`, `image` and `command` says what to spawn; `env` and `executable` (the API's
    fields) say more of it. `limits` are fields of the API's spawn_config, like max_idle_seconds.
    `spawn_config` is all of it as the API has it, and goes with none of these. With a key alone
    the session that holds it is joined.
    """

    app: str | None = None
    image: str | None = None
    command: Sequence[str] | None = None
    env: Mapping[str, str] | None = None
    executable: Mapping[str, Any] | None = None
    key: str | None = None
    namespace: str = ""
    tag: str = ""
    user: str | None = None
    auth: Mapping[str, Any] | None = None
    labels: Mapping[str, str] | None = None
    limits: Mapping[str, Any] = attrs.field(factory=dict)
    spawn_config: Mapping[str, Any] | None = None


class ConnectFields(TypedDict, total=False):
    """The fields of `ConnectOptions` beside `app`, as `connect` takes them by name."""

    image: str | None
    command: Sequence[str] | None
    env: Mapping[str, str] | None
    executable: Mapping[str, Any] | None
    key: str | None
    namespace: str
    tag: str
    user: str | None
    auth: Mapping[str, Any] | None
    labels: Mapping[str, str] | None
    limits: Mapping[str, Any]
    spawn_config: Mapping[str, Any] | None


class Filters(TypedDict, total=False):
    """Which sessions a list has; what is not named or None does not matter."""

    status: str | Iterable[str] | None
    user: str | None
    key: str | None
    namespace: str | None
    labels: Mapping[str, str] | None


def connect(options: ConnectOptions, idempotency_key: str) -> Call[models.Session]:
    """POST /ctrl/connect. Raises `InvalidRequest` for options that do not go together."""
    if not _IDEMPOTENCY_KEY.fullmatch(idempotency_key):
        raise InvalidRequest("idempotency_key: expected 1 to 255 visible ASCII characters")
    request: dict[str, Any] = {}
    if options.key is not None:
        request["key"] = {
            "name": options.key, "namespace": options.namespace, "tag": options.tag
        }  # fmt: skip
    elif options.namespace or options.tag:
        raise InvalidRequest("namespace, tag: these are parts of a key, and there is none")
    spawn_config = _spawn_config(options)
    if spawn_config is not None:
        request["spawn_config"] = spawn_config
    if not request:
        raise InvalidRequest("nothing to connect to: name a key, or what to spawn")
    if options.user is not None:
        request["user"] = options.user
    if options.auth is not None:
        request["auth"] = options.auth
    # The server waits for the end of the key's last session, which takes its grace.
    return _post(
        "/ctrl/connect",
        _modelled(models.Session),
        request,
        headers={"Idempotency-Key": idempotency_key},
        again=True,
        wait_seconds=60.0,
    )


def _spawn_config(options: ConnectOptions) -> Mapping[str, Any] | None:
    executable: dict[str, Any] = dict(options.executable or {})
    said = {"app": options.app, "image": options.image, "env": options.env}
    executable |= {name: value for name, value in said.items() if value is not None}
    if options.command is not None:
        executable["command"] = list(options.command)
    config: dict[str, Any] = {**options.limits}
    if options.labels:
        config["labels"] = options.labels
    if options.spawn_config is not None:
        if executable or config:
            raise InvalidRequest("spawn_config: this is all of it; put the rest in there")
        return options.spawn_config
    if config and not executable:
        raise InvalidRequest("limits, labels: these are for a spawn: name an app, image or command")
    return {**config, "executable": executable} if executable else None


def get(session_id: str) -> Call[models.Details]:
    """GET /ctrl/b/{id}."""
    return _get(_of(session_id), _modelled(models.Details))


def page(filters: Filters, after: str | None = None) -> Call[models.Page]:
    """GET /ctrl/backends: one page of those that fit."""
    status, labels = filters.get("status"), filters.get("labels")
    statuses = [status] if isinstance(status, str) else status or ()
    others = {name: filters.get(name) for name in ("user", "key", "namespace")}
    query = [("limit", str(PAGE)), *(("status", each) for each in statuses)]
    query += [(name, str(value)) for name, value in others.items() if value is not None]
    query += [("label", f"{label}={text}") for label, text in (labels or {}).items()]
    if after is not None:
        query.append(("after", after))
    return _get("/ctrl/backends", _modelled(models.Page), *query)


def why(session_id: str) -> Call[models.Why]:
    """GET /ctrl/b/{id}/why."""
    return _get(_of(session_id, "/why"), _modelled(models.Why))


def logs(session_id: str, tail: int | None, since: int | None) -> Call[models.Logs]:
    """GET /ctrl/b/{id}/logs; `since` in milliseconds since the epoch."""
    return _get(_of(session_id, "/logs"), _modelled(models.Logs), *_lines(tail, since))


def log_stream(session_id: str, tail: int | None, since: int | None) -> Call[models.LogLine]:
    """The same, followed."""
    query = [*_lines(tail, since), ("follow", "true")]
    return _get(_of(session_id, "/logs"), _modelled(models.LogLine), *query)


def _lines(tail: int | None, since: int | None) -> list[tuple[str, str]]:
    said = {"tail": tail, "since": since}
    return [(name, str(value)) for name, value in said.items() if value is not None]


def stats(session_id: str) -> Call[models.Stats]:
    """GET /ctrl/b/{id}/stats."""
    return _get(_of(session_id, "/stats"), _modelled(models.Stats))


def stats_stream(session_id: str) -> Call[models.Stats]:
    """The same, every second."""
    return _get(_of(session_id, "/stats"), _modelled(models.Stats), ("stream", "true"))


def stats_stream_of(session_ids: Iterable[str]) -> Call[models.Stats]:
    """GET /ctrl/stats: those of up to 50 sessions, every two seconds."""
    query = [("id", _checked(each)) for each in session_ids]
    return _get("/ctrl/stats", _modelled(models.Stats), *query, ("stream", "true"))


def event_stream() -> Call[models.Event]:
    """GET /ctrl/events."""
    return _get("/ctrl/events", _event)


def _event(data: object) -> models.Event:
    # What stands in for events that were missed has a message and nothing else.
    if isinstance(data, dict) and "backend_id" not in data and "message" in data:
        return models.Event(id="", status="gap", time=0, user=None, told=data)
    return reading.model(models.Event, data)


def status_stream(session_id: str) -> Call[models.StatusUpdate]:
    """GET /pub/b/{id}/status-stream, with how far a pull has come."""
    path = f"/pub/b/{_checked(session_id)}/status-stream"
    return _get(path, _modelled(models.StatusUpdate), ("detail", "true"))


def last_status(session_id: str) -> Call[models.StatusUpdate]:
    """GET /pub/b/{id}/status."""
    return _get(f"/pub/b/{_checked(session_id)}/status", _modelled(models.StatusUpdate))


def keep_alive(session_id: str, seconds: float, reason: str) -> Call[models.Lease]:
    """POST /ctrl/b/{id}/keepalive."""
    body = {"seconds": seconds, "reason": reason}
    return _post(_of(session_id, "/keepalive"), _modelled(models.Lease), body)


def terminate(session_id: str, how: str, wait_seconds: float) -> Call[None]:
    """POST /ctrl/b/{id}/soft-terminate or /hard-terminate."""
    query = (("wait", f"{wait_seconds:g}"),) if wait_seconds else ()
    call = _post(_of(session_id, f"/{how}-terminate"), _nothing, {})
    return attrs.evolve(call, query=query, wait_seconds=wait_seconds)


def revoke(session_id: str, user: str) -> Call[str]:
    """POST /ctrl/b/revoke."""
    body = {"backend_id": _checked(session_id), "user": user}
    return _post("/ctrl/b/revoke", _sentence, body)


def link(session_id: str, user: str | None, tag: str) -> Call[models.Link]:
    """POST /ctrl/b/{id}/link."""
    body = {"tag": tag} if user is None else {"user": user, "tag": tag}
    return _post(_of(session_id, "/link"), _modelled(models.Link), body)


def drain(method: str) -> Call[models.Drain]:
    """GET, POST or DELETE /ctrl/drain: how it is, draining, or not."""
    call = _get("/ctrl/drain", _modelled(models.Drain))
    if method == "GET":
        return call
    return attrs.evolve(call, method=method, again=False, body=b"{}" if method == "POST" else None)


def autopsy(session_id: str) -> Call[None]:
    """GET /ctrl/b/{id}/autopsy.tar.gz."""
    return _get(_of(session_id, "/autopsy.tar.gz"), _nothing)


def health() -> Call[models.Health]:
    """GET /pub/health, which answers also when the engine is not well."""
    call = _get("/pub/health", _modelled(models.Health))
    return attrs.evolve(call, statuses=frozenset({200, 503}))


def server_status() -> Call[Mapping[str, Any]]:
    """GET /ctrl/status, which needs a key where there are keys."""
    return _get("/ctrl/status", _object)


def _of(session_id: str, rest: str = "") -> str:
    return f"/ctrl/b/{_checked(session_id)}{rest}"


def _checked(session_id: str) -> str:
    if len(session_id) > 45 or not _ID.fullmatch(session_id):
        raise InvalidRequest(f"{session_id[:64]!r} is no session's id: those have a-z, 0-9 and '-'")
    return session_id


def _get(path: str, read: Callable[[object], T], *query: tuple[str, str]) -> Call[T]:
    for name, value in query:
        if not _is_unicode(value):
            raise InvalidRequest(f"{name}: {value[:64]!a} is no Unicode text")
    return Call(method="GET", path=path, read=read, query=query, again=True)


def _is_unicode(text: str) -> bool:
    # A word of a command line that is not UTF-8 is text with half characters in it.
    return not any("\ud800" <= each <= "\udfff" for each in text)


def _post(
    path: str,
    read: Callable[[object], T],
    body: Mapping[str, Any],
    *,
    headers: Mapping[str, str] | None = None,
    again: bool = False,
    wait_seconds: float = 0.0,
) -> Call[T]:
    try:
        data = json.dumps(body, allow_nan=False).encode("ascii")
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequest(f"this cannot be said in JSON: {error}") from None
    return Call(
        method="POST",
        path=path,
        read=read,
        body=data,
        headers=headers or {},
        again=again,
        wait_seconds=wait_seconds,
    )


def _modelled(kind: type[T]) -> Callable[[object], T]:
    return lambda data: reading.model(kind, data)


def _nothing(_data: object) -> None:
    return None


def _sentence(data: object) -> str:
    if not isinstance(data, str):
        raise Unreadable("the answer makes no sense: expected a sentence")
    return data


def _object(data: object) -> Mapping[str, Any]:
    if not isinstance(data, dict):
        raise Unreadable("the answer makes no sense: expected an object")
    return data
