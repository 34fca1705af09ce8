"""Every WebSocket and tunnel, by session, for as long as it keeps its session in use."""

from __future__ import annotations

from plane_tx.accesslog import AccessLog
from plane_tx.core.explain import close_reason
from plane_tx.core.ledger import How
from plane_tx.core.model import IdleCount, Session
from plane_tx.core.use import Use, UseKind
from plane_tx.proxy.joined import Joined
from plane_tx.proxy.relay import Relay
from plane_tx.proxy.tunnel import Tunnel
from plane_tx.proxy.websocket import RelayEnds
from plane_tx.reactor import INetworkReactor
from plane_tx.supervisor import Supervisor


class Relays:
    """Begins them, and ends them with their session."""

    def __init__(
        self,
        reactor: INetworkReactor,
        supervisor: Supervisor,
        access_log: AccessLog | None = None,
    ) -> None:
        self._reactor = reactor
        self._supervisor = supervisor
        self._access_log = access_log
        self._open: dict[str, set[Joined]] = {}

    def __len__(self) -> int:
        return sum(len(relays) for relays in self._open.values())

    def join(self, session: Session, use: Use, ends: RelayEnds, protocol: bytes) -> Relay | Tunnel:
        """What carries the two ends of an upgrade to `protocol`; `use` was that of its request."""
        supervisor = self._supervisor
        passive = session.spec.idle.count is not IdleCount.CONNECTIONS
        own_use = supervisor.begin_use(session, UseKind.WEBSOCKET, use.visit, passive=passive)
        supervisor.end_use(session, use)
        if ends.access is not None:
            own_use.count_in(ends.access.traffic)
        kind = Relay if protocol == b"websocket" else Tunnel
        relay = kind(self._reactor, supervisor, session, own_use, ends, self._over)
        own_use.count_in(relay.record.traffic)
        session.connections.begin(relay.record)
        own_use.cut = relay.revoked
        self._open.setdefault(session.id, set()).add(relay)
        return relay

    def session_ended(self, session: Session) -> None:
        """Close every WebSocket of this session, saying why; tunnels end with their connections."""
        for relay in tuple(self._open.get(session.id, ())):
            if isinstance(relay, Relay):
                relay.end(1001, close_reason(session), How.SESSION_ENDED)

    def _over(self, relay: Joined) -> None:
        session = relay.session
        self._supervisor.end_use(session, relay.use)
        session.connections.end(relay.record, self._reactor.seconds())
        if self._access_log is not None and relay.ends.access is not None:
            self._access_log.append(relay.ends.access)
        relays = self._open[session.id]
        relays.discard(relay)
        if not relays:
            del self._open[session.id]
