"""Connections to sessions: dialled, used for one exchange at a time, and kept a while for more."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast
from typing import Protocol as Shape

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.error import ConnectError, ConnectionDone, DNSLookupError
from twisted.internet.error import TimeoutError as ConnectTimeout
from twisted.internet.interfaces import IDelayedCall, IPushProducer
from twisted.internet.protocol import Factory, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from plane_tx.core.errors import UpstreamUnreachable
from plane_tx.core.headers import Renditions
from plane_tx.core.http1 import ResponseParser
from plane_tx.core.messages import ResponseEvent
from plane_tx.core.model import Address
from plane_tx.proxy.connection import HalfClosing
from plane_tx.proxy.write_through import write_through
from plane_tx.reactor import INetworkReactor

#: How long a session has to accept a connection (plane.md 2.4).
CONNECT_SECONDS = 10.0

#: How long an unused connection is kept: less than the 5 s after which Node's servers hang up.
IDLE_SECONDS = 4.0

#: How many unused connections are kept for one session: as many as a busy one has in use, or those
#: beyond would be dialled anew for every request.
IDLE_MOST = 512

#: How long a connection of a session that has ended may say nothing before it is dropped.
DRAIN_SECONDS = 1.0

#: How long a session may take nothing of what it is sent. Meanwhile nothing is read from its
#: client either, so that nobody would see the client go.
STALL_SECONDS = 300.0


class Steered(Shape):
    """Whoever sends to a session and is told when it does not keep up."""

    def upstream_full(self) -> None:
        """The session does not keep up: send no more for now."""

    def upstream_drained(self) -> None:
        """The session has caught up: go on."""


class ReplyReader(Steered, Shape):
    """Whoever a reply is for."""

    def reply(self, events: Sequence[ResponseEvent]) -> None:
        """Take in what came of the reply."""


class Switched(Steered, Shape):
    """Whoever has a connection to itself after an upgrade."""

    def from_upstream(self, data: bytes) -> None:
        """Take in what the session sent."""

    def upstream_lost(self, reason: Failure) -> None:
        """The session hung up."""


@implementer(IPushProducer)
class UpstreamConnection(HalfClosing):
    """One connection to a session; the exchange it serves reads its replies.

    It is its transport's producer for good, and passes backpressure on to the exchange.
    """

    def __init__(self, pool: UpstreamPool, session_id: str) -> None:
        self.session_id = session_id
        self.reused = False
        self.silent = True
        self.heard = True
        self.held_back = False
        self.idle_since: float | None = None
        self.parser = ResponseParser(b"GET")
        self.renditions = Renditions()
        self._pool = pool
        self._stall: IDelayedCall | None = None
        self._reading_on: IDelayedCall | None = None
        self._reader: ReplyReader | None = None
        self._tunnel: Switched | None = None

    def connectionMade(self) -> None:
        """The connection is open."""
        self.transport.setTcpNoDelay(True)
        self.transport.setTcpKeepAlive(True)
        self.transport.registerProducer(self, True)
        write_through(self.transport)
        # The endpoint's own protocol would only pass everything on from here.
        transport: Any = self.transport
        transport.protocol = self
        self._pool.opened(self)

    def serve(self, reader: ReplyReader, method: bytes) -> None:
        """Read the next reply, one to `method`, for `reader`."""
        self._reader = reader
        self.silent = True
        self.parser.expect(method)

    def hand_over(self, tunnel: Switched) -> None:
        """Give everything from here on to `tunnel`: the session has switched protocols."""
        self._reader = None
        self._tunnel = tunnel
        del self.parser, self.renditions  # they take memory, perhaps for hours

    def leave(self) -> None:
        """Read for nobody any more; whatever still comes makes the connection useless."""
        self._reader = None
        if self.held_back:
            # The last client was slow: without this the next reply would never be read.
            self.let_go()

    def hold_back(self) -> None:
        """Read no more for now: the client does not keep up."""
        self.held_back = True
        self.transport.pauseProducing()

    def let_go(self) -> None:
        """Read on."""
        self.held_back = False
        self.transport.resumeProducing()

    def hang_up(self) -> None:
        """Drop the connection at once, so that the session learns of it at once."""
        self._reader = None
        self.transport.abortConnection()

    def part(self) -> None:
        """End the connection; nothing is under way, so the session sees an orderly end."""
        self._reader = None
        self.transport.loseConnection()

    def dataReceived(self, data: bytes) -> None:
        """Bytes came; whoever has the connection now takes them in."""
        self.silent, self.heard = False, True
        if self._tunnel is not None:
            self._tunnel.from_upstream(data)
            return
        reader = self._reader
        if reader is None:
            # Nobody asked for it.
            self._pool.forget(self)
            self.hang_up()
            return
        reader.reply(self.parser.feed(data))
        if self._tunnel is None and self.parser.pending and self._reading_on is None:
            # Much in small parts is read in several turns, so that others have theirs between.
            self.transport.pauseProducing()
            self._reading_on = self._pool.soon(self._read_on)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection is no more; whoever has it learns of it."""
        self._pool.closed(self)
        self._unstall()
        if self._reading_on is not None:
            self._reading_on.cancel()
        if self._tunnel is not None:
            self._tunnel.upstream_lost(reason)
            return
        while self._reader is not None and self.parser.pending:
            self._reader.reply(self.parser.feed(b""))
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.reply(self.parser.close(clean=bool(reason.check(ConnectionDone))))

    def pauseProducing(self) -> None:
        """The way to the session is full."""
        self._unstall()
        self._stall = self._pool.stall(self)
        steered = self._tunnel or self._reader
        if steered is not None:
            steered.upstream_full()

    def resumeProducing(self) -> None:
        """The way to the session is free again."""
        self._unstall()
        steered = self._tunnel or self._reader
        if steered is not None:
            steered.upstream_drained()

    def stopProducing(self) -> None:
        """The connection is lost; `connectionLost` tells whom it concerns."""

    def _read_on(self) -> None:
        self._reading_on = None
        if not self.held_back:
            self.transport.resumeProducing()
        self.dataReceived(b"")

    def _unstall(self) -> None:
        if self._stall is not None and self._stall.active():
            self._stall.cancel()
        self._stall = None


class UpstreamPool:
    """Every connection to every session: who is in use, and who may be used again."""

    def __init__(self, reactor: INetworkReactor) -> None:
        self._reactor = reactor
        self._open: dict[str, set[UpstreamConnection]] = {}
        #: Of each session the connection that was used last is the last one.
        self._idle: dict[str, list[UpstreamConnection]] = {}
        self._sweeping: IDelayedCall | None = None
        self._drains: dict[str, IDelayedCall] = {}

    def __repr__(self) -> str:
        idle = sum(len(connections) for connections in self._idle.values())
        return f"<UpstreamPool [Connections: {len(self)} open, {idle} idle]>"

    def __len__(self) -> int:
        return sum(len(connections) for connections in self._open.values())

    def take_idle(self, session_id: str) -> UpstreamConnection | None:
        """An open connection that nobody uses, the one used last first; None if there is none."""
        idle = self._idle.get(session_id)
        if not idle:
            return None
        connection = idle.pop()
        connection.idle_since = None
        connection.reused = True
        return connection

    def dial(self, session_id: str, address: Address) -> Deferred[UpstreamConnection]:
        """Open a connection. Fails with Twisted's `ConnectError`s; may be cancelled."""
        endpoint = TCP4ClientEndpoint(self._reactor, address.host, address.port, CONNECT_SECONDS)
        factory = Factory.forProtocol(lambda: UpstreamConnection(self, session_id))
        factory.noisy = False
        return cast("Deferred[UpstreamConnection]", endpoint.connect(factory))

    def give_back(self, connection: UpstreamConnection) -> None:
        """Keep a connection, whose last reply is complete, for the next exchange."""
        connection.leave()
        idle = self._idle.setdefault(connection.session_id, [])
        if len(idle) >= IDLE_MOST or connection.session_id in self._drains:
            connection.part()
            return
        idle.append(connection)
        connection.idle_since = self._reactor.seconds()
        if self._sweeping is None:
            self._sweeping = self._reactor.callLater(IDLE_SECONDS, self._sweep)

    def forget(self, connection: UpstreamConnection) -> None:
        """Give this connection to nobody from now on; it may take a turn or more to end."""
        if connection.idle_since is not None:
            connection.idle_since = None
            self._idle[connection.session_id].remove(connection)

    def stall(self, connection: UpstreamConnection) -> IDelayedCall:
        """Drop a connection by and by, unless its session takes what it is sent."""
        return self._reactor.callLater(STALL_SECONDS, connection.transport.abortConnection)

    def soon(self, then: Callable[[], None]) -> IDelayedCall:
        """Call `then` in the next turn."""
        return self._reactor.callLater(0, then)

    def opened(self, connection: UpstreamConnection) -> None:
        """A connection came into being."""
        self._open.setdefault(connection.session_id, set()).add(connection)

    def closed(self, connection: UpstreamConnection) -> None:
        """A connection is no more."""
        connections = self._open[connection.session_id]
        connections.discard(connection)
        self.forget(connection)
        if not connections:
            del self._open[connection.session_id]
            self._idle.pop(connection.session_id, None)
            drain = self._drains.pop(connection.session_id, None)
            if drain is not None:
                drain.cancel()

    def session_ended(self, session_id: str) -> None:
        """Drop the idle connections now, those in use once they hold nothing more to be read."""
        for connection in tuple(self._idle.get(session_id, ())):
            self._expire(connection)
        if session_id in self._open and session_id not in self._drains:
            drain = self._reactor.callLater(DRAIN_SECONDS, self._drained, session_id)
            self._drains[session_id] = drain

    def close(self) -> None:
        """Drop every connection."""
        for drain in self._drains.values():
            drain.cancel()
        self._drains.clear()
        if self._sweeping is not None:
            self._sweeping.cancel()
            self._sweeping = None
        for connections in tuple(self._open.values()):
            for connection in tuple(connections):
                connection.transport.abortConnection()

    def _drained(self, session_id: str) -> None:
        # A client that reads slowly, or bytes that still come, are no reason to cut a reply short.
        self._drains[session_id] = self._reactor.callLater(DRAIN_SECONDS, self._drained, session_id)
        for connection in tuple(self._open[session_id]):
            if connection.heard or connection.held_back:
                connection.heard = False
            else:
                connection.transport.abortConnection()

    def _sweep(self) -> None:
        # One timer for all: those of a session lie in the order in which they were given back.
        self._sweeping = None
        now = self._reactor.seconds()
        for connections in tuple(self._idle.values()):
            while connections and _expires(connections[0]) <= now:
                self._expire(connections[0])
        soonest = min((_expires(idle[0]) for idle in self._idle.values() if idle), default=None)
        if soonest is not None:
            self._sweeping = self._reactor.callLater(soonest - now, self._sweep)

    def _expire(self, connection: UpstreamConnection) -> None:
        self.forget(connection)
        connection.part()


def _expires(connection: UpstreamConnection) -> float:
    assert connection.idle_since is not None
    return connection.idle_since + IDLE_SECONDS


def why_not_connected(failure: Failure, port: int) -> UpstreamUnreachable:
    """What the client is told when a session's server at `port` could not be dialled."""
    failure.trap(ConnectError, DNSLookupError)
    late = failure.check(ConnectTimeout)
    what = "did not accept a connection in time" if late else "refused the connection"
    return UpstreamUnreachable(f"port {port} of the session {what}")
