"""One request and its reply: waits for the session, and carries both ways."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectingCancelledError
from twisted.logger import Logger
from twisted.python.failure import Failure

from plane_tx.core.access import End
from plane_tx.core.errors import IdleTimeout, PlaneError, UnknownToken, UpstreamUnreachable
from plane_tx.core.explain import true_cause
from plane_tx.core.headers import (
    Peer,
    interim_lines,
    reply_trailers,
    request_head_of,
    request_trailers,
)
from plane_tx.core.messages import (
    Broken,
    EndOfMessage,
    Framing,
    RequestHead,
    ResponseEvent,
    ResponseHead,
    chunk,
    join_head,
    last_chunk,
)
from plane_tx.core.model import Address, Ready, Session
from plane_tx.core.routes import Route
from plane_tx.core.use import Use, UseKind
from plane_tx.proxy.interface import Carrier, Client
from plane_tx.proxy.remembering import Remembering
from plane_tx.proxy.upstream import UpstreamConnection, why_not_connected

#: How bodies end whose length nobody knows before.
_UNTOLD = (Framing.CHUNKED, Framing.UNTIL_CLOSE)


class Exchange(Remembering):
    """Carries one request to its session and the reply back, and keeps the session in use.

    In use until the last byte of the reply is written; what the client's kernel and ours still
    hold of it then (64 KiB here at most) is on its way without the session.
    """

    _log = Logger()

    #: Whether its session can be sent more of the request.
    sendable = False
    _answered = False
    _upstream: UpstreamConnection | None = None
    _waiting: Deferred[None] | None = None
    _use: Use | None = None
    _moved = 0.0
    _corked: list[bytes] | None = None
    _chunked_reply = False
    _bounded = True

    def __init__(
        self, carrier: Carrier, client: Client, head: RequestHead, route: Route, peer: Peer
    ) -> None:
        self.head = head
        self.request_complete = head.bodiless
        self.session: Session = route.session
        self.visit = client.way.visit(route, peer.address)
        self._supervisor = carrier.supervisor
        self._carrier = carrier
        self._client = client
        self._route = route
        self._peer = peer
        self._unsent: list[bytes | memoryview] = []
        self._keep_alive = head.keep_alive

    @property
    def held(self) -> bool:
        """Whether it waits for its session to boot."""
        return self._use is not None and self._use.kind is UseKind.HOLD

    @property
    def last_moved(self) -> float:
        """When bytes last passed; now, while it is held (seconds since epoch)."""
        use = self._use
        if use is None or use.kind is UseKind.HOLD:
            return self._supervisor.now()
        return max(use.since, use.last_data or 0.0, self._moved)

    def be_last(self) -> None:
        """Let no other request follow on the client's connection."""
        self._keep_alive = False

    def start(self) -> None:
        """Begin: at once when the session is ready; else as soon as it is, or with a page.

        Raises `SessionEnded` for a session that is ending or gone.
        """
        address = self._supervisor.address_of(self.session)
        if address is not None:
            self._begin_carrying()
            self._reach(address)
            return
        hold = UseKind.HOLD
        self._use = self._supervisor.begin_use(self.session, hold, self.visit, self._revoked)
        page = self._carrier.meanwhile.page(self.head, self.session)
        if page is not None:
            self._fail(page)
            return
        held = self._supervisor.hold(self.session)
        self._await(held.addCallback(self._admitted))

    def body(self, data: bytes) -> None:
        """Pass on a part of the request's body; only when `sendable`."""
        assert self._upstream is not None
        if self._use is not None:
            self._use.from_client(len(data), 0, self._supervisor.now())
        chunked = self.head.framing is Framing.CHUNKED
        self._to_upstream(chunk(data) if chunked else data)

    def end_of_body(self, end: EndOfMessage) -> None:
        """The request is complete."""
        assert self._upstream is not None
        self.request_complete = True
        if self.head.framing is Framing.CHUNKED:
            self._to_upstream(last_chunk(request_trailers(end.trailers)))

    def uncork(self) -> None:
        """Send what was gathered of the request; nothing more of it is here."""
        corked, self._corked = self._corked, None
        if corked is not None and self._upstream is not None:
            self._upstream.transport.write(b"".join(corked))

    def broken(self, error: PlaneError, by: End) -> None:
        """The rest of the request cannot be read, or is not waited for any more, because of `by`:
        the session must not act on a part of it.
        """
        self._ended_by(by)
        self._stop_waiting()
        self._drop_upstream()
        self._fail(error)

    def idle(self, error: IdleTimeout) -> None:
        """No byte has passed for too long: give up on the session."""
        self.broken(error, End.PROXY)

    def abandon(self) -> None:
        """The client is gone: tell the session at once."""
        self._ended_by(End.CLIENT)
        self._stop_waiting()
        self._over(self._supervisor.now())
        self._drop_upstream()

    def pause_reply(self) -> None:
        """The client does not keep up."""
        if self._upstream is not None:
            self._upstream.hold_back()

    def resume_reply(self) -> None:
        """The client has caught up."""
        self._moved = self._supervisor.now()
        if self._upstream is not None:
            self._upstream.let_go()

    def take_use(self) -> Use:
        """Hand over what keeps the session in use, to whoever goes on after an upgrade."""
        assert self._use is not None
        use, self._use = self._use, None
        return use

    def upstream_full(self) -> None:
        """The session does not keep up."""
        self._client.pause_reading()

    def upstream_drained(self) -> None:
        """The session has caught up."""
        self._moved = self._supervisor.now()
        self._client.resume_reading()

    def reply(self, events: Sequence[ResponseEvent]) -> None:
        """Pass on what the session says, in one piece."""
        now = self._supervisor.now()
        for event in events:
            if self._upstream is None:
                break
            if isinstance(event, ResponseHead):
                self._reply_head(event, now)
            elif isinstance(event, EndOfMessage):
                self._reply_complete(event, now)
            elif isinstance(event, Broken):
                self._upstream_failed(event.error)
            else:
                if self._use is not None:
                    self._use.to_client(len(event), 0, now)
                self._unsent.append(chunk(event) if self._chunked_reply else event)
        if self._unsent:
            self._send_unsent()

    def _send_unsent(self) -> None:
        unsent, self._unsent = self._unsent, []
        self._client.send_pieces(unsent)

    def _to_upstream(self, data: bytes) -> None:
        if self._corked is not None:
            self._corked.append(data)
        elif self._upstream is not None:
            self._upstream.transport.write(data)

    def _revoked(self) -> None:
        if not self._answered:
            error = UnknownToken("this link was revoked: ask the app for another")
            self.broken(error, End.PROXY)
        else:
            self._ended_by(End.PROXY)
            self.abandon()
            self._client.cut(at_once=True)

    def _stop_waiting(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.cancel()

    def _await(self, waiting: Deferred[None]) -> None:
        # What is waited for never makes the exchange wait for something else at once.
        self._waiting = waiting
        waiting.addErrback(self._gave_up)

    def _gave_up(self, failure: Failure) -> None:
        self._waiting = None
        if failure.check(CancelledError, ConnectingCancelledError):
            return
        if isinstance(failure.value, PlaneError):
            self._fail(failure.value)
            return
        self._log.failure("an exchange failed", failure)
        self._fail(UpstreamUnreachable("the proxy failed to carry this request; see its log"))

    def _admitted(self, address: Address) -> None:
        hold = self.take_use()
        self._held_since = hold.since
        self._begin_carrying()
        self._supervisor.end_use(self.session, hold)
        self._reach(address)

    def _begin_carrying(self) -> None:
        kind = UseKind.REQUEST
        self._use = self._supervisor.begin_use(self.session, kind, self.visit, self._revoked)
        self._use.request()
        if self.access is not None:
            self._use.count_in(self.access.traffic)

    def _reach(self, address: Address) -> None:
        idle = self._carrier.pool.take_idle(self.session.id)
        if idle is not None:
            self._send_head(idle)
        else:
            self._dial(address)

    def _dial(self, address: Address) -> None:
        dialling = self._carrier.pool.dial(self.session.id, address)
        self._await(dialling.addCallbacks(self._connected, self._not_connected, (address,)))

    def _connected(self, upstream: UpstreamConnection, address: Address) -> None:
        if self.session.is_at(address):
            self._send_head(upstream)
        else:
            upstream.hang_up()  # it took a while: whoever answers there now may be another session
            self._upstream_failed(UpstreamUnreachable("the session is not there any more"))

    def _not_connected(self, failure: Failure) -> None:
        self._upstream_failed(why_not_connected(failure, self.session.spec.executable.port))

    def _send_head(self, upstream: UpstreamConnection) -> None:
        self._waiting = None
        self._upstream = upstream
        upstream.serve(self, self.head.method)
        introductions = self._client.introductions
        said = request_head_of(self.head, self._route, self._peer, introductions)
        self.sendable = True
        if self.request_complete:
            upstream.transport.write(said)
            return
        # The head goes with what is here of the body, in one piece, when the client uncorks it.
        self._corked = [said]
        self._client.upstream_ready()

    def _reply_head(self, head: ResponseHead, now: float) -> None:
        self._moved = now
        if head.interim:
            if self.head.version == b"1.1":
                first = b"HTTP/1.1 %d %s" % (head.status, head.reason)
                self._unsent.append(join_head(first, interim_lines(head)))
            return
        if head.status == 101:
            self._switch(head)
            return
        self._answered = True
        self._replied(head.status, now)
        assert self._upstream is not None
        rendition = self._upstream.renditions.of(head, self.session.id)
        self._unsent.append(b"%s%s\r\n\r\n" % (rendition, self._frame_reply(head)))

    def _frame_reply(self, head: ResponseHead) -> bytes:
        """Decide how the reply ends, and return the lines that say so; an end comes before each."""
        said = b""
        if head.framing in _UNTOLD:
            if self.head.version == b"1.1":
                self._chunked_reply = True
                said = b"\r\nTransfer-Encoding: chunked"
            else:
                self._keep_alive = self._bounded = False
        if not self.request_complete:
            self._keep_alive = False
        if not self._keep_alive:
            return said + b"\r\nConnection: close"
        return said if self.head.version == b"1.1" else b"\r\nConnection: keep-alive"

    def _switch(self, head: ResponseHead) -> None:
        upstream = self._upstream
        assert upstream is not None
        if not self.head.upgrade:
            self._drop_upstream()
            self._fail(UpstreamUnreachable("the session switched protocols, and nobody asked"))
            return
        self._upstream = None
        self._answered, self._status = True, head.status
        if self._use is not None:
            self._remember(self._use, self._moved)
        if self._unsent:
            self._send_unsent()
        self._client.upgraded(upstream, head)

    def _reply_complete(self, end: EndOfMessage, now: float) -> None:
        upstream, self._upstream = self._upstream, None
        if upstream is None:
            return
        if self._chunked_reply:
            self._unsent.append(last_chunk(reply_trailers(end.trailers)))
        if self.request_complete and upstream.parser.keep_alive:
            self._carrier.pool.give_back(upstream)
        else:
            upstream.hang_up()
        if self._unsent:
            self._send_unsent()
        self._finish(now)

    def _finish(self, now: float) -> None:
        self._over(now)
        self._client.finished(keep_alive=self._keep_alive and self.request_complete)

    def _upstream_failed(self, error: PlaneError) -> None:
        upstream, self._upstream = self._upstream, None
        self.sendable = False
        state = self.session.state
        # A kept connection that died before a byte came was most likely closed while idle.
        stale = upstream is not None and upstream.reused and upstream.silent
        if stale and self.head.repeatable and isinstance(state, Ready):
            self._dial(state.address)
            return
        if upstream is not None:
            self._ended_by(End.SESSION)
            upstream.hang_up()
        if self._answered:
            self._fail(error)
            return
        # The word that the session has ended may still be on its way; it is the better answer.
        confirmed = self._supervisor.ended_soon(self.session)
        self._await(confirmed.addCallback(self._fail_truly, error))

    def _fail_truly(self, ended: bool, error: PlaneError) -> None:
        self._fail(true_cause(self.session, error, ended=ended))

    def _fail(self, error: PlaneError) -> None:
        if isinstance(error, UpstreamUnreachable):
            self._supervisor.measures.upstream_errors += 1
        sent = self._answered
        if self._unsent:
            self._send_unsent()
        self._error, self._status = error.kind, self._status or error.status
        self._over(self._supervisor.now())
        if sent:
            self._client.cut(at_once=not self._bounded)
        else:
            self._client.refuse(error, self.session.id)

    def _over(self, now: float) -> None:
        self._answered = True
        self.sendable = False
        use, self._use = self._use, None
        if use is not None:
            self._remember(use, now)
            self._supervisor.end_use(self.session, use)

    def _drop_upstream(self) -> None:
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.hang_up()
