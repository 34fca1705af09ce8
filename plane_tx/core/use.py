"""How a session is used, and what has passed through it: counters, and nothing that acts."""

from __future__ import annotations

import enum
from collections.abc import Callable

import attrs


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


@attrs.define(eq=False)
class Use:
    """One thing by which a session is used; its identity is what is counted.

    It keeps the session in use until it ends. A `passive` one does not: only what passes over it
    is use (core.model.IdleRule).
    Moments are seconds since epoch. A lease has a `reason`, and an `until` when it ends by itself.
    `cut` is how whoever began it ends it at once, when the token that let it in is taken back.
    What passes is counted in each of `traffic`: of the session, and of all of them.
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

    def count_in(self, traffic: Traffic) -> None:
        """Count in `traffic` too what passes from now on."""
        self.traffic = (*self.traffic, traffic)

    def request(self) -> None:
        """Count a request that the session is given."""
        for traffic in self.traffic:
            traffic.requests += 1

    def from_client(self, size: int, messages: int, now: float) -> None:
        """Count `size` bytes that the client sent, and the messages that ended with them."""
        for traffic in self.traffic:
            traffic.bytes_from_clients += size
            traffic.messages_from_clients += messages
        self.last_data = now

    def to_client(self, size: int, messages: int, now: float) -> None:
        """Count `size` bytes that the session sent, and the messages that ended with them."""
        for traffic in self.traffic:
            traffic.bytes_to_clients += size
            traffic.messages_to_clients += messages
        self.last_data = now
