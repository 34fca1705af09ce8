"""What a page of another origin is told before it may send its request, in memory."""

import pytest

from plane_tx.core.model import Address
from tests.proxy.world import CLUSTER, OK, body_of, head_of, long_reply, status

MORE = "Origin: https://app.example\r\nAccess-Control-Request-Method: PUT\r\n"

OURS = {
    "access-control-allow-origin": "*",
    "access-control-allow-methods": "*",
    "access-control-allow-headers": "*, Authorization",
}


def preflight(world, **config):
    """A ready session that was sent one: client and upstream wires."""
    _, token = world.session(**config)
    client = world.client()
    client.send(world.get(token, "/api", MORE, "OPTIONS"))
    return client, world.accept()


def leave(answer):
    """What of CORS there is in an answer."""
    return {name: value for name, value in head_of(answer).items() if name.startswith("access-")}


@pytest.mark.parametrize("first", ["404 Not Found", "405 Method Not Allowed", "501 What"])
@pytest.mark.parametrize(
    "rest",
    [
        b"Content-Length: 6\r\nX-Secret: 1\r\n\r\nsecret",
        b"Content-Length: 0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n6\r\nsecret\r\n",
        b"\r\nsecret",
    ],
)
def test_a_session_that_knows_nothing_of_preflights_has_them_granted(world, first, rest):
    client, upstream = preflight(world)

    upstream.send(f"HTTP/1.1 {first}\r\n".encode() + rest)
    answer = client.get()

    assert status(answer) == 204
    assert leave(answer) == OURS
    assert body_of(answer) == b""
    assert b"ecret" not in answer
    assert not {"content-length", "transfer-encoding", "connection"} & set(head_of(answer))
    assert upstream.aborted
    assert world.uses() == []


def test_the_request_that_follows_comes_by_the_same_connection(world):
    client, upstream = preflight(world)
    upstream.send(b"HTTP/1.1 404 No\r\nContent-Length: 1000000\r\n\r\nsome")
    client.get()
    upstream.send(b"more")

    client.send(world.get(world.token, "/api", "Origin: https://app.example\r\n", "PUT"))
    world.accept().send(OK)
    answer = client.get()

    assert body_of(answer) == b"ok"
    assert leave(answer) == OURS


def test_a_long_refusal_that_came_before_is_no_part_of_the_leave(world):
    _, token = world.session()
    client, refusal = world.client(), long_reply(b"404 Not Found")
    client.send(world.get(token))
    upstream = world.accept()
    upstream.send(refusal)
    refused = client.get()

    client.send(world.get(token, "/api", MORE, "OPTIONS"))
    upstream.send(refusal)
    granted = client.get()

    assert (status(refused), status(granted)) == (404, 204)
    assert leave(granted) == OURS
    assert body_of(granted) == b""


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno",
        b"HTTP/1.1 404 No\r\nAccess-Control-Allow-Origin: x\r\nContent-Length: 2\r\n\r\nno",
    ],
)
def test_what_a_session_says_of_it_passes(world, reply):
    client, upstream = preflight(world)

    upstream.send(reply)
    answer = client.get()

    assert status(answer) == status(reply)
    assert body_of(answer) == body_of(reply)
    assert not upstream.aborted


def test_options_without_a_preflight_is_the_sessions_own(world):
    _, token = world.session()
    client = world.client()
    client.send(world.get(token, method="OPTIONS"))
    upstream = world.accept()

    upstream.send(b"HTTP/1.1 405 No\r\nContent-Length: 2\r\n\r\nno")

    assert status(client.get()) == 405


def test_interim_replies_come_before_the_leave(world):
    client, upstream = preflight(world)

    upstream.send(b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 404 No\r\n\r\n")
    answer = client.get()

    assert answer.startswith(b"HTTP/1.1 103 Early\r\n")
    assert b"\r\n\r\nHTTP/1.1 204 No Content\r\n" in answer


def test_one_whose_body_is_still_coming_is_the_last_request(world):
    _, token = world.session()
    client = world.client()
    client.send(world.get(token, "/", f"{MORE}Content-Length: 9\r\n", "OPTIONS") + b"some")

    world.accept().send(b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n")

    assert head_of(client.get())["connection"] == "close"
    assert client.half_closed


@pytest.mark.parametrize("path", [f"/{'x' * 43}/page", "/", "/nonsense"])
def test_one_that_we_would_refuse_is_granted(world, path):
    client = world.client()

    client.send(f"OPTIONS {path} HTTP/1.1\r\nHost: {CLUSTER}\r\n{MORE}\r\n".encode())
    answer = client.get()

    assert status(answer) == 204
    assert leave(answer) == OURS
    assert "content-length" not in head_of(answer)
    assert not client.half_closed


def test_one_to_a_session_that_has_ended_is_granted_and_the_request_is_told_why(world):
    session, token = world.session()
    world.end(session)
    client = world.client()

    client.send(world.get(token, "/", MORE, "OPTIONS"))
    asked = client.get()
    client.send(world.get(token, "/", "Origin: https://app.example\r\n", "PUT"))
    told = client.get()

    assert (status(asked), status(told)) == (204, 410)
    assert leave(told) == OURS


def test_one_to_a_session_that_does_not_answer_is_granted(world):
    session, token = world.session()
    client = world.client()
    client.send(world.get(token, "/", MORE, "OPTIONS"))

    world.decline()
    world.wait(2)
    answer = client.get()

    assert status(answer) == 204
    assert head_of(answer)["x-plane-backend-id"] == session.id


def test_one_that_is_held_too_long_is_granted(world):
    session, token = world.spawn()
    world.engine.run(session.id, Address("10.0.0.2", 8080))
    client = world.client()
    client.send(world.get(token, "/", MORE, "OPTIONS"))

    world.wait(31)

    assert status(client.get()) == 204
