"""An upgrade to something other than websocket, in memory: bytes, ends, and what is left."""

import attrs
import pytest
from twisted.internet.defer import ensureDeferred

from plane_tx.proxy.connection import FLUSH_SECONDS
from plane_tx.proxy.upstream import DRAIN_SECONDS, STALL_SECONDS
from tests.proxy.world import CLUSTER, OK, body_of, head_of, status

SWITCHED = b"HTTP/1.1 101 Switching\r\nUpgrade: echo\r\nConnection: Upgrade\r\nX-Own: 1\r\n\r\n"


def offer(target, more="", protocols="echo", method="GET"):
    return (
        f"{method} {target} HTTP/1.1\r\nHost: {CLUSTER}\r\nConnection: keep-alive, Upgrade\r\n"
        f"Upgrade: {protocols}\r\n{more}\r\n"
    ).encode()


def offered(world, more="", **how):
    """A ready session that was offered an upgrade: session, client and upstream."""
    session, token = world.session()
    client = world.client()
    client.send(offer(f"/{token}/raw", more, **how))
    return session, client, world.accept()


def opened(world, *, secure=False):
    session, token = world.session()
    client = world.client(secure=secure)
    client.send(offer(f"/{token}/raw"))
    upstream = world.accept()
    upstream.get()
    upstream.send(SWITCHED)
    client.get()
    return session, client, upstream


def test_an_offer_and_its_acceptance_pass(world):
    session, client, upstream = offered(world, protocols="h2c, Echo/1, other", method="POST")

    asked = upstream.get()
    upstream.send(SWITCHED.replace(b"echo", b"Echo/1"))
    answer = client.get()

    assert asked.startswith(b"POST /raw HTTP/1.1\r\n")
    assert head_of(asked)["connection"] == "Upgrade"
    assert head_of(asked)["upgrade"] == "Echo/1, other"
    assert head_of(asked)["x-verified-backend"] == session.id
    assert answer.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
    assert head_of(answer)["connection"] == "Upgrade"
    assert head_of(answer)["upgrade"] == "Echo/1"
    assert head_of(answer)["x-own"] == "1"
    assert head_of(answer)["x-plane-backend-id"] == session.id


def test_bytes_pass_unchanged_both_ways(world):
    _, client, upstream = opened(world)

    client.send(b"GET / HTTP/1.1\r\n\x00\xff")
    upstream.send(b"\x81\x00HTTP/1.1 500")

    assert upstream.get() == b"GET / HTTP/1.1\r\n\x00\xff"
    assert client.get() == b"\x81\x00HTTP/1.1 500"


def test_what_comes_with_the_heads_is_not_lost(world):
    _, token = world.session()
    client = world.client()

    client.send(offer(f"/{token}/") + b"early")
    client.send(b" bird")
    upstream = world.accept()
    before = body_of(upstream.get())
    upstream.send(SWITCHED + b"worm")

    assert before == b""
    assert upstream.get() == b"early bird"
    assert body_of(client.get()) == b"worm"


def test_an_offer_to_a_session_that_boots_is_held(world):
    session, token = world.spawn()
    client = world.client()

    client.send(offer(f"/{token}/"))
    held = world.uses()
    world.make_ready(session)
    world.accept().send(SWITCHED)

    assert held == ["hold"]
    assert status(client.get()) == 101


def test_a_refused_offer_is_an_ordinary_reply(world):
    _, client, upstream = offered(world)

    upstream.send(b"HTTP/1.1 426 No\r\nContent-Length: 4\r\n\r\nnope")
    answer = client.get()

    assert status(answer) == 426
    assert body_of(answer) == b"nope"
    assert client.half_closed
    assert world.uses() == []


@pytest.mark.parametrize(
    "reply",
    [
        SWITCHED.replace(b"echo", b"other"),
        SWITCHED.replace(b"Upgrade: echo", b"Upgrade: h2c"),
        SWITCHED.replace(b"Upgrade: echo\r\n", b""),
        SWITCHED.replace(b"Upgrade: echo", b"Upgrade: echo\r\nUpgrade: echo"),
        SWITCHED.replace(b"Connection: Upgrade", b"Connection: close"),
        SWITCHED.replace(b"X-Own: 1", b"Content-Length: 1"),
        SWITCHED.replace(b"X-Own: 1", b"Transfer-Encoding: chunked"),
    ],
)
def test_an_offer_that_is_taken_up_wrongly_is_502(world, reply):
    _, client, upstream = offered(world, protocols="echo, h2c")

    upstream.send(reply)
    world.wait(4)
    answer = client.get()

    assert status(answer) == 502
    assert upstream.lost
    assert client.lost
    assert world.uses() == []


@pytest.mark.parametrize("more", ["", "Content-Length: 4\r\n", "HTTP2-Settings: AAMAAABk\r\n"])
def test_h2c_is_not_offered_to_the_session(world, more):
    _, client, upstream = offered(world, more, protocols="h2c", method="POST")

    client.send(b"body" if "Length" in more else b"")
    asked = upstream.get()
    upstream.send(OK)

    assert not {"upgrade", "connection", "http2-settings"} & set(head_of(asked))
    assert body_of(asked) == (b"body" if "Length" in more else b"")
    assert body_of(client.get()) == b"ok"
    assert not client.half_closed


def test_an_offer_with_a_body_is_an_ordinary_request(world):
    _, client, upstream = offered(world, "Content-Length: 4\r\n", method="POST")

    client.send(b"body")
    asked = upstream.get()

    assert "upgrade" not in head_of(asked)
    assert body_of(asked) == b"body"


# Use


def test_a_tunnel_is_in_use_from_its_head_to_its_end(world):
    session, client, upstream = offered(world)
    kinds = [world.uses()]

    upstream.send(SWITCHED)
    kinds.append(world.uses())
    world.wait(1000)
    kinds.append(world.uses())
    client.half_close()
    kinds.append(world.uses())
    upstream.half_close()
    kinds.append(world.uses())

    assert kinds == [["request"], ["websocket"], ["websocket"], ["websocket"], []]
    assert session.idle_since == world.reactor.seconds()


# Pace


def test_the_slow_side_pauses_the_other(world):
    _, client, upstream = opened(world)

    client.fill()
    upstream.fill()
    paused = (client.paused, upstream.paused)
    client.drain()
    upstream.drain()

    assert paused == (True, True)
    assert (client.paused, upstream.paused) == (False, False)


def test_a_side_that_has_said_its_last_is_not_read_from_again(world):
    _, client, upstream = opened(world)
    client.half_close()

    upstream.send(b"x")
    client.fill()
    held_back = upstream.paused
    client.drain()

    assert held_back
    assert not upstream.paused


def test_a_session_that_takes_nothing_for_minutes_loses_its_tunnel(world):
    _, client, upstream = opened(world)

    upstream.fill()
    world.wait(STALL_SECONDS + 1)

    assert upstream.aborted
    assert client.aborted
    assert world.uses() == []


# Ends


def test_the_last_byte_of_the_client_passes_and_the_session_may_go_on(world):
    _, client, upstream = opened(world)

    client.send(b"ask")
    client.half_close()
    ended = (upstream.half_closed, upstream.closing, client.closing)
    upstream.send(b"reply")
    upstream.half_close()
    world.advance(0)

    assert ended == (True, False, False)
    assert upstream.get() == b"ask"
    assert client.get() == b"reply"
    assert (client.lost, upstream.lost) == (True, True)
    assert (client.aborted, upstream.aborted) == (False, False)


def test_the_last_byte_of_the_session_passes_and_the_client_may_go_on(world):
    _, client, upstream = opened(world)

    upstream.half_close()
    ended = (client.half_closed, client.closing, upstream.closing)
    client.send(b"late")
    client.half_close()
    world.advance(0)

    assert ended == (True, False, False)
    assert upstream.get() == b"late"
    assert (client.lost, upstream.lost) == (True, True)


def test_over_tls_there_is_no_half_of_an_end(world):
    _, client, upstream = opened(world, secure=True)

    upstream.half_close()
    world.advance(0)

    assert not client.half_closed
    assert client.lost
    assert upstream.lost


def test_a_tls_client_that_leaves_ends_the_session_s_side(world):
    _, client, upstream = opened(world, secure=True)

    client.hang_up()
    world.advance(0)

    assert upstream.lost
    assert not upstream.aborted


@pytest.mark.parametrize("which", [0, 1])
def test_a_reset_passes_as_a_reset(world, which):
    _, *sides = opened(world)

    sides[which].reset()

    assert sides[1 - which].aborted
    assert world.uses() == []


def test_what_an_ended_session_said_still_passes(world):
    session, client, upstream = opened(world)
    world.end(session)

    for _ in range(10):
        world.wait(DRAIN_SECONDS)
        upstream.send(b"x")
    said = client.get()
    upstream.half_close()
    client.half_close()
    world.advance(0)

    assert said == b"x" * 10
    assert (client.closing, client.aborted) == (True, False)
    assert world.uses() == []


def test_a_client_that_does_not_keep_up_gets_what_an_ended_session_said(world):
    session, client, upstream = opened(world)
    client.fill()

    world.end(session)
    world.wait(10 * DRAIN_SECONDS)
    waited = (client.aborted, upstream.aborted)
    client.drain()
    upstream.send(b"last")

    assert waited == (False, False)
    assert client.get() == b"last"


def test_the_silent_tunnel_of_an_ended_session_is_seen_to_be_cut(world):
    session, client, upstream = opened(world)

    world.end(session)
    world.wait(2 * DRAIN_SECONDS + 1)

    assert upstream.aborted
    assert client.aborted
    assert world.uses() == []


def test_a_client_that_was_sent_the_last_byte_of_an_ended_session_is_not_reset(world):
    session, client, upstream = opened(world)
    upstream.half_close()

    world.end(session)
    world.wait(2 * DRAIN_SECONDS + 1)

    assert upstream.aborted
    assert (client.closing, client.aborted) == (True, False)


def test_a_revoked_token_cuts_its_tunnels_and_no_others(world):
    sessions, sides = [], []
    for user in ("ann", "ben"):
        session, token = world.session(user=user)
        client = world.client()
        client.send(offer(f"/{token}/raw"))
        world.accept().send(SWITCHED)
        sessions.append(session)
        sides.append((client, world.wires[-1]))

    world.supervisor.revoke(sessions[0].id, "ann")
    world.advance(0)

    assert [[wire.aborted for wire in pair] for pair in sides] == [[True, True], [False, False]]
    assert [[wire.lost for wire in pair] for pair in sides] == [[True, True], [False, False]]
    assert world.uses() == ["websocket"]


def test_the_bytes_of_a_tunnel_are_counted(world):
    session, client, upstream = opened(world)
    (use,) = session.uses

    client.send(b"12345")
    upstream.send(b"123")

    assert attrs.astuple(session.traffic)[1:3] == (5, 3)
    assert use.last_data == world.reactor.seconds()


def test_neither_side_can_keep_a_tunnel_that_is_over(world):
    _, client, upstream = opened(world)
    client.stuck = upstream.stuck = True

    client.half_close()
    upstream.half_close()
    world.wait(FLUSH_SECONDS + 1)

    assert client.aborted
    assert upstream.aborted


def test_a_stopping_server_cuts_tunnels_at_once(world):
    _, client, upstream = opened(world)

    closing = ensureDeferred(world.factory.close())
    world.advance(0)

    assert closing.called
    assert client.lost
    assert upstream.lost


def test_an_upgrade_that_is_taken_up_while_the_server_stops_ends_at_once(world):
    _, client, upstream = offered(world)
    closing = ensureDeferred(world.factory.close())

    upstream.send(SWITCHED)
    world.advance(0)

    assert closing.called
    assert status(client.get()) == 101
    assert client.lost
