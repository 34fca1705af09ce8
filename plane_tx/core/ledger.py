"""The connections of a session that were upgraded, open and closed, and how each of them ended.

WebSockets and tunnels are written down here, so that whoever was cut off can be told why. A record
keeps nothing alive but itself: no transport, and no use of the session.
"""

from __future__ import annotations

import enum
import itertools
from collections.abc import Mapping

import attrs

from plane_tx.core.use import Traffic, Visit

#: How many closed connections of a session are remembered.
CLOSED_KEPT = 200

#: The longest reason that fits a Close frame, in bytes of UTF-8 (RFC 6455 sections 5.5 and 5.5.1).
MOST_REASON_BYTES = 123


class ConnectionKind(enum.StrEnum):
    """What an upgrade led to."""

    WEBSOCKET = "websocket"
    TUNNEL = "tunnel"


class How(enum.StrEnum):
    """Who closed a connection first, and how."""

    #: The client sent a Close frame.
    CLIENT_CLOSE = "client-close"
    #: The client said its last byte, and no Close frame before it.
    CLIENT_FIN = "client-fin"
    #: The client's connection was reset or is lost.
    CLIENT_RST = "client-rst"
    #: The session sent a Close frame.
    SESSION_CLOSE = "session-close"
    #: The session said its last byte, and no Close frame before it.
    SESSION_FIN = "session-fin"
    #: The connection to the session was reset or is lost.
    SESSION_RST = "session-rst"
    #: We closed it, for its session ended.
    SESSION_ENDED = "session-ended"
    #: We closed it, for no byte passed in the time that the configuration gives. A session that
    #: nobody used ends as idle, and its connections as session-ended.
    IDLE = "idle"
    #: We dropped it, for the client did not answer our pings.
    PING_TIMEOUT = "ping-timeout"
    #: We closed it, for the token that let it in was revoked.
    REVOKED = "revoked"
    #: We closed it, for the server was stopping.
    DRAIN = "drain"
    #: We closed it, for a message was longer than the configuration allows.
    TOO_LONG = "too-long"
    #: We dropped it, for the session took nothing of what the client sent.
    STALLED = "stalled"
    #: It never opened, for one side's part of the handshake was wrong.
    REFUSED = "refused"


@attrs.frozen
class Farewell:
    """What our own Close says, and why it is said."""

    code: int
    reason: str
    how: How


@attrs.define(eq=False)
class Connection:
    """One WebSocket or tunnel, from its upgrade on. Moments are seconds since epoch.

    `how` is None while nobody has closed it; `code` and `reason` are those of the Close frame that
    was sent first, by whoever it was: by us, when a side was lost without one. A close of ours has
    no `code` on a WebSocket when no Close frame of ours could stand there, in the middle of another
    frame. For refused, too-long and session-ended `reason` is ours, and its verdict tells it as
    it is. A backlog is the most bytes that ever waited here for one side. A round trip is what the
    client took to answer a ping of ours, in seconds: the last one, and the best.
    """

    kind: ConnectionKind
    opened: float
    visit: Visit = Visit()
    traffic: Traffic = attrs.field(factory=Traffic)
    closed_at: float | None = None
    how: How | None = None
    code: int | None = None
    reason: str = ""
    backlog_to_client: int = 0
    backlog_to_session: int = 0
    round_trip: float | None = None
    best_round_trip: float | None = None

    def closes(self, how: How, code: int | None = None, reason: str = "") -> None:
        """Write down who closes it and how; only the first who does is remembered.

        Of a `reason` what would fit a Close frame is kept.
        """
        if self.how is None:
            self.how, self.code = how, code
            cut = reason.encode("utf-8", "replace")[:MOST_REASON_BYTES]
            self.reason = cut.decode("utf-8", "ignore")

    def answered(self, round_trip: float) -> None:
        """Write down that the client answered a ping of ours after so many seconds."""
        # A clock may be set back.
        self.round_trip = max(round_trip, 0.0)
        best = self.best_round_trip
        self.best_round_trip = self.round_trip if best is None else min(best, self.round_trip)

    def seconds(self, now: float) -> float:
        """How long it was open, or has been until `now`."""
        until = now if self.closed_at is None else self.closed_at
        return max(until - self.opened, 0.0)


@attrs.define(eq=False)
class Ledger:
    """A session's connections: all that are open, and the `CLOSED_KEPT` that were closed last.

    Both are in the order in which they came there. Every session has one of these, so an empty one
    is small: a deque would be four times as large as all of it.
    """

    open: dict[Connection, None] = attrs.field(factory=dict)
    closed: list[Connection] = attrs.field(factory=list)

    def begin(self, connection: Connection) -> None:
        """Write down a connection that is open."""
        self.open[connection] = None

    def end(self, connection: Connection, now: float) -> None:
        """Put an open connection among the closed ones; a second call changes nothing."""
        if connection not in self.open:
            return
        del self.open[connection]
        connection.closed_at = now
        self.closed.append(connection)
        del self.closed[:-CLOSED_KEPT]

    def open_at(self, moment: float) -> list[Connection]:
        """Those that were open at `moment` (seconds since epoch), of all that are remembered."""
        return [
            connection
            for connection in itertools.chain(self.open, self.closed)
            if connection.opened <= moment
            and (connection.closed_at is None or connection.closed_at >= moment)
        ]


#: RFC 6455 section 7.4.1, and what the IANA registry of close codes has beside it.
_NAMES: Mapping[int, str] = {
    1000: "normal closure",
    1001: "going away",
    1002: "protocol error",
    1003: "unsupported data",
    1005: "no status received",
    1006: "abnormal closure",
    1007: "invalid frame payload data",
    1008: "policy violation",
    1009: "message too big",
    1010: "mandatory extension",
    1011: "internal error",
    1012: "service restart",
    1013: "try again later",
    1014: "bad gateway",
    1015: "TLS handshake",
    3000: "unauthorized",
    3003: "forbidden",
    3008: "timeout",
}

#: What an application may mean by as it likes (RFC 6455 section 7.4.2).
_PRIVATE = range(4000, 5000)

#: What is said of each; `bare` and `unsent` are empty for a tunnel, which knows no Close frames.
_VERDICTS: Mapping[How | None, str] = {
    How.CLIENT_CLOSE: "the client closed it{close}{after}",
    How.CLIENT_FIN: "the client closed it{bare}{after}{told}",
    How.CLIENT_RST: "the client's connection broke{bare}{after}{told}",
    How.SESSION_CLOSE: "the session's server closed it{close}{after}",
    How.SESSION_FIN: "the session's server closed it{bare}{after}{told}",
    How.SESSION_RST: "the connection to the session's server broke{bare}{after}{told}",
    How.SESSION_ENDED: "it was closed{close}{after}{unsent}: {cause}",
    How.IDLE: (
        "it was closed{close}{after}: no byte passed over it for [proxy] idle_timeout_seconds"
    ),
    How.PING_TIMEOUT: (
        "the client vanished: pings ([proxy] ws_ping_seconds) stayed unanswered, and it was dropped"
        "{after}{told}"
    ),
    How.REVOKED: "it was closed{close}{after}{unsent}: its token was revoked",
    How.DRAIN: "it was closed{close}{after}{unsent}: the server was stopping",
    How.TOO_LONG: "it was closed{close}{after}{unsent}: {cause}",
    How.STALLED: "it was closed{close}{after}: the session's server took nothing for too long",
    How.REFUSED: "it never opened: {cause}",
    None: "it is over{after}, and nobody saw who closed it",
}

#: The ends whose reason is the cause itself, what is said of it, and what when there is none.
_CAUSES: Mapping[How | None, tuple[str, str]] = {
    How.SESSION_ENDED: ("its session ended ({}; see its /why)", "its session ended (see its /why)"),
    How.TOO_LONG: ("{}", "a message was longer than [proxy] max_message_bytes"),
    How.REFUSED: ("{}", "the handshake was wrong"),
}


def verdict(connection: Connection, now: float) -> str:
    """Say in a line what became of this connection by `now` (seconds since epoch)."""
    lasted = f"{connection.seconds(now):.1f} s"
    if connection.closed_at is not None:
        return _ending(connection, f" after {lasted}")
    if connection.how is not None:
        return f"open for {lasted}, and closing: {_ending(connection, '')}"
    round_trip = connection.round_trip
    if round_trip is None:
        return f"open for {lasted}"
    return f"open for {lasted}, last round trip {round(round_trip * 1000, 1):g} ms"


def _ending(connection: Connection, after: str) -> str:
    framed = connection.kind is ConnectionKind.WEBSOCKET
    said, unsaid = _CAUSES.get(connection.how, ("", ""))
    words = _close_words(connection)
    unsent = " without a Close frame, in the middle of a message or to a client that did not read"
    return _VERDICTS[connection.how].format(
        after=after,
        bare=" without a Close frame" if framed else "",
        cause=said.format(connection.reason) if connection.reason else unsaid,
        close=f" ({words})" if words else "",
        told=f"; the other side was told {words}" if words else "",
        unsent=unsent if framed and connection.code is None else "",
    )


def _close_words(connection: Connection) -> str:
    code, by_frame = connection.code, connection.how in (How.CLIENT_CLOSE, How.SESSION_CLOSE)
    if code is None and not by_frame:
        return ""  # nobody was sent a Close frame
    name = "application code" if by_frame and code in _PRIVATE else _NAMES.get(code or 0, "")
    said = ["no code" if code is None else f"{code} {name}".rstrip()]
    if connection.reason and connection.how not in _CAUSES:
        # It is a stranger's text: what cannot be printed is escaped, and its end can be seen.
        said.append(repr(connection.reason))
    return ", ".join(said)
