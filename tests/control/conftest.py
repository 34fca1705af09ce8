from collections.abc import Iterator
from functools import partial

import pytest
from twisted.internet.defer import ensureDeferred, maybeDeferred
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.logger import LogEvent, globalLogPublisher

from plane_tx.admission import Policy
from plane_tx.autopsies import Autopsies
from plane_tx.core.sections import DemoConfig
from plane_tx.core.spec import App
from plane_tx.core.wire import ConnectRequest, ExecutableRequest, SpawnConfig
from plane_tx.idempotency import Idempotency
from plane_tx.journal import Journal
from plane_tx.keptfiles import KeptFiles
from plane_tx.supervisor import Supervisor
from tests.control.client import asking
from tests.recording_engine import AtOnce, RecordingEngine


@pytest.fixture
def reactor():
    reactor = MemoryReactorClock()
    reactor.advance(1_700_000_000)
    return reactor


@pytest.fixture
def engine():
    return RecordingEngine()


@pytest.fixture
def policy():
    return Policy(
        cluster="localhost:9090",
        control_url="http://127.0.0.1:8080",
        host_name="box",
        apps={"counter": App(ExecutableRequest(image="counter"))},
    )


@pytest.fixture
def journal(reactor, tmp_path):
    journal = Journal(tmp_path / "journal.sqlite3", maybeDeferred)
    journal.open(reactor.seconds())
    yield journal
    journal.close()


@pytest.fixture
def supervisor(reactor, engine, policy, journal):
    supervisor = Supervisor(reactor, engine, policy, journal)
    supervisor.start()
    return supervisor


@pytest.fixture
def idempotency(reactor, journal):
    return Idempotency(reactor, journal)


@pytest.fixture
def autopsies(reactor, engine, supervisor, tmp_path):
    return Autopsies(reactor, engine, supervisor, KeptFiles(tmp_path / "autopsies"), AtOnce())


@pytest.fixture
def make_site(reactor, supervisor, idempotency, autopsies):
    # Only here: klein, which this imports, installs the reactor.
    from plane_tx.control.site import make_site

    return partial(make_site, reactor, supervisor, idempotency, autopsies)


@pytest.fixture
def site(make_site):
    return make_site(DemoConfig())


@pytest.fixture
def ask(site):
    return asking(site)


@pytest.fixture
def spawn(ask):
    """Connect with a spawn_config, and return the answer's JSON."""

    def spawn(key=None, **spawn_config):
        config = {"executable": {"image": "counter"}, **spawn_config}
        body = {"key": {"name": key} if key else None, "spawn_config": config}
        answer = ask("POST", "/ctrl/connect", body=body)
        assert answer.status == 200, answer
        return answer.json

    return spawn


@pytest.fixture
def mine(supervisor):
    """A session of that name."""
    config = SpawnConfig(executable=ExecutableRequest(image="counter"), id="mine")
    ensureDeferred(supervisor.connect(ConnectRequest(spawn_config=config)))
    return supervisor.get("mine")


@pytest.fixture
def make_ready(reactor, engine):
    """Let the engine make a session, and let that answer its probe."""

    def make_ready(session_id):
        engine.run(session_id)
        *_, (_, _, factory, _, _) = reactor.tcpClients
        knock = factory.buildProtocol(None)
        knock.makeConnection(StringTransport())
        knock.dataReceived(b"HTTP/1.1 200 OK\r\n")
        knock.connectionLost(None)

    return make_ready


@pytest.fixture
def logged() -> Iterator[list[LogEvent]]:
    events: list[LogEvent] = []
    globalLogPublisher.addObserver(events.append)
    yield events
    globalLogPublisher.removeObserver(events.append)
