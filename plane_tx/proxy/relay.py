"""An open WebSocket: frames pass as bytes, both ways, until one side or the session ends."""

from __future__ import annotations

import os

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, ISSLTransport
from twisted.python.failure import Failure

from plane_tx.core.errors import UpstreamUnreachable
from plane_tx.core.explain import close_reason
from plane_tx.core.ledger import ConnectionKind, How
from plane_tx.core.model import ENDING, IdleCount
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
)
from plane_tx.proxy.connection import FLUSH_SECONDS
from plane_tx.proxy.joined import HALF_OPEN_SECONDS, Joined
from plane_tx.proxy.settings import ProxySettings
from plane_tx.proxy.websocket import Handshake, Legs, agreed_wrongly

#: What our own pings say, so that their pongs can be told from those of others.
PING_PAYLOAD = b"plane-tx"

#: How many pings may stay without a byte from the browser before it counts as dead.
UNANSWERED_PINGS = 2

#: What the browser is told when the token it came with was taken back (API.md part 2).
REVOKED = 4403

#: A message is longer than the configuration allows (RFC 6455 section 7.4.1).
TOO_BIG = 1009

#: A close code of the IANA registry: the session is gone, and nobody knows of an end.
BAD_GATEWAY = 1014
LOST = "upstream lost"

#: How long both sides have to hang up once the end was said.
CLOSE_SECONDS = 5.0


class Relay(Joined):
    """Carries one WebSocket."""

    _kind = ConnectionKind.WEBSOCKET
    _confirming: Deferred[None] | None = None
    _browser_closes = False
    _upstream_closes = False
    _deaf = False
    _stuffed = False
    _heard = True
    _unanswered = 0
    _pinged: float | None = None
    _next_turn: IDelayedCall | None = None
    _to_upstream: FrameTracker
    _to_browser: FrameTracker

    def begin(self, shaken: Handshake, legs: Legs, settings: ProxySettings) -> None:
        """Shake hands on both legs, pass on what came early, and begin to listen for life."""
        ends, rule = self.ends, self.session.spec.idle
        is_noise = noise_of(rule.ignore) if rule.ignore else None
        self._to_upstream = FrameTracker(settings.max_message_bytes, is_noise)
        self._to_browser = FrameTracker(settings.max_message_bytes, is_noise)
        ends.upstream.hand_over(self)
        ends.upstream.hear_end(self.upstream_ended)
        if not self._shake_hands(shaken, legs):
            self._closes(How.REFUSED)
            self._upstream_done = True  # there is nothing to hear of the session, nor to tell it
            self._part()
            return
        ends.opened(self._reactor.seconds())
        if shaken.browser_surplus:
            self.from_browser(shaken.browser_surplus)
        if shaken.upstream_surplus:
            self.from_upstream(shaken.upstream_surplus)
        if settings.ws_ping_seconds and not self._closing and self._over is not None:
            self._timer.set(settings.ws_ping_seconds, self._listen, settings.ws_ping_seconds)

    def from_browser(self, data: bytes) -> None:
        """Pass on what the browser sent, but for answers to our own pings."""
        self._heard = True
        upstream, tracker = self._upstream, self._to_upstream
        if upstream is None or self._parting:
            return
        messages, used = tracker.messages, tracker.used
        pieces = tracker.feed(data)
        raw = pieces[0] if len(pieces) == 1 else None
        plain = isinstance(raw, bytes)
        if not isinstance(raw, bytes):
            raw = b"".join([_raw(piece) for piece in pieces if not self._is_answer(piece)])
        if raw:
            now = self._reactor.seconds()
            self.use.from_client(len(raw), tracker.messages - messages, now)
            if self.use.passive:
                self._touch(tracker.used > used)
            upstream.write(raw)
        if not plain or tracker.pending:
            self._heed(pieces, How.CLIENT_CLOSE)

    def from_upstream(self, data: bytes) -> None:
        """Pass on what the session sent."""
        browser, tracker = self._browser, self._to_browser
        if browser is None or self._parting:
            return
        messages, used = tracker.messages, tracker.used
        pieces = tracker.feed(data)
        raw = pieces[0] if len(pieces) == 1 else None
        plain = isinstance(raw, bytes)
        if not isinstance(raw, bytes):
            raw = b"".join(map(_raw, pieces))
        if raw:
            now = self._reactor.seconds()
            self.use.to_client(len(raw), tracker.messages - messages, now)
            if self.use.passive:
                self._touch(tracker.used > used)
            browser.write(raw)
        if not plain or tracker.pending:
            self._heed(pieces, How.SESSION_CLOSE)

    def browser_full(self) -> None:
        """The browser does not keep up."""
        self._stuffed = True
        super().browser_full()

    def browser_drained(self) -> None:
        """The browser has caught up, so it lives."""
        self._stuffed = False
        self._heard = True
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
        """The session has said its last: without a Close before, it has broken off."""
        if self._closing or self._parting:
            super().upstream_ended()
        else:
            self._closes(self._how_session(How.SESSION_FIN))
            self._upstream_done = True
            self._ask_why()

    def browser_lost(self, reason: Failure) -> None:
        """The browser is gone: so is the session's side."""
        if self._confirming is not None:
            self._confirming.cancel()
        super().browser_lost(reason)

    def upstream_lost(self, reason: Failure) -> None:
        """The session's side is gone: tell the browser why, unless the session did."""
        if self._over is None or self._closing:
            super().upstream_lost(reason)
            return
        self._closes(self._how_lost(reason))
        self._upstream = None
        self._ask_why()

    def revoked(self) -> None:
        """End this: the token that let it in was taken back.

        A browser that does not keep up is dropped, for our Close would come after all that waits.
        """
        if self._stuffed:
            self._closes(How.REVOKED)
            self._abort()
        else:
            self.end(REVOKED, "revoked", How.REVOKED)

    def end(self, code: int, reason: str, how: How) -> None:
        """Close both legs with `code` and `reason`, at a boundary between frames."""
        if self._parting:
            return
        self._closes(how, code, reason)
        if self._confirming is not None:
            self._confirming.cancel()
        payload = close_payload(code, reason)
        browser, upstream = self._browser, self._upstream
        if browser is not None and not self._upstream_closes and self._to_browser.at_boundary:
            browser.write(control_frame(CLOSE, payload))
        if upstream is not None and not self._browser_closes and self._to_upstream.at_boundary:
            upstream.write(control_frame(CLOSE, payload, os.urandom(4)))
        self._part()

    @property
    def _closing(self) -> bool:
        return self._browser_closes or self._upstream_closes

    def _shake_hands(self, shaken: Handshake, legs: Legs) -> bool:
        ends, now = self.ends, self._reactor.seconds()
        wrong = agreed_wrongly(shaken)
        if wrong or not legs.open_upstream(shaken, ends.upstream.transport):
            error = UpstreamUnreachable(wrong or "the session's 101 does not answer the upgrade")
            self._supervisor.measures.upstream_errors += 1
            ends.refuse(shaken.request, error, now)
            return False
        if not legs.open_browser(shaken, ends.browser, self.session.id):
            ends.misunderstood(now)
            return False
        return True

    def _is_answer(self, piece: Piece) -> bool:
        # It says that the browser lives, not that it is used.
        if isinstance(piece, bytes | TooLong) or piece.opcode != PONG:
            return False
        if piece.payload != PING_PAYLOAD:
            return False
        self._answered()
        return True

    def _heed(self, pieces: list[Piece], closed_by: How) -> None:
        for piece in pieces:
            if isinstance(piece, TooLong):
                reason = f"a message of {piece.size} bytes is too big"
                self.end(TOO_BIG, reason, How.TOO_LONG)
            elif isinstance(piece, Control) and piece.opcode == CLOSE:
                self._hear_close(closed_by, *close_said(piece.payload))
        if self._to_upstream.pending:
            self._pause_browser()
        if self._to_browser.pending:
            self._pause_upstream()
        if self._next_turn is None and (self._to_upstream.pending or self._to_browser.pending):
            # Much in small frames is read in several turns, so that others have theirs between.
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

    def _touch(self, used: bool) -> None:
        if used or self.session.spec.idle.count is IdleCount.BYTES:
            self._supervisor.touch(self.session, self.use)

    def _hear_close(self, how: How, code: int | None, reason: str) -> None:
        self._closes(how, code, reason)
        if how is How.CLIENT_CLOSE:
            self._browser_closes = True
        else:
            self._upstream_closes = True
        over = self._browser_closes and self._upstream_closes
        if over:
            self._finish_use()  # whoever hangs up now
        self._watch(CLOSE_SECONDS if over else HALF_OPEN_SECONDS)

    def _ask_why(self) -> None:
        # The word that the session has ended may still be on its way; it is the better reason.
        ended = self._supervisor.ended_soon(self.session)
        self._confirming = ended.addCallback(self._close_for_lost_upstream)
        self._confirming.addErrback(lambda failure: failure.trap(CancelledError) and None)
        self._finish_use()

    def _close_for_lost_upstream(self, ended: bool) -> None:
        self._confirming = None
        if ended or self.session.status in ENDING:
            self.record.how = None  # the true one
            self.end(1001, close_reason(self.session), How.SESSION_ENDED)
        else:
            self._supervisor.measures.upstream_errors += 1
            self.record.code, self.record.reason = BAD_GATEWAY, LOST
            self.end(BAD_GATEWAY, LOST, How.SESSION_FIN)

    def _answered(self) -> None:
        # With two on their way nobody knows which one it answers.
        if self._pinged is not None and self._unanswered == 1:
            self.record.answered(self._reactor.seconds() - self._pinged)
        self._pinged = None

    def _listen(self, ping_seconds: float) -> None:
        # Nothing is proved while we do not read, nor where no ping of ours can stand.
        if self._heard or self._deaf:
            self._heard, self._unanswered = False, 0
        elif self._unanswered >= UNANSWERED_PINGS:
            self._closes(How.PING_TIMEOUT)
            self._abort()
            return
        elif self._browser is not None and self._to_browser.at_boundary:
            self._browser.write(control_frame(PING, PING_PAYLOAD))
            self._unanswered += 1
            self._pinged = self._reactor.seconds()
        self._timer.set(ping_seconds, self._listen, ping_seconds)

    def _give_up(self) -> None:
        # Both have said that they close: that nobody hangs up is no reason to cut their words.
        if self._browser_closes and self._upstream_closes:
            self._part()
        else:
            super()._give_up()

    def _hang_up(self) -> None:
        self._timer.set(CLOSE_SECONDS, self._drop)
        for side in (self._upstream, self._browser):
            if side is None:
                continue
            side.unregisterProducer()
            if ISSLTransport.providedBy(side):
                side.loseConnection()
                continue
            # Closing with unread bytes would reset the connection, and our Close would be lost.
            done = self._browser_done if side is self._browser else self._upstream_done
            if done:
                side.loseConnection()
            else:
                side.resumeProducing()
                side.loseWriteConnection()

    def _drop(self) -> None:
        if self._upstream is not None:
            self._upstream.abortConnection()
        if self._browser is not None:
            self._timer.set(FLUSH_SECONDS, self._abort)
            self._browser.loseConnection()


def _raw(piece: Piece) -> bytes:
    if isinstance(piece, bytes):
        return piece
    return piece.raw if isinstance(piece, Control) else b""
