"""What sessions take of the box, and what passes through the proxy: sampled while somebody asks."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
from functools import partial
from typing import Any, Protocol, TypeVar

import attrs
from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore, ensureDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.server import Request

from plane_tx.control import sse
from plane_tx.control.envelope import answer_json
from plane_tx.control.query import Query
from plane_tx.core.errors import EngineUnavailable, InvalidRequest
from plane_tx.core.model import Session, Status
from plane_tx.core.views import milliseconds
from plane_tx.core.wire import dumps
from plane_tx.engines.interface import EngineStats
from plane_tx.flights import Flight
from plane_tx.supervisor import Supervisor

T = TypeVar("T")

Sample = Callable[[], Coroutine[Any, Any, dict[str, Any]]]

#: How far two samples of a stream are apart, and of a stream of many sessions.
INTERVAL_SECONDS = 1.0
MANY_INTERVAL_SECONDS = 2.0

#: How many sessions one stream may tell of.
MOST_SESSIONS = 50

#: How many of them the engine is asked about at a time.
MOST_ASKED = 4

#: What is told of a session that does not run.
_NOTHING = EngineStats(None, None, None, None, None, None)


class Listener(Protocol):
    """Whoever is sent samples, as an `EventStream` is."""

    def send(self, one_event: bytes) -> None:
        """Take a sample."""

    def end(self) -> None:
        """Take none any more: the session has ended, or cannot be sampled."""


def parse_ids(uri: bytes) -> list[str]:
    """Read which sessions a stream of many is to tell of. Raises `InvalidRequest`."""
    query = Query(uri, "id", "stream")
    ids = query.all("id")
    if not 1 <= len(ids) <= MOST_SESSIONS:
        raise InvalidRequest(f"id: expected from 1 to {MOST_SESSIONS} of them, got {len(ids)}")
    if not query.flag("stream"):
        raise InvalidRequest("stream: expected true: these are told as a stream only")
    return list(dict.fromkeys(ids))


class StatsFeed:
    """Samples sessions, once or every so often; whoever asks at the same time shares the answer."""

    _log = Logger()

    def __init__(self, clock: IReactorTime, supervisor: Supervisor) -> None:
        self._clock = clock
        self._supervisor = supervisor
        self._asked: dict[str, Flight[EngineStats | None]] = {}
        self._watched: dict[tuple[str, float], _Watched] = {}
        self._places = DeferredSemaphore(MOST_ASKED)

    def __repr__(self) -> str:
        return f"<StatsFeed [Asked: {len(self._asked)} | Watched: {len(self._watched)}]>"

    def answer(self, request: Request, session: Session) -> Deferred[bytes]:
        """Answer with one sample. Fails with `EngineUnavailable`."""
        sampled = ensureDeferred(self._sample(session, Sampler()))
        return sampled.addCallback(lambda sample: answer_json(request, sample))

    def stream(self, request: Request, session: Session) -> bytes | Deferred[None]:
        """Answer with samples as server-sent events, until the session has ended.

        The first is the last that another stream of this session was sent, if there is one.
        """
        if request.method == b"HEAD":
            sse.prepare(request)
            return b""
        stream = sse.EventStream(request, self._clock)
        watched = self._watched_by(stream, session, INTERVAL_SECONDS)
        return stream.ended.addBoth(self._left, [(watched, stream)])

    def stream_many(self, request: Request, sessions: Iterable[Session]) -> bytes | Deferred[None]:
        """Answer with samples of each of `sessions` as server-sent events, until all have ended.

        One that does not keep up is sent the next samples, not those in between. Where none of
        them lives the answer is 204, which tells the client not to come back.
        """
        living = [each for each in sessions if each.status is not Status.TERMINATED]
        if not living:
            request.setResponseCode(204)
            return b""
        if request.method == b"HEAD":
            sse.prepare(request)
            return b""
        stream = sse.EventStream(request, self._clock)
        untold = {each.id for each in living}
        watching: list[tuple[_Watched, Listener]] = []
        for session in living:
            listener = _OneOfMany(stream, session, untold)
            watched = self._watched_by(listener, session, MANY_INTERVAL_SECONDS, self._places)
            watching.append((watched, listener))
        return stream.ended.addBoth(self._left, watching)

    def _watched_by(
        self,
        listener: Listener,
        session: Session,
        seconds: float,
        places: DeferredSemaphore | None = None,
    ) -> _Watched:
        watched = self._watched.get((session.id, seconds))
        if watched is None:
            sample = partial(self._sample, session, Sampler())
            watched = _Watched(self._clock, session, seconds, sample, places)
            self._watched[session.id, seconds] = watched
        watched.join(listener)
        if not watched.begun:
            watched.begin().addErrback(self._gave_up, watched).addBoth(self._over, watched)
        return watched

    def _left(self, result: T, watching: Iterable[tuple[_Watched, Listener]]) -> T:
        for watched, listener in watching:
            if watched.leave(listener):
                self._over(None, watched)
        return result

    def _over(self, _result: object, watched: _Watched) -> None:
        key = (watched.session.id, watched.seconds)
        if self._watched.get(key) is watched:
            del self._watched[key]

    async def _sample(self, session: Session, sampler: Sampler) -> dict[str, Any]:
        stats = None
        if session.status is not Status.TERMINATED:
            stats = await self._ask(session)
        return sampler.told(session, stats or _NOTHING, self._clock.seconds())

    def _ask(self, session: Session) -> Deferred[EngineStats | None]:
        flight = self._asked.get(session.id)
        if flight is None:
            asking = self._supervisor.stats(session)
            flight = Flight(asking, deserted=asking.cancel)
            if not flight.landed:
                self._asked[session.id] = flight
                asking.addBoth(self._answered, session.id)
        return flight.wait()

    def _answered(self, _result: object, session_id: str) -> None:
        del self._asked[session_id]

    def _gave_up(self, failure: Failure, watched: _Watched) -> None:
        if not failure.check(CancelledError, EngineUnavailable):
            self._log.failure("a stream of stats failed", failure)
        watched.end()


class _Watched:
    """One session's samples, taken every so many seconds, and those whom they are sent."""

    def __init__(
        self,
        clock: IReactorTime,
        session: Session,
        seconds: float,
        sample: Sample,
        places: DeferredSemaphore | None = None,
    ) -> None:
        """Take a sample when there is one of `places`; without them at once."""
        self.session = session
        self.seconds = seconds
        self.begun = False
        self._sample = sample
        self._places = places or DeferredSemaphore(1)
        self._last = b""
        self._listeners: list[Listener] = []
        self._loop = LoopingCall(self._next)
        self._loop.clock = clock

    def begin(self) -> Deferred[LoopingCall]:
        """Take a sample now and again, until the session has ended or the last listener left."""
        self.begun = True
        return self._loop.start(self.seconds)

    def join(self, listener: Listener) -> None:
        """Send every sample to `listener` too, and the last one now."""
        self._listeners.append(listener)
        if self._last:
            listener.send(self._last)

    def leave(self, listener: Listener) -> bool:
        """Send it no more; whether it was the last, with which the sampling ends."""
        self._listeners.remove(listener)
        if not self._listeners and self._loop.running:
            self._loop.stop()
        return not self._listeners

    def end(self) -> None:
        """Tell every listener that it is over."""
        for listener in tuple(self._listeners):
            listener.end()

    async def _next(self) -> None:
        async with self._places:
            if not self._listeners:
                return
            last = self.session.status is Status.TERMINATED
            self._last = sse.event(dumps(await self._sample()))
        for listener in tuple(self._listeners):
            listener.send(self._last)
        if last and self._loop.running:
            self._loop.stop()
            self.end()


class _OneOfMany:
    """Passes the samples of one session on to a stream that tells of others too."""

    def __init__(self, stream: sse.EventStream, session: Session, untold: set[str]) -> None:
        """`untold` has the ids of all sessions of the stream whose end it was not told yet."""
        self._stream = stream
        self._session = session
        self._untold = untold

    def send(self, one_event: bytes) -> None:
        """Pass a sample on, unless the client does not keep up."""
        if self._stream.keeps_up:
            self._stream.send(one_event)

    def end(self) -> None:
        """End the stream with the last of its sessions, or if the engine cannot be asked."""
        self._untold.discard(self._session.id)
        if not self._untold or self._session.status is not Status.TERMINATED:
            self._stream.end()


class Sampler:
    """Remembers the sample before, for what can only be said of two."""

    def __init__(self) -> None:
        self._before: tuple[float, float] | None = None

    def told(self, session: Session, stats: EngineStats, now: float) -> dict[str, Any]:
        """A sample taken at `now` (seconds since epoch)."""
        received, sent = stats.received_bytes, stats.sent_bytes
        network = None
        if received is not None and sent is not None:
            network = {"received_bytes": received, "sent_bytes": sent}
        return {
            "backend_id": session.id,
            "time": milliseconds(now),
            "cpu_seconds": stats.cpu_seconds,
            "cpu_percent": self._cpu_percent(stats.cpu_seconds, now),
            "memory_bytes": stats.memory_bytes,
            "memory_limit_bytes": stats.memory_limit_bytes,
            "pids": stats.pids,
            "network": network,
            "proxy": attrs.asdict(session.traffic),
        }

    def _cpu_percent(self, cpu_seconds: float | None, now: float) -> float | None:
        """100 is one processor, all the time since the sample before."""
        before = self._before
        self._before = None if cpu_seconds is None else (cpu_seconds, now)
        if cpu_seconds is None or before is None or now <= before[1]:
            return None
        return round(100 * max(cpu_seconds - before[0], 0.0) / (now - before[1]), 2)
