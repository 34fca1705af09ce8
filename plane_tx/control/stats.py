"""GET /ctrl/b/{id}/stats: what a session takes of the box, and what passes through the proxy."""

from __future__ import annotations

from typing import Any

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
from plane_tx.supervisor import Supervisor

#: How far two samples of a stream are apart.
INTERVAL_SECONDS = 1.0

#: What is told of a session that does not run.
_NOTHING = EngineStats(None, None, None, None, None, None)


class StatsFeed:
    """Samples sessions, once or every second."""

    _log = Logger()

    def __init__(self, clock: IReactorTime, supervisor: Supervisor) -> None:
        self._clock = clock
        self._supervisor = supervisor

    def answer(self, request: Request, session: Session) -> Deferred[bytes]:
        """Answer with one sample. Fails with `EngineUnavailable`."""
        sampled = ensureDeferred(self._sample(session, Sampler()))
        return sampled.addCallback(lambda sample: answer_json(request, sample))

    def stream(self, request: Request, session: Session) -> bytes | Deferred[None]:
        """Answer with samples as server-sent events, until the session has ended."""
        if request.method == b"HEAD":
            sse.prepare(request)
            return b""
        stream = sse.EventStream(request, self._clock)
        loop = LoopingCall(self._next, session, Sampler(), stream)
        loop.clock = self._clock

        def left(result: Any) -> Any:
            if loop.running:
                loop.stop()
            return result

        stream.ended.addBoth(left)
        loop.start(INTERVAL_SECONDS).addErrback(self._gave_up, stream)
        return stream.ended

    async def _next(self, session: Session, sampler: Sampler, stream: sse.EventStream) -> None:
        last = session.status is Status.TERMINATED
        stream.send(sse.event(dumps(await self._sample(session, sampler))))
        if last:
            stream.end()

    async def _sample(self, session: Session, sampler: Sampler) -> dict[str, Any]:
        stats = None
        if session.status is not Status.TERMINATED:
            stats = await self._supervisor.stats(session)
        return sampler.told(session, stats or _NOTHING, self._clock.seconds())

    def _gave_up(self, failure: Failure, stream: sse.EventStream) -> None:
        if not failure.check(CancelledError, EngineUnavailable):
            self._log.failure("a stream of stats failed", failure)
        stream.end()


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
