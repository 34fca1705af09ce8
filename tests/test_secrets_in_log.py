"""What a busy server writes in its log, at whatever level, opens nothing."""

import hashlib
import json
from base64 import b64encode
from pathlib import Path

import pytest
from twisted.internet.defer import maybeDeferred
from twisted.internet.error import ConnectError
from twisted.logger import eventAsJSON, eventAsText, globalLogPublisher

from plane_tx.autopsies import Autopsies
from plane_tx.control.forward_auth import ForwardAuth
from plane_tx.control.guard import Access
from plane_tx.core.apikeys import ApiKeys, parse_key
from plane_tx.core.errors import SpawnFailed
from plane_tx.core.sections import DemoConfig
from plane_tx.idempotency import Idempotency
from plane_tx.journal import Journal
from plane_tx.keptfiles import KeptFiles
from tests.control.auth_service import AuthService
from tests.control.client import Connection
from tests.proxy.world import CLUSTER, OK, World, status
from tests.recording_engine import AtOnce

ADMIN = "Adm1n-Zk93hs8Wq0bd"
READER = "R3ader-pQm27Tg5xLa"
WRONG = "Wr0ng-c81RfJ6vYeuN"
LOGIN = "L0gin-a2Bz75nMtHkx"
HEADERS = {"Host": "localhost:8080"}

#: What a session's environment has under such names is a secret of its own.
TOLD = ("_SECRET", "_STATIC_TOKEN")


class Busy:
    """A proxy and a control listener around one registry, and every secret that was seen there."""

    def __init__(self, make_site, journal, access, log=None):
        self.world = World(log)
        idempotency = Idempotency(self.world.reactor, journal)
        clock, supervisor = self.world.reactor, self.world.supervisor
        files = KeptFiles(Path("unopened"))
        autopsies = Autopsies(clock, self.world.engine, supervisor, files, AtOnce())
        self.site = make_site(clock, supervisor, idempotency, autopsies, DemoConfig(), access)
        self.callers = []
        self.secrets = {ADMIN, READER, WRONG, LOGIN}
        self.secrets |= {hashlib.sha256(secret.encode()).hexdigest() for secret in self.secrets}

    def caller(self):
        self.callers.append(Connection(self.site))
        return self.callers[-1]

    def ask(self, method, path, secret=ADMIN, body=None, scheme="Bearer"):
        connection = self.caller()
        headers = {**HEADERS, "Authorization": f"{scheme} {secret}" if secret else ""}
        data = b"" if body is None else json.dumps(body).encode()
        connection.request(method, path, {**headers, "Content-Type": "application/json"}, data)
        return connection

    def connect(self, secret=ADMIN, **spawn):
        login = {"username": "u", "password": LOGIN}
        executable = {"image": "x", "env": {"PASSWORD": LOGIN}, "credentials": login}
        auth = {} if "use_static_token" in spawn else {"login": LOGIN}
        body = {"spawn_config": {"executable": executable, **spawn}, "auth": auth}
        answer = self.ask("POST", "/ctrl/connect", secret, body).answer
        if answer.status == 200:
            self.secrets |= {answer.json["token"], answer.json["secret_token"]} - {None}
            environment = self.world.engine.orders[answer.json["backend_id"]].environment
            told = [value for name, value in environment.items() if name.endswith(TOLD)]
            self.secrets |= set(told) - {""}
        return answer

    def visit(self, path, more=""):
        client = self.world.client()
        client.send(f"GET {path} HTTP/1.1\r\nHost: {CLUSTER}\r\n{more}\r\n".encode())
        return client

    def live(self, **spawn):
        """From a connect to the end, with all that can be done between."""
        made = self.connect(**spawn).json
        session = self.world.supervisor.get(made["backend_id"])
        self.world.make_ready(session)
        path = "/" + made["token"]
        visitor = self.visit(f"{path}/page", f"Cookie: {LOGIN}\r\n")
        upstream = self.world.accept()
        upstream.send(OK)
        upstream.hang_up()
        assert status(visitor.get()) == 200
        self.visit(f"{path}/x{path}/gone?token={made['token']}")
        self.world.decline()
        self.visit(f"{path}/wrong", "Content-Length: no\r\n")
        self.ask("GET", f"/ctrl/b/{session.id}", READER)
        self.ask("GET", f"/ctrl/b/{session.id}?token={made['token']}", READER)
        for astray in (path, f"/ctrl{path}/x", f"/ctrl/b{path}", f"/pub/b{path}/status"):
            self.ask("GET", astray)
        self.ask("POST", f"/ctrl/b{path}/soft-terminate")
        self.secrets.add(session.secret)
        self.ask("POST", f"/ctrl/b/{session.id}/keepalive", session.secret, {"seconds": 1})
        self.ask("POST", f"/ctrl/b/{session.id}/soft-terminate", session.secret)
        self.ask("POST", f"/ctrl/b/{session.id}/soft-terminate")
        assert status(self.visit(f"{path}/late").get()) == 410

    def refused(self):
        """Everything that does not succeed."""
        for secret in ("", READER, WRONG):
            self.connect(secret)
        for scheme, secret in (("Basic", b64encode(f":{ADMIN}".encode()).decode()), ("x", WRONG)):
            self.secrets.add(secret)
            self.ask("GET", "/ctrl/status", secret, scheme=scheme)
        self.connect(max_idle_seconds=LOGIN)
        self.ask("POST", "/ctrl/connect", body={"spawn_config": LOGIN, LOGIN: 1})
        self.ask("POST", "/ctrl/connect", body=[LOGIN])
        self.caller().send(f"GET /{WRONG} {ADMIN}\r\n\r\n".encode())
        self.visit(f"/{'x' * 43}/page", f"Authorization: Bearer {WRONG}\r\n")
        failing = self.connect().json["backend_id"]
        self.world.engine.refuse(failing, SpawnFailed("it broke"))
        self.world.engine.lose("the socket is gone")
        self.connect()

    def finish(self):
        for connection in self.callers:
            connection.hang_up()
        self.world.finish()


@pytest.fixture
def make_site():
    # Only here: klein, which this imports, installs the reactor.
    from plane_tx.control.site import make_site

    return make_site


@pytest.fixture
def journal(tmp_path):
    journal = Journal(tmp_path / "journal.sqlite3", maybeDeferred)
    journal.open(0)
    yield journal
    journal.close()


@pytest.fixture
def written():
    """Each event as it stands in a log of text and in one of JSON."""
    lines = []

    def write(event):
        lines.extend((eventAsText(event, includeTimestamp=False), eventAsJSON(event)))

    globalLogPublisher.addObserver(write)
    yield lines
    globalLogPublisher.removeObserver(write)


def opened_by(lines, secrets):
    """What was written that opens something: a secret, or more of it than its first characters."""
    return [(line, secret) for line in lines for secret in secrets if secret[:7] in line]


def test_no_secret_is_in_the_log_of_a_busy_server_with_keys(make_site, journal, written):
    lines = (f"admin:admin:{ADMIN}", f"reader:read:{READER}")
    keys = ApiKeys((line, parse_key(line)) for line in lines)
    busy = Busy(make_site, journal, Access(keys=keys))

    busy.live()
    busy.live(use_static_token=True)
    busy.refused()
    busy.finish()

    assert len(busy.secrets) >= 15
    assert len(written) >= 30
    assert opened_by(written, busy.secrets) == []


def test_no_secret_is_in_the_access_log_of_a_busy_server(make_site, journal, tmp_path):
    log = tmp_path / "access.log"
    keys = ApiKeys([(f"admin:admin:{ADMIN}", parse_key(f"admin:admin:{ADMIN}"))])
    busy = Busy(make_site, journal, Access(keys=keys), log)

    busy.live()
    busy.live(use_static_token=True)
    busy.refused()
    busy.finish()
    lines = log.read_text().splitlines()

    assert len(lines) == 9
    assert opened_by(lines, busy.secrets | {"x" * 43}) == []


def test_no_secret_is_in_the_log_of_a_busy_server_with_forward_auth(make_site, journal, written):
    world = World()
    service = AuthService(world.reactor)
    auth = ForwardAuth(world.reactor, service, f"http://auth/?{LOGIN}")
    busy = Busy(make_site, journal, Access(forward_auth=auth))

    for service.status in (200, 403):
        busy.ask("GET", "/ctrl/status")
        service.flush()
    auth.close()
    service.down = ConnectError(string="it is down")
    busy.ask("GET", "/ctrl/status")
    busy.finish()

    assert len(written) >= 4
    assert opened_by(written, busy.secrets) == []
