"""An open WebSocket: frames pass as bytes, both ways, until one side or the session ends.

`Relays` knows the tunnels of other upgrades too.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import ISSLTransport
from twisted.python.failure import Failure

from plane_tx.accesslog import AccessLog
from plane_tx.core.access import End
from plane_tx.core.errors import UpstreamUnreachable
from plane_tx.core.explain import close_reason
from plane_tx.core.model import ENDING, Session
from plane_tx.core.use import Use, UseKind
from plane_tx.core.wsframes import (
    CLOSE,
    PING,
    PONG,
    Control,
    FrameTracker,
    close_payload,
    control_frame,
)
from plane_tx.proxy.connection import FLUSH_SECONDS, Timer
from plane_tx.proxy.tunnel import Tunnel
from plane_tx.proxy.websocket import BrowserLeg, Legs, RelayEnds, UpstreamLeg, agreed_wrongly
from plane_tx.reactor import IFlowTransport, INetworkReactor
from plane_tx.supervisor import Supervisor

#: What our own pings say, so that their pongs can be told from those of others.
PING_PAYLOAD = b"plane-tx"

#: How many pings may stay without a byte from the browser before it counts as dead.
UNANSWERED_PINGS = 2

#: What the browser is told when the token it came with was taken back (API.md part 2).
REVOKED = 4403

#: A close code of the IANA registry: the session is gone, and nobody knows of an end.
BAD_GATEWAY = 1014

#: How long both sides have to hang up once the end was said.
CLOSE_SECONDS = 5.0


class Relay:
    """Carries one WebSocket; `over` is called once, when it keeps its session in use no more."""

    def __init__(
        self,
        reactor: INetworkReactor,
        supervisor: Supervisor,
        session: Session,
        use: Use,
        ends: RelayEnds,
        over: Callable[[Relay], None],
    ) -> None:
        self.use = use
        self._reactor = reactor
        self._supervisor = supervisor
        self.session = session
        self.ends = ends
        self._over: Callable[[Relay], None] | None = over
        self._browser: IFlowTransport | None = ends.browser
        self._upstream: IFlowTransport | None = ends.upstream.transport
        self._browser_leg: BrowserLeg | None = None
        self._upstream_leg: UpstreamLeg | None = None
        self._to_upstream = FrameTracker()
        self._to_browser = FrameTracker()
        self._upstream_closes = False
        self._browser_closes = False
        self._parting = False
        self._deaf = False
        self._browser_full = False
        self._heard = True
        self._unanswered = 0
        self._timer = Timer(reactor)
        self._confirming: Deferred[None] | None = None

    def begin(self, legs: Legs, ping_seconds: float) -> None:
        """Shake hands on both legs, pass on what came early, and begin to listen for life."""
        ends = self.ends
        ends.upstream.hand_over(self)
        wrong = agreed_wrongly(ends)
        self._upstream_leg = None if wrong else legs.upstream(ends)
        if self._upstream_leg is None:
            error = UpstreamUnreachable(wrong or "the session's 101 does not answer the upgrade")
            self._supervisor.measures.upstream_errors += 1
            ends.refuse(error, self._reactor.seconds())
            self._part()
            return
        self._browser_leg = legs.browser(ends, self.session.id)
        if self._browser_leg is None:
            ends.misunderstood(self._reactor.seconds())
            self._part()
            return
        ends.opened(self._reactor.seconds())
        if ends.browser_surplus:
            self.from_browser(ends.browser_surplus)
        if ends.upstream.parser.surplus:
            self.from_upstream(ends.upstream.parser.surplus)
        if ping_seconds and self._over is not None:
            self._timer.set(ping_seconds, self._listen, ping_seconds)

    def from_browser(self, data: bytes) -> None:
        """Pass on what the browser sent, but for answers to our own pings."""
        self._heard = True
        if self._upstream is None or self._parting:
            return
        tracker, passed = self._to_upstream, 0
        earlier = tracker.messages
        for piece in tracker.feed(data):
            if not isinstance(piece, Control):
                raw = piece
            elif piece.opcode == PONG and piece.payload == PING_PAYLOAD:
                continue  # its answer to us says that the browser lives, not that it is used
            else:
                if piece.opcode == CLOSE:
                    self._browser_closes = True
                    self.ends.ended_by(End.CLIENT)
                raw = piece.raw
            passed += len(raw)
            self._upstream.write(raw)
        if passed:
            self.use.from_client(passed, tracker.messages - earlier, self._reactor.seconds())

    def from_upstream(self, data: bytes) -> None:
        """Pass on what the session sent."""
        if self._browser is None or self._parting:
            return
        tracker = self._to_browser
        earlier = tracker.messages
        pieces = tracker.feed(data)
        self.use.to_client(len(data), tracker.messages - earlier, self._reactor.seconds())
        for piece in pieces:
            if isinstance(piece, Control):
                if piece.opcode == CLOSE:
                    self._upstream_closes = True
                    self.ends.ended_by(End.SESSION)
                self._browser.write(piece.raw)
            else:
                self._browser.write(piece)

    def browser_full(self) -> None:
        """The browser does not keep up."""
        self._browser_full = True
        if self._upstream is not None:
            self._upstream.pauseProducing()

    def browser_drained(self) -> None:
        """The browser has caught up, so it lives."""
        self._browser_full = False
        self._heard = True
        if self._upstream is not None:
            self._upstream.resumeProducing()

    def upstream_full(self) -> None:
        """The session does not keep up."""
        self._deaf = True
        if self._browser is not None:
            self._browser.pauseProducing()

    def upstream_drained(self) -> None:
        """The session has caught up."""
        self._deaf = False
        if self._browser is not None:
            self._browser.resumeProducing()

    def browser_lost(self, reason: Failure) -> None:
        """The browser is gone: so is the session's side."""
        self.ends.ended_by(End.CLIENT)
        self._browser = None
        if self._browser_leg is not None:
            self._browser_leg.connectionLost(reason)
        if self._confirming is not None:
            self._confirming.cancel()
        self._part()

    def upstream_lost(self, reason: Failure) -> None:
        """The session's side is gone: tell the browser why, unless the session did."""
        self.ends.ended_by(End.SESSION)
        self._upstream = None
        if self._upstream_leg is not None:
            self._upstream_leg.connectionLost(reason)
        if self._over is None or self._upstream_closes or self._browser_closes:
            self._part()
            return
        # The word that the session has ended may still be on its way; it is the better reason.
        ended = self._supervisor.ended_soon(self.session)
        self._confirming = ended.addCallback(self._close_for_lost_upstream)
        self._confirming.addErrback(lambda failure: failure.trap(CancelledError) and None)
        self._finish_use()

    def revoked(self) -> None:
        """End this: the token that let it in was taken back.

        A browser that does not keep up is dropped, for our Close would come after all that waits.
        """
        self.ends.ended_by(End.PROXY)
        if self._browser_full:
            self._abort()
        else:
            self.end(REVOKED, "revoked")

    def end(self, code: int, reason: str, by: End = End.PROXY) -> None:
        """Close both legs with `code` and `reason`, at a boundary between frames."""
        if self._parting:
            return
        self.ends.ended_by(by)
        if self._confirming is not None:
            self._confirming.cancel()
        payload = close_payload(code, reason)
        browser, upstream = self._browser, self._upstream
        if browser is not None and not self._upstream_closes and self._to_browser.at_boundary:
            browser.write(control_frame(CLOSE, payload))
        if upstream is not None and not self._browser_closes and self._to_upstream.at_boundary:
            upstream.write(control_frame(CLOSE, payload, os.urandom(4)))
        self._part()

    def _close_for_lost_upstream(self, ended: bool) -> None:
        self._confirming = None
        if ended or self.session.status in ENDING:
            self.end(1001, close_reason(self.session))
        else:
            self._supervisor.measures.upstream_errors += 1
            self.end(BAD_GATEWAY, "upstream lost")

    def _listen(self, ping_seconds: float) -> None:
        # Nothing is proved while we do not read, nor where no ping of ours can stand.
        if self._heard or self._deaf:
            self._heard, self._unanswered = False, 0
        elif self._unanswered >= UNANSWERED_PINGS:
            self.ends.ended_by(End.PROXY)
            self._abort()
            return
        elif self._browser is not None and self._to_browser.at_boundary:
            self._browser.write(control_frame(PING, PING_PAYLOAD))
            self._unanswered += 1
        self._timer.set(ping_seconds, self._listen, ping_seconds)

    def _part(self) -> None:
        self._finish_use()
        if not self._parting:
            self._parting = True
            self._timer.set(CLOSE_SECONDS, self._give_up)
            self._hang_up()
        if self._browser is None and self._upstream is None:
            self._timer.clear()

    def _hang_up(self) -> None:
        browser, upstream = self._browser, self._upstream
        if upstream is not None:
            upstream.unregisterProducer()
            upstream.loseConnection()
        if browser is not None:
            browser.unregisterProducer()
            if ISSLTransport.providedBy(browser):
                browser.loseConnection()
                return
            # Closing with unread bytes would reset the connection, and our Close would be lost.
            browser.resumeProducing()
            browser.loseWriteConnection()

    def _give_up(self) -> None:
        if self._upstream is not None:
            self._upstream.abortConnection()
        if self._browser is not None:
            self._timer.set(FLUSH_SECONDS, self._abort)
            self._browser.loseConnection()

    def _abort(self) -> None:
        self._finish_use()
        self._timer.clear()
        for transport in (self._browser, self._upstream):
            if transport is not None:
                transport.abortConnection()

    def _finish_use(self) -> None:
        over, self._over = self._over, None
        if over is not None:
            over(self)


class Relays:
    """Every WebSocket and tunnel, by session, for as long as it keeps its session in use."""

    def __init__(
        self,
        reactor: INetworkReactor,
        supervisor: Supervisor,
        access_log: AccessLog | None = None,
    ) -> None:
        self._reactor = reactor
        self._supervisor = supervisor
        self._access_log = access_log
        self._open: dict[str, set[Relay | Tunnel]] = {}

    def __len__(self) -> int:
        return sum(len(relays) for relays in self._open.values())

    def join(self, session: Session, use: Use, ends: RelayEnds) -> Relay | Tunnel:
        """What carries the two ends of an upgrade; `use` was that of its request."""
        supervisor = self._supervisor
        own_use = supervisor.begin_use(session, UseKind.WEBSOCKET, use.visit)
        supervisor.end_use(session, use)
        if ends.access is not None:
            own_use.count_in(ends.access.traffic)
        relay: Relay | Tunnel
        if ends.request.upgrade == b"websocket":
            relay = Relay(self._reactor, supervisor, session, own_use, ends, self._over)
        else:
            relay = Tunnel(self._reactor, session, own_use, ends, self._over)
        own_use.cut = relay.revoked
        self._open.setdefault(session.id, set()).add(relay)
        return relay

    def session_ended(self, session: Session) -> None:
        """Close every WebSocket of this session, saying why; tunnels end with their connections."""
        for relay in tuple(self._open.get(session.id, ())):
            if isinstance(relay, Relay):
                relay.end(1001, close_reason(session), End.SESSION)

    def _over(self, relay: Relay | Tunnel) -> None:
        self._supervisor.end_use(relay.session, relay.use)
        if self._access_log is not None and relay.ends.access is not None:
            self._access_log.append(relay.ends.access)
        relays = self._open[relay.session.id]
        relays.discard(relay)
        if not relays:
            del self._open[relay.session.id]
