"""An engine whose sessions exist in memory only, and whose every answer a test decides."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import attrs
from twisted.internet.defer import (
    CancelledError,
    Deferred,
    ensureDeferred,
    execute,
    fail,
    maybeDeferred,
    succeed,
)
from twisted.internet.error import ConnectError, ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from zope.interface import implementer

from plane_tx.admission import Policy
from plane_tx.core.errors import EngineUnavailable, InvalidRequest, SpawnFailed
from plane_tx.core.listeners import Listener
from plane_tx.core.model import Address, Executable, LogLine, LogStream, Session
from plane_tx.core.pulls import Pulling
from plane_tx.core.wire import (
    ConnectRequest,
    ConnectResponse,
    ExecutableRequest,
    KeyRequest,
    SpawnConfig,
)
from plane_tx.engines.interface import (
    Created,
    Creating,
    EngineEvent,
    EngineHealth,
    EngineLost,
    EngineRegained,
    EngineStats,
    IEngine,
    LeftBehind,
    Reachable,
    Remains,
    Report,
    Running,
    SessionExited,
    SpawnOrder,
    Tell,
    Unreachable,
)
from plane_tx.engines.listeners import Listeners
from plane_tx.engines.log import Log
from plane_tx.journal import Journal
from plane_tx.supervisor import Supervisor

T = TypeVar("T")


class AtOnce:
    """Does work at once, where a thread would do it some time later."""

    def __init__(self) -> None:
        self.running = False

    def start(self) -> None:
        self.running = True

    def run(self, work: Callable[[], T]) -> Deferred[T]:
        return maybeDeferred(work)

    def stop(self) -> None:
        self.running = False


def unwritten() -> Journal:
    """A journal that no later run needs to read."""
    journal = Journal(Path(":memory:"), execute)
    journal.open(0.0)
    return journal


@attrs.define
class Pending:
    """A spawn that the test has not settled yet."""

    order: SpawnOrder
    report: Report
    made: Deferred[Address]
    turn: Deferred[None] | None = None


@attrs.define
class Held:
    """What this engine holds of a session, running or ended."""

    labels: Mapping[str, str]
    running: bool = True
    fresh: bool = False
    exit_code: int = 0
    ends: list[Deferred[None]] = attrs.field(factory=list)
    log: Log = attrs.field(factory=lambda: Log(Clock()))


@implementer(IEngine)
class RecordingEngine:
    """Makes a session when the test says so, ends it when asked, and writes down every call.

    `obeys` is whether a stop ends a session, `dies` whether a kill does, `reachable` whether those
    of an earlier run can be adopted. With `slow_to_clean` a
    cancelled spawn ends only with `clean`. `refusal` is what every call fails with, and `waits`
    has the names of calls that are answered by `answer` only.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []
        self.pending: dict[str, Pending] = {}
        self.held: dict[str, Held] = {}
        self.orders: dict[str, SpawnOrder] = {}
        self.obeys = True
        self.dies = True
        self.reachable = True
        self.slow_to_clean = False
        self.refusal: Exception | None = None
        self.waits: set[str] = set()
        self.closed = False
        #: What `stats` answers for every session that runs.
        self.taken = EngineStats(1.5, 4096, None, 2, 10, 20)
        #: What `listening` answers for each session; None stands for all that are not here.
        self.listens: dict[str, tuple[Listener, ...]] = {}
        self._cleaning: dict[str, Deferred[bool]] = {}
        self._waiting: list[tuple[str, Deferred[None]]] = []
        self._listeners = Listeners()

    def __repr__(self) -> str:
        return (
            f"<RecordingEngine [Pending: {len(self.pending)} | Held: {len(self.held)} | "
            f"Cleaning: {len(self._cleaning)} | Waiting: {len(self._waiting)}]>"
        )

    # What a test does.

    def creating(self, session_id: str) -> None:
        self.pending[session_id].report(Creating())

    def created(self, session_id: str) -> None:
        self.pending[session_id].report(Created())

    def say(
        self, session_id: str, text: str, at: float, stream: LogStream = LogStream.STDOUT
    ) -> None:
        """Let the session put out a line at a moment in seconds since epoch."""
        self.held[session_id].log.add(stream, f"{text}\n".encode(), at)

    def pulling(
        self, session_id: str, image: str = "image", current: int = 1, total: int = 2
    ) -> None:
        self.pending[session_id].report(Pulling(image, current, total))

    def run(self, session_id: str, address: Address | None = None) -> None:
        pending = self.pending[session_id]
        pending.turn = pending.report(Creating())
        if pending.turn is None:
            self._run(session_id, address)
        else:
            pending.turn.addCallback(lambda _: self._run(session_id, address))

    def _run(self, session_id: str, address: Address | None) -> None:
        pending = self.pending.pop(session_id)
        pending.report(Created())
        self.held[session_id] = Held(pending.order.labels)
        pending.made.callback(address or address_of(session_id))

    def refuse(self, session_id: str, error: Exception) -> None:
        self.pending.pop(session_id).made.errback(error)

    def clean(self, session_id: str, error: Exception | None = None, *, made: bool = False) -> None:
        """End the cleaning up; `made` is for an engine that could not call it off any more."""
        cleaned = self._cleaning.pop(session_id)
        if error is not None:
            cleaned.errback(error)
        else:
            cleaned.callback(made)

    def exit(
        self,
        session_id: str,
        code: int | None = 0,
        *,
        oom: bool = False,
        tail: tuple[str, ...] = (),
    ) -> None:
        held = self.held.pop(session_id)
        last = tuple(LogLine(None, LogStream.STDOUT, text) for text in tail)
        self._listeners.tell(SessionExited(session_id, code, oom, last or held.log.lines(50)))
        self._listeners.tell(LeftBehind(session_id, remains_of(session_id, held)))
        held.log.end()
        for ended in held.ends:
            ended.callback(None)

    def lose_sight(self, session_id: str) -> None:
        self._listeners.tell(Unreachable(session_id))

    def find_again(self, session_id: str, address: Address) -> None:
        self._listeners.tell(Reachable(session_id, address))

    def lose(self, why: str = "Docker does not answer") -> None:
        self.refusal = EngineUnavailable(why)
        self._listeners.tell(EngineLost(why))

    def regain(self) -> None:
        self.refusal = None
        self._listeners.tell(EngineRegained())

    def answer(self, name: str) -> None:
        answered = [waiting for called, waiting in self._waiting if called == name]
        self._waiting = [(called, each) for called, each in self._waiting if called != name]
        for waiting in answered:
            waiting.callback(None)

    def called(self, name: str) -> list[str]:
        """The sessions that `name` was called for, in order."""
        return [session_id for call, session_id in self.calls if call == name]

    # What an engine promises.

    def start(self) -> None:
        if self.refusal is not None:
            self._listeners.tell(EngineLost(str(self.refusal)))

    def close(self) -> Deferred[None]:
        self.closed = True
        for held in self.held.values():
            held.log.end()
            for ended in held.ends:
                ended.errback(EngineUnavailable("closed"))
        return succeed(None)

    def events(self, listener: Callable[[EngineEvent], None]) -> Callable[[], None]:
        return self._listeners.add(listener)

    def check(self, executable: Executable) -> None:
        if executable.image is None:
            raise InvalidRequest("spawn_config.executable.image: is required")

    def spawn(self, order: SpawnOrder, report: Report) -> Deferred[Address]:
        return ensureDeferred(self._spawn(order, report))

    async def _spawn(self, order: SpawnOrder, report: Report) -> Address:
        await self._take("spawn", order.session_id)
        self.orders[order.session_id] = order
        made: Deferred[Address] = Deferred()
        self.pending[order.session_id] = Pending(order, report, made)
        try:
            return await made
        except CancelledError:
            turn = self.pending.pop(order.session_id).turn
            if turn is not None:
                turn.addErrback(lambda failure: failure.trap(CancelledError) and None)
                turn.cancel()
            if self.slow_to_clean:
                cleaned = self._cleaning[order.session_id] = Deferred()
                if await cleaned:
                    self.held[order.session_id] = Held(order.labels)
                    return address_of(order.session_id)
            raise

    async def _take(self, name: str, session_id: str) -> None:
        self.calls.append((name, session_id))
        if name in self.waits:
            waiting: Deferred[None] = Deferred()
            self._waiting.append((name, waiting))
            await waiting
        if self.refusal is not None:
            raise self.refusal

    def stop(self, session_id: str, grace_seconds: float) -> Deferred[None]:
        return ensureDeferred(self._end("stop", session_id, 143, self.obeys))

    def kill(self, session_id: str) -> Deferred[None]:
        return ensureDeferred(self._end("kill", session_id, 137, self.dies))

    async def _end(self, name: str, session_id: str, code: int, at_once: bool) -> None:
        await self._take(name, session_id)
        held = self.held.get(session_id)
        if held is None:
            return
        if at_once:
            self.exit(session_id, code)
            return
        ended: Deferred[None] = Deferred()
        held.ends.append(ended)
        await ended

    def logs(
        self, session_id: str, tail: int, since_ns: int | None = None
    ) -> Deferred[tuple[LogLine, ...]]:
        return ensureDeferred(self._logs(session_id, tail, since_ns))

    async def _logs(self, session_id: str, tail: int, since_ns: int | None) -> tuple[LogLine, ...]:
        await self._take("logs", session_id)
        held = self.held.get(session_id)
        return () if held is None else held.log.lines(tail, since_ns)

    def follow_logs(
        self, session_id: str, tail: int, since_ns: int | None, tell: Tell
    ) -> Deferred[None]:
        self.calls.append(("follow_logs", session_id))
        if self.refusal is not None:
            return fail(self.refusal)
        held = self.held.get(session_id)
        return succeed(None) if held is None else held.log.follow(tail, since_ns, tell)

    def stats(self, session_id: str) -> Deferred[EngineStats | None]:
        return ensureDeferred(self._stats(session_id))

    async def _stats(self, session_id: str) -> EngineStats | None:
        await self._take("stats", session_id)
        held = self.held.get(session_id)
        return self.taken if held is not None and held.running else None

    def listening(self, session_id: str) -> Deferred[tuple[Listener, ...] | None]:
        return ensureDeferred(self._listening(session_id))

    async def _listening(self, session_id: str) -> tuple[Listener, ...] | None:
        await self._take("listening", session_id)
        return self.listens.get(session_id)

    def remains(self, session_id: str) -> Deferred[Remains | None]:
        return ensureDeferred(self._remains(session_id))

    async def _remains(self, session_id: str) -> Remains | None:
        await self._take("remains", session_id)
        held = self.held.get(session_id)
        return None if held is None else remains_of(session_id, held)

    def list_running(self) -> Deferred[list[Running]]:
        return ensureDeferred(self._list())

    async def _list(self) -> list[Running]:
        now = [
            Running(each, held.labels, held.running, held.fresh) for each, held in self.held.items()
        ]
        await self._take("list_running", "")
        return now

    def adopt(self, session_id: str, executable: Executable, start: bool) -> Deferred[Address]:
        return ensureDeferred(self._adopt(session_id, start))

    async def _adopt(self, session_id: str, start: bool) -> Address:
        await self._take("adopt", session_id)
        held = self.held.get(session_id)
        if held is not None and held.fresh and start:
            held.fresh, held.running = False, True
        if held is None or not held.running:
            raise SpawnFailed("it does not run any more")
        if not self.reachable:
            raise SpawnFailed("its network publishes no port")
        return address_of(session_id)

    def conclude(self, session_id: str) -> Deferred[None]:
        return ensureDeferred(self._conclude(session_id))

    async def _conclude(self, session_id: str) -> None:
        await self._take("conclude", session_id)
        held = self.held.get(session_id)
        if held is None:
            self._listeners.tell(SessionExited(session_id))
        elif not held.running:
            self.exit(session_id, held.exit_code)

    def remove(self, session_id: str) -> Deferred[None]:
        return ensureDeferred(self._remove(session_id))

    async def _remove(self, session_id: str) -> None:
        await self._take("remove", session_id)
        if (held := self.held.pop(session_id, None)) is not None:
            held.log.end()

    def health(self) -> Deferred[EngineHealth]:
        return succeed(EngineHealth(self.refusal is None, str(self.refusal or "answers")))


def remains_of(session_id: str, held: Held) -> Remains:
    """What this engine tells of a session."""
    return Remains({"Id": session_id, "Env": ["SECRET=…"]}, held.log.lines(2000))


def address_of(session_id: str) -> Address:
    """Where a session of this engine listens: a host that no two sessions share."""
    return Address(f"{session_id}.invalid", 8080)


# A supervisor on that engine, with a clock and dials of its own.

EPOCH = 1_700_000_000.0
HTTP_OK = b"HTTP/1.1 200 OK\r\n"


def now(deferred: Deferred[T]) -> T:
    """What a Deferred has fired with; raises what it has failed with, or that it did neither."""
    results: list[Any] = []
    deferred.addBoth(results.append)
    assert results, "it has not fired"
    if isinstance(results[0], Failure):
        results[0].raiseException()
    return results[0]


class Dials:
    """A clock that also notes who dials where, for the test to answer."""

    def __init__(self) -> None:
        self.reactor = MemoryReactorClock()
        self.reactor.advance(EPOCH)

    def of(self, host: str) -> list[int]:
        """Which of all dials went to `host`."""
        return [at for at, dial in enumerate(self.reactor.tcpClients) if dial[0] == host]

    def accept(self, host: str) -> tuple[Any, StringTransport]:
        """Accept the last dial to `host`; its protocol, and what it writes to."""
        factory = self.reactor.tcpClients[self.of(host)[-1]][2]
        protocol = factory.buildProtocol(None)
        transport = StringTransport()
        protocol.makeConnection(transport)
        return protocol, transport

    def answer(self, host: str, data: bytes = HTTP_OK) -> StringTransport:
        """Accept the last dial to `host`, say `data`, and hang up."""
        protocol, transport = self.accept(host)
        if data:
            protocol.dataReceived(data)
        protocol.connectionLost(Failure(ConnectionDone()))
        return transport

    def refuse(self, host: str, error: Exception | None = None) -> None:
        """Refuse the last dial to `host`."""
        at = self.of(host)[-1]
        factory, connector = self.reactor.tcpClients[at][2], self.reactor.connectors[at]
        factory.clientConnectionFailed(connector, Failure(error or ConnectError()))


class Box:
    """One server without its faces: a supervisor, its engine and its clock."""

    def __init__(self, journal: Journal | None = None, **policy: Any) -> None:
        self.journal = journal or unwritten()
        self.dials = Dials()
        self.clock = self.dials.reactor
        self.engine = RecordingEngine()
        policy = {"cluster": "localhost:9090", "control_url": "http://localhost:8080", **policy}
        self.supervisor = Supervisor(self.clock, self.engine, Policy(**policy), self.journal)

    def start(self) -> Box:
        self.supervisor.start()
        return self

    def connect(self, key: str | None = "key", **values: Any) -> Deferred[ConnectResponse]:
        """Ask for a session; `values` go where a ConnectRequest has them."""
        request = {name: values.pop(name) for name in ("user", "auth") if name in values}
        if key is not None:
            request["key"] = KeyRequest(key, tag=values.pop("tag", ""))
        if values.pop("spawn", True):
            values.setdefault("executable", ExecutableRequest(image="image"))
            request["spawn_config"] = SpawnConfig(**values)
        return ensureDeferred(self.supervisor.connect(ConnectRequest(**request)))

    def spawn(self, key: str | None = "key", **values: Any) -> Session:
        """Ask for a session that nobody holds; it is with the engine now."""
        response = now(self.connect(key, **values))
        assert response.spawned
        return self.supervisor.get(response.backend_id)

    def ready(self, key: str | None = "key", **values: Any) -> Session:
        """Ask for a session that nobody holds, and see it through to ready."""
        session = self.spawn(key, **values)
        self.engine.run(session.id)
        self.dials.answer(address_of(session.id).host)
        return session

    def assert_at_rest(self) -> None:
        """Everything that was counted is at zero."""
        conductor = self.supervisor._conductor
        idle = "<Conductor [Flights: 0 | Endings: 0 | Holds: 0 | Deadlines: 0]>"
        assert "Sessions: 0 live" in repr(self.supervisor)
        assert idle in repr(self.supervisor)
        assert len(conductor.releases) == len(self.supervisor.recovery._waiting) == 0
        assert len(self.supervisor._leases) == 0
        assert not conductor._abandoned
        assert conductor._starting.tokens == conductor._starting.limit
        assert not self.clock.getDelayedCalls()
        quiet = "<RecordingEngine [Pending: 0 | Held: 0 | Cleaning: 0 | Waiting: 0]>"
        assert repr(self.engine) == quiet
