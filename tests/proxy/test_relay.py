"""An open WebSocket between a browser and a session, in memory."""

import pytest
from twisted.internet.defer import ensureDeferred

from plane_tx.proxy.relay import CLOSE_SECONDS, FLUSH_SECONDS
from plane_tx.proxy.upstream import STALL_SECONDS
from plane_tx.supervisor import CONFIRM_SECONDS
from tests.proxy.frames import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    TEXT,
    accept_of,
    close,
    frame,
    read,
    switched,
    upgrade,
)
from tests.proxy.world import OK, World, body_of, head_of, status

PING_SECONDS = 30.0
LOST = CONFIRM_SECONDS + 0.5


def offered(world, more="", **key):
    """A ready session that was offered an upgrade: session, browser and upstream."""
    session, token = world.session()
    browser = world.client()
    browser.send(upgrade(f"/{token}/ws", more=more, **key))
    return session, browser, world.accept()


def opened(world):
    session, browser, upstream = offered(world)
    upstream.get()
    upstream.send(switched())
    browser.get()
    return session, browser, upstream


def test_a_handshake_passes_with_what_both_sides_say(world):
    session, browser, upstream = offered(
        world,
        "Sec-WebSocket-Protocol: a, b\r\nSec-WebSocket-Extensions: permessage-deflate\r\n",
    )

    asked = head_of(upstream.get())
    upstream.send(
        switched(
            b"Sec-WebSocket-Protocol: b\r\nSec-WebSocket-Extensions: permessage-deflate\r\n"
            b"Set-Cookie: a=1\r\nSet-Cookie: b=2\r\n"
        )
    )
    answer = browser.get()

    assert asked["connection"] == "Upgrade"
    assert asked["upgrade"] == "websocket"
    assert asked["sec-websocket-protocol"] == "a, b"
    assert asked["sec-websocket-extensions"] == "permessage-deflate"
    assert asked["x-verified-backend"] == session.id
    heard = head_of(answer)
    assert status(answer) == 101
    assert heard["sec-websocket-protocol"] == "b"
    assert heard["sec-websocket-extensions"] == "permessage-deflate"
    assert heard["x-plane-backend-id"] == session.id
    assert answer.count(b"Set-Cookie: ") == 2
    assert world.uses() == ["websocket"]


def test_frames_pass_unchanged_both_ways(world):
    _, browser, upstream = opened(world)
    up = frame(TEXT, b"hel", masked=True, fin=False) + frame(0, b"lo", masked=True)
    down = frame(BINARY, bytes(70000)) + frame(PING, b"theirs") + frame(PONG, b"")

    browser.send(up)
    for place in range(0, len(down), 999):
        upstream.send(down[place : place + 999])

    assert upstream.get() == up
    assert browser.get() == down


def test_what_comes_with_the_handshake_is_not_lost(world):
    _session, token = world.session()
    browser = world.client()
    first = frame(TEXT, b"first", masked=True)

    browser.send(upgrade(f"/{token}/") + first)
    browser.send(frame(TEXT, b"second", masked=True))
    upstream = world.accept()
    upstream.get()
    upstream.send(switched() + frame(TEXT, b"hello"))

    assert read(upstream.get()) == [(TEXT, b"first"), (TEXT, b"second")]
    assert read(browser.get().partition(b"\r\n\r\n")[2]) == [(TEXT, b"hello")]


def test_more_than_may_wait_before_the_handshake_pauses_the_browser_until_then(world):
    _session, token = world.session()
    browser = world.client()
    much = frame(BINARY, bytes(80000), masked=True)

    browser.send(upgrade(f"/{token}/") + much)
    full = browser.paused
    upstream = world.accept()
    upstream.get()
    upstream.send(switched())

    assert (full, browser.paused) == (True, False)
    assert upstream.get() == much


def test_a_refused_upgrade_is_an_ordinary_reply(world):
    _, browser, upstream = offered(world)

    upstream.send(b"HTTP/1.1 403 No\r\nContent-Length: 3\r\nX-Why: it\r\n\r\nwhy")
    answer = browser.get()

    assert (status(answer), head_of(answer)["x-why"], body_of(answer)) == (403, "it", b"why")
    assert browser.half_closed
    assert world.uses() == []


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (switched(b"Sec-WebSocket-Protocol: b\r\n"), b"subprotocol"),
        (switched(accept=b"bm9uc2Vuc2U="), b"101"),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", b"101"),
    ],
)
def test_an_upgrade_that_is_taken_up_wrongly_is_502(world, reply, why):
    _, browser, upstream = offered(world, "Sec-WebSocket-Protocol: a, B\r\n")

    upstream.send(reply)
    answer = browser.get()
    browser.send(b"more")
    browser.hang_up()
    world.advance(0)

    assert status(answer) == 502
    assert why in body_of(answer)
    assert upstream.lost
    assert world.uses() == []
    assert world.reactor.getDelayedCalls() == []


def test_an_upgrade_without_a_proper_key_is_400(world):
    _, browser, upstream = offered(world, key=b"short")

    upstream.send(switched(accept=accept_of(b"short")))
    world.advance(0)

    assert status(browser.get()) == 400
    assert upstream.lost
    assert world.uses() == []


def test_an_upgrade_to_a_session_that_boots_is_held(world):
    session, token = world.spawn()
    browser = world.client()

    browser.send(upgrade(f"/{token}/"))
    held = world.uses()
    world.make_ready(session)
    world.accept().send(switched())

    assert held == ["hold"]
    assert world.uses() == ["websocket"]
    assert status(browser.get()) == 101


@pytest.mark.parametrize("more", ["", "Content-Length: 4\r\n"])
def test_an_upgrade_that_is_no_websocket_is_not_offered_to_the_session(world, more):
    _, token = world.session()
    client = world.client()

    client.send(world.get(token, "/", "Connection: Upgrade\r\nUpgrade: h2c\r\n" + more, "POST"))
    client.send(b"body" if more else b"")
    upstream = world.accept()
    asked = upstream.get()
    upstream.send(OK)

    assert "upgrade" not in head_of(asked)
    assert body_of(asked) == (b"body" if more else b"")
    assert body_of(client.get()) == b"ok"
    assert not client.half_closed


# Life


def test_a_silent_browser_is_pinged_and_its_pongs_stay_here(world):
    _, browser, upstream = opened(world)

    world.wait(2 * PING_SECONDS)
    pings = read(browser.get())
    browser.send(frame(PONG, pings[0][1], masked=True))
    world.wait(4 * PING_SECONDS)

    assert [opcode for opcode, _ in pings] == [PING]
    assert upstream.get() == b""
    assert world.uses() == []  # two more pings stayed without an answer


def test_a_browser_that_says_something_is_not_pinged(world):
    _, browser, _upstream = opened(world)

    for _ in range(8):
        world.wait(PING_SECONDS - 1)
        browser.send(frame(TEXT, b"hi", masked=True))

    assert browser.get() == b""


def test_a_browser_that_answers_no_two_pings_is_dropped(world):
    _, browser, upstream = opened(world)

    world.wait(3 * PING_SECONDS)
    alive = world.uses()
    world.wait(PING_SECONDS)

    assert alive == ["websocket"]
    assert [opcode for opcode, _ in read(browser.get())] == [PING, PING]
    assert browser.aborted
    assert upstream.aborted
    assert world.uses() == []


def test_no_ping_is_sent_in_the_middle_of_a_frame(world):
    _, browser, upstream = opened(world)
    whole = frame(TEXT, b"x" * 100)

    upstream.send(whole[:50])
    world.wait(5 * PING_SECONDS)
    half = browser.get()
    upstream.send(whole[50:])
    world.wait(PING_SECONDS)

    assert half == whole[:50]
    assert read(browser.get()[-10:]) == [(PING, b"plane-tx")]


def test_a_browser_that_we_do_not_read_from_is_not_held_to_be_dead(world):
    _, browser, upstream = opened(world)

    upstream.fill()
    world.wait(STALL_SECONDS - 1)

    assert browser.get() == b""
    assert world.uses() == ["websocket"]


def test_a_session_that_takes_nothing_for_minutes_loses_its_websocket(world):
    _, browser, upstream = opened(world)

    upstream.fill()
    world.wait(STALL_SECONDS + LOST)

    assert upstream.aborted
    assert close(1014, b"upstream lost") in browser.get()
    assert world.uses() == []


def test_a_browser_that_takes_what_waits_for_it_lives(world):
    _, browser, _upstream = opened(world)

    for _ in range(10):
        browser.fill()
        world.wait(PING_SECONDS - 1)
        browser.drain()

    assert world.uses() == ["websocket"]


def test_without_an_interval_nobody_is_pinged():
    world = World(ws_ping_seconds=0)
    _, browser, _upstream = opened(world)

    world.wait(600)

    assert browser.get() == b""
    assert world.uses() == ["websocket"]
    world.finish()


def test_pings_and_pongs_of_the_application_pass(world):
    _, browser, upstream = opened(world)

    browser.send(frame(PING, b"mine", masked=True))
    browser.send(frame(PONG, b"mine too", masked=True))
    upstream.send(frame(PING, b"theirs"))
    upstream.send(frame(PONG, b"plane-tx"))

    assert read(upstream.get()) == [(PING, b"mine"), (PONG, b"mine too")]
    assert read(browser.get()) == [(PING, b"theirs"), (PONG, b"plane-tx")]


# Pace


def test_the_slow_side_pauses_the_other(world):
    _, browser, upstream = opened(world)

    upstream.fill()
    browser.fill()
    full = (browser.paused, upstream.paused)
    upstream.drain()
    browser.drain()

    assert full == (True, True)
    assert (browser.paused, upstream.paused) == (False, False)


# Ends


def test_a_close_of_the_browser_passes_and_the_answer_comes_back(world):
    _, browser, upstream = opened(world)

    browser.send(close(1000, b"bye", masked=True))
    upstream.send(close(1000, b"bye"))
    upstream.hang_up()

    assert read(upstream.get()) == [(CLOSE, b"\x03\xe8bye")]
    assert read(browser.get()) == [(CLOSE, b"\x03\xe8bye")]
    assert browser.half_closed
    assert world.uses() == []


def test_a_close_of_the_session_passes_and_is_the_only_one(world):
    session, browser, upstream = opened(world)

    upstream.send(close(4001, b"own reason"))
    world.end(session)
    browser.send(close(4001, masked=True))
    upstream.hang_up()

    assert read(browser.get()) == [(CLOSE, b"\x0f\xa1own reason")]


def test_a_session_that_hangs_up_on_a_close_needs_no_other(world):
    _, browser, upstream = opened(world)

    browser.send(close(1000, masked=True))
    upstream.hang_up()

    assert browser.half_closed
    assert browser.get() == b""
    assert world.uses() == []


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        (lambda world, session: world.end(session), b"exited"),
        (lambda world, session: world.supervisor.soft_terminate(session.id), b"terminated"),
    ],
)
def test_the_end_of_a_session_closes_with_its_reason(world, end, reason):
    session, browser, upstream = opened(world)

    end(world, session)
    world.advance(0)

    assert read(browser.get()) == [(CLOSE, b"\x03\xe9" + reason)]
    assert read(upstream.get()) == [(CLOSE, b"\x03\xe9" + reason)]
    assert browser.half_closed
    assert upstream.lost
    assert world.uses() == []


def test_a_busy_browser_still_hears_why(world):
    session, browser, upstream = opened(world)
    upstream.fill()

    world.end(session)
    browser.send(frame(BINARY, bytes(100000), masked=True))
    world.advance(0)
    open_still = not browser.closing and not browser.aborted
    browser.send(close(1001, masked=True))
    browser.hang_up()

    assert open_still
    assert read(browser.get()) == [(CLOSE, b"\x03\xe9exited")]


def test_an_upstream_that_is_lost_is_1014(world):
    _, browser, upstream = opened(world)

    upstream.reset()
    at_once = (browser.get(), world.uses())
    world.wait(LOST)

    assert at_once == (b"", [])
    assert read(browser.get()) == [(CLOSE, b"\x03\xf6upstream lost")]


def test_an_upstream_that_is_lost_because_its_session_ended_is_1001(world):
    session, browser, upstream = opened(world)

    upstream.reset()
    browser.send(frame(TEXT, b"into the void", masked=True))
    world.end(session)

    assert read(browser.get()) == [(CLOSE, b"\x03\xe9exited")]


def test_an_upstream_that_is_lost_while_its_session_is_ending_is_1001(world):
    session, browser, upstream = opened(world)
    world.engine.obeys = False
    world.supervisor.soft_terminate(session.id)

    upstream.reset()
    world.wait(LOST)

    assert read(browser.get()) == [(CLOSE, b"\x03\xe9terminated")]
    world.end(session)


def test_an_end_in_the_middle_of_a_frame_says_nothing(world):
    session, browser, upstream = opened(world)
    half = frame(TEXT, b"x" * 100)[:50]
    upstream.send(half)

    world.end(session)

    assert browser.get() == half
    assert browser.half_closed


def test_what_a_session_says_after_its_end_does_not_follow_the_close(world):
    session, browser, upstream = opened(world)
    browser.stuck = True

    world.end(session)
    upstream.protocol.dataReceived(frame(TEXT, b"late"))

    assert read(browser.get()) == [(CLOSE, b"\x03\xe9exited")]


def test_a_browser_that_is_lost_takes_its_upstream_along(world):
    _, browser, upstream = opened(world)

    browser.reset()
    world.advance(0)

    assert upstream.lost
    assert world.uses() == []


def test_a_browser_that_leaves_before_we_know_why_leaves_nothing(world):
    _, browser, upstream = opened(world)

    upstream.reset()
    browser.hang_up()

    assert world.uses() == []
    assert world.reactor.getDelayedCalls() == []


def test_neither_side_can_keep_a_closed_websocket(world):
    session, browser, upstream = opened(world)
    upstream.stuck = browser.stuck = True

    world.end(session)
    world.wait(CLOSE_SECONDS - 0.5)
    waiting = not browser.aborted
    world.wait(0.5)
    flushing = not browser.aborted
    world.wait(FLUSH_SECONDS)

    assert waiting
    assert upstream.aborted
    assert flushing
    assert browser.aborted


def test_a_stopping_server_says_1001_once(world):
    session, browser, _upstream = opened(world)
    _, other, lost = opened(world)
    lost.reset()

    closing = ensureDeferred(world.factory.close())
    world.end(session)
    browser.hang_up()
    other.hang_up()
    world.advance(0)

    assert closing.called
    said = [(CLOSE, b"\x03\xe9the server is stopping")]
    assert [read(each.get()) for each in (browser, other)] == [said, said]
