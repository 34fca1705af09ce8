"""What a session remembers of its last requests, whether there is an access log or not."""

import pytest

from plane_tx.core.use import REQUESTS_KEPT
from tests.proxy.frames import switched, upgrade
from tests.proxy.world import OK, World


@pytest.fixture
def world():
    world = World(idle_timeout_seconds=30.0)
    yield world
    world.finish()


def asked(world, path="/page?q=1", more="", method="GET"):
    """A ready session that was sent a request: client and upstream wires."""
    world.of, token = world.session(user="ann")
    client = world.client("203.0.113.9")
    client.send(world.get(token, path, more, method))
    return client, world.accept()


def ends(world):
    """How each request went: its status, who cut it short, and the failure."""
    return [(each.status, each.closed, each.error) for each in world.of.requests]


def test_a_request_is_remembered_when_its_reply_is_complete(world):
    client, upstream = asked(world, "/page?q=1", "Content-Length: 3\r\n", "POST")
    client.send(b"abc")
    world.wait(2)
    before = list(world.of.requests)

    upstream.send(b"HTTP/1.1 201 Made\r\nContent-Length: 2\r\n\r\nok")
    (told,) = world.of.requests

    assert before == []
    assert (told.method, told.visit.path, told.status) == (b"POST", "/page", 201)
    assert (told.visit.peer, told.visit.user) == ("203.0.113.9", "ann")
    assert (told.bytes_from_client, told.bytes_to_client) == (3, 2)
    assert told.ended - told.began == 2.0


def test_only_the_last_ones_are_remembered(world):
    client, upstream = asked(world, "/0")
    upstream.send(OK)

    for number in range(1, REQUESTS_KEPT + 5):
        client.send(world.get(world.token, f"/{number}"))
        upstream.send(OK)

    paths = [each.visit.path for each in world.of.requests]
    assert paths == [f"/{number}" for number in range(5, REQUESTS_KEPT + 5)]


def test_the_time_that_a_request_was_held_is_its_own(world):
    world.of, token = world.spawn()
    world.client().send(world.get(token))
    world.wait(5)
    world.make_ready(world.of)

    world.accept().send(OK)

    (told,) = world.of.requests
    assert told.ended - told.began == 5.0


def test_a_client_that_leaves_while_held_is_said_to_have(world):
    world.of, token = world.spawn()
    client = world.client()
    client.send(world.get(token))

    client.hang_up()

    assert ends(world) == [(None, "client", "")]


def test_a_session_that_hangs_up_without_a_word_is_said_to_have(world):
    _, upstream = asked(world)

    upstream.hang_up()
    world.wait(2)

    assert ends(world) == [(502, "session", "UpstreamUnreachable")]


def test_a_session_that_does_not_listen_is_said_to(world):
    world.of, token = world.session()
    world.client().send(world.get(token))

    world.decline()
    world.wait(2)

    assert ends(world) == [(502, "", "UpstreamUnreachable")]


def test_a_reply_that_we_broke_off_has_the_status_that_its_client_saw(world):
    _, upstream = asked(world)
    upstream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nla")

    world.wait(31)

    assert ends(world) == [(200, "proxy", "IdleTimeout")]


def test_a_client_that_leaves_in_the_middle_is_said_to_have(world):
    client, upstream = asked(world)
    upstream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nla")

    client.hang_up()

    assert ends(world) == [(200, "client", "")]


def test_an_upgrade_is_remembered_at_once(world):
    world.of, token = world.session()
    client = world.client()
    client.send(upgrade(f"/{token}/ws"))

    world.accept().send(switched())

    assert ends(world) == [(101, "", "")]
