"""Clients that dribble, vanish or come all at once leave nothing behind."""

from __future__ import annotations

import contextlib
import random
import re
import socket
import struct

import pytest

from plane_tx.proxy.connection import HEAD_SECONDS, LINGER_SECONDS
from plane_tx.proxy.joined import HALF_OPEN_SECONDS
from tests.live import ask, live_server, until
from tests.proxy.bulk_session import CONF, Session
from tests.proxy.frames import TEXT, frame, switched, upgrade
from tests.proxy.world import CLUSTER, head_of, status

DRIBBLERS = 200
CLIENTS = 500

#: Makes a close a reset.
RESET = struct.pack("ii", 1, 0)

HEAD = f"GET /@@/x HTTP/1.1\r\nHost: {CLUSTER}\r\nX-Mine: {'a' * 200}\r\n\r\n".encode()
UPLOAD = f"POST /@@/x HTTP/1.1\r\nHost: {CLUSTER}\r\nContent-Length: 100\r\n\r\n".encode() + bytes(
    50
)
RAW = (
    f"GET /@@/x HTTP/1.1\r\nHost: {CLUSTER}\r\nConnection: Upgrade\r\nUpgrade: raw\r\n\r\n"
).encode() + b"hello"
SOCKET = upgrade("/@@/x") + frame(TEXT, b"hello", masked=True)
REPLY = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + bytes(50)
SWITCHED = {
    "raw": b"HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: raw\r\n\r\nhello",
    "websocket": switched() + frame(TEXT, b"hello"),
}


def test_two_hundred_dribbled_heads_are_408_after_their_time_and_leave_nothing(world):
    world.session()
    before = world.reactor.getDelayedCalls()
    clients = [world.client() for _ in range(DRIBBLERS)]

    for turn in range(int(HEAD_SECONDS) - 1):
        for number, client in enumerate(clients):
            if turn % 3 == number % 3:
                client.send(HEAD[turn // 3 : turn // 3 + 1])
        world.advance(1)
    early = [client.get() for client in clients]
    world.wait(4)
    statuses = [status(client.get()) for client in clients]
    world.wait(LINGER_SECONDS + 1)

    assert early == [b""] * DRIBBLERS
    assert statuses == [408] * DRIBBLERS
    assert all(client.lost for client in clients)
    assert world.factory.connections == set()
    assert world.reactor.getDelayedCalls() == before


class Storm:
    """Clients and sessions' servers that do at random what they may, and vanish at random."""

    def __init__(self, world, seed):
        self.world = world
        self.dice = random.Random(seed)
        self.booting, waiting_token = world.spawn()
        _, token = world.session()
        self.tokens = [token, token, waiting_token]
        self.unsaid = {}
        self.upstreams = []
        self.full = set()
        self.arrived = 0

    def rage(self):
        actions = [self.arrive, self.speak, self.speak, self.answer, self.answer]
        actions += [self.vanish, self.fall, self.fill, self.drain]
        while self.arrived < CLIENTS:
            self.dice.choice(actions)()
            self.world.advance(self.dice.random() / 10)
            if self.arrived == CLIENTS // 2 and self.booting is not None:
                self.accept()
                self.world.make_ready(self.booting)
                self.booting = None
        for client in self.unsaid:
            self.dice.choice([client.hang_up, client.reset])()

    def arrive(self):
        self.arrived += 1
        token = self.dice.choice(self.tokens)
        said = self.dice.choice([HEAD, HEAD * 3, UPLOAD, RAW, SOCKET])
        self.unsaid[self.world.client()] = said.replace(b"@@", token.encode())

    def speak(self):
        client = self.one_of(self.unsaid)
        if client is not None and not client.paused:
            said = self.unsaid[client]
            size = self.dice.choice([len(said), self.dice.randint(0, len(said))])
            client.send(said[:size])
            self.unsaid[client] = said[size:]

    def answer(self):
        self.accept()
        upstream = self.one_of(self.upstreams)
        if upstream is not None and not upstream.paused:
            asked = upstream.get()
            reply = SWITCHED.get(head_of(asked).get("upgrade"), REPLY)
            upstream.send(reply[: self.dice.choice([len(reply), self.dice.randint(0, len(reply))])])

    def accept(self):
        while self.world.dialled:
            if self.world.withdrawn or self.dice.random() < 0.1:
                self.world.decline()
            else:
                self.upstreams.append(self.world.accept())

    def vanish(self):
        client = self.one_of(self.unsaid)
        if client is not None:
            del self.unsaid[client]
            self.dice.choice([client.hang_up, client.reset, client.half_close])()

    def fall(self):
        upstream = self.one_of(self.upstreams)
        if upstream is not None:
            self.upstreams.remove(upstream)
            self.dice.choice([upstream.hang_up, upstream.reset, upstream.half_close])()

    def fill(self):
        wire = self.one_of([*self.unsaid, *self.upstreams])
        if wire is not None and wire.producer is not None and wire not in self.full:
            self.full.add(wire)
            wire.fill()

    def drain(self):
        wire = self.one_of(self.full)
        if wire is not None:
            self.full.remove(wire)
            if wire.producer is not None:
                wire.drain()

    def one_of(self, wires):
        """One that is not lost, if there is any."""
        open_now = [wire for wire in wires if not wire.lost]
        return self.dice.choice(open_now) if open_now else None


@pytest.mark.parametrize("seed", range(10))
def test_five_hundred_clients_that_vanish_anywhere_leave_nothing(world, seed):
    storm = Storm(world, seed)

    storm.rage()
    world.wait(2 * HALF_OPEN_SECONDS)

    assert world.supervisor.registry.traffic.requests > CLIENTS / 3
    assert world.uses() == []
    assert world.factory.connections == set()
    assert len(world.factory.pool) == len(world.factory.relays) == 0


def vanish(session, dice):
    """Ask for something as far as it comes, hear as much of the answer as comes, and be gone."""
    asked = [
        session.head("GET down/3000000"),
        session.head("GET x") * 3,
        session.head("GET slow"),
        session.head("POST stuck", "Content-Length: 3000000\r\n") + bytes(100_000),
        session.head("GET down/3000000", "Connection: Upgrade\r\nUpgrade: raw\r\n"),
    ]
    said = dice.choice(asked)
    with session.open() as end:
        end.sendall(said[: dice.choice([len(said), dice.randint(0, len(said))])])
        end.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            end.recv(dice.randint(1, 100_000))
        if dice.random() < 0.5:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)


def open_now(server):
    """How many connections there are on both sides of the proxy."""
    told = ask("GET", f"{server.control}/metrics").body.decode()
    return [float(count) for count in re.findall(r"\nplane_tx_connections{.*} (.*)", told)]


def test_clients_that_vanish_on_real_sockets_leave_nothing(tmp_path):
    dice = random.Random(1)
    with live_server(tmp_path, CONF) as server:
        session = Session(server)

        for _ in range(CLIENTS // 2):
            vanish(session, dice)
        until(lambda: open_now(server) == [0, 0])
        told = server.session(session.id)

        assert told["connection_count"] == 0
        assert told["traffic"]["requests"] > 50
