"""What the server tells, as far as this client reads it; `told` is all of it, as it came."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

#: The statuses of a session that serves no more.
ENDING = frozenset({"terminating", "hard-terminating", "terminated"})

Json = Mapping[str, Any]


@attrs.frozen(kw_only=True)
class Session:
    """A connect's answer: a session, and a link to it, which is the right to enter.

    Links are no part of its repr, which may end in a log.
    """

    id: str = attrs.field(metadata={"wire": "backend_id"})
    status: str
    spawned: bool
    url: str = attrs.field(repr=False)
    token: str = attrs.field(repr=False)
    status_url: str
    subdomain: str | None
    secret_token: str | None = attrs.field(repr=False)
    expires_at: int | None = None
    told: Json = attrs.field(repr=False)


@attrs.frozen(kw_only=True)
class Failure:
    """What a session failed of, with the last lines that it wrote."""

    kind: str
    message: str
    log_tail: tuple[str, ...]


@attrs.frozen(kw_only=True)
class KeyName:
    """The lock that a session holds."""

    name: str
    namespace: str
    tag: str


@attrs.frozen(kw_only=True)
class Details:
    """All about one session; times are milliseconds since the epoch."""

    id: str = attrs.field(metadata={"wire": "backend_id"})
    status: str
    detail: str | None
    key: KeyName
    user: str | None
    app: str | None
    image: str | None
    labels: Mapping[str, str]
    created_at: int
    connection_count: int
    idle_since: int | None
    deadlines: Mapping[str, int]
    exit_code: int | None
    oom: bool
    failure: Failure | None
    told: Json = attrs.field(repr=False)


@attrs.frozen(kw_only=True)
class Page:
    """Some of the sessions, and the cursor of the next ones."""

    backends: tuple[Details, ...]
    next: str | None


@attrs.frozen(kw_only=True)
class Step:
    """One of the things that end a session next, or one of the causes of its end."""

    message: str
    told: Json = attrs.field(repr=False)


@attrs.frozen(kw_only=True)
class Why:
    """Why a session is alive and what ends it next, or why it has ended."""

    id: str = attrs.field(metadata={"wire": "backend_id"})
    status: str
    alive: bool
    summary: str
    hold_count: int
    holds: tuple[Json, ...]
    next: tuple[Step, ...]
    causes: tuple[Step, ...]
    told: Json = attrs.field(repr=False)


@attrs.frozen(kw_only=True)
class LogLine:
    """A line that a session wrote; `time` in milliseconds since the epoch, where it is known."""

    time: int | None
    stream: str
    text: str
    told: Json = attrs.field(repr=False)


@attrs.frozen(kw_only=True)
class Logs:
    """The lines that there are."""

    lines: tuple[LogLine, ...]


@attrs.frozen(kw_only=True)
class Stats:
    """What a session takes and moves; what the engine does not tell is None."""

    id: str = attrs.field(metadata={"wire": "backend_id"})
    time: int
    cpu_seconds: float | None
    cpu_percent: float | None
    memory_bytes: int | None
    memory_limit_bytes: int | None
    pids: int | None
    told: Json = attrs.field(repr=False)


@attrs.frozen(kw_only=True)
class Pull:
    """How far the pull of an image has come; `total_bytes` is None while it is not known."""

    image: str
    bytes: int
    total_bytes: int | None


@attrs.frozen(kw_only=True)
class StatusUpdate:
    """A status that a session has entered or, with `pull`, how far it has come in it."""

    status: str
    time: int
    termination_reason: str | None = None
    termination_kind: str | None = None
    exit_error: bool | None = None
    detail: str | None = None
    pull: Pull | None = None
    told: Json = attrs.field(repr=False)


@attrs.frozen(kw_only=True)
class Event:
    """A status that one of all sessions has entered.

    One whose status is "gap" says that events were missed, and stands for no session.
    """

    id: str = attrs.field(metadata={"wire": "backend_id"})
    status: str
    time: int
    user: str | None
    termination_reason: str | None = None
    told: Json = attrs.field(repr=False)


@attrs.frozen(kw_only=True)
class Lease:
    """For how long a session is kept alive without a connection; None when that has ended."""

    id: str = attrs.field(metadata={"wire": "backend_id"})
    reason: str
    until: int | None
    told: Json = attrs.field(repr=False)


@attrs.frozen(kw_only=True)
class Link:
    """A new link to a session."""

    url: str = attrs.field(repr=False)
    told: Json = attrs.field(repr=False)


@attrs.frozen(kw_only=True)
class Drain:
    """Whether the server takes no new sessions, and how many it has."""

    draining: bool
    sessions: int
    told: Json = attrs.field(repr=False)


@attrs.frozen(kw_only=True)
class EngineHealth:
    """How the engine is."""

    ok: bool
    message: str
    version: str


@attrs.frozen(kw_only=True)
class Health:
    """How the server and its engine are: `status` is "ok" or "degraded"."""

    status: str
    engine: EngineHealth
    told: Json = attrs.field(repr=False)
