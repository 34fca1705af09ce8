"""An open WebSocket: frames pass as bytes, both ways, until one side or the session ends."""

from __future__ import annotations

import os

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, ISSLTransport
from twisted.python.failure import Failure

from plane_tx.core.errors import IdleTimeout, UpstreamUnreachable
from plane_tx.core.explain import close_reason
from plane_tx.core.ledger import ConnectionKind, Farewell, How
from plane_tx.core.liveness import Liveness, Next
from plane_tx.core.model import ENDING
from plane_tx.core.noise import noise_of
from plane_tx.core.wsframes import (
    CLOSE,
    PING,
    PONG,
    Control,
    FrameTracker,
    Piece,
    TooLong,
    close_payload,
    close_said,
    control_frame,
    raw_of,
)
from plane_tx.proxy.connection import FLUSH_SECONDS
from plane_tx.proxy.joined import HALF_OPEN_SECONDS, Joined, how_lost, lose
from plane_tx.proxy.settings import ProxySettings
from plane_tx.proxy.websocket import Handshake, Legs, agreed_wrongly

#: How our own pings begin, so that their pongs can be told from those of others.
PING_PREFIX = b"plane-tx "

#: What the browser is told when the token it came with was taken back (API.md part 2).
REVOKED = 4403

#: A message is longer than the configuration allows (RFC 6455 section 7.4.1).
TOO_BIG = 1009

#: A close code of the IANA registry: the session is gone, and nobody knows of an end.
BAD_GATEWAY = 1014

#: How long a frame under way has to end before our Close, and both sides to hang up after it.
CLOSE_SECONDS = 5.0


class Relay(Joined):
    """Carries one WebSocket."""

    _kind = ConnectionKind.WEBSOCKET
    #: Nothing more of a side passes: its Close has, or ours in its stead, or there is nobody to.
    _browser_over = False
    _upstream_over = False
    _deaf = False
    _stuffed = False
    _ping_prefix = _ping = b""
    _lost: How | None = None
    _confirming: Deferred[None] | None = None
    _farewell: Farewell | None = None
    _next_turn: IDelayedCall | None = None
    _liveness: Liveness
    _most: int
    _to_upstream: FrameTracker
    _to_browser: FrameTracker

    def begin(self, shaken: Handshake, legs: Legs, settings: ProxySettings) -> None:
        """Shake hands on both legs, pass on what came early, and begin to listen for life."""
        ends, ignore, most = self.ends, self.session.spec.idle.ignore, settings.max_message_bytes
        is_noise = noise_of(ignore) if ignore else None
        self._liveness, self._most = Liveness(), most
        self._to_upstream = FrameTracker(most, is_noise)
        self._to_browser = FrameTracker(most, is_noise)
        ends.upstream.hand_over(self)
        ends.upstream.hear_end(self.upstream_ended)
        wrong = self._shake_hands(shaken, legs)
        if wrong:
            self._closes(How.REFUSED, reason=wrong)
            self._upstream_done = True  # there is nothing to hear of the session, nor to tell it
            self._part()
            return
        ends.opened(self._reactor.seconds())
        if settings.ws_ping_seconds:
            self._timer.set(settings.ws_ping_seconds, self._listen, settings.ws_ping_seconds)
        if shaken.browser_surplus:
            self.from_browser(shaken.browser_surplus)
        if shaken.upstream_surplus:
            self.from_upstream(shaken.upstream_surplus)

    def from_browser(self, data: bytes) -> None:
        """Pass on what the browser sent, but for answers to our own pings."""
        self._liveness.heard = True
        upstream, tracker = self._upstream, self._to_upstream
        if upstream is None or self._browser_over:
            return
        messages, used = tracker.messages, tracker.used
        pieces = tracker.feed(data if self._farewell is None else data[: tracker.remaining])
        raw = pieces[0] if len(pieces) == 1 else None
        plain = isinstance(raw, bytes)
        if not isinstance(raw, bytes):
            raw = b"".join([raw_of(piece) for piece in pieces if not self._is_answer(piece)])
        if raw:
            now = self._reactor.seconds()
            self.use.from_client(len(raw), tracker.messages - messages, now)
            if self.use.passive:
                self._touch(used=tracker.used > used)
            upstream.write(raw)
        if not plain or tracker.pending or self._farewell is not None:
            self._heed(pieces, How.CLIENT_CLOSE)

    def from_upstream(self, data: bytes) -> None:
        """Pass on what the session sent."""
        browser, tracker = self._browser, self._to_browser
        if browser is None or self._upstream_over:
            return
        messages, used = tracker.messages, tracker.used
        pieces = tracker.feed(data if self._farewell is None else data[: tracker.remaining])
        raw = pieces[0] if len(pieces) == 1 else None
        plain = isinstance(raw, bytes)
        if not isinstance(raw, bytes):
            raw = b"".join(map(raw_of, pieces))
        if raw:
            now = self._reactor.seconds()
            self.use.to_client(len(raw), tracker.messages - messages, now)
            if self.use.passive:
                self._touch(used=tracker.used > used)
            browser.write(raw)
        if not plain or tracker.pending or self._farewell is not None:
            self._heed(pieces, How.SESSION_CLOSE)

    def browser_full(self) -> None:
        """The browser does not keep up."""
        self._stuffed = True
        super().browser_full()

    def browser_drained(self) -> None:
        """The browser has caught up, so it lives."""
        self._stuffed = False
        self._liveness.heard = True
        super().browser_drained()

    def upstream_full(self) -> None:
        """The session does not keep up."""
        self._deaf = True
        super().upstream_full()

    def upstream_drained(self) -> None:
        """The session has caught up."""
        self._deaf = False
        super().upstream_drained()

    def upstream_ended(self) -> None:
        """The session has said its last: with nothing before that ends it, it has broken off."""
        if self._is_ending:
            super().upstream_ended()
        else:
            self._upstream_done = True
            self._ask_why(How.SESSION_FIN)

    def browser_lost(self, reason: Failure) -> None:
        """The browser is gone: so is the session's side."""
        while self._to_upstream.pending and self._upstream and not self._browser_over:
            self.from_browser(b"")
        self._stop_asking()
        super().browser_lost(reason)

    def upstream_lost(self, reason: Failure) -> None:
        """The session's side is gone: tell the browser why, unless the session did."""
        while self._to_browser.pending and self._browser and not self._upstream_over:
            self.from_upstream(b"")
        if self._confirming is not None:
            self._upstream = None  # its end was heard before
        elif self._is_ending:
            super().upstream_lost(reason)
        else:
            self._upstream = None
            self._ask_why(how_lost(reason))

    def revoked(self) -> None:
        """End this at once: the token that let it in was taken back.

        A browser that does not keep up is dropped, for our Close would come after all that waits.
        """
        if self._stuffed:
            self._closes(How.REVOKED)
            self._abort()
        else:
            self.end(REVOKED, "revoked", How.REVOKED)
            self._part()

    def end(self, code: int, reason: str, how: How) -> None:
        """Close both legs with `code` and `reason`, each when the frame under way has passed."""
        if self._parting or self._farewell is not None:
            return
        self._stop_asking()
        # That its session has ended is why it was lost; anything else comes after that.
        why = how if self._lost is None or how is How.SESSION_ENDED else self._lost
        self._farewell = Farewell(code, reason, why)
        self._supervisor.end_use(self.session, self.use)
        self._timer.set(CLOSE_SECONDS, self._part)
        self._say_close(self._farewell)

    def session_ended(self) -> None:
        """Close both legs: there is no session any more."""
        self.end(1001, close_reason(self.session), How.SESSION_ENDED)

    def idle(self, _error: IdleTimeout) -> None:
        """Nothing: pings tell whether anybody is there."""

    @property
    def _is_ending(self) -> bool:
        over = self._browser_over or self._upstream_over or self._browser_done
        over = over or self._to_upstream.broken  # so that the session is right to hang up
        return over or self._parting or self._farewell is not None

    def _shake_hands(self, shaken: Handshake, legs: Legs) -> str:
        # What went wrong, having told the browser.
        ends, now = self.ends, self._reactor.seconds()
        wrong = agreed_wrongly(shaken)
        if not wrong and not legs.open_upstream(shaken, ends.upstream.transport):
            wrong = "the session's 101 does not answer the upgrade"
        if wrong:
            self._supervisor.measures.upstream_errors += 1
            ends.refuse(shaken.request, UpstreamUnreachable(wrong), now)
        elif not legs.open_browser(shaken, ends.browser, self.session.id):
            wrong = "the client's request is no WebSocket handshake"
            ends.misunderstood(now)
        return wrong

    def _is_answer(self, piece: Piece) -> bool:
        # It says that the browser lives, not that it is used.
        if not isinstance(piece, Control) or piece.opcode != PONG or not self._ping_prefix:
            return False
        if not piece.payload.startswith(self._ping_prefix):
            return False
        if piece.payload == self._ping:
            self.record.answered(self._liveness.round_trip(self._reactor.seconds()))
        return True

    def _heed(self, pieces: list[Piece], closed_by: How) -> None:
        for piece in pieces:
            if isinstance(piece, TooLong):
                whose = "client" if closed_by is How.CLIENT_CLOSE else "session"
                said = f"the {whose}'s message of {piece.size} bytes or more"
                reason = f"{said} is over max_message_bytes ({self._most})"
                self.end(TOO_BIG, reason, How.TOO_LONG)
            elif isinstance(piece, Control) and piece.opcode == CLOSE:
                self._hear_close(closed_by, *close_said(piece.payload))
        if self._farewell is not None:
            self._say_close(self._farewell)
        else:
            self._go_on_later()

    def _go_on_later(self) -> None:
        # Much in small frames is read in several turns, so that others have theirs between.
        if self._to_upstream.pending:
            self._pause_browser()
        if self._to_browser.pending:
            self._pause_upstream()
        if self._next_turn is None and (self._to_upstream.pending or self._to_browser.pending):
            self._next_turn = self._reactor.callLater(0, self._read_on)

    def _read_on(self) -> None:
        self._next_turn = None
        if self._to_upstream.pending:
            self.from_browser(b"")
            self._resume_browser()
        if self._to_browser.pending:
            self.from_upstream(b"")
            self._resume_upstream()

    def _resume_browser(self) -> None:
        if not (self._deaf or self._to_upstream.pending):
            super()._resume_browser()

    def _resume_upstream(self) -> None:
        if not (self._stuffed or self._to_browser.pending):
            super()._resume_upstream()

    def _hear_close(self, how: How, code: int | None, reason: str) -> None:
        self._closes(how, code, reason)
        if how is How.CLIENT_CLOSE:
            self._browser_over = True
        else:
            self._upstream_over = True
        if self._browser_over and self._upstream_over:
            self._finish_use()  # whoever hangs up now
            self._timer.set(CLOSE_SECONDS, self._part)
        else:
            self._watch(HALF_OPEN_SECONDS)

    def _say_close(self, farewell: Farewell) -> None:
        payload, waits = close_payload(farewell.code, farewell.reason), False
        browser, upstream = self._browser, self._upstream
        if browser is not None and not self._upstream_over:
            if self._to_browser.at_boundary:
                self._upstream_over = True
                self._closes(farewell.how, farewell.code, farewell.reason)
                browser.write(control_frame(CLOSE, payload))
            else:
                waits = upstream is not None and not self._upstream_done
        if upstream is not None and not self._browser_over:
            if self._to_upstream.at_boundary:
                self._browser_over = True
                upstream.write(control_frame(CLOSE, payload, os.urandom(4)))
            else:
                waits = waits or (browser is not None and not self._browser_done)
        if not waits:
            self._part()

    def _closes(self, how: How, code: int | None = None, reason: str = "") -> None:
        # Whatever ends a side while it breaks off, or is ended, is not what ended it.
        first = self._lost if self._farewell is None else self._farewell.how
        super()._closes(first or how, code, reason)

    def _ask_why(self, lost: How) -> None:
        # The word that the session has ended may still be on its way; it is the better reason.
        self._lost, self._browser_over = lost, True
        self._supervisor.end_use(self.session, self.use)
        ended = self._supervisor.ended_soon(self.session)
        self._confirming = ended.addCallback(self._close_for_lost_upstream)
        self._confirming.addErrback(lambda failure: failure.trap(CancelledError) and None)

    def _stop_asking(self) -> None:
        confirming, self._confirming = self._confirming, None
        if confirming is not None:
            confirming.cancel()

    def _close_for_lost_upstream(self, ended: bool) -> None:
        self._confirming = None
        if ended or self.session.status in ENDING:
            self.session_ended()
        else:
            self._supervisor.measures.upstream_errors += 1
            self.end(BAD_GATEWAY, "upstream lost", How.SESSION_FIN)

    def _listen(self, ping_seconds: float) -> None:
        browser, now = self._browser, self._reactor.seconds()
        can_ping = browser is not None and self._to_browser.at_boundary
        due = self._liveness.due(now, deaf=self._deaf, full=self._stuffed, can_ping=can_ping)
        if due is Next.GIVE_UP:
            self._closes(How.PING_TIMEOUT)
            self._abort()
            return
        if due is Next.PING and browser is not None:
            # Another proxy like this one, in front of us or behind, has pings of its own.
            self._ping_prefix = self._ping_prefix or PING_PREFIX + os.urandom(8)
            self._ping = self._ping_prefix + b"%x" % self._liveness.pings
            browser.write(control_frame(PING, self._ping))
        self._timer.set(ping_seconds, self._listen, ping_seconds)

    def _watch(self, seconds: float) -> None:
        if self._farewell is None:  # else it ends before that
            super()._watch(seconds)

    def _pass_loss(self, reason: Failure, *, complete: bool) -> None:
        # A reset would undo a Close that is on its way.
        super()._pass_loss(reason, complete=complete or self._browser_over or self._upstream_over)

    def _part(self) -> None:
        if self._farewell is not None:
            self._closes(self._farewell.how)
        self._browser_over = self._upstream_over = True
        super()._part()

    def _abort(self) -> None:
        self._browser_over = self._upstream_over = True
        super()._abort()

    def _hang_up(self) -> None:
        self._timer.set(CLOSE_SECONDS, self._drop)
        for side, done in (
            (self._upstream, self._upstream_done),
            (self._browser, self._browser_done),
        ):
            if side is None:
                continue
            if done or ISSLTransport.providedBy(side):
                lose(side)
                continue
            # Closing with unread bytes would reset the connection, and our Close would be lost.
            side.unregisterProducer()
            side.resumeProducing()
            side.loseWriteConnection()

    def _drop(self) -> None:
        if self._upstream is not None:
            self._upstream.abortConnection()
        if self._browser is not None:
            self._timer.set(FLUSH_SECONDS, self._abort)
            self._browser.loseConnection()
