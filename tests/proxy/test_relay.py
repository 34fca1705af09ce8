"""An open WebSocket between a browser and a session, in memory."""

import attrs
import pytest
from twisted.internet.defer import ensureDeferred

from plane_tx.core.idlerule import IdleRequest
from plane_tx.core.ledger import How
from plane_tx.core.model import IdleCount, Reason, Status
from plane_tx.core.use import Traffic
from plane_tx.core.wsframes import MOST_AT_ONCE
from plane_tx.proxy.connection import FLUSH_SECONDS
from plane_tx.proxy.relay import CLOSE_SECONDS, PING_PREFIX
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
from tests.proxy.world import World, body_of, head_of, status

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
        "Sec-WebSocket-Protocol: a, b\r\nSec-WebSocket-Extensions: permessage-deflate\r\n"
        "Origin: https://app.example\r\nCookie: a=b\r\n",
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
    assert (asked["origin"], asked["cookie"]) == ("https://app.example", "a=b")
    assert (asked["x-forwarded-for"], asked["x-forwarded-proto"]) == ("127.0.0.1", "http")
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


@pytest.mark.parametrize("refusal", [401, 403, 404, 426, 503])
def test_a_refusal_is_delivered_as_it_is(world, refusal):
    _, browser, upstream = offered(world)
    more = b"Connection: Upgrade\r\nUpgrade: websocket\r\n" if refusal == 426 else b""

    upstream.send(
        b"HTTP/1.1 %d No\r\nContent-Length: 3\r\nX-Why: so\r\n%s\r\nwhy" % (refusal, more)
    )

    answer = browser.get()
    assert (status(answer), body_of(answer)) == (refusal, b"why")
    assert head_of(answer)["x-why"] == "so"
    assert head_of(answer).get("upgrade") == ("websocket" if refusal == 426 else None)
    assert world.uses() == []


def test_what_a_101_says_passes_byte_by_byte(world):
    _, browser, upstream = offered(world)

    upstream.send(switched(b"X-Name: J\xf6rg \xe2\x82\xac\r\n"))

    assert b"\r\nX-Name: J\xf6rg \xe2\x82\xac\r\n" in browser.get()


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
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", b"Upgrade"),
    ],
)
def test_an_upgrade_that_is_taken_up_wrongly_is_502(world, reply, why):
    _, browser, upstream = offered(world, "Sec-WebSocket-Protocol: a, B\r\n")

    upstream.send(reply)
    world.wait(2)
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
    assert [opcode for opcode, _ in read(half + browser.get())] == [TEXT, PING]


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


def test_a_browser_that_stops_reading_in_the_middle_of_a_frame_is_dropped(world):
    _, browser, upstream = opened(world)
    upstream.send(frame(BINARY, bytes(1000))[:500])

    browser.fill()
    world.wait(4 * PING_SECONDS)

    assert browser.aborted
    assert world.uses() == []


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
    upstream.send(frame(PONG, b"theirs too"))

    assert read(upstream.get()) == [(PING, b"mine"), (PONG, b"mine too")]
    assert read(browser.get()) == [(PING, b"theirs"), (PONG, b"theirs too")]


def test_an_answer_to_the_ping_of_another_proxy_like_this_passes(world):
    _, browser, upstream = opened(world)
    world.wait(2 * PING_SECONDS)
    browser.get()
    other = frame(PONG, PING_PREFIX + b"01234567" + b"1", masked=True)

    browser.send(other)

    assert upstream.get() == other


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


# Counting


def use_of(session):
    (use,) = session.uses
    return use


def test_bytes_and_messages_are_counted_both_ways(world):
    session, browser, upstream = opened(world)
    up = [frame(TEXT, b"hel", masked=True, fin=False), frame(0, b"lo", masked=True)]
    down = [frame(BINARY, bytes(70000)), frame(PING, b"theirs"), frame(TEXT, b"x")]

    browser.send(b"".join(up))
    for place in range(0, len(b"".join(down)), 999):
        upstream.send(b"".join(down)[place : place + 999])
    during = attrs.asdict(world.traffic())
    browser.hang_up()

    counted = Traffic(1, len(b"".join(up)), len(b"".join(down)), 1, 2)
    assert during == attrs.asdict(counted)
    assert attrs.asdict(session.traffic) == attrs.asdict(counted)
    assert attrs.asdict(world.supervisor.registry.traffic) == attrs.asdict(counted)


def test_what_comes_with_the_handshake_is_counted(world):
    _session, token = world.session()
    browser = world.client()
    early, first = frame(TEXT, b"early", masked=True), frame(TEXT, b"first")

    browser.send(upgrade(f"/{token}/") + early)
    world.accept().send(switched() + first)

    assert attrs.asdict(world.traffic()) == attrs.asdict(Traffic(1, len(early), len(first), 1, 1))


def test_an_answer_to_our_own_ping_is_no_data(world):
    session, browser, _upstream = opened(world)
    browser.send(frame(TEXT, b"hi", masked=True))
    said = use_of(session).last_data

    world.wait(2 * PING_SECONDS)
    (ping,) = read(browser.get())
    browser.send(frame(PONG, ping[1], masked=True))

    assert said == world.reactor.seconds() - 2 * PING_SECONDS
    assert use_of(session).last_data == said
    assert world.traffic().bytes_from_clients == len(frame(TEXT, b"hi", masked=True))


def test_a_websocket_tells_who_it_is_and_when_it_last_said_something(world):
    session, token = world.session(user="ada")
    browser = world.client("203.0.113.9")
    browser.send(upgrade(f"/{token}/ws?secret"))
    world.accept().send(switched())
    silent = use_of(session).last_data

    world.wait(5)
    browser.send(frame(TEXT, b"hi", masked=True))

    use = use_of(session)
    assert (use.visit.peer, use.visit.path, use.visit.user) == ("203.0.113.9", "/ws", "ada")
    assert (silent, use.last_data) == (None, use.since + 5)


# Revoking


def revocable(world, user="ada"):
    """An open WebSocket of `user`: session, browser and upstream."""
    session, token = world.session(user=user, token_ttl_seconds=60)
    return session, *joined(world, token)


def joined(world, token):
    browser = world.client()
    browser.send(upgrade(f"/{token}/"))
    upstream = world.accept()
    upstream.get()
    upstream.send(switched())
    browser.get()
    return browser, upstream


def test_a_revoked_websocket_is_closed_at_once_with_4403(world):
    session, browser, upstream = revocable(world)

    revoked = world.supervisor.revoke(session.id, "ada")
    browser.send(frame(TEXT, b"too late", masked=True))

    assert revoked == 1
    assert read(browser.get()) == [(CLOSE, b"\x11\x33revoked")]
    assert read(upstream.get()) == [(CLOSE, b"\x11\x33revoked")]
    assert browser.half_closed
    assert world.uses() == []


def test_a_revoked_websocket_whose_browser_does_not_keep_up_is_dropped_at_once(world):
    session, browser, upstream = revocable(world)
    browser.fill()

    world.supervisor.revoke(session.id, "ada")

    assert browser.aborted
    assert upstream.aborted
    assert browser.get() == b""
    assert world.uses() == []


def test_a_revoked_websocket_whose_browser_has_caught_up_hears_why(world):
    session, browser, _upstream = revocable(world)
    browser.fill()
    browser.drain()

    world.supervisor.revoke(session.id, "ada")

    assert not browser.aborted
    assert read(browser.get()) == [(CLOSE, b"\x11\x33revoked")]


def test_a_revocation_leaves_the_websockets_of_others_alone(world):
    session, browser, _upstream = revocable(world)
    other, others = joined(world, world.join(session, "bob"))
    shared, _ = joined(world, world.join(session))

    world.supervisor.revoke(session.id, "ada")
    later, laters = joined(world, world.join(session, "ada"))
    others.send(frame(TEXT, b"still here"))
    laters.send(frame(TEXT, b"welcome"))

    assert read(browser.get()) == [(CLOSE, b"\x11\x33revoked")]
    assert read(other.get()) == [(TEXT, b"still here")]
    assert read(later.get()) == [(TEXT, b"welcome")]
    assert shared.get() == b""
    assert world.uses() == ["websocket"] * 3


def test_a_websocket_that_is_revoked_in_the_middle_of_a_frame_ends_there(world):
    session, browser, upstream = revocable(world)
    half = frame(TEXT, b"x" * 100)[:50]
    upstream.send(half)

    world.supervisor.revoke(session.id, "ada")
    upstream.protocol.dataReceived(b"x" * 50)

    assert browser.get() == half
    assert browser.half_closed
    assert world.uses() == []


def test_a_websocket_that_is_closing_is_not_closed_again(world):
    session, browser, _upstream = revocable(world)
    world.end(session)

    world.supervisor.revoke(session.id, "ada")

    assert read(browser.get()) == [(CLOSE, b"\x03\xe9exited")]


def term_of(world):
    (term,) = world.supervisor.registry.grants._terms.values()
    return term


@pytest.mark.parametrize(
    "end",
    [
        lambda world, session, browser, upstream: browser.reset(),
        lambda world, session, browser, upstream: upstream.reset(),
        lambda world, session, browser, upstream: browser.send(close(1000, masked=True)),
        lambda world, session, browser, upstream: upstream.send(close(1000)),
        lambda world, session, browser, upstream: world.end(session),
        lambda world, session, browser, upstream: world.wait(4 * PING_SECONDS),
        lambda world, session, browser, upstream: ensureDeferred(world.factory.close()),
    ],
    ids=["browser lost", "upstream lost", "browser closes", "upstream closes", "session ends",
         "browser dead", "server stops"],
)  # fmt: skip
def test_however_a_websocket_ends_its_use_and_its_token_are_let_go_once(world, end):
    session, browser, upstream = revocable(world)
    during = (term_of(world).open, world.supervisor.registry.uses.total())

    end(world, session, browser, upstream)
    upstream.hang_up()
    browser.hang_up()
    world.wait(LOST)

    assert during == (1, 1)
    assert term_of(world).open == 0
    assert world.supervisor.registry.uses.total() == 0
    assert session.traffic.requests == 1


def test_a_token_lives_while_its_websocket_is_open_and_its_time_after_it(world):
    session, browser, _upstream = revocable(world)
    for _ in range(20):
        world.wait(PING_SECONDS - 1)
        browser.send(frame(TEXT, b"hi", masked=True))
        world.supervisor.reap()
    kept = len(world.supervisor.registry.grants)

    browser.hang_up()
    world.wait(59)
    world.supervisor.reap()
    still = len(world.supervisor.registry.grants)
    world.wait(1)
    world.supervisor.reap()

    grants = world.supervisor.registry.grants
    assert (kept, still, len(grants)) == (2, 2, 1)
    assert grants.get(session.own_token.value)
    assert (len(grants._terms), len(grants._expiry)) == (0, 0)


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
    assert (browser.half_closed, upstream.half_closed) == (True, True)
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


def test_an_end_in_the_middle_of_a_frame_is_said_when_that_has_passed(world):
    session, browser, upstream = opened(world)
    whole = frame(TEXT, b"x" * 100)
    upstream.send(whole[:50])

    world.end(session)
    waiting = (browser.get(), browser.half_closed, world.uses())
    upstream.send(whole[50:] + frame(TEXT, b"more"))

    assert waiting == (whole[:50], False, [])
    assert read(whole[:50] + browser.get()) == [(TEXT, b"x" * 100), (CLOSE, b"\x03\xe9exited")]
    assert browser.half_closed
    record = session.connections.closed[-1]
    assert (record.code, record.reason) == (1001, "exited")


def test_a_frame_that_does_not_end_in_time_is_cut_without_a_close(world):
    session, browser, upstream = opened(world)
    half = frame(TEXT, b"x" * 100)[:50]
    upstream.send(half)

    ensureDeferred(world.factory.close())
    world.wait(CLOSE_SECONDS)

    assert browser.get() == half
    assert browser.half_closed
    record = session.connections.closed[-1]
    assert (record.how, record.code) == (How.DRAIN, None)


def test_a_lost_session_whose_frame_nobody_will_end_is_cut_at_once(world):
    session, browser, upstream = opened(world)
    half = frame(TEXT, b"x" * 100)[:50]
    upstream.send(half)

    upstream.reset()
    world.end(session)

    assert browser.get() == half
    assert browser.half_closed
    assert session.connections.closed[-1].how is How.SESSION_ENDED


def test_a_browser_s_frame_is_passed_to_its_end_before_the_session_is_told(world):
    _, browser, upstream = opened(world)
    whole = frame(TEXT, b"x" * 100, masked=True)
    browser.send(whole[:50])

    ensureDeferred(world.factory.close())
    browser.send(whole[50:] + frame(TEXT, b"more", masked=True))

    said = read(upstream.get())
    assert said == [(TEXT, b"x" * 100), (CLOSE, b"\x03\xe9the server is stopping")]


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


# Size


@pytest.fixture
def narrow():
    world = World(max_message_bytes=10)
    yield world
    world.finish()


def test_a_message_that_is_too_long_closes_both_sides_before_it_begins_to_pass(narrow):
    session, browser, upstream = opened(narrow)

    browser.send(frame(TEXT, b"0123456789", masked=True) + frame(TEXT, b"x" * 11, masked=True)[:6])
    browser.send(b"x" * 11)

    told = (
        CLOSE,
        b"\x03\xf1the client's message of 11 bytes or more is over max_message_bytes (10)",
    )
    assert read(upstream.get()) == [(TEXT, b"0123456789"), told]
    assert read(browser.get()) == [told]
    assert (browser.half_closed, upstream.half_closed) == (True, True)
    assert session.connections.closed[-1].how is How.TOO_LONG
    assert narrow.uses() == []


def test_a_message_that_grows_too_long_in_fragments_is_ended_between_two(narrow):
    _, browser, upstream = opened(narrow)
    first = frame(BINARY, b"12345", fin=False)

    upstream.send(first + frame(0, b"6789", fin=False) + frame(0, b"ab"))

    frames = read(browser.get())
    assert frames[:2] == [(BINARY, b"12345"), (0, b"6789")]
    why = b"the session's message of 11 bytes or more is over max_message_bytes (10)"
    assert frames[2:] == [(CLOSE, b"\x03\xf1" + why)]


def test_without_a_limit_any_message_passes(world):
    _, browser, upstream = opened(world)
    large = frame(BINARY, bytes(1 << 20))

    upstream.send(large)

    assert browser.get() == large


# What counts as use


def counting(world, count, ignore=(), ms=60):
    """An open WebSocket whose session ends `ms` seconds after nothing of this passes."""
    session, token = world.session(max_idle_seconds=ms, idle=IdleRequest(count, ignore))
    return session, *joined(world, token)


def reaped(world, seconds):
    world.wait(seconds)
    return world.supervisor.reap()


def test_where_messages_count_a_silent_websocket_keeps_nothing_alive(world):
    session, browser, _upstream = counting(world, IdleCount.MESSAGES)
    ping = frame(PING, masked=True)

    for _ in range(2):
        world.wait(29)
        browser.send(ping + frame(PONG, b"plane-tx", masked=True))
    ended = reaped(world, 2.25)

    assert ended == 1
    assert session.state.reason is Reason.IDLE
    assert read(browser.get())[-1] == (CLOSE, b"\x03\xe9idle")


@pytest.mark.parametrize("side", ["browser", "upstream"])
def test_where_messages_count_each_one_starts_the_clock_anew(world, side):
    session, browser, upstream = counting(world, IdleCount.MESSAGES)

    for _ in range(10):
        assert reaped(world, 20) == 0
        if side == "browser":
            browser.send(frame(TEXT, b"hi", masked=True))
        else:
            upstream.send(frame(TEXT, b"hi"))
            browser.send(frame(PONG, b"plane-tx", masked=True))

    assert session.idle_since == world.reactor.seconds()
    assert session.status is Status.READY


def test_the_parts_of_a_long_message_are_use_too(world):
    session, browser, _upstream = counting(world, IdleCount.MESSAGES)
    long = frame(BINARY, bytes(1000), masked=True)

    for place in range(0, len(long), 100):
        assert reaped(world, 30) == 0
        browser.send(long[place : place + 100])

    assert session.idle_since == world.reactor.seconds()


def test_heartbeats_of_the_application_are_no_use_where_they_are_ignored(world):
    session, browser, upstream = counting(world, IdleCount.MESSAGES, ("engine.io",))

    world.wait(29)
    upstream.send(frame(TEXT, b"2"))
    browser.send(frame(TEXT, b"3", masked=True))
    passed = (read(upstream.get()), read(browser.get()))
    ended = reaped(world, 31.25)

    assert passed == ([(TEXT, b"3")], [(TEXT, b"2")])
    assert ended == 1
    assert session.state.reason is Reason.IDLE


def test_where_bytes_count_pings_of_others_are_use_and_answers_to_ours_are_not(world):
    session, browser, _upstream = counting(world, IdleCount.BYTES)

    world.wait(29)
    browser.send(frame(PING, masked=True))
    pinged = session.idle_since
    world.wait(31)
    ((_, ping),) = read(browser.get())
    browser.send(frame(PONG, ping, masked=True))

    assert pinged == world.reactor.seconds() - 31
    assert session.idle_since == pinged


def test_where_only_messages_count_a_websocket_is_still_revoked_and_counted(world):
    session, token = world.session(user="ada", idle=IdleRequest(IdleCount.MESSAGES))
    browser, _upstream = joined(world, token)
    during = (world.uses(), session.holds, session.claimed)

    revoked = world.supervisor.revoke(session.id, "ada")

    assert during == (["websocket"], 0, True)
    assert revoked == 1
    assert read(browser.get()) == [(CLOSE, b"\x11\x33revoked")]


# Many small frames at once


@pytest.mark.parametrize("opcode", [PING, TEXT])
def test_thousands_of_small_frames_pass_in_turns_and_in_order(world, opcode):
    _, browser, upstream = opened(world)
    frames = b"".join(frame(opcode, b"%d" % number) for number in range(1000))

    upstream.send(frames)
    first = (upstream.paused, len(read(browser.value())))
    world.reactor.pump([0] * 3)

    assert first == (True, MOST_AT_ONCE)
    assert browser.get() == frames
    assert not upstream.paused


def test_a_session_that_says_much_is_not_read_on_while_its_browser_does_not_keep_up(world):
    _, browser, upstream = opened(world)
    upstream.send(frame(PING) * (MOST_AT_ONCE + 1))

    browser.fill()
    world.advance(0)
    held_back = upstream.paused
    browser.drain()

    assert held_back
    assert not upstream.paused


def test_a_browser_that_says_much_and_a_last_word_is_heard_to_the_end(world):
    _, browser, upstream = opened(world)
    frames = frame(TEXT, b"x", masked=True) * 1000

    browser.send(frames + close(1000, masked=True))
    paused = browser.paused
    world.reactor.pump([0] * 4)

    assert paused
    assert upstream.get() == frames + close(1000, masked=True)


def test_an_end_of_ours_drops_what_was_not_read_yet(world):
    session, browser, upstream = opened(world)
    upstream.send(frame(TEXT, b"x") * 1000)

    world.end(session)
    world.reactor.pump([0] * 4)

    said = read(browser.get())
    assert len(said) == MOST_AT_ONCE + 1
    assert said[-1] == (CLOSE, b"\x03\xe9exited")
