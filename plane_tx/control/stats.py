"""GET /ctrl/b/{id}/stats: what a session takes of the box, and what passes through the proxy."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, TypeVar

import attrs
from twisted.internet.defer import CancelledError, Deferred, ensureDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.server import Request

from plane_tx.control import sse
from plane_tx.control.envelope import answer_json
from plane_tx.core.errors import EngineUnavailable
from plane_tx.core.model import Session, Status
from plane_tx.core.views import milliseconds
from plane_tx.core.wire import dumps
from plane_tx.engines.interface import EngineStats
from plane_tx.flights import Flight
from plane_tx.supervisor import Supervisor

T = TypeVar("T")

Sample = Callable[[], Coroutine[Any, Any, dict[str, Any]]]

#: How far two samples of a stream are apart.
INTERVAL_SECONDS = 1.0

#: What is told of a session that does not run.
_NOTHING = EngineStats(None, None, None, None, None, None)


class StatsFeed:
    """Samples sessions, once or every second; whoever asks at the same time shares the answer."""

    _log = Logger()

    def __init__(self, clock: IReactorTime, supervisor: Supervisor) -> None:
        self._clock = clock
        self._supervisor = supervisor
        self._asked: dict[str, Flight[EngineStats | None]] = {}
        self._watched: dict[str, _Watched] = {}

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
        watched = self._watched.get(session.id)
        if watched is None:
            sample = partial(self._sample, session, Sampler())
            watched = self._watched[session.id] = _Watched(self._clock, session, sample)
        watched.join(stream)
        stream.ended.addBoth(self._left, watched, stream)
        if not watched.begun:
            watched.begin().addErrback(self._gave_up, watched).addBoth(self._over, watched)
        return stream.ended

    def _left(self, result: T, watched: _Watched, stream: sse.EventStream) -> T:
        if watched.leave(stream):
            self._over(None, watched)
        return result

    def _over(self, _result: object, watched: _Watched) -> None:
        if self._watched.get(watched.session.id) is watched:
            del self._watched[watched.session.id]

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
    """One session's samples, taken every second, and the streams that they go to."""

    def __init__(self, clock: IReactorTime, session: Session, sample: Sample) -> None:
        self.session = session
        self.begun = False
        self._sample = sample
        self._last = b""
        self._streams: list[sse.EventStream] = []
        self._loop = LoopingCall(self._next)
        self._loop.clock = clock

    def begin(self) -> Deferred[LoopingCall]:
        """Take a sample now and every second, until the session or the last stream has ended."""
        self.begun = True
        return self._loop.start(INTERVAL_SECONDS)

    def join(self, stream: sse.EventStream) -> None:
        """Send every sample to `stream` too, and the last one now."""
        self._streams.append(stream)
        if self._last:
            stream.send(self._last)

    def leave(self, stream: sse.EventStream) -> bool:
        """Send it no more; whether it was the last, with which the sampling ends."""
        self._streams.remove(stream)
        if not self._streams and self._loop.running:
            self._loop.stop()
        return not self._streams

    def end(self) -> None:
        """End every stream."""
        for stream in tuple(self._streams):
            stream.end()

    async def _next(self) -> None:
        last = self.session.status is Status.TERMINATED
        self._last = sse.event(dumps(await self._sample()))
        for stream in tuple(self._streams):
            stream.send(self._last)
        if last and self._loop.running:
            self._loop.stop()
            self.end()


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
