"""What listens for the proxy's clients, and what all their connections share."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory

from plane_tx.accesslog import AccessLog
from plane_tx.core.model import Session, Status, StatusEntry
from plane_tx.proxy.answers import refusal
from plane_tx.proxy.client import ClientConnection
from plane_tx.proxy.connection import LINGER_SECONDS
from plane_tx.proxy.early import EarlyClientConnection
from plane_tx.proxy.interface import Carrier
from plane_tx.proxy.relays import Relays
from plane_tx.proxy.settings import ProxySettings
from plane_tx.proxy.upstream import UpstreamPool
from plane_tx.proxy.waiting import Meanwhile
from plane_tx.proxy.websocket import Legs
from plane_tx.reactor import INetworkReactor
from plane_tx.supervisor import Supervisor

DEFAULTS = ProxySettings()


class ProxyFactory(Factory):
    """Makes a `ClientConnection` of each accepted connection, and ends them all at the end."""

    noisy = False

    def __init__(
        self,
        reactor: INetworkReactor,
        supervisor: Supervisor,
        settings: ProxySettings = DEFAULTS,
        access_log: AccessLog | None = None,
    ) -> None:
        self.reactor = reactor
        self.supervisor = supervisor
        self.settings = settings
        self.access_log = access_log
        self.cluster = supervisor.policy.cluster
        self.refusal: Callable[..., bytes] = partial(refusal, pages=settings.pages)
        self.pool = UpstreamPool(reactor)
        self.legs = Legs(reactor)
        self._meanwhile = Meanwhile(
            reactor, supervisor, pages=settings.waiting_page, logs=settings.waiting_logs
        )
        self.carrier = Carrier(supervisor, self.pool, self._meanwhile)
        self.connections: set[ClientConnection] = set()
        self._closing = False
        self._emptied: Deferred[None] | None = None
        self.relays = Relays(reactor, supervisor, access_log)
        open_now = supervisor.measures.connections
        open_now["clients"] = lambda: len(self.connections)
        open_now["sessions"] = lambda: len(self.pool)
        self._unwatch = supervisor.watch(self._moved)

    def __repr__(self) -> str:
        clients = f"Clients: {len(self.connections)} | Relays: {len(self.relays)}"
        return f"<ProxyFactory [{clients}] {self.pool!r}>"

    def buildProtocol(self, addr: object) -> ClientConnection | None:
        """A connection for the client at `addr`; none while we part with them."""
        if self._closing:
            return None
        recovered = self.supervisor.recovered
        return ClientConnection(self) if recovered else EarlyClientConnection(self)

    def lost(self, connection: ClientConnection) -> None:
        """A client's connection is no more."""
        self.connections.discard(connection)
        emptied = self._emptied
        if emptied is not None and not self.connections:
            self._emptied = None
            emptied.callback(None)

    async def close(self) -> None:
        """Part with every client and every session.

        WebSockets end at once, and requests that are held; those in flight have
        `shutdown_seconds`, and are then cut.
        """
        self._closing = True
        for connection in tuple(self.connections):
            connection.go_away()
        await self._empty_within(self.settings.shutdown_seconds)
        for connection in tuple(self.connections):
            connection.give_up()
        await self._empty_within(LINGER_SECONDS)
        for connection in tuple(self.connections):
            connection.transport.abortConnection()
        self._unwatch()
        self._meanwhile.close()
        self.pool.close()

    async def _empty_within(self, seconds: float) -> None:
        if self.connections:
            self._emptied = Deferred()
            await self._emptied.addTimeout(seconds, self.reactor, lambda *_: None)
            self._emptied = None

    def _moved(self, session: Session, entry: StatusEntry) -> None:
        if entry.state.status is not Status.TERMINATED:
            return
        self.relays.session_ended(session)
        self.pool.session_ended(session.id)
