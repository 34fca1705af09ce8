"""The end of the proxy: who may go on, who hears what, and when all is over, in memory."""

import pytest
from twisted.internet.defer import ensureDeferred

from plane_tx.proxy.connection import LINGER_SECONDS
from tests.proxy.frames import CLOSE, read, switched, upgrade
from tests.proxy.world import OK, World, body_of, head_of, status

SHUTDOWN_SECONDS = 5.0


@pytest.fixture
def world():
    world = World(shutdown_seconds=SHUTDOWN_SECONDS)
    yield world
    world.finish()


def stopping(world):
    return ensureDeferred(world.factory.close())


def asked(world, more="", method="GET"):
    """A client that has asked for something, and the upstream that has it."""
    _, token = world.session()
    client = world.client()
    client.send(world.get(token, "/", more, method))
    upstream = world.accept()
    upstream.get()
    return client, upstream


def test_without_clients_the_end_comes_at_once(world):
    world.session()

    assert stopping(world).called
    assert world.reactor.getDelayedCalls() == []


def test_a_request_in_flight_is_answered_and_its_connection_closed(world):
    client, upstream = asked(world)

    closing = stopping(world)
    world.wait(SHUTDOWN_SECONDS - 1)
    waited = not closing.called
    upstream.send(OK)
    answer = client.get()
    world.wait(LINGER_SECONDS)

    assert waited
    assert status(answer) == 200
    assert head_of(answer)["connection"] == "close"
    assert body_of(answer) == b"ok"
    assert closing.called


def test_a_reply_whose_head_is_out_is_completed(world):
    client, upstream = asked(world)
    upstream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nla")

    closing = stopping(world)
    upstream.send(b"la")
    world.wait(LINGER_SECONDS)

    assert body_of(client.get()) == b"lala"
    assert client.half_closed
    assert closing.called


def test_a_body_that_is_still_coming_may_come(world):
    client, upstream = asked(world, "Content-Length: 8\r\n", "POST")
    client.send(b"half")

    stopping(world)
    client.send(b"half")
    upstream.send(OK)

    assert upstream.get() == b"halfhalf"
    assert status(client.get()) == 200


def test_a_request_behind_one_in_flight_is_not_begun(world):
    client, upstream = asked(world)
    client.send(world.get(world.token, "/second"))

    stopping(world)
    upstream.send(OK)

    assert client.get().count(b"HTTP/1.1 ") == 1
    assert upstream.get() == b""
    assert client.half_closed


def test_idle_connections_are_dropped_at_once(world):
    client, upstream = asked(world)
    upstream.send(OK)
    fresh = world.client()

    closing = stopping(world)
    world.advance(0)

    assert closing.called
    assert (client.lost, fresh.lost) == (True, True)


def test_a_head_that_is_still_coming_is_503(world):
    client = world.client()
    client.send(b"GET / HTTP/1.1\r\n")

    stopping(world)

    assert status(client.get()) == 503
    assert client.half_closed


def test_a_held_request_is_503_at_once(world):
    _, token = world.spawn()
    client = world.client()
    client.send(world.get(token))

    stopping(world)
    answer = client.get()

    assert status(answer) == 503
    assert b"the server is stopping" in answer
    assert "retry-after" in head_of(answer)


def test_a_websocket_is_told_at_once(world):
    _, token = world.session()
    browser = world.client()
    browser.send(upgrade(f"/{token}/"))
    world.accept().send(switched())
    browser.get()

    stopping(world)

    assert read(browser.get()) == [(CLOSE, b"\x03\xe9the server is stopping")]


def test_nobody_new_is_served(world):
    asked(world)

    stopping(world)

    assert world.factory.buildProtocol(None) is None


def test_a_request_that_takes_too_long_is_503_in_the_end(world):
    client, upstream = asked(world)

    closing = stopping(world)
    world.wait(SHUTDOWN_SECONDS)
    answer = client.get()
    world.wait(LINGER_SECONDS + 1)

    assert status(answer) == 503
    assert upstream.lost
    assert closing.called


@pytest.mark.parametrize("framing", [b"Content-Length: 4", b"Transfer-Encoding: chunked"])
def test_a_reply_that_takes_too_long_is_cut(world, framing):
    client, upstream = asked(world)
    upstream.send(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\n")

    closing = stopping(world)
    world.wait(SHUTDOWN_SECONDS)
    answer = client.get()
    world.advance(0)

    assert body_of(answer) == b""
    assert (client.lost, upstream.lost) == (True, True)
    assert closing.called


def test_a_client_that_does_not_read_cannot_stop_the_end(world):
    client, upstream = asked(world)
    upstream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nla")
    client.stuck = True

    closing = stopping(world)
    world.wait(SHUTDOWN_SECONDS + LINGER_SECONDS)
    world.advance(0)

    assert client.aborted
    assert closing.called


def test_last_words_on_their_way_are_not_cut_short(world):
    client, upstream = asked(world, "Connection: close\r\n")
    upstream.send(OK)

    closing = stopping(world)
    world.advance(0)
    before = (client.aborted, closing.called)
    world.wait(LINGER_SECONDS)

    assert before == (False, False)
    assert closing.called
    assert not client.aborted
