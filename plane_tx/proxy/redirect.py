"""What answers on a plain endpoint by the way to the same place by https."""

from __future__ import annotations

from twisted.internet.protocol import Factory, connectionDone
from twisted.python.failure import Failure

from plane_tx.core.errors import HeadTimeout
from plane_tx.core.http1 import RequestParser
from plane_tx.core.messages import Broken, RequestHead
from plane_tx.core.routes import secure_url
from plane_tx.proxy.answers import redirect, refusal
from plane_tx.proxy.connection import HEAD_SECONDS, Connection
from plane_tx.reactor import INetworkReactor


class RedirectConnection(Connection):
    """Answers one request, whatever it asks for, and parts."""

    def __init__(self, factory: RedirectFactory) -> None:
        super().__init__(factory.reactor)
        self._factory = factory
        self._parser = RequestParser()

    def connectionMade(self) -> None:
        """The connection is open."""
        super().connectionMade()
        self._factory.connections.add(self)
        self._timer.set(HEAD_SECONDS, self._time_out)

    def dataReceived(self, data: bytes) -> None:
        """Bytes came: answer the first head among them."""
        if self._over:
            return
        for event in self._parser.feed(data)[:1]:
            match event:
                case RequestHead():
                    self._answer(event)
                case Broken():
                    self._say(refusal(event.error, close=True))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection is no more."""
        super().connectionLost(reason)
        self._factory.connections.discard(self)

    def _answer(self, head: RequestHead) -> None:
        host, target = head.host.decode("latin-1"), head.target.decode("latin-1")
        location = secure_url(self._factory.cluster, host, target)
        self._say(redirect(308, location, close=True, head=head))

    def _time_out(self) -> None:
        if self._parser.mid_head:
            error = HeadTimeout(f"the request head took longer than {HEAD_SECONDS:g} s")
            self._say(refusal(error, close=True))
        else:
            self._part()

    def _say(self, answer: bytes) -> None:
        self.transport.write(answer)
        self._part()


class RedirectFactory(Factory):
    """Makes a `RedirectConnection` of each accepted connection."""

    noisy = False

    def __init__(self, reactor: INetworkReactor, cluster: str) -> None:
        self.reactor = reactor
        self.cluster = cluster
        self.connections: set[RedirectConnection] = set()

    def buildProtocol(self, addr: object) -> RedirectConnection:
        """A connection for the client at `addr`."""
        return RedirectConnection(self)

    async def close(self) -> None:
        """Drop every connection."""
        for connection in tuple(self.connections):
            connection.transport.abortConnection()
