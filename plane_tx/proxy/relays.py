"""Every WebSocket and tunnel, by session, until it is over."""

from __future__ import annotations

from plane_tx.accesslog import AccessLog
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

    def join(self, session: Session, use: Use, ends: RelayEnds, protocol: bytes) -> Joined:
        """What carries the two ends of an upgrade to `protocol`; `use` was that of its request."""
        supervisor = self._supervisor
        passive = session.spec.idle.count is not IdleCount.CONNECTIONS
        own_use = supervisor.begin_use(session, UseKind.WEBSOCKET, use.visit, passive=passive)
        supervisor.end_use(session, use)
        if passive:
            supervisor.touch(session, own_use)  # that somebody came is use
        if ends.access is not None:
            own_use.count_in(ends.access.traffic)
        kind: type[Joined] = Relay if protocol == b"websocket" else Tunnel
        relay = kind(self._reactor, supervisor, session, own_use, ends, self._over)
        own_use.count_in(relay.record.traffic)
        session.connections.begin(relay.record)
        own_use.cut = relay.revoked
        self._open.setdefault(session.id, set()).add(relay)
        return relay

    def session_ended(self, session: Session) -> None:
        """Tell every WebSocket and tunnel of this session that it has ended."""
        for relay in tuple(self._open.get(session.id, ())):
            relay.session_ended()

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
