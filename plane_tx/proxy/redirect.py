"""What answers on a plain endpoint by the way to the same place by https."""

from __future__ import annotations

from twisted.internet.protocol import Factory, connectionDone
from twisted.python.failure import Failure

from plane_tx.accesslog import AccessLog
from plane_tx.core.errors import HeadTimeout, PlaneError
from plane_tx.core.forwarded import UNIX
from plane_tx.core.http1 import RequestParser
from plane_tx.core.messages import Broken, RequestHead
from plane_tx.core.routes import secure_url
from plane_tx.proxy.answers import redirect, refusal
from plane_tx.proxy.connection import HEAD_SECONDS, Connection
from plane_tx.proxy.notes import Notes
from plane_tx.reactor import INetworkReactor


class RedirectConnection(Connection):
    """Answers one request, whatever it asks for, and parts."""

    def __init__(self, factory: RedirectFactory) -> None:
        super().__init__(factory.reactor)
        self._factory = factory
        self._parser = RequestParser()
        log = factory.access_log
        self._notes = Notes(log, factory.reactor) if log is not None else None
        self._peer = ""

    def connectionMade(self) -> None:
        """The connection is open."""
        super().connectionMade()
        self._peer = getattr(self.transport.getPeer(), "host", UNIX)
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
                    self._refuse(event.error)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection is no more."""
        super().connectionLost(reason)
        self._factory.connections.discard(self)

    def _answer(self, head: RequestHead) -> None:
        host, target = head.host.decode("latin-1"), head.target.decode("latin-1")
        location = secure_url(self._factory.cluster, host, target)
        said = redirect(308, location, close=True, head=head)
        if self._notes is not None:
            self._notes.begin(head, self._peer)
            self._notes.answered(said, "")
        self._say(said)

    def _refuse(self, error: PlaneError) -> None:
        said = refusal(error, close=True)
        if self._notes is not None:
            self._notes.refused(said, error.kind, self._peer)
        self._say(said)

    def _time_out(self) -> None:
        if self._parser.mid_head:
            self._refuse(HeadTimeout(f"the request head took longer than {HEAD_SECONDS:g} s"))
        else:
            self._part()

    def _say(self, answer: bytes) -> None:
        self.transport.write(answer)
        if self._notes is not None:
            self._notes.end()
        self._part()


class RedirectFactory(Factory):
    """Makes a `RedirectConnection` of each accepted connection."""

    noisy = False

    def __init__(
        self, reactor: INetworkReactor, cluster: str, access_log: AccessLog | None = None
    ) -> None:
        self.reactor = reactor
        self.cluster = cluster
        self.access_log = access_log
        self.connections: set[RedirectConnection] = set()

    def buildProtocol(self, addr: object) -> RedirectConnection:
        """A connection for the client at `addr`."""
        return RedirectConnection(self)

    async def close(self) -> None:
        """Drop every connection."""
        for connection in tuple(self.connections):
            connection.transport.abortConnection()
