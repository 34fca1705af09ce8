"""A stream of server-sent events to one client, bounded when it does not read."""

from __future__ import annotations

from collections import deque

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer, IReactorTime
from twisted.web.server import Request
from zope.interface import implementer

from plane_tx.control.request import cut

#: After so much silence a comment is sent, so that nothing in between takes the stream for dead.
SILENCE_SECONDS = 15.0

#: How many events wait for a client that does not read, before it is cut off.
MOST_WAITING = 1000

#: How many bytes of events do.
MOST_WAITING_BYTES = 8 * 1024 * 1024

_COMMENT = b":\n\n"


def event(data: bytes, event_id: str = "") -> bytes:
    """One event as it goes over the wire; `data` is one line."""
    if not event_id:
        return b"data: %b\n\n" % data
    return b"data: %b\nid: %b\n\n" % (data, event_id.encode("utf-8"))


def named_event(name: str, data: bytes) -> bytes:
    """An event of a kind of its own, after which a client resumes where it was before."""
    return b"event: %b\ndata: %b\n\n" % (name.encode("utf-8"), data)


def prepare(request: Request) -> None:
    """Say in the head of the answer that it is a stream of events."""
    request.setHeader("content-type", "text/event-stream")
    request.setHeader("cache-control", "no-cache")


@implementer(IPushProducer)
class EventStream:
    """Writes events to a request; whoever answers it returns `ended`.

    `ended` fires when everything up to `end` was written; it is cancelled, by Klein, when the
    client goes away. In either case nothing of the stream is left.
    """

    def __init__(self, request: Request, clock: IReactorTime) -> None:
        self._request = request
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._held_up: list[Deferred[None]] = []
        self._paused = False
        self._ending = False
        self._over = False
        self.ended: Deferred[None] = Deferred(lambda _: self._let_go())
        self._clock = clock
        self._silence = clock.callLater(SILENCE_SECONDS, self._break_silence)
        prepare(request)
        request.registerProducer(self, True)
        # The head goes out before the first event, which may be long in coming.
        request.write(b"")

    def send(self, one_event: bytes) -> None:
        """Write an event, or keep it until the client reads on."""
        if self._over:
            return
        if not self._paused:
            self._write(one_event)
        elif self._has_room(len(one_event)):
            self._waiting.append(one_event)
            self._waiting_bytes += len(one_event)
        else:
            self._let_go()
            cut(self._request)

    @property
    def keeps_up(self) -> bool:
        """Whether the client reads: what it can do without need not be kept for it otherwise."""
        return not self._paused

    def until_read(self) -> Deferred[None] | None:
        """Fires once the client reads again; None when it does. After the stream it never fires.

        Whoever can wait is never cut: it sends no more before that.
        """
        if self._over or not self._paused:
            return None
        waiting: Deferred[None] = Deferred()
        self._held_up.append(waiting)
        return waiting

    def end(self) -> None:
        """End the stream once the client has been sent all that waits."""
        self._ending = True
        self._end_when_written()

    def pauseProducing(self) -> None:
        """Keep events: the client does not read."""
        self._paused = True

    def resumeProducing(self) -> None:
        """Write what waits: the client reads again."""
        self._paused = False
        while self._waiting and not self._paused:
            one_event = self._waiting.popleft()
            self._waiting_bytes -= len(one_event)
            self._write(one_event)
        self._end_when_written()
        if not self._paused:
            held_up, self._held_up = self._held_up, []
            for each in held_up:
                each.callback(None)

    def stopProducing(self) -> None:
        """Write no more: the client is gone."""
        self._let_go()

    def _has_room(self, size: int) -> bool:
        few = len(self._waiting) < MOST_WAITING
        return few and self._waiting_bytes + size <= MOST_WAITING_BYTES

    def _write(self, data: bytes) -> None:
        self._silence.reset(SILENCE_SECONDS)
        self._request.write(data)

    def _break_silence(self) -> None:
        self._silence = self._clock.callLater(SILENCE_SECONDS, self._break_silence)
        # For one who does not read silence is no danger, and comments would pile up.
        if not self._paused:
            self._request.write(_COMMENT)

    def _end_when_written(self) -> None:
        if self._ending and not self._waiting and not self._over:
            self._let_go()
            self._request.unregisterProducer()
            self.ended.callback(None)

    def _let_go(self) -> None:
        self._over = True
        self._waiting.clear()
        self._held_up.clear()
        if self._silence.active():
            self._silence.cancel()
