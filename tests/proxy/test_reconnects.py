"""WebSockets that come back again and again, to sessions that do not take them, leave nothing."""

from __future__ import annotations

import json
import signal
import socket
import sys
from collections import Counter
from urllib.parse import urlsplit

import pytest

from plane_tx.core.errors import SpawnFailed
from plane_tx.supervisor import CONFIRM_SECONDS
from tests.live import ask, live_server, until
from tests.proxy.bulk import read_head
from tests.proxy.bulk_session import MIB, Memory
from tests.proxy.census import census
from tests.proxy.frames import CLOSE, TEXT, frame, read, switched, upgrade
from tests.proxy.test_storm import RESET, open_now
from tests.proxy.world import body_of, status

#: How long after its connection was lost a session may still say that it has ended.
LOST = CONFIRM_SECONDS + 0.5

#: How often each kind comes back in memory, and how many do so at once.
ROUNDS = 100
TOGETHER = 3

# --- in memory, with a clock of our own ---------------------------------------------------------


class Clients:
    """Clients that want a WebSocket of one session, and what they were told."""

    def __init__(self, world, token):
        self.world = world
        self.ask = upgrade(f"/{token}/ws")
        self.told = set()

    def come(self):
        """So many at once ask for an upgrade."""
        clients = [self.world.client() for _ in range(TOGETHER)]
        for client in clients:
            client.send(self.ask)
        return clients

    def hear(self, clients):
        """All read what they are told, and leave, each in its way."""
        self.told |= {status(client.get()) for client in clients}
        self.leave(clients)

    def leave(self, clients):
        for client, leave in zip(clients, ("hang_up", "reset", "half_close"), strict=True):
            if not client.lost:
                getattr(client, leave)()
        self.world.wait(1)


class Upstreams:
    """The connections that a session has accepted, of which some are used again."""

    def __init__(self, world):
        self.world = world
        self.open = []

    def asked(self):
        """Those on which something was asked that nobody has answered."""
        while self.world.dialled:
            self.open.append(self.world.accept())
        self.open = [upstream for upstream in self.open if not upstream.lost]
        return [upstream for upstream in self.open if upstream.get()]


def on_a_ready_session(answer):
    """A kind whose session lives, and answers each upgrade in this way."""

    def kind(world):
        _, token = world.session()
        clients, upstreams = Clients(world, token), Upstreams(world)

        def again():
            came = clients.come()
            for upstream in upstreams.asked():
                answer(upstream)
            world.wait(LOST)
            clients.hear(came)

        return again, clients.told

    return kind


def unreachable(world):
    _, token = world.session()
    clients = Clients(world, token)

    def again():
        came = clients.come()
        while world.dialled:
            world.decline()
        world.wait(LOST)
        clients.hear(came)

    return again, clients.told


def hang_up(upstream):
    upstream.hang_up()


def cut_the_head(upstream):
    upstream.send(switched()[:30])
    upstream.reset()


def refuse_by(code, more=b""):
    reply = b"HTTP/1.1 %d No\r\n%sContent-Length: 2\r\n\r\nno" % (code, more)
    return lambda upstream: upstream.send(reply)


def accept_wrongly(upstream):
    upstream.send(switched(accept=b"another's key"))


def gone(world):
    session, token = world.session()
    world.end(session)
    clients = Clients(world, token)

    def again():
        clients.hear(clients.come())

    return again, clients.told


def given_up(world):
    _, token = world.spawn()
    clients = Clients(world, token)

    def again():
        clients.leave(clients.come())

    return again, clients.told


def booting(end):
    """A kind whose clients are held by a session that never gets ready, and ends in this way."""

    def kind(world):
        told = set()

        def again():
            session, token = world.spawn()
            clients = Clients(world, token)
            came = clients.come()
            left = clients.come()
            clients.leave(left)
            end(world, session)
            world.wait(LOST)
            clients.hear(came)
            told.update(clients.told)

        return again, told

    return kind


def fail(world, session):
    world.engine.refuse(session.id, SpawnFailed("no such image"))


def die(world, session):
    world.engine.run(session.id)
    world.end(session)
    world.decline()  # the probe that was under way


def killed(world):
    """A session is killed under its open WebSockets, and each client comes back at once."""
    told = set()

    def again():
        session, token = world.session()
        clients = Clients(world, token)
        opened = clients.come()
        for _ in opened:
            upstream = world.accept()
            upstream.send(switched() + frame(TEXT, b"hello"))
        world.end(session)
        told.update(each for client in opened for each in said(client.get()))
        came = clients.come()
        clients.leave(opened)
        clients.hear(came)
        told.update(clients.told)

    return again, told


def said(answer):
    """What frames there were behind a handshake."""
    return read(body_of(answer))


KINDS = {
    "refuses TCP": (unreachable, {502}),
    "hangs up": (on_a_ready_session(hang_up), {502}),
    "is reset within its head": (on_a_ready_session(cut_the_head), {502}),
    "answers 401": (on_a_ready_session(refuse_by(401)), {401}),
    "answers 404 and hangs up": (
        on_a_ready_session(refuse_by(404, b"Connection: close\r\n")),
        {404},
    ),
    "answers 503": (on_a_ready_session(refuse_by(503)), {503}),
    "answers another's key": (on_a_ready_session(accept_wrongly), {502}),
    "is gone": (gone, {410}),
    "boots for longer than anyone waits": (given_up, set()),
    "fails to start": (booting(fail), {410}),
    "dies while it boots": (booting(die), {410}),
    "is killed": (killed, {(TEXT, b"hello"), (CLOSE, b"\x03\xe9exited"), 410}),
}


def alive(world):
    """What is alive when all have left; what the test itself holds of the past is dropped."""
    world.wait(90)
    world.wires.clear()
    world.reactor.tcpClients.clear()
    world.reactor.connectors.clear()
    world._dials = 0
    return census() + Counter(timers=len(world.reactor.getDelayedCalls()))


@pytest.mark.parametrize(("kind", "answers"), KINDS.values(), ids=KINDS)
def test_clients_come_back_in_vain_and_nothing_of_it_stays(world, kind, answers):
    again, told = kind(world)
    for _ in range(3):
        again()
    before = alive(world)

    for _ in range(ROUNDS):
        again()
    after = alive(world)

    assert told == answers
    # Less may be alive: Twisted keeps the last events that were logged, and with them what other
    # tests made.
    assert after - before == Counter()
    assert world.uses() == []
    assert world.factory.connections == set()
    assert len(world.factory.pool) == len(world.factory.relays) == 0


# --- a real server on real sockets --------------------------------------------------------------

CONF = """
[engine]
kind = "process"
[apps.turning]
command = ["{python}", "-m", "tests.proxy.turning_away"]
workdir = "."
[apps.never]
command = ["sleep", "3600"]
"""

#: How many come back at once, how often.
BATCH = 150
BATCHES = 3


class Soak:
    """A server that is watched, and sessions of it that take no upgrade, each in its way."""

    def __init__(self, server, place):
        self.server = server
        self.place = place
        self.reconnects = 0
        self.told = {}
        self.ids = {}
        self.paths = {
            "refusing": self.start("refusing", "turning"),
            "hanging up": self.start("hanging up", "turning"),
            "deaf": self.start("deaf", "turning"),
            "gone": self.start("gone", "turning"),
            "booting": self.start("booting", "never"),
        }
        ask("GET", self.url("deaf", "deaf"))
        self.end("gone")

    def start(self, name, app):
        made = self.server.connect(app)
        self.ids[name] = made["backend_id"]
        if app == "turning":
            self.server.wait_for(made["backend_id"], "ready")
        return urlsplit(made["url"]).path

    def end(self, name):
        ask("POST", f"{self.server.control}/ctrl/b/{self.ids[name]}/hard-terminate?wait=10")

    def url(self, name, what):
        return f"http://{self.server.cluster}{self.paths[name]}{what}"

    def come(self, name, what):
        """So many at once ask for an upgrade."""
        ends = []
        for _ in range(BATCH):
            end = socket.create_connection(("127.0.0.1", self.server.proxy_port), 60)
            end.sendall(upgrade(f"{self.paths[name]}{what}", self.server.cluster))
            ends.append(end)
        self.reconnects += BATCH
        return ends

    def hear(self, name, ends):
        self.told.setdefault(name, set()).update(status(read_head(end)[0]) for end in ends)

    def leave(self, ends):
        """One half say so, the other half are just gone."""
        for number, end in enumerate(ends):
            if number % 2:
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            end.close()

    def in_vain(self, name, what):
        ends = self.come(name, what)
        self.hear(name, ends)
        self.leave(ends)

    def round(self):
        """One batch to each of them."""
        for what in ("401", "404", "503"):
            self.in_vain("refusing", what)
        for name, what in (("hanging up", "hangup"), ("deaf", "x"), ("gone", "x")):
            self.in_vain(name, what)
        self.leave(self.come("booting", "x"))

    def killed(self):
        """Some have a WebSocket, others wait for one, when both sessions are killed at once."""
        self.paths["open"] = self.start("open", "turning")
        self.paths["dying"] = self.start("dying", "never")
        opened, held = self.come("open", "101"), self.come("dying", "x")
        self.hear("open", opened)
        self.end("open")
        self.end("dying")
        for end in opened:
            assert end.recv(100).startswith(b"\x88")  # a Close frame
        self.in_vain("open", "101")
        self.hear("dying", held)
        self.leave(opened + held)

    def settled(self):
        """When all is quiet: what is alive in the server, and its descriptors."""
        until(lambda: open_now(self.server) == [0, 0])
        self.place.unlink(missing_ok=True)
        self.server.process.send_signal(signal.SIGUSR2)
        until(self.place.exists)
        return Counter(json.loads(self.place.read_text())), self.server.open_files()


@pytest.fixture
def soak(tmp_path, monkeypatch):
    place = tmp_path / "census.json"
    monkeypatch.setenv("CENSUS", str(place))
    program = [sys.executable, "-m", "tests.proxy.census"]
    with live_server(tmp_path, CONF, program=program) as server:
        yield Soak(server, place)


def test_thousands_of_reconnects_on_real_sockets_leave_nothing(soak):
    soak.round()
    soak.killed()
    before, files = soak.settled()
    memory = Memory(soak.server)

    for _ in range(BATCHES):
        soak.round()
    soak.killed()
    after, files_after = soak.settled()
    uses = [soak.server.session(name)["connection_count"] for name in soak.ids.values()]

    assert soak.reconnects > 5000
    assert soak.told == {
        "refusing": {401, 404, 503},
        "hanging up": {502},
        "deaf": {502},
        "gone": {410},
        "open": {101, 410},
        "dying": {410},
    }
    assert after - before == Counter()
    assert files_after <= files
    assert uses == [0] * len(uses)
    assert memory.grown() < 2 * MIB
