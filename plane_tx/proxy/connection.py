"""What all connections share: how long they may take, how they part, and half-closed ones."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IHalfCloseableProtocol, ISSLTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import alsoProvides

from plane_tx.proxy.write_through import write_pieces, write_through
from plane_tx.reactor import IFlowTransport, INetworkReactor

#: How long a head may take from its first byte, or a new connection until its first head.
HEAD_SECONDS = 30.0

#: How long a connection may stay without a request.
KEEP_ALIVE_SECONDS = 75.0

#: How much of a request waits here while its session cannot take it.
WAITING_BYTES = 65536

#: What clients are told while the server stops.
STOPPING = "the server is stopping"

#: How long a client is listened to after we said our last, so that it can read it.
LINGER_SECONDS = 2.0

#: How long a client that reads slowly has after that to take what still waits here.
FLUSH_SECONDS = 30.0

#: A silent peer is asked after 60 s, 4 times 15 s apart; what a platform does not have is left out.
KEEP_ALIVE_OPTIONS = tuple(
    (getattr(socket, name), value)
    for name, value in (
        ("TCP_KEEPIDLE", 60),
        ("TCP_KEEPINTVL", 15),
        ("TCP_KEEPCNT", 4),
    )
    if hasattr(socket, name)
)


class Timer:
    """One call to be made later: what is set takes the place of what was.

    A call of the reactor's that comes too early is left to come and then put off, so that what is
    set and disarmed for every request costs the reactor nothing.
    """

    __slots__ = ("_args", "_call", "_due", "_reactor", "_then", "_wakes")

    def __init__(self, reactor: INetworkReactor) -> None:
        self._reactor = reactor
        self._call: IDelayedCall | None = None
        self._wakes = self._due = 0.0
        self._then: Callable[..., None] | None = None
        self._args: tuple[object, ...] = ()

    def set(self, seconds: float, then: Callable[..., None], *args: object) -> None:
        """Call `then` with `args` in so many seconds, and nothing else."""
        self._due = self._reactor.seconds() + seconds
        self._then, self._args = then, args
        if self._call is None or self._wakes > self._due:
            self._wake_in(seconds)

    def disarm(self) -> None:
        """Call nothing until it is set again, which is to be soon."""
        self._then = None

    def clear(self) -> None:
        """Call nothing, and leave nothing to come."""
        self._then = None
        call, self._call = self._call, None
        if call is not None:
            call.cancel()

    def _wake_in(self, seconds: float) -> None:
        if self._call is not None:
            self._call.cancel()
        self._wakes = self._reactor.seconds() + seconds
        self._call = self._reactor.callLater(seconds, self._wake)

    def _wake(self) -> None:
        self._call = None
        then, early = self._then, self._due - self._reactor.seconds()
        if then is None:
            return
        if early > 0:
            self._wake_in(early)
            return
        self._then = None
        then(*self._args)


class HalfClosing(Protocol):
    """A protocol that can learn of the other end's last byte before the connection is over.

    Unless asked to it does not: what half-closed is then lost, as Twisted has it.
    """

    transport: IFlowTransport
    _ended: Callable[[], None]

    def hear_end(self, ended: Callable[[], None]) -> None:
        """Call `ended` once the other end has said its last; the connection then stays open.

        Never called over TLS, which ends both directions at once.
        """
        self._ended = ended
        if not ISSLTransport.providedBy(self.transport):
            # An endpoint puts a protocol of its own before ours, which passes these calls on.
            first: Any = self.transport
            # One that cannot pass them on, like that of a haproxy: endpoint, is left as it is.
            if hasattr(type(first.protocol), "readConnectionLost"):
                alsoProvides(first.protocol, IHalfCloseableProtocol)

    def readConnectionLost(self) -> None:
        """The other end has said its last."""
        self._ended()

    def writeConnectionLost(self) -> None:
        """The other end is sent no more, which we knew."""


class Connection(HalfClosing):
    """A client's connection with one timer at a time, which parts so that our last words arrive."""

    def __init__(self, reactor: INetworkReactor) -> None:
        self._timer = Timer(reactor)
        self._over = False
        self._lost = False
        self._secure = False
        self._heard_all = False

    def connectionMade(self) -> None:
        """The connection is open."""
        self._secure = ISSLTransport.providedBy(self.transport)
        self.transport.setTcpNoDelay(True)
        self.transport.setTcpKeepAlive(True)
        _watch_for_death(self.transport)
        write_through(below(self.transport))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection is no more."""
        self._over = self._lost = True
        self._timer.clear()

    def send(self, data: bytes) -> None:
        """Write to the client."""
        self.transport.write(data)

    def send_pieces(self, pieces: Sequence[bytes | memoryview]) -> None:
        """The same with several pieces, at least one."""
        write_pieces(self.transport, pieces)

    def _part(self) -> None:
        self._over = True
        self.transport.unregisterProducer()
        if self._secure or self._heard_all:
            self._hang_up()
            return
        # Closing with unread bytes would reset the connection and lose our last words.
        self.transport.resumeProducing()
        self.transport.loseWriteConnection()
        self._timer.set(LINGER_SECONDS, self._hang_up)

    def _hang_up(self) -> None:
        # What waits here is still sent, if the client takes it in time.
        self.transport.loseConnection()
        if not self._lost:
            self._timer.set(FLUSH_SECONDS, self.transport.abortConnection)


def below(transport: Any) -> Any:
    """What has the socket: over TLS not `transport` itself, which is a protocol on top of it."""
    return getattr(transport, "transport", transport)


def _watch_for_death(transport: IFlowTransport) -> None:
    # A client that vanished says nothing; by the kernel's own defaults it would keep its session
    # in use for over two hours.
    owner = below(transport)
    handle = owner.getHandle() if hasattr(owner, "getHandle") else None
    if isinstance(handle, socket.socket) and handle.family != socket.AF_UNIX:
        for option, value in KEEP_ALIVE_OPTIONS:
            handle.setsockopt(socket.IPPROTO_TCP, option, value)
