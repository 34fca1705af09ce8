"""A client's connection: its requests one after the other, each given to an exchange.

A client that ends its side has gone, and its session is told at once: so browsers leave. But one
that said before that its request is the last (`Connection: close`, or HTTP/1.0) may end its side
when the request is complete, and still gets its reply, until a write fails. Within a body such an
end breaks the request off. Over TLS an end is always of both sides.
"""

from __future__ import annotations

from collections import deque
from functools import partial

from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from plane_tx.core.access import End
from plane_tx.core.errors import BadRequest, HeadTimeout, PlaneError, SessionNotReady
from plane_tx.core.forwarded import UNIX
from plane_tx.core.headers import Introductions, Peer
from plane_tx.core.http1 import RequestParser
from plane_tx.core.ledger import How
from plane_tx.core.messages import (
    END,
    Broken,
    EndOfMessage,
    RequestEvent,
    RequestHead,
    ResponseHead,
    ends_with_last,
)
from plane_tx.core.routes import Way
from plane_tx.proxy.answers import Answering, is_our_own, own_answer, slash_added, wants_page
from plane_tx.proxy.choice import exchange_for
from plane_tx.proxy.connection import (
    HEAD_SECONDS,
    KEEP_ALIVE_SECONDS,
    STOPPING,
    WAITING_BYTES,
    Connection,
    Timer,
    below,
)
from plane_tx.proxy.exchange import Exchange
from plane_tx.proxy.interface import Proxy
from plane_tx.proxy.joined import Joined
from plane_tx.proxy.notes import Notes
from plane_tx.proxy.upstream import UpstreamConnection
from plane_tx.proxy.watch import Carried, Watch
from plane_tx.proxy.websocket import Handshake, RelayEnds


@implementer(IPushProducer)
class ClientConnection(Connection):
    """Serves one client: reads heads, hands each request to an exchange, in order.

    It is its transport's producer for good, and passes backpressure on to the exchange.
    """

    def __init__(self, proxy: Proxy) -> None:
        super().__init__(proxy.reactor)
        self._proxy = proxy
        self._parser = RequestParser()
        self._events: deque[RequestEvent] = deque()
        self._waiting_bytes = 0
        self._exchange: Exchange | None = None
        self._relay: Joined | None = None
        self._watch: Watch | None = None
        log = proxy.access_log
        self._notes = Notes(log, proxy.reactor) if log is not None else None
        self._upstream_full = self._pumping = self._in_head = self._leaving = False
        self._reading = True
        self._next_turn = Timer(proxy.reactor)
        self.full, self.peer = False, Peer("", secure=False)
        self.introductions, self.way = Introductions(), Way()
        self._peer_is_proxy = False

    def connectionMade(self) -> None:
        """The connection is open."""
        super().connectionMade()
        self._proxy.connections.add(self)
        self.peer = Peer(getattr(self.transport.getPeer(), "host", UNIX), self._secure)
        self._peer_is_proxy = self._proxy.settings.trusted_proxies.trusts(self.peer.address)
        self.transport.registerProducer(self, True)
        self._timer.set(HEAD_SECONDS, self._time_out)

    def dataReceived(self, data: bytes) -> None:
        """Bytes came; whoever has the connection now takes them in."""
        if self._relay is not None:
            self._relay.from_browser(data)
            return
        if self._over:
            return
        events = self._parser.feed(data)
        if events:
            self._events.extend(events)
        elif self._exchange is None and self._parser.mid_head and not self._in_head:
            self._in_head = True
            self._timer.set(HEAD_SECONDS, self._time_out)
        self._waiting_bytes += len(data)
        self._pump()
        self._steer_reading()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection is no more; whoever has it learns of it."""
        super().connectionLost(reason)
        self._proxy.lost(self)
        if self._watch is not None:
            self._watch.stop()
        self._next_turn.clear()
        self._events.clear()
        if self._relay is not None:
            self._relay.browser_lost(reason)
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.abandon()
        if self._notes is not None:
            self._notes.end(End.CLIENT)

    def pauseProducing(self) -> None:
        """The client does not keep up: stop its session from saying more."""
        self.full = True
        if self._relay is not None:
            self._relay.browser_full()
        elif self._exchange is not None:
            self._exchange.pause_reply()

    def resumeProducing(self) -> None:
        """The client has caught up."""
        self.full = False
        if self._relay is not None:
            self._relay.browser_drained()
        elif self._exchange is not None:
            self._exchange.resume_reply()
        else:
            self.upstream_ready()

    def stopProducing(self) -> None:
        """The connection is lost; `connectionLost` tells whom it concerns."""

    def pause_reading(self) -> None:
        """The session does not keep up with the request."""
        self._upstream_full = True
        self._steer_reading()

    def resume_reading(self) -> None:
        """The session has caught up."""
        self._upstream_full = False
        self._steer_reading()

    def upstream_ready(self) -> None:
        """What waits here can go on: there is room for it, at the session or the client."""
        if not self._pumping:
            self._pump()
            self._steer_reading()

    def finished(self, *, keep_alive: bool) -> None:
        """The reply is complete: take the next request, or part."""
        self._exchange = None
        if self._notes is not None:
            self._notes.end()
        self._upstream_full = False
        if not keep_alive:
            self._part()
            return
        self._in_head = self._parser.mid_head
        seconds = HEAD_SECONDS if self._in_head else KEEP_ALIVE_SECONDS
        self._timer.set(seconds, self._time_out)
        if self._events or not self._reading:
            self.upstream_ready()

    def refuse(self, error: PlaneError, session_id: str = "") -> None:
        """Answer the request with `error`."""
        head = None if self._exchange is None else self._exchange.head
        said = partial(self._proxy.refusal, error, head=head, session_id=session_id)
        self.answer(said, error.kind)

    def answer(self, answering: Answering, error: str = "") -> None:
        """Answer the request ourselves; the connection goes on when the request was whole."""
        exchange, self._exchange = self._exchange, None
        keep = False
        if exchange is not None:
            keep = (exchange.request_complete or self._take_rest()) and exchange.head.keep_alive
            keep = keep and not self._leaving
        said = answering(close=not keep)
        if self._notes is not None:
            self._notes.refused(said, error, self.peer.address)
        self.send(said)
        self.finished(keep_alive=keep)

    def cut(self, *, at_once: bool) -> None:
        """Drop the client, so that it sees that its reply is not complete.

        The end of a bounded reply is missed by any client; an unbounded one ends where the
        connection does, so only a reset shows that it was not meant to end there.
        """
        self._exchange = None
        if self._notes is not None:
            self._notes.end()
        self._over = True
        self.transport.unregisterProducer()
        if at_once:
            self.transport.abortConnection()
        else:
            self._hang_up()

    def upgraded(self, upstream: UpstreamConnection, head: ResponseHead) -> None:
        """Let a WebSocket or a tunnel have both connections from here on."""
        exchange, self._exchange = self._exchange, None
        assert exchange is not None
        self._timer.clear()
        self.transport.resumeProducing()  # much may have come early
        proxy = self._proxy
        access = self._notes.hand_over() if self._notes is not None else None
        ends, asked = RelayEnds(self.transport, upstream, access), exchange.head
        shaken = Handshake(asked, self._parser.surplus, head, upstream.parser.surplus)
        del self._parser, self.introductions, self.way  # no HTTP follows, perhaps for hours
        use = exchange.take_use()
        relay = self._relay = proxy.relays.join(exchange.session, use, ends, asked.upgrade)
        self.hear_end(relay.browser_ended)
        relay.begin(shaken, proxy.legs, proxy.settings)
        if self._leaving:
            relay.end(1001, STOPPING, How.DRAIN)

    def go_away(self) -> None:
        """The server stops: let only what is in flight go on, and say so to whoever waits."""
        self._leaving = True
        exchange = self._exchange
        if self._relay is not None:
            self._relay.end(1001, STOPPING, How.DRAIN)
        elif exchange is not None and not exchange.held:
            exchange.be_last()
        elif exchange is not None or self._parser.mid_head:
            self.give_up()
        elif not self._over:
            self._over = True
            self.transport.unregisterProducer()
            self._hang_up()  # the last reply may still be on its way
            # Who keeps a TLS connection for later does not answer that it ends until then.
            below(self.transport).loseConnection()

    def give_up(self) -> None:
        """The server has stopped: tell whoever still waits for its reply, drop the others."""
        if self._exchange is not None:
            self._exchange.broken(SessionNotReady(STOPPING), End.PROXY)
        elif self._relay is None and self._parser.mid_head and not self._over:
            self.refuse(SessionNotReady(STOPPING))
        else:
            self.transport.abortConnection()

    def _pump(self) -> None:
        # A request that is answered at once asks for the next one: the loop below takes it.
        if self._pumping:
            return
        self._pumping = True
        events = self._events
        while events and not self._over and self._takes(events[0]):
            self._take(events.popleft())
        self._pumping = False
        if self._exchange is not None:
            self._exchange.uncork()
        if not events and self._parser.pending:
            # Much in small parts is read in several turns, so that others have theirs between.
            self._next_turn.set(0, self.dataReceived, b"")
        elif not events:
            self._waiting_bytes = 0
        elif ends_with_last(events):
            self.hear_end(self._client_ended)

    def _takes(self, event: RequestEvent) -> bool:
        exchange = self._exchange
        if isinstance(event, RequestHead):
            # Nothing is answered to who does not read: our answers would pile up here.
            return exchange is None and not self.full
        if exchange is None:
            return True
        if isinstance(event, Broken):
            return not exchange.request_complete
        return exchange.sendable

    def _take(self, event: RequestEvent) -> None:
        exchange = self._exchange
        if isinstance(event, RequestHead):
            self._in_head = False
            self._timer.disarm()
            self._begin(event)
            if self._events and self._events[0] is END and event.bodiless:
                self._events.popleft()  # the exchange knows that there is no more
        elif isinstance(event, Broken):
            if exchange is None:
                self.refuse(event.error)
            else:
                exchange.broken(event.error, End.CLIENT)
        elif exchange is None:
            return  # the rest of a request that was answered already
        elif isinstance(event, bytes):
            exchange.body(event)
        else:
            exchange.end_of_body(event)

    def _begin(self, head: RequestHead) -> None:
        proxy = self._proxy
        peer, settings = self.peer, proxy.settings
        if self._peer_is_proxy:
            peer = settings.trusted_proxies.client_of(peer, head.fields.marked)
        if self._notes is not None:
            self._notes.begin(head, peer.address)
        try:
            if is_our_own(head):
                self._answer_itself(head)
                return
            route = self.way.find(proxy.supervisor.registry, proxy.cluster, head.host, head.target)
            if route.slash_missing and wants_page(head):
                self._say(head, slash_added(head, route, peer))
                return
            exchange = exchange_for(proxy.carrier, self, head, route, peer)
        except PlaneError as error:
            self._say(head, partial(proxy.refusal, error, head=head), error.kind)
            return
        self._exchange = exchange
        if self._notes is not None:
            self._notes.carried(route.session.id, exchange)
        if head.last:
            self.hear_end(self._client_ended)
        if settings.idle_timeout_seconds:
            self._watching().begin()
        try:
            exchange.start()
        except PlaneError as error:
            self.refuse(error, exchange.session.id)

    def _answer_itself(self, head: RequestHead) -> None:
        if self._notes is not None and head.target.startswith(b"/ready"):
            self._notes.hand_over()  # whoever asks does so every few seconds
        root, ready = self._proxy.settings.root_redirect_url, self._proxy.supervisor.recovered
        self._say(head, own_answer(head, root, recovered=ready))

    def _say(self, head: RequestHead, answering: Answering, error: str = "") -> None:
        keep = self._take_rest() and head.keep_alive
        said = answering(close=not keep)
        if self._notes is not None:
            self._notes.answered(said, error)
        self.send(said)
        self.finished(keep_alive=keep)

    def _take_rest(self) -> bool:
        # True when the whole request has come: then it is passed over, and the next one is read.
        while self._events and not isinstance(self._events[0], RequestHead | Broken):
            if isinstance(self._events.popleft(), EndOfMessage):
                return True
        return False

    def _steer_reading(self) -> None:
        # While the request waits for its session we go on reading, up to a bound, for that is
        # how we learn that the client has gone.
        if self._over or self._heard_all:
            return
        waits = self._events or self._parser.pending
        waiting = self._waiting_bytes if waits else len(self._parser.surplus)
        reading = not self._upstream_full and waiting <= WAITING_BYTES
        if reading != self._reading:
            self._reading = reading
            self.transport.resumeProducing() if reading else self.transport.pauseProducing()

    def _watching(self) -> Watch:
        if self._watch is None:
            seconds = self._proxy.settings.idle_timeout_seconds
            self._watch = Watch(self._proxy.reactor, self.transport, seconds, self._carried)
        return self._watch

    def _carried(self) -> Carried | None:
        return self._relay or self._exchange

    def _client_ended(self) -> None:
        self._heard_all = True
        exchange = self._exchange
        if exchange is None:
            self._hang_up()
        elif exchange.request_complete or (
            self._events and isinstance(self._events[-1], EndOfMessage)
        ):
            self._watching().half_closed()
        else:
            error = BadRequest("the client ended its side within the request's body")
            exchange.broken(error, End.CLIENT)

    def _time_out(self) -> None:
        if self._parser.mid_head:
            self.refuse(HeadTimeout(f"the request head took longer than {HEAD_SECONDS:g} s"))
        else:
            self._part()
