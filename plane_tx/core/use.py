"""How a session is used, and what has passed through it: counters, and nothing that acts."""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple

import attrs

#: How many of a session's requests are remembered when they are over.
REQUESTS_KEPT = 50


class UseKind(enum.StrEnum):
    """The ways in which a session is in use (DESIGN: Idle, exactly)."""

    REQUEST = "request"
    WEBSOCKET = "websocket"
    HOLD = "hold"
    LEASE = "lease"


@attrs.define(eq=False)
class Traffic:
    """What passed through the proxy: bodies and frames in bytes, whole WebSocket messages."""

    requests: int = 0
    bytes_from_clients: int = 0
    bytes_to_clients: int = 0
    messages_from_clients: int = 0
    messages_to_clients: int = 0


@attrs.frozen
class Visit:
    """Who uses a session and where: as much of a request as may be shown to those who ask why.

    `path` is the one the session sees, without its query; `token` is the value that let it in.
    """

    peer: str = ""
    path: str = ""
    user: str | None = None
    token: str = attrs.field(default="", repr=False)


#: Whoever uses a session without a request of theirs.
NOBODY = Visit()


@attrs.define(eq=False)
class Use:
    """One thing by which a session is used; its identity is what is counted.

    It keeps the session in use until it ends. A `passive` one does not: only what passes over it
    is use (core.model.IdleRule).
    Moments are seconds since epoch. A lease has a `reason`, and an `until` when it ends by itself.
    `cut` is how whoever began it ends it at once, when the token that let it in is taken back.
    What passes is counted in each of `traffic`: of the session, and of all of them. Its own bytes
    are counted as well.
    """

    kind: UseKind
    since: float
    visit: Visit = Visit()
    until: float | None = None
    reason: str = ""
    last_data: float | None = None
    traffic: tuple[Traffic, ...] = ()
    cut: Callable[[], None] | None = attrs.field(default=None, repr=False)
    passive: bool = False
    bytes_from_client: int = 0
    bytes_to_client: int = 0

    def count_in(self, traffic: Traffic) -> None:
        """Count in `traffic` too what passes from now on."""
        self.traffic = (*self.traffic, traffic)

    def request(self) -> None:
        """Count a request that the session is given."""
        for traffic in self.traffic:
            traffic.requests += 1

    def from_client(self, size: int, messages: int, now: float) -> None:
        """Count `size` bytes that the client sent, and the messages that ended with them."""
        self.bytes_from_client += size
        for traffic in self.traffic:
            traffic.bytes_from_clients += size
            traffic.messages_from_clients += messages
        self.last_data = now

    def to_client(self, size: int, messages: int, now: float) -> None:
        """Count `size` bytes that the session sent, and the messages that ended with them."""
        self.bytes_to_client += size
        for traffic in self.traffic:
            traffic.bytes_to_clients += size
            traffic.messages_to_clients += messages
        self.last_data = now


class Request(NamedTuple):
    """A request that is over: whose it was, how it was answered, and who cut it short, if anybody.

    Moments are seconds since epoch. `error` is the kind of a failure of the proxy's.
    """

    visit: Visit
    method: bytes
    began: float
    ended: float
    status: int | None
    bytes_from_client: int
    bytes_to_client: int
    closed: str
    error: str


#: The same as a plain tuple, which takes a third of the time to make.
RequestFields = tuple[Visit, bytes, float, float, int | None, int, int, str, str]


class LastRequests:
    """The last `REQUESTS_KEPT` requests of a session, the oldest first.

    Every session has one of these, so an empty one is small.
    """

    __slots__ = ("_kept",)

    def __init__(self) -> None:
        self._kept: deque[RequestFields] | None = None

    def __iter__(self) -> Iterator[Request]:
        return map(Request._make, self._kept or ())

    def append(self, request: RequestFields) -> None:
        """Remember a request that is over."""
        if self._kept is None:
            self._kept = deque(maxlen=REQUESTS_KEPT)
        self._kept.append(request)
