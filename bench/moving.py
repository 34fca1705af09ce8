"""A server with many sessions that change all the time, on an engine in memory.

One session more, under the key `upstream`, is a server elsewhere: requests are measured through it.
Run as `python -m bench.moving SESSIONS CONTROL_PORT PROXY_PORT UPSTREAM_PORT`; it says when it
listens.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path

from twisted.internet.defer import Deferred, ensureDeferred, maybeDeferred, succeed
from twisted.internet.task import LoopingCall, react

from bench.dashboard import ENDS_A_SECOND, LEASES_A_SECOND, UPSTREAM
from bench.servers import MemoryEngine, add_sessions, reactor, supervisor_with, tell_errors
from plane_tx.admission import Policy
from plane_tx.autopsies import Autopsies
from plane_tx.control.site import make_site
from plane_tx.core.model import Address
from plane_tx.core.sections import DemoConfig
from plane_tx.core.wire import parse_connect
from plane_tx.engines.interface import (
    Creating,
    EngineEvent,
    EngineStats,
    Progress,
    SessionExited,
    SpawnOrder,
)
from plane_tx.engines.listeners import Listeners
from plane_tx.idempotency import Idempotency
from plane_tx.journal import Journal
from plane_tx.keptfiles import KeptFiles
from plane_tx.lag import LagMeter
from plane_tx.proxy.factory import ProxyFactory
from plane_tx.supervisor import Supervisor
from plane_tx.thread import OwnThread

#: All that a session here seems to have; what it takes of its processor grows with time.
_MEMORY_BYTES, _PIDS = 64 << 20, 4


class MovingEngine(MemoryEngine):
    """One whose sessions can end; what they take of the box is made up."""

    def __init__(self, port: int, upstream: int) -> None:
        super().__init__(port)
        self._upstream = upstream
        self._listeners = Listeners()

    def events(self, listener: Callable[[EngineEvent], None]) -> Callable[[], None]:
        return self._listeners.add(listener)

    def spawn(self, order: SpawnOrder, report: Callable[[Progress], None]) -> Deferred[Address]:
        if order.session_id != UPSTREAM:
            return super().spawn(order, report)
        report(Creating())
        return succeed(Address("127.0.0.1", self._upstream))

    def stop(self, session_id: str, grace_seconds: float) -> Deferred[None]:
        self._listeners.tell(SessionExited(session_id, 0))
        return succeed(None)

    def stats(self, session_id: str) -> Deferred[EngineStats | None]:
        busy = time.perf_counter() * (hash(session_id) % 100) / 100
        return succeed(EngineStats(busy, _MEMORY_BYTES, None, _PIDS, 0, 0))


class Moves:
    """Keeps sessions alive and ends some, a few at a time, so that no turn is long."""

    def __init__(self, supervisor: Supervisor, sessions: int) -> None:
        self._supervisor = supervisor
        self._oldest, self._newest = 0, sessions
        self._turns = count()

    def begin(self) -> None:
        LoopingCall(self._lease).start(1 / LEASES_A_SECOND)
        LoopingCall(lambda: ensureDeferred(self._replace())).start(1 / ENDS_A_SECOND)

    def _lease(self) -> None:
        number = self._oldest + next(self._turns) % (self._newest - self._oldest)
        self._supervisor.keep_alive(f"session-{number}", 3600, "bench")

    async def _replace(self) -> None:
        ended, made = self._oldest, self._newest
        self._oldest += 1
        self._supervisor.soft_terminate(f"session-{ended}")
        await add_sessions(self._supervisor, range(made, made + 1))
        self._newest += 1


async def serve(sessions: int, control: int, proxy: int, upstream: int) -> None:
    """Serve until the process is ended."""
    policy = Policy(
        cluster=f"localhost:{proxy}",
        control_url=f"http://localhost:{control}",
    )
    supervisor = await supervisor_with(sessions, policy, partial(MovingEngine, upstream=upstream))
    wanted = b'{"key":{"name":"%b"},"spawn_config":{"id":"%b","executable":{"image":"nginx"}}}'
    name = UPSTREAM.encode()
    await supervisor.connect(parse_connect(wanted % (name, name)))
    # Nobody here sends an Idempotency-Key or asks for an autopsy, so neither is ever opened.
    idempotency = Idempotency(reactor, Journal(Path("unopened"), maybeDeferred))
    files, worker = KeptFiles(Path("unopened")), OwnThread(reactor, "autopsies")
    autopsies = Autopsies(reactor, MemoryEngine(0), supervisor, files, worker)
    site = make_site(reactor, supervisor, idempotency, autopsies, DemoConfig())
    reactor.listenTCP(control, site, interface="127.0.0.1")
    reactor.listenTCP(proxy, ProxyFactory(reactor, supervisor), 4096, "127.0.0.1")
    LagMeter(reactor, supervisor.measures).startService()
    Moves(supervisor, sessions).begin()
    print("listens", flush=True)
    await Deferred()


if __name__ == "__main__":
    tell_errors()
    react(lambda _reactor, *words: ensureDeferred(serve(*map(int, words))), sys.argv[1:])
