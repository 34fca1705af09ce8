"""The proxy with everything around it in memory: clients, sessions' servers and the clock."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, ensureDeferred, execute
from twisted.internet.error import (
    ConnectionAborted,
    ConnectionDone,
    ConnectionLost,
)
from twisted.internet.error import ConnectionRefusedError as Refused
from twisted.internet.interfaces import IHalfCloseableProtocol, ISSLTransport
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from zope.interface import directlyProvides

from plane_tx.accesslog import BATCH_SECONDS, AccessLog
from plane_tx.core.access import FORMATS
from plane_tx.core.http1 import MOST_COPIED_BYTES
from plane_tx.core.model import Address, Session
from plane_tx.core.use import Traffic
from plane_tx.core.wire import ConnectRequest, ExecutableRequest, KeyRequest, SpawnConfig
from plane_tx.journal import Journal
from plane_tx.proxy.factory import ProxyFactory
from plane_tx.proxy.settings import ProxySettings
from plane_tx.supervisor import Policy, Supervisor
from tests.recording_engine import RecordingEngine, unwritten

CLUSTER = "localhost:9090"


class Wire(StringTransport):
    """One end of a TCP connection in memory; the test is what is at the other end.

    What is written is there at once; a connection is lost when the reactor turns next, unless the
    other end is `stuck`: then only an abort ends it.
    """

    def __init__(self, reactor: MemoryReactorClock, host: str = "127.0.0.1") -> None:
        super().__init__(peerAddress=IPv4Address("TCP", host, 50000))
        self.reactor = reactor
        self.protocol: Any = None
        self.paused = self.stuck = self.half_closed = self.closing = self.lost = False
        self.aborted = self.slow_to_close = self.ended = False

    def setTcpNoDelay(self, enabled):
        pass

    def setTcpKeepAlive(self, enabled):
        pass

    def write(self, data):
        if not self.lost and not self.half_closed:
            super().write(data)

    def pauseProducing(self):
        self.paused = True

    def resumeProducing(self):
        assert not self.ended, "the last byte was read"
        self.paused = False

    def registerProducer(self, producer, streaming):
        assert self.producer is None, "there is a producer already"
        self.producer = producer

    def unregisterProducer(self):
        self.producer = None

    def loseWriteConnection(self):
        self.half_closed = True

    def loseConnection(self):
        if not self.closing and not self.stuck and not self.lost:
            self.closing = True
            if not self.slow_to_close:
                self.reactor.callLater(0, self.lose, ConnectionDone())

    def abortConnection(self):
        if not self.aborted and not self.lost:
            self.aborted = True
            if not self.slow_to_close:
                self.reactor.callLater(0, self.lose, ConnectionAborted())

    # What the other end does.

    def lose(self, why: Exception) -> None:
        if not self.lost:
            self.lost = True
            self.protocol.connectionLost(Failure(why))

    def hang_up(self) -> None:
        self.lose(ConnectionDone())

    def half_close(self) -> None:
        """Say the last, and go on listening; all is over when the other end does not want that."""
        if IHalfCloseableProtocol.providedBy(self.protocol):
            self.ended = True
            self.protocol.readConnectionLost()
        else:
            self.hang_up()

    def reset(self) -> None:
        self.lose(ConnectionLost())

    def send(self, data: bytes) -> None:
        assert not self.paused, "this end does not read"
        if not (self.lost or self.closing or self.aborted):
            self.protocol.dataReceived(data)

    def get(self) -> bytes:
        """What was written since the last time."""
        said = self.value()
        self.clear()
        return said

    def fill(self) -> None:
        """Let the other end stop reading."""
        self.producer.pauseProducing()

    def drain(self) -> None:
        self.producer.resumeProducing()


def done(deferred: Deferred) -> Any:
    """The result that is there already."""
    results: list[Any] = []
    deferred.addBoth(results.append)
    assert results, "there is no result yet"
    if isinstance(results[0], Failure):
        results[0].raiseException()
    return results[0]


class HereAndNow:
    """Writes as soon as it is asked to, and here."""

    def start(self):
        pass

    def run(self, work):
        return execute(work)

    def stop(self):
        pass


class World:
    """A proxy in memory, and the hands that a test needs there."""

    def __init__(
        self,
        log: Path | None = None,
        engine: RecordingEngine | None = None,
        journal: Journal | None = None,
        **settings: Any,
    ) -> None:
        self.reactor = MemoryReactorClock()
        self.reactor.advance(1_700_000_000)
        self.engine = engine or RecordingEngine()
        policy = Policy(cluster=CLUSTER, control_url="http://127.0.0.1:8080", host_name="box")
        self.supervisor = Supervisor(self.reactor, self.engine, policy, journal or unwritten())
        self.supervisor.start()
        self.log = log
        settings = ProxySettings(**settings)
        self.factory = ProxyFactory(self.reactor, self.supervisor, settings, self._access_log())
        self.wires: list[Wire] = []
        self.token = ""
        self._dials = 0

    def _access_log(self) -> AccessLog | None:
        if self.log is None:
            return None
        target, measures = str(self.log), self.supervisor.measures
        log = AccessLog(self.reactor, HereAndNow(), target, FORMATS["json"], measures)
        log.startService()
        return log

    def logged(self) -> list[dict[str, Any]]:
        """What the access log says of all that has ended."""
        self.advance(BATCH_SECONDS)
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    @property
    def advance(self):
        return self.reactor.advance

    def wait(self, seconds: float) -> None:
        """Let time pass in small steps, as it does."""
        self.reactor.pump([0.25] * int(seconds * 4))

    def spawn(
        self, user: str | None = None, auth: Any = None, **config: Any
    ) -> tuple[Session, str]:
        """A session that boots, and its token."""
        spawn_config = SpawnConfig(executable=ExecutableRequest(image="x"), **config)
        request = ConnectRequest(spawn_config=spawn_config, user=user, auth=auth or {})
        response = done(ensureDeferred(self.supervisor.connect(request)))
        self.token = response.token
        return self.supervisor.get(response.backend_id), response.token

    def join(self, session: Session, user: str | None = None) -> str:
        """One more token of a session."""
        request = ConnectRequest(KeyRequest(session.key.name), user=user)
        return done(ensureDeferred(self.supervisor.connect(request))).token

    def make_ready(self, session: Session) -> None:
        self.engine.run(session.id, Address("10.0.0.2", 8080))
        self.accept().send(b"HTTP/1.1 200 OK\r\n")
        self.advance(0)

    def session(self, **config: Any) -> tuple[Session, str]:
        """A ready session, and its token."""
        session, token = self.spawn(**config)
        self.make_ready(session)
        return session, token

    def end(self, session: Session) -> None:
        self.engine.exit(session.id, 0)

    def wire(self, protocol: Any, host: str = "127.0.0.1", *, secure: bool = False) -> Wire:
        wire = Wire(self.reactor, host)
        if secure:
            directlyProvides(wire, ISSLTransport)
        wire.protocol = protocol
        self.wires.append(wire)
        protocol.makeConnection(wire)
        return wire

    def client(self, host: str = "127.0.0.1", *, secure: bool = False) -> Wire:
        """A new client of the proxy."""
        return self.wire(self.factory.buildProtocol(None), host, secure=secure)

    @property
    def dialled(self) -> int:
        """How many dials nobody has answered."""
        return len(self.reactor.tcpClients) - self._dials

    @property
    def withdrawn(self) -> bool:
        """Whether the oldest dial that nobody has answered was given up."""
        return self.reactor.connectors[self._dials].stoppedConnecting

    def _next_dial(self) -> Any:
        assert self.dialled, "nobody dialled"
        dial = self.reactor.tcpClients[self._dials]
        self._dials += 1
        return dial[2]

    def accept(self) -> Wire:
        """Answer the oldest dial that nobody has answered."""
        return self.wire(self._next_dial().buildProtocol(None))

    def decline(self, why: Exception | None = None) -> None:
        self._next_dial().clientConnectionFailed(None, Failure(why or Refused()))

    def get(self, token: str, path: str = "/", more: str = "", method: str = "GET") -> bytes:
        return f"{method} /{token}{path} HTTP/1.1\r\nHost: {CLUSTER}\r\n{more}\r\n".encode()

    def traffic(self) -> Traffic:
        """What has passed through the only session so far."""
        (session,) = self.supervisor.registry
        return attrs.evolve(session.traffic)

    def uses(self) -> list[str]:
        """What keeps sessions in use now."""
        return sorted(use.kind for session in self.supervisor.registry for use in session.uses)

    def finish(self) -> None:
        """Everybody leaves; then nothing may be left."""
        for wire in self.wires:
            wire.hang_up()
        self.wait(90)
        assert repr(self.factory) == (
            "<ProxyFactory [Clients: 0 | Relays: 0] <UpstreamPool [Connections: 0 open, 0 idle]>>"
        )
        assert self.uses() == []
        assert len(self.factory.carrier.meanwhile) == 0
        registry = self.supervisor.registry
        assert registry.uses.total() == 0
        assert {term.open for term in registry.grants._terms.values()} <= {0}
        parts = [attrs.astuple(session.traffic) for session in registry] or [(0,) * 5]
        assert attrs.astuple(registry.traffic) == tuple(map(sum, zip(*parts, strict=True)))
        assert self.reactor.getDelayedCalls() == []


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def long_reply(status: bytes = b"200 OK") -> bytes:
    """One so long that its body is not copied when it comes again (`ResponseParser.feed`)."""
    body = bytes(range(256)) * (3 * MOST_COPIED_BYTES // 256)
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n" % (status, len(body)) + body


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def head_of(message: bytes) -> dict[str, str]:
    """The headers of the first message, names in lower case."""
    lines = message.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")[1:]
    return {name.lower(): value.strip() for name, _, value in (x.partition(":") for x in lines)}


def body_of(message: bytes) -> bytes:
    return message.partition(b"\r\n\r\n")[2]
