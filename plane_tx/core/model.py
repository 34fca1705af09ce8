"""What a key, a spawn request, a token, a session and its states are."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import ClassVar, Literal

import attrs

from plane_tx.core.hardening import Egress, Hardening
from plane_tx.core.ledger import Ledger
from plane_tx.core.pulls import Pulling
from plane_tx.core.use import LastRequests, Traffic, Use


class Status(enum.StrEnum):
    """Where a session is in its life; the values are Plane's wire names."""

    SCHEDULED = "scheduled"
    LOADING = "loading"
    STARTING = "starting"
    WAITING = "waiting"
    READY = "ready"
    TERMINATING = "terminating"
    HARD_TERMINATING = "hard-terminating"
    TERMINATED = "terminated"


#: A session only ever moves to a later status (plane.md 2.1).
ORDINAL: Mapping[Status, int] = {status: place for place, status in enumerate(Status)}

#: The statuses in which a session is being made and cannot be reached yet.
BOOTING = frozenset({Status.SCHEDULED, Status.LOADING, Status.STARTING, Status.WAITING})

#: The statuses in which a session is on its way out or gone.
ENDING = frozenset({Status.TERMINATING, Status.HARD_TERMINATING, Status.TERMINATED})


class Reason(enum.StrEnum):
    """Why a session ends; Plane's names, and our own for what Plane leaves unsaid."""

    EXTERNAL = "external"
    IDLE = "idle"
    LIFETIME = "lifetime"
    UNCLAIMED = "unclaimed"
    STARTUP_TIMEOUT = "startuptimeout"
    LOST = "lost"
    EXITED = "exited"
    FAILED = "failed"
    OOM = "oom"


class TerminationKind(enum.StrEnum):
    """Whether a session was asked to end, or ended by force."""

    SOFT = "soft"
    HARD = "hard"


@attrs.frozen
class Address:
    """Where a session's own HTTP server listens, as seen from this box."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@attrs.frozen
class Key:
    """A lock: at most one live session holds a `(namespace, name)`."""

    name: str
    namespace: str = ""


class LogStream(enum.StrEnum):
    """Which of a session's two outputs a line came from."""

    STDOUT = "stdout"
    STDERR = "stderr"


@attrs.frozen
class LogLine:
    """One line of a session's output; when it came in nanoseconds since epoch, if that is known."""

    at_ns: int | None
    stream: LogStream
    text: str


@attrs.frozen
class Failure:
    """What went wrong, for people: a kind to switch on, and a sentence."""

    kind: str
    message: str


@attrs.frozen
class Scheduled:
    """Accepted and reserved; no engine has it yet."""

    status: ClassVar[Status] = Status.SCHEDULED


@attrs.frozen
class Loading:
    """Its image is being looked up or pulled."""

    status: ClassVar[Status] = Status.LOADING


@attrs.frozen
class Starting:
    """Its container or process is being made."""

    status: ClassVar[Status] = Status.STARTING


@attrs.frozen
class Waiting:
    """It runs; its HTTP server has not answered yet."""

    status: ClassVar[Status] = Status.WAITING
    address: Address


@attrs.frozen
class Ready:
    """It answers HTTP."""

    status: ClassVar[Status] = Status.READY
    address: Address


@attrs.frozen
class Terminating:
    """It was asked to end, `by` someone or a clock of ours, and has its grace to do so."""

    status: ClassVar[Status] = Status.TERMINATING
    last_status: Status
    reason: Reason
    failure: Failure | None = None
    by: str = ""


@attrs.frozen
class HardTerminating:
    """It is being ended by force; `by` whom, if a person or program asked."""

    status: ClassVar[Status] = Status.HARD_TERMINATING
    last_status: Status
    reason: Reason
    failure: Failure | None = None
    by: str = ""


@attrs.frozen
class Terminated:
    """It is gone; what is known of why stays, and the last lines of its output."""

    status: ClassVar[Status] = Status.TERMINATED
    last_status: Status
    reason: Reason
    kind: TerminationKind | None = None
    exit_code: int | None = None
    oom: bool = False
    failure: Failure | None = None
    log_tail: tuple[LogLine, ...] = ()


State = (
    Scheduled | Loading | Starting | Waiting | Ready | Terminating | HardTerminating | Terminated
)


@attrs.frozen
class StatusEntry:
    """One line of a session's history: the state it entered, and when (seconds since epoch)."""

    state: State
    at: float


@attrs.frozen
class ResourceLimits:
    """What a session may take of the box; None means no limit of ours (plane.md 3.4)."""

    cpu_period: int | None = None
    cpu_period_percent: int | None = None
    cpu_time_limit: int | None = None
    cpus: float | None = None
    memory_limit_bytes: int | None = None
    disk_limit_bytes: int | None = None
    pids_limit: int | None = None


@attrs.frozen
class Readiness:
    """How to tell that a session answers: HEAD `path`, any status or one of `statuses`."""

    path: str = "/"
    statuses: tuple[int, ...] = ()


class PullPolicy(enum.StrEnum):
    """When an image is pulled; Plane's names."""

    IF_NOT_PRESENT = "IfNotPresent"
    ALWAYS = "Always"
    NEVER = "Never"


@attrs.frozen
class Credentials:
    """A registry login for one pull; never shown, never logged."""

    username: str
    password: str = attrs.field(repr=False)


@attrs.frozen
class Volume:
    """A named volume of the container engine, and where a session finds it."""

    name: str
    path: str
    read_only: bool = False


@attrs.frozen
class Executable:
    """What to run, complete: an image for a container engine, or a command for `process`."""

    #: Where a container's server listens unless told otherwise (plane.md 3.1).
    DEFAULT_PORT: ClassVar[int] = 8080

    image: str | None = None
    command: tuple[str, ...] | None = None
    entrypoint: tuple[str, ...] | None = None
    env: Mapping[str, str] = attrs.field(factory=dict)
    port: int = DEFAULT_PORT
    user: str | None = None
    workdir: str | None = None
    pull_policy: PullPolicy = PullPolicy.IF_NOT_PRESENT
    credentials: Credentials | None = None
    limits: ResourceLimits = ResourceLimits()
    readiness: Readiness = Readiness()
    network_name: str | None = None
    read_only: bool = False
    tmpfs: Mapping[str, str] = attrs.field(factory=dict)
    volumes: tuple[Volume, ...] = ()
    cap_add: tuple[str, ...] = ()
    runtime: str | None = None
    gpus: int | Literal["all"] = 0
    #: The directory of its key (true), or of this name, that lives on after it (plane.md 3.5).
    mount: bool | str = False
    egress: Egress = Egress.OPEN
    hardening: Hardening = Hardening()
    app: str | None = None


#: A token that stands in a host name, as a pattern: 32 bytes in lower-case base32.
HOST_TOKEN = r"[a-z2-7]{52}"


class Routing(enum.StrEnum):
    """Where the token stands in a session's URL: in its path, or in its host name."""

    PATH = "path"
    HOST = "host"


@attrs.frozen
class Limits:
    """How long a session may live; None means for ever. All in seconds."""

    max_idle_seconds: float | None = None
    lifetime_limit_seconds: float | None = None
    claim_within_seconds: float | None = None
    startup_timeout_seconds: float = 300.0
    stop_grace_seconds: float = 10.0
    token_ttl_seconds: float | None = None


class IdleCount(enum.StrEnum):
    """What of an upgraded connection is use: that it is open, or only what passes over it."""

    CONNECTIONS = "connections"
    MESSAGES = "messages"
    BYTES = "bytes"


@attrs.frozen
class IdleRule:
    """When an upgraded connection keeps a session in use.

    With `count` messages, a WebSocket's text that one of `ignore` matches (core.noise) is no use.
    """

    count: IdleCount = IdleCount.CONNECTIONS
    ignore: tuple[str, ...] = ()


@attrs.frozen
class Spec:
    """A spawn request completed by the configuration: nothing is left to guess."""

    executable: Executable
    limits: Limits = Limits()
    idle: IdleRule = IdleRule()
    subdomain: str | None = None
    use_static_token: bool = False
    routing: Routing = Routing.PATH
    labels: Mapping[str, str] = attrs.field(factory=dict)


@attrs.frozen
class Token:
    """The unguessable part of a session URL, with who it was given to."""

    value: str = attrs.field(repr=lambda value: f"{value[:6]}…")
    session_id: str
    secret: str = attrs.field(repr=False)
    user: str | None = None
    claims: Mapping[str, object] = attrs.field(factory=dict)
    static: bool = False
    ttl_seconds: float | None = None


def own_token(value: str, session_id: str, secret: str, *, static: bool) -> Token:
    """A session's own token; a static one, which everyone shares, proves nothing to it."""
    return Token(value, session_id, "" if static else secret, static=static)


@attrs.define(eq=False)
class Session:
    """All we know of one session; the registry owns it and is the only one to change it."""

    id: str
    key: Key
    tag: str
    spec: Spec
    created_at: float
    fencing_token: int
    #: A token without a user that the session itself knows; the one of everyone, if it is static.
    own_token: Token
    #: What the session proves itself with when it asks to be kept alive.
    secret: str = attrs.field(repr=False)
    user: str | None = None
    history: list[StatusEntry] = attrs.field(factory=list, repr=False)
    uses: set[Use] = attrs.field(factory=set)
    #: How many of its uses are passive, and how many are leases.
    passives: int = 0
    leases: int = 0
    last_use: Use | None = None
    last_used: float | None = None
    traffic: Traffic = attrs.field(factory=Traffic)
    connections: Ledger = attrs.field(factory=Ledger, repr=False)
    requests: LastRequests = attrs.field(factory=LastRequests, repr=False)
    idle_since: float | None = None
    claimed: bool = False
    #: How far the pull of its image had come by the last news of it.
    pulling: Pulling | None = None
    #: When its container or process, made by then, was told to start.
    start_began: float | None = None
    #: Whether it was made in an earlier run of the server, and not by this one.
    adopted: bool = False
    #: Whether the engine has yet to say if it still runs what an earlier run has left.
    unconfirmed: bool = False

    @property
    def state(self) -> State:
        """The state it is in now: the last of its history."""
        return self.history[-1].state

    @property
    def status(self) -> Status:
        """Where it is in its life now."""
        return self.state.status

    def is_at(self, address: Address) -> bool:
        """Whether it is ready, and known to be at this address still."""
        state = self.state
        return isinstance(state, Ready) and state.address == address and not self.unconfirmed

    @property
    def holds(self) -> int:
        """How many of its uses keep it in use: all but the passive ones."""
        return len(self.uses) - self.passives

    def entered(self, status: Status) -> float | None:
        """When it entered `status`, in seconds since epoch; None if it never did."""
        return next((entry.at for entry in self.history if entry.state.status is status), None)
