"""What is idle for too long, and half-closed clients that nobody would miss, in memory."""

import json
import select
import socket
import struct
from contextlib import contextmanager

import pytest

from plane_tx.proxy.connection import FLUSH_SECONDS
from plane_tx.proxy.watch import HALF_CLOSED_SECONDS
from tests.proxy.frames import switched, upgrade
from tests.proxy.world import OK, World, body_of, head_of, status

IDLE = 30.0


@pytest.fixture
def impatient():
    """A proxy that ends what is idle."""
    world = World(idle_timeout_seconds=IDLE)
    yield world
    world.finish()


def test_a_request_without_a_byte_is_504_after_a_while(impatient):
    world = impatient
    session, token = world.session()
    client = world.client()
    client.send(world.get(token))
    upstream = world.accept()

    world.wait(IDLE - 1)
    before = client.get()
    world.wait(1)
    answer = client.get()

    assert before == b""
    assert status(answer) == 504
    assert json.loads(body_of(answer))["kind"] == "IdleTimeout"
    assert "connection" not in head_of(answer)
    assert upstream.aborted
    assert session.uses == set()


@pytest.mark.parametrize("reply", [b"Content-Length: 9\r\n\r\n", b"\r\n", b"\r\nla"])
def test_a_reply_that_stops_is_cut_a_while_after_its_last_byte(impatient, reply):
    world = impatient
    session, token = world.session()
    client = world.client()
    client.send(world.get(token))
    upstream = world.accept()
    world.wait(IDLE - 1)
    upstream.send(b"HTTP/1.1 200 OK\r\n" + reply)

    world.wait(IDLE - 1)
    before = client.lost
    world.wait(1.25)

    assert (before, client.lost) == (False, True)
    assert upstream.aborted
    assert session.uses == set()


def test_bytes_of_an_upload_count_too(impatient):
    world = impatient
    _, token = world.session()
    client = world.client()
    client.send(world.get(token, "/", "Content-Length: 100\r\n", "POST"))
    upstream = world.accept()

    for _ in range(5):
        world.wait(IDLE - 1)
        client.send(b"x")
    world.wait(IDLE - 1)
    before = client.get()
    world.wait(1)

    assert before == b""
    assert status(client.get()) == 504
    assert upstream.aborted


def test_a_slow_reader_that_catches_up_is_not_idle(impatient):
    world = impatient
    _, token = world.session()
    client = world.client()
    client.send(world.get(token))
    upstream = world.accept()
    upstream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nla")

    client.fill()
    world.wait(IDLE - 1)
    client.drain()
    world.wait(IDLE - 1)
    upstream.send(b"la")

    assert body_of(client.get()) == b"lala"


def test_a_hold_has_its_own_time(impatient):
    world = impatient
    session, token = world.spawn()
    client = world.client()
    client.send(world.get(token))

    world.wait(IDLE - 1)
    world.make_ready(session)
    upstream = world.accept()
    world.wait(IDLE - 1)
    upstream.send(OK)

    assert body_of(client.get()) == b"ok"


def test_the_time_of_one_request_is_not_that_of_the_next(impatient):
    world = impatient
    _, token = world.session()
    client = world.client()
    answers = []

    for _ in range(3):
        client.send(world.get(token))
        upstream = world.accept()
        world.wait(IDLE - 1)
        upstream.send(OK)
        answers.append(status(client.get()))
        world.wait(5)

    assert answers == [200, 200, 200]


def test_the_last_bytes_of_a_tunnel_that_has_ended_have_a_time_of_their_own():
    world = World(idle_timeout_seconds=5.0)
    _, token = world.session()
    client = world.client()
    client.send(world.get(token, more="Connection: Upgrade\r\nUpgrade: raw\r\n"))
    upstream = world.accept()
    upstream.send(b"HTTP/1.1 101 Go\r\nConnection: Upgrade\r\nUpgrade: raw\r\n\r\nhello")
    client.stuck = True

    upstream.hang_up()
    world.wait(10)
    waiting = not client.aborted
    world.wait(FLUSH_SECONDS)

    assert (waiting, client.aborted) == (True, True)
    world.finish()


def test_a_slow_reader_of_a_tunnel_that_catches_up_is_not_idle(impatient):
    world = impatient
    _, token = world.session()
    client = world.client()
    client.send(world.get(token, more="Connection: Upgrade\r\nUpgrade: raw\r\n"))
    world.accept().send(b"HTTP/1.1 101 Go\r\nConnection: Upgrade\r\nUpgrade: raw\r\n\r\nhello")
    client.fill()
    world.wait(IDLE - 1)
    client.drain()

    world.wait(IDLE - 1)

    assert not client.lost


def test_a_tunnel_on_which_nothing_passes_is_cut_but_no_websocket(impatient):
    world = impatient
    _, token = world.session()
    tunnel, websocket = world.client(), world.client()
    tunnel.send(world.get(token, more="Connection: Upgrade\r\nUpgrade: raw\r\n"))
    world.accept().send(b"HTTP/1.1 101 Go\r\nConnection: Upgrade\r\nUpgrade: raw\r\n\r\nhello")
    websocket.send(upgrade(f"/{token}/"))
    world.accept().send(switched())
    world.wait(IDLE - 1)
    tunnel.send(b"more")

    world.wait(IDLE - 1)
    before = tunnel.lost
    world.wait(1)

    assert (before, tunnel.lost, websocket.lost) == (False, True, False)


def test_a_half_closed_client_that_was_cut_off_meanwhile_is_found_out(world):
    session, token = world.session()
    client = world.client()
    client.send(world.get(token, more="Connection: close\r\n"))
    upstream = world.accept()
    client.half_close()

    with failed_socket() as handle:
        world.wait(HALF_CLOSED_SECONDS)
        waiting = world.uses()
        client.getHandle = lambda: handle
        world.wait(HALF_CLOSED_SECONDS)

    assert waiting == ["request"]
    assert (client.aborted, upstream.aborted) == (True, True)
    assert session.uses == set()


def test_a_half_closed_client_of_a_unix_socket_that_has_gone_is_found_out(world):
    session, token = world.session()
    client = world.client()
    client.send(world.get(token, more="Connection: close\r\n"))
    world.accept()
    client.half_close()
    ours, theirs = socket.socketpair()

    with ours, theirs:
        client.getHandle = lambda: ours
        theirs.shutdown(socket.SHUT_WR)
        world.wait(HALF_CLOSED_SECONDS)
        waiting = world.uses()
        theirs.close()
        world.wait(HALF_CLOSED_SECONDS)

    assert waiting == ["request"]
    assert client.aborted
    assert session.uses == set()


@contextmanager
def failed_socket():
    """One whose other end is gone, which nobody has read off it yet."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        ours = socket.create_connection(server.getsockname())
        theirs, _ = server.accept()
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        theirs.close()
        select.select([ours], [], [])
        with ours:
            yield ours
