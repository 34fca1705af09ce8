"""What is measured in a process of its own: the control listener on an engine in memory, a bare
Klein route, and the reverse proxy of twisted.web.
"""

from __future__ import annotations

import gc
import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from klein import Klein
from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import Deferred, ensureDeferred, execute, maybeDeferred, succeed
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import react
from twisted.logger import (
    FilteringLogObserver,
    LogLevel,
    LogLevelFilterPredicate,
    globalLogBeginner,
    textFileLogObserver,
)
from twisted.web.http import Request
from twisted.web.proxy import ProxyClient, ProxyClientFactory, ReverseProxyResource
from twisted.web.server import Site
from zope.interface import implementer

from plane_tx.admission import Policy
from plane_tx.autopsies import Autopsies
from plane_tx.control.site import make_site
from plane_tx.core.model import Address, Executable
from plane_tx.core.sections import DemoConfig
from plane_tx.core.wire import parse_connect
from plane_tx.engines.interface import (
    Creating,
    EngineEvent,
    EngineHealth,
    IEngine,
    Progress,
    Running,
    SpawnOrder,
)
from plane_tx.idempotency import Idempotency
from plane_tx.journal import Journal
from plane_tx.keptfiles import KeptFiles
from plane_tx.supervisor import Supervisor
from plane_tx.thread import OwnThread

reactor: Any = installed_reactor

#: How many sessions stand behind one address, so that probing them all does not use its ports up.
SESSIONS_PER_ADDRESS = 1000

#: How many joins and ticks are measured.
JOINS = 100_000
TICKS = 1000


class Answers(Protocol):
    """The server of every session: it answers a probe and no more."""

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(b"HTTP/1.1 204 No Content\r\n\r\n")


@implementer(IEngine)
class MemoryEngine:
    """Every session runs at once, and all of them are one server of this process.

    They end with the process, so nothing that ends or takes up a session is here.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._made = 0

    def start(self) -> None: ...

    def close(self) -> Deferred[None]:
        return succeed(None)

    def check(self, executable: Executable) -> None: ...

    def spawn(self, order: SpawnOrder, report: Callable[[Progress], None]) -> Deferred[Address]:
        report(Creating())
        self._made += 1
        return succeed(Address(f"127.1.{self._made // SESSIONS_PER_ADDRESS}.1", self._port))

    def events(self, listener: Callable[[EngineEvent], None]) -> Callable[[], None]:
        return lambda: None

    def list_running(self) -> Deferred[list[Running]]:
        return succeed([])

    def health(self) -> Deferred[EngineHealth]:
        return succeed(EngineHealth(True, "answers"))


POLICY = Policy(cluster="localhost:9090", control_url="http://localhost:8080")


async def supervisor_with(
    sessions: int,
    policy: Policy = POLICY,
    make_engine: Callable[[int], MemoryEngine] = MemoryEngine,
) -> Supervisor:
    """A supervisor of so many ready sessions, `session-0` under `key-0` and so on."""
    answers = Factory.forProtocol(Answers)
    answers.noisy = False
    port = reactor.listenTCP(0, answers, backlog=1000).getHost().port
    journal = Journal(Path(":memory:"), execute)
    journal.open(reactor.seconds())
    supervisor = Supervisor(reactor, make_engine(port), policy, journal)
    supervisor.start()
    await add_sessions(supervisor, range(sessions))
    return supervisor


async def add_sessions(supervisor: Supervisor, numbers: range) -> None:
    """Make the sessions of these numbers; returns when all are ready."""
    for number in numbers:
        wanted = {
            "key": {"name": f"key-{number}"},
            "spawn_config": {
                "id": f"session-{number}",
                "executable": {"image": "whiteboard", "env": {"COLOUR": "red"}},
                "max_idle_seconds": 86400,
            },
        }
        await supervisor.connect(parse_connect(json.dumps(wanted).encode()))
        if number % 100 == 99 or number == numbers[-1]:
            await supervisor.hold(supervisor.get(f"session-{number}"))


class SilentSite(Site):
    """A plain Site, but for its access log: the control listener keeps none either."""

    def log(self, request: Request) -> None: ...


class Bare:
    """The least that can be said in Klein: ready bytes and what they are."""

    app = Klein()

    def __init__(self, connected: bytes, status: bytes) -> None:
        self._connected = connected
        self._status = status

    @app.route("/ctrl/connect", methods=["POST"])
    def connect(self, request: Request) -> bytes:
        request.content.read()
        request.setHeader("content-type", "application/json")
        return self._connected

    @app.route("/pub/b/<session_id>/status", methods=["GET"])
    def status(self, request: Request, session_id: str) -> bytes:
        request.setHeader("content-type", "application/json")
        return self._status


class KeepingClient(ProxyClient):
    """One that keeps to itself that it asked the origin to close: the browser stays connected."""

    def handleHeader(self, key: bytes, value: bytes) -> None:
        if key.lower() != b"connection":
            ProxyClient.handleHeader(self, key, value)


class KeepingClientFactory(ProxyClientFactory):
    protocol = KeepingClient
    noisy = False


class Reverse(ReverseProxyResource):
    proxyClientFactoryClass = KeepingClientFactory

    def getChild(self, path: bytes, request: Request) -> ReverseProxyResource:
        return Reverse(self.host, self.port, self.path + b"/" + path, self.reactor)


def _serve(site: Site, number: int = 0) -> Deferred[None]:
    port = reactor.listenTCP(number, site, backlog=1000, interface="127.0.0.1")
    print(port.getHost().port, flush=True)
    return Deferred()


async def serve_plane(sessions: str) -> None:
    supervisor = await supervisor_with(int(sessions))
    # Nobody here sends an Idempotency-Key, so the journal is never opened.
    idempotency = Idempotency(reactor, Journal(Path("unopened"), maybeDeferred))
    files, worker = KeptFiles(Path("unopened")), OwnThread(reactor, "autopsies")
    autopsies = Autopsies(reactor, MemoryEngine(0), supervisor, files, worker)
    await _serve(make_site(reactor, supervisor, idempotency, autopsies, DemoConfig()))


async def serve_bare(connected: str, status: str) -> None:
    await _serve(SilentSite(Bare(connected.encode(), status.encode()).app.resource()))


async def serve_reverse(port: str, origin: str) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    site = SilentSite(Reverse("127.0.0.1", int(origin), b"", reactor), timeout=3600)
    await _serve(site, int(port))


async def measure_tick(sessions: str) -> None:
    """Print the median and the longest time of a reaper's tick, in seconds."""
    supervisor = await supervisor_with(int(sessions))
    took = []
    for _ in range(TICKS):
        began = time.perf_counter()
        ended = supervisor.reap()
        took.append(time.perf_counter() - began)
        assert ended == 0
    took.sort()
    print(json.dumps({"median": took[TICKS // 2], "longest": took[-1]}))


async def measure_idle(sessions: str) -> None:
    """Print how many bytes of memory a session takes that nobody uses."""
    supervisor = await supervisor_with(1)
    gc.collect()
    before = _resident_bytes()
    await add_sessions(supervisor, range(1, int(sessions) + 1))
    gc.collect()
    print((_resident_bytes() - before) / int(sessions))


async def measure_tokens() -> None:
    """Print how many bytes of memory a token takes, without and with a user and claims."""
    supervisor = await supervisor_with(1)
    key = {"name": "key-0"}
    plain = await _bytes_per_join(supervisor, {"key": key})
    whole = {"key": key, "user": "ada", "auth": {"role": "editor"}}
    print(json.dumps({"plain": plain, "whole": await _bytes_per_join(supervisor, whole)}))


async def _bytes_per_join(supervisor: Supervisor, wanted: dict[str, Any]) -> float:
    body = json.dumps(wanted).encode()
    gc.collect()
    before = _resident_bytes()
    for _ in range(JOINS):
        await supervisor.connect(parse_connect(body))
    gc.collect()
    return (_resident_bytes() - before) / JOINS


def _resident_bytes() -> int:
    resident_pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(resident_pages) * resource.getpagesize()


MODES = {
    "plane": serve_plane,
    "bare": serve_bare,
    "reverse": serve_reverse,
    "tick": measure_tick,
    "idle": measure_idle,
    "tokens": measure_tokens,
}


def tell_errors() -> None:
    """Write to standard error what is logged as an error, and nothing else."""
    errors = LogLevelFilterPredicate(LogLevel.error)
    told = FilteringLogObserver(textFileLogObserver(sys.stderr), [errors])
    globalLogBeginner.beginLoggingTo([told], redirectStandardIO=False)


if __name__ == "__main__":
    tell_errors()
    react(lambda _reactor, mode, *words: ensureDeferred(MODES[mode](*words)), sys.argv[1:])
