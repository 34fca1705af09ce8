"""An upgrade other than websocket: bytes pass as they are, both ways, until both sides end.

Nothing is known of what they mean, so an end has no words: the last byte of one side is passed on
as the last byte to the other, and a reset that cuts a side short as a reset. The end of a session
cuts nothing: what it said still passes, until its connection ends or the pool finds it silent.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import ISSLTransport
from twisted.python.failure import Failure

from plane_tx.core.access import End
from plane_tx.core.errors import IdleTimeout, UpstreamUnreachable
from plane_tx.core.fields import tokens_of, values_of
from plane_tx.core.headers import response_lines
from plane_tx.core.messages import join_head
from plane_tx.core.model import Session
from plane_tx.core.use import Use
from plane_tx.proxy.connection import FLUSH_SECONDS, Timer
from plane_tx.proxy.websocket import Legs, RelayEnds
from plane_tx.reactor import IFlowTransport, INetworkReactor

#: How long nothing may pass once one side has said its last. Twisted does not watch a connection
#: that it does not read from, so a side that vanished then would never be missed.
HALF_OPEN_SECONDS = 60.0


class Tunnel:
    """Carries one; `over` is called once, when it keeps its session in use no more."""

    def __init__(
        self,
        reactor: INetworkReactor,
        session: Session,
        use: Use,
        ends: RelayEnds,
        over: Callable[[Tunnel], None],
    ) -> None:
        self.use = use
        self.session = session
        self._reactor = reactor
        self.ends = ends
        self._over: Callable[[Tunnel], None] | None = over
        self._browser: IFlowTransport | None = ends.browser
        self._upstream: IFlowTransport | None = ends.upstream.transport
        self._browser_done = False
        self._upstream_done = False
        self._parting = False
        self._passed = False
        self._timer = Timer(reactor)

    def begin(self, _legs: Legs, _ping_seconds: float) -> None:
        """Accept the browser's offer as the session did, and pass on what came early."""
        ends = self.ends
        ends.upstream.hand_over(self)
        ends.upstream.hear_end(self.upstream_ended)
        protocol = agreed(ends)
        if not protocol:
            error = UpstreamUnreachable("the session's 101 does not answer the upgrade")
            ends.refuse(error, self._reactor.seconds())
            self._part()
            return
        lines = response_lines(ends.response, self.session.id)
        lines += [b"Connection: Upgrade", b"Upgrade: " + protocol]
        ends.browser.write(join_head(b"HTTP/1.1 101 Switching Protocols", lines))
        ends.opened(self._reactor.seconds())
        self.from_browser(ends.browser_surplus)
        self.from_upstream(ends.upstream.parser.surplus)

    def from_browser(self, data: bytes) -> None:
        """Pass on what the browser sent."""
        self._passed = True
        if data and self._upstream is not None and not self._parting:
            self.use.from_client(len(data), 0, self._reactor.seconds())
            self._upstream.write(data)

    def from_upstream(self, data: bytes) -> None:
        """Pass on what the session sent."""
        self._passed = True
        if data and self._browser is not None and not self._parting:
            self.use.to_client(len(data), 0, self._reactor.seconds())
            self._browser.write(data)

    def browser_full(self) -> None:
        """The browser does not keep up."""
        if self._upstream is not None and not self._upstream_done:
            self.ends.upstream.hold_back()

    def browser_drained(self) -> None:
        """The browser has caught up."""
        self._passed = True
        self.use.last_data = self._reactor.seconds()
        if self._upstream is not None and not self._upstream_done:
            self.ends.upstream.let_go()

    def upstream_full(self) -> None:
        """The session does not keep up."""
        if self._browser is not None and not self._browser_done:
            self._browser.pauseProducing()

    def upstream_drained(self) -> None:
        """The session has caught up."""
        self._passed = True
        self.use.last_data = self._reactor.seconds()
        if self._browser is not None and not self._browser_done:
            self._browser.resumeProducing()

    def browser_ended(self) -> None:
        """The browser has said its last: so has what we send to the session."""
        self.ends.ended_by(End.CLIENT)
        self._browser_done = True
        self._pass_end(self._upstream)

    def upstream_ended(self) -> None:
        """The session has said its last: so has what we send to the browser."""
        self.ends.ended_by(End.SESSION)
        self._upstream_done = True
        self._pass_end(self._browser)

    def browser_lost(self, reason: Failure) -> None:
        """The browser is gone: so is the session's side."""
        self.ends.ended_by(End.CLIENT)
        self._browser = None
        self._pass_loss(reason, complete=self._browser_done)

    def upstream_lost(self, reason: Failure) -> None:
        """The session's side is gone: so is the browser's."""
        self.ends.ended_by(End.SESSION)
        self._upstream = None
        self._pass_loss(reason, complete=self._upstream_done)

    @property
    def last_moved(self) -> float:
        """When bytes last passed, or when it was opened (seconds since epoch)."""
        return self.use.last_data or self.use.since

    def idle(self, _error: IdleTimeout) -> None:
        """Drop both sides; there is no way to say why."""
        if not self._parting:
            self.ends.ended_by(End.PROXY)
            self._abort()

    def revoked(self) -> None:
        """Drop both sides, and what waits here for them: the token was taken back."""
        self.ends.ended_by(End.PROXY)
        self._abort()

    def end(self, _code: int, _reason: str) -> None:
        """Close both sides; there is no way to say why."""
        self.ends.ended_by(End.PROXY)
        self._part()

    def _pass_end(self, receiver: IFlowTransport | None) -> None:
        if self._parting or receiver is None:
            return
        # TLS ends both directions at once.
        if (self._browser_done and self._upstream_done) or ISSLTransport.providedBy(receiver):
            self._part()
            return
        # A side that does not keep up pauses the other, whose end is not seen meanwhile: nothing
        # here is held back now, and the producer that would hold back an end can go.
        receiver.unregisterProducer()
        receiver.loseWriteConnection()
        self._watch()

    def _pass_loss(self, reason: Failure, *, complete: bool) -> None:
        if self._browser is None and self._upstream is None:
            self._finish_use()
            self._timer.clear()
        elif complete or reason.check(ConnectionDone):
            self._part()  # all that was said may still be on its way, which a reset would undo
        else:
            self._abort()

    def _watch(self) -> None:
        self._passed = False
        self._timer.set(HALF_OPEN_SECONDS, self._judge)

    def _judge(self) -> None:
        if self._passed:
            self._watch()
        else:
            self.ends.ended_by(End.PROXY)
            self._abort()

    def _part(self) -> None:
        self._finish_use()
        if self._parting:
            return
        self._parting = True
        self._timer.set(FLUSH_SECONDS, self._abort)
        for transport in self._transports():
            transport.unregisterProducer()
            transport.loseConnection()

    def _abort(self) -> None:
        self._finish_use()
        self._parting = True
        self._timer.clear()
        for transport in self._transports():
            transport.abortConnection()

    def _transports(self) -> list[IFlowTransport]:
        return [side for side in (self._upstream, self._browser) if side is not None]

    def _finish_use(self) -> None:
        over, self._over = self._over, None
        if over is not None:
            over(self)


def agreed(ends: RelayEnds) -> bytes:
    """The protocol that the session's 101 names; b"" when it was not offered or cannot be meant.

    A 101 has no body (RFC 9110 section 8.6), so one that frames a body would be read in two ways.
    """
    headers = ends.response.headers
    chosen = values_of(headers, b"upgrade")
    offered = {offer.strip().lower() for offer in ends.request.upgrade.split(b",")}
    framed = values_of(headers, b"content-length") or values_of(headers, b"transfer-encoding")
    named = len(chosen) == 1 and chosen[0].strip().lower() in offered
    if framed or not named or b"upgrade" not in tokens_of(values_of(headers, b"connection")):
        return b""
    return chosen[0].strip()
