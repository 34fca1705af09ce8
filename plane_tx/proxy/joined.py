"""What an upgrade has joined: a client's connection and a session's, until both are over."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.interfaces import ISSLTransport
from twisted.python.failure import Failure

from plane_tx.core.access import End
from plane_tx.core.errors import IdleTimeout
from plane_tx.core.explain import close_reason
from plane_tx.core.ledger import Connection, ConnectionKind, How
from plane_tx.core.model import ENDING, IdleCount, Session
from plane_tx.core.use import Use
from plane_tx.proxy.connection import Timer, below
from plane_tx.proxy.settings import ProxySettings
from plane_tx.proxy.websocket import Handshake, Legs, RelayEnds
from plane_tx.reactor import IFlowTransport, INetworkReactor
from plane_tx.supervisor import Supervisor

#: How long nothing may pass once one side has said its last. Twisted does not watch a connection
#: that it does not read from, so a side that vanished then would never be missed.
HALF_OPEN_SECONDS = 60.0

#: Whom the access log names for each end of the ledger.
_BY = {
    How.CLIENT_CLOSE: End.CLIENT,
    How.CLIENT_FIN: End.CLIENT,
    How.CLIENT_RST: End.CLIENT,
    How.SESSION_CLOSE: End.SESSION,
    How.SESSION_FIN: End.SESSION,
    How.SESSION_RST: End.SESSION,
    How.SESSION_ENDED: End.SESSION,
    How.IDLE: End.PROXY,
    How.PING_TIMEOUT: End.PROXY,
    How.REVOKED: End.PROXY,
    How.DRAIN: End.PROXY,
    How.TOO_LONG: End.PROXY,
    How.STALLED: End.PROXY,
    How.REFUSED: End.NOBODY,  # nothing was begun
}


class Joined(ABC):
    """Both connections; `over` is called once, when they carry nothing for their session any more.

    The last byte of one side is passed on as the last byte to the other, and a reset that cuts a
    side short as a reset, where no word can be said instead.
    """

    _kind: ClassVar[ConnectionKind]

    def __init__(
        self,
        reactor: INetworkReactor,
        supervisor: Supervisor,
        session: Session,
        use: Use,
        ends: RelayEnds,
        over: Callable[[Joined], None],
    ) -> None:
        self.session = session
        self.use = use
        self.ends = ends
        self.record = Connection(self._kind, use.since, use.visit)
        self._reactor = reactor
        self._supervisor = supervisor
        self._over: Callable[[Joined], None] | None = over
        self._browser: IFlowTransport | None = ends.browser
        self._upstream: IFlowTransport | None = ends.upstream.transport
        self._browser_done = False
        self._upstream_done = False
        self._parting = False
        self._timer = Timer(reactor)
        _forget_backlog(ends.upstream.transport)
        _forget_backlog(ends.browser)

    @abstractmethod
    def begin(self, shaken: Handshake, legs: Legs, settings: ProxySettings) -> None:
        """Accept the browser's offer as the session did, and pass on what came early."""

    @abstractmethod
    def from_browser(self, data: bytes) -> None:
        """Pass on what the browser sent."""

    @abstractmethod
    def from_upstream(self, data: bytes) -> None:
        """Pass on what the session sent."""

    @abstractmethod
    def end(self, code: int, reason: str, how: How) -> None:
        """Close both sides, saying why where that can be said."""

    @abstractmethod
    def revoked(self) -> None:
        """End at once: the token that let it in was taken back."""

    @abstractmethod
    def session_ended(self) -> None:
        """Do what is due when the session has ended."""

    @abstractmethod
    def idle(self, error: IdleTimeout) -> None:
        """Do what is due when no byte has passed for too long."""

    @property
    def last_moved(self) -> float:
        """When bytes last passed, or when it was opened (seconds since epoch)."""
        return self.use.last_data or self.use.since

    def browser_full(self) -> None:
        """The browser does not keep up."""
        self._note_backlog()
        self._pause_upstream()

    def browser_drained(self) -> None:
        """The browser has caught up."""
        self.use.last_data = self._reactor.seconds()
        self._resume_upstream()

    def upstream_full(self) -> None:
        """The session does not keep up."""
        self._note_backlog()
        self._pause_browser()

    def upstream_drained(self) -> None:
        """The session has caught up."""
        self.use.last_data = self._reactor.seconds()
        self._resume_browser()

    def browser_ended(self) -> None:
        """The browser has said its last: so has what we send to the session."""
        self._browser_done = True
        if self._parting:
            self.ends.browser.loseConnection()
            return
        self._closes(How.CLIENT_FIN)
        self._pass_end(self._upstream)

    def upstream_ended(self) -> None:
        """The session has said its last: so has what we send to the browser."""
        self._upstream_done = True
        if self._parting:
            self.ends.upstream.transport.loseConnection()
            return
        self._closes(self._how_session(How.SESSION_FIN))
        self._pass_end(self._browser)

    def browser_lost(self, reason: Failure) -> None:
        """The browser is gone: so is the session's side."""
        self._closes(How.CLIENT_FIN if reason.check(ConnectionDone) else How.CLIENT_RST)
        self._browser = None
        self._pass_loss(reason, complete=self._browser_done)

    def upstream_lost(self, reason: Failure) -> None:
        """The session's side is gone: so is the browser's."""
        self._closes(self._how_session(how_lost(reason)))
        self._upstream = None
        self._pass_loss(reason, complete=self._upstream_done)

    def _pause_browser(self) -> None:
        if self._browser is not None and not self._browser_done:
            self._browser.pauseProducing()

    def _resume_browser(self) -> None:
        if self._browser is not None and not self._browser_done:
            self._browser.resumeProducing()

    def _pause_upstream(self) -> None:
        if self._upstream is not None and not self._upstream_done:
            self.ends.upstream.hold_back()

    def _resume_upstream(self) -> None:
        if self._upstream is not None and not self._upstream_done:
            self.ends.upstream.let_go()

    def _how_session(self, how: How) -> How:
        # Its connections end because it does, also where that shows in another way.
        return How.SESSION_ENDED if self.session.status in ENDING else how

    def _closes(self, how: How, code: int | None = None, reason: str = "") -> None:
        if how is How.SESSION_ENDED and not reason:
            reason = close_reason(self.session)
        self.record.closes(how, code, reason)
        self.ends.ended_by(_BY[how])

    def _pass_end(self, receiver: IFlowTransport | None) -> None:
        if receiver is None:
            return
        # TLS ends both directions at once.
        if (self._browser_done and self._upstream_done) or ISSLTransport.providedBy(receiver):
            self._part()
            return
        # A side that does not keep up pauses the other, whose end is not seen meanwhile: nothing
        # here is held back now, and the producer that would hold back an end can go.
        receiver.unregisterProducer()
        receiver.loseWriteConnection()
        if self._over is not None:
            self._watch(HALF_OPEN_SECONDS)

    def _pass_loss(self, reason: Failure, *, complete: bool) -> None:
        if self._browser is None and self._upstream is None:
            self._finish_use()
            self._timer.clear()
        elif complete or self._parting or reason.check(ConnectionDone):
            self._part()  # all that was said may still be on its way, which a reset would undo
        else:
            self._abort()

    def _watch(self, seconds: float) -> None:
        self._timer.set(seconds, self._judge, seconds)

    def _judge(self, seconds: float) -> None:
        left = self.last_moved + seconds - self._reactor.seconds()
        if left > 0:
            self._timer.set(left, self._judge, seconds)
        else:
            self._abort()

    def _part(self) -> None:
        self._finish_use()
        if not self._parting:
            self._parting = True
            self._hang_up()

    @abstractmethod
    def _hang_up(self) -> None:
        """Let both sides have what waits for them here, and no more."""

    def _touch(self, *, used: bool = True) -> None:
        if used or self.session.spec.idle.count is IdleCount.BYTES:
            self._supervisor.touch(self.session, self.use)

    def _abort(self) -> None:
        self._finish_use()
        self._parting = True
        self._timer.clear()
        for transport in (self._upstream, self._browser):
            if transport is not None:
                transport.abortConnection()

    def _note_backlog(self) -> None:
        record, upstream = self.record, self.ends.upstream.transport
        record.backlog_to_client = _most_queued(self.ends.browser)
        record.backlog_to_session = _most_queued(upstream)

    def _finish_use(self) -> None:
        over, self._over = self._over, None
        if over is not None:
            self._note_backlog()
            over(self)


def how_lost(reason: Failure) -> How:
    """What the loss of a session's connection for this reason is called in the ledger."""
    if reason.check(ConnectionAborted):
        return How.STALLED
    return How.SESSION_FIN if reason.check(ConnectionDone) else How.SESSION_RST


def lose(transport: IFlowTransport) -> None:
    """Let the other end have what waits for it here, and no more."""
    transport.unregisterProducer()
    if ISSLTransport.providedBy(transport):
        # Its answer to our end has to be read, or the connection stays.
        transport.resumeProducing()
    transport.loseConnection()


def _forget_backlog(transport: IFlowTransport) -> None:
    # What waited here of the requests that came by this connection before is no matter of ours.
    owner = below(transport)
    if hasattr(owner, "most_queued"):
        owner.most_queued = 0


def _most_queued(transport: IFlowTransport) -> int:
    most: int = getattr(below(transport), "most_queued", 0)
    return most
