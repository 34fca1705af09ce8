"""The two connections of an upgrade, in memory: how their ends pass, and what is written down."""

import attrs
import pytest
from twisted.internet.defer import ensureDeferred
from twisted.internet.interfaces import ISSLTransport
from zope.interface import directlyProvides

from plane_tx.core.idlerule import IdleRequest
from plane_tx.core.ledger import ConnectionKind, How
from plane_tx.core.model import IdleCount
from plane_tx.core.use import UseKind
from plane_tx.proxy.joined import HALF_OPEN_SECONDS
from plane_tx.proxy.relay import CLOSE_SECONDS
from plane_tx.proxy.upstream import STALL_SECONDS
from plane_tx.supervisor import CONFIRM_SECONDS
from tests.proxy.frames import CLOSE, PONG, TEXT, close, frame, read, switched, upgrade
from tests.proxy.world import OK, World

LOST = CONFIRM_SECONDS + 0.5
RAW = "GET /{}/raw HTTP/1.1\r\nHost: localhost:9090\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"
RAW_SWITCHED = b"HTTP/1.1 101 Switching\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\n"


def websocket(world, **config):
    """An open WebSocket: session, client and upstream."""
    session, token = world.session(**config)
    client = world.client()
    client.send(upgrade(f"/{token}/ws"))
    return session, client, taken_up(world, client, switched())


def tunnel(world, **config):
    """An open tunnel: session, client and upstream."""
    session, token = world.session(**config)
    client = world.client()
    client.send(RAW.format(token).encode())
    return session, client, taken_up(world, client, RAW_SWITCHED)


def taken_up(world, client, answer):
    upstream = world.accept()
    upstream.get()
    upstream.send(answer)
    client.get()
    return upstream


def last_closed(session):
    return session.connections.closed[-1]


# Half of an end


def test_a_websocket_client_that_says_its_last_still_hears_the_session(world):
    _, client, upstream = websocket(world)

    client.send(frame(TEXT, b"ask", masked=True))
    client.half_close()
    ended = (upstream.half_closed, upstream.closing, client.closing)
    upstream.send(frame(TEXT, b"reply") + close(1000))
    upstream.half_close()
    world.advance(0)

    assert ended == (True, False, False)
    assert read(upstream.get()) == [(TEXT, b"ask")]
    assert read(client.get()) == [(TEXT, b"reply"), (CLOSE, b"\x03\xe8")]
    assert (client.lost, upstream.lost) == (True, True)


def test_a_session_that_closes_and_says_its_last_still_hears_the_answer(world):
    _, client, upstream = websocket(world)

    upstream.send(close(1000))
    upstream.half_close()
    ended = (client.half_closed, client.closing)
    client.send(close(1000, masked=True))
    client.half_close()
    world.advance(0)

    assert ended == (True, False)
    assert read(upstream.get()) == [(CLOSE, b"\x03\xe8")]
    assert (client.lost, upstream.lost) == (True, True)
    assert (client.aborted, upstream.aborted) == (False, False)


def test_a_session_that_says_its_last_without_a_close_has_broken_off(world):
    session, client, upstream = websocket(world)

    upstream.half_close()
    world.wait(LOST)

    assert read(client.get()) == [(CLOSE, b"\x03\xf6upstream lost")]
    assert upstream.get() == b""
    assert world.uses() == []
    assert last_closed(session).how is How.SESSION_FIN


@pytest.mark.parametrize("open_one", [websocket, tunnel])
def test_a_half_open_connection_on_which_nothing_passes_is_dropped(world, open_one):
    _, client, upstream = open_one(world)
    client.half_close()

    world.wait(HALF_OPEN_SECONDS - 1)
    upstream.send(frame(TEXT, b"still here"))
    world.wait(HALF_OPEN_SECONDS - 1)
    while_passing = (client.aborted, world.uses())
    world.wait(1)

    assert while_passing == (False, ["websocket"])
    assert (client.aborted, upstream.aborted) == (True, True)
    assert world.uses() == []


def test_a_close_that_nobody_answers_does_not_keep_a_session_in_use_for_ever(world):
    session, client, upstream = websocket(world)

    client.send(close(1000, masked=True))
    world.wait(HALF_OPEN_SECONDS - 1)
    waiting = world.uses()
    world.wait(2)

    assert waiting == ["websocket"]
    assert (client.aborted, upstream.aborted) == (True, True)
    assert world.uses() == []
    assert last_closed(session).how is How.CLIENT_CLOSE


def test_once_both_have_closed_the_use_is_over_though_nobody_hangs_up(world):
    _, client, upstream = websocket(world)

    client.send(close(1000, masked=True))
    upstream.send(close(1000))
    used = world.uses()
    world.wait(CLOSE_SECONDS)

    assert used == []
    assert (client.half_closed, upstream.half_closed) == (True, True)


# All of an end


@pytest.mark.parametrize("open_one", [websocket, tunnel])
def test_a_reset_of_the_client_passes_as_a_reset(world, open_one):
    _, client, upstream = open_one(world)

    client.reset()

    assert upstream.aborted
    assert world.uses() == []


def test_the_reset_of_a_session_reaches_a_websocket_s_client_as_a_close(world):
    session, client, upstream = websocket(world)

    upstream.reset()
    world.wait(LOST)

    assert read(client.get()) == [(CLOSE, b"\x03\xf6upstream lost")]
    record = last_closed(session)
    assert (record.how, record.code, record.reason) == (How.SESSION_RST, 1014, "upstream lost")


# The ledger

ENDS = {
    "client closes": (
        lambda world, session, client, upstream: client.send(close(4000, b"bye", masked=True)),
        (How.CLIENT_CLOSE, 4000, "bye"),
    ),
    "client closes without a code": (
        lambda world, session, client, upstream: client.send(frame(CLOSE, masked=True)),
        (How.CLIENT_CLOSE, None, ""),
    ),
    "client hangs up": (
        lambda world, session, client, upstream: client.hang_up(),
        (How.CLIENT_FIN, None, ""),
    ),
    "client says its last": (
        lambda world, session, client, upstream: client.half_close(),
        (How.CLIENT_FIN, None, ""),
    ),
    "client resets": (
        lambda world, session, client, upstream: client.reset(),
        (How.CLIENT_RST, None, ""),
    ),
    "session closes": (
        lambda world, session, client, upstream: upstream.send(close(1011, b"oops")),
        (How.SESSION_CLOSE, 1011, "oops"),
    ),
    "session hangs up": (
        lambda world, session, client, upstream: upstream.hang_up(),
        (How.SESSION_FIN, 1014, "upstream lost"),
    ),
    "session resets": (
        lambda world, session, client, upstream: upstream.reset(),
        (How.SESSION_RST, 1014, "upstream lost"),
    ),
    "session ends": (
        lambda world, session, client, upstream: world.end(session),
        (How.SESSION_ENDED, 1001, "exited"),
    ),
    "session hangs up and ends": (
        lambda world, session, client, upstream: (upstream.hang_up(), world.end(session)),
        (How.SESSION_ENDED, 1001, "exited"),
    ),
    "session stops reading": (
        lambda world, session, client, upstream: (upstream.fill(), world.wait(STALL_SECONDS)),
        (How.STALLED, 1014, "upstream lost"),
    ),
    "client answers no ping": (
        lambda world, session, client, upstream: world.wait(200),
        (How.PING_TIMEOUT, None, ""),
    ),
    "revoked": (
        lambda world, session, client, upstream: world.supervisor.revoke(session.id, "ada"),
        (How.REVOKED, 4403, "revoked"),
    ),
    "server stops": (
        lambda world, session, client, upstream: ensureDeferred(world.factory.close()),
        (How.DRAIN, 1001, "the server is stopping"),
    ),
}


@pytest.mark.parametrize(("end", "expected"), ENDS.values(), ids=ENDS)
def test_the_ledger_says_who_closed_a_websocket_first_and_how(world, end, expected):
    session, client, upstream = websocket(world, user="ada")

    end(world, session, client, upstream)
    world.wait(LOST)
    client.hang_up()
    upstream.hang_up()
    world.wait(LOST)

    record = last_closed(session)
    assert (record.how, record.code, record.reason) == expected
    assert (record.kind, record.visit.path) == (ConnectionKind.WEBSOCKET, "/ws")
    assert len(session.connections.closed) == 1
    assert not session.connections.open


TUNNEL_ENDS = {
    "revoked": (
        lambda world, session, client, upstream: world.supervisor.revoke(session.id, "ada"),
        How.REVOKED,
    ),
    "server stops": (
        lambda world, session, client, upstream: ensureDeferred(world.factory.close()),
        How.DRAIN,
    ),
    "session ends": (
        lambda world, session, client, upstream: (world.end(session), upstream.half_close()),
        How.SESSION_ENDED,
    ),
    "client hangs up": (
        lambda world, session, client, upstream: client.half_close(),
        How.CLIENT_FIN,
    ),
    "client resets": (lambda world, session, client, upstream: client.reset(), How.CLIENT_RST),
    "session hangs up": (
        lambda world, session, client, upstream: upstream.half_close(),
        How.SESSION_FIN,
    ),
    "session resets": (lambda world, session, client, upstream: upstream.reset(), How.SESSION_RST),
}


def test_a_client_that_hangs_up_is_no_fault_of_its_session(world):
    session, client, upstream = websocket(world)

    client.half_close()
    upstream.half_close()
    world.wait(LOST)

    record = last_closed(session)
    assert client.get() == b""
    assert (record.how, record.code, record.reason) == (How.CLIENT_FIN, None, "")
    assert world.supervisor.measures.upstream_errors == 0


@pytest.mark.parametrize("ends", [False, True], ids=["session lives", "session ends"])
def test_a_session_s_side_that_ends_and_is_then_lost_still_tells_the_client_why(world, ends):
    session, client, upstream = websocket(world)

    upstream.half_close()
    upstream.reset()
    if ends:
        world.end(session)
    world.wait(LOST)

    how, code, reason = (
        (How.SESSION_ENDED, 1001, "exited") if ends else (How.SESSION_FIN, 1014, "upstream lost")
    )
    record = last_closed(session)
    assert read(client.get()) == [(CLOSE, code.to_bytes(2, "big") + reason.encode())]
    assert (record.how, record.code, record.reason) == (how, code, reason)


def test_a_session_that_hangs_up_on_a_broken_frame_needs_no_other_word(world):
    _, client, upstream = websocket(world)

    client.send(frame(CLOSE, bytes(126), masked=True))
    upstream.half_close()

    assert client.half_closed
    assert client.get() == b""
    assert world.supervisor.measures.upstream_errors == 0


@pytest.mark.parametrize("side", ["client", "session"])
def test_a_reset_after_a_close_does_not_undo_it_on_the_other_side(world, side):
    _, client, upstream = websocket(world)

    if side == "client":
        client.send(close(1000, masked=True))
        client.reset()
    else:
        upstream.send(close(1009))
        upstream.reset()

    other = upstream if side == "client" else client
    assert [opcode for opcode, _ in read(other.get())] == [CLOSE]
    assert (other.half_closed, other.aborted) == (True, False)


def test_what_was_not_read_yet_of_a_side_that_is_lost_still_passes(world):
    _, client, upstream = websocket(world)
    frames = frame(TEXT, b"x", masked=True) * 1000 + close(1001, masked=True)

    client.send(frames)
    client.hang_up()

    assert upstream.get() == frames


def test_a_client_that_resets_while_much_of_its_session_is_unread_ends_both(world):
    session, client, upstream = websocket(world)
    upstream.send(frame(TEXT, b"x") * 1000)

    client.reset()
    world.advance(0)

    assert upstream.lost
    assert last_closed(session).how is How.CLIENT_RST


def test_a_session_that_resets_while_much_of_a_broken_client_is_unread_ends_both(world):
    session, client, upstream = websocket(world)
    client.send(frame(CLOSE, bytes(126), masked=True) + frame(TEXT, b"x", masked=True) * 1000)

    upstream.reset()
    world.advance(0)

    assert client.lost
    assert last_closed(session).how is How.SESSION_RST


@pytest.mark.parametrize("side", ["client", "session"])
def test_half_of_an_end_does_not_put_off_ours(side):
    world = World(max_message_bytes=500)
    session, client, upstream = websocket(world)
    upstream.send(frame(TEXT, b"y" * 100)[:50])
    client.send(frame(TEXT, b"z" * 600, masked=True))

    (client if side == "client" else upstream).half_close()
    world.wait(CLOSE_SECONDS)

    assert not session.connections.open
    assert last_closed(session).how is How.TOO_LONG
    world.finish()


def test_after_both_have_closed_nothing_passes_any_more(world):
    _, client, upstream = websocket(world)
    client.send(close(1000, masked=True))
    upstream.send(close(1000))
    upstream.get()
    client.get()

    client.send(frame(TEXT, b"more", masked=True))
    upstream.send(frame(TEXT, b"more"))
    client.half_close()
    world.wait(CLOSE_SECONDS)

    assert (upstream.get(), client.get()) == (b"", b"")
    assert client.closing


@pytest.mark.parametrize("open_one", [websocket, tunnel])
def test_a_tls_client_that_is_held_back_is_read_again_when_it_ends(world, open_one):
    session, client, upstream = open_one(world, user="ada")
    directlyProvides(client, ISSLTransport)
    upstream.fill()
    held_back = client.paused

    upstream.half_close()
    world.wait(LOST)

    assert held_back
    assert not client.paused
    assert session.connections.closed


def test_an_upgraded_connection_that_outlives_a_stopping_server_is_dropped(world):
    _, client, upstream = websocket(world)
    client.stuck = upstream.stuck = True

    stopped = ensureDeferred(world.factory.close())
    world.wait(20)

    assert stopped.called
    assert (client.aborted, upstream.aborted) == (True, True)


def test_a_tunnel_whose_client_takes_nothing_more_ends_after_its_session(world):
    session, client, _upstream = tunnel(world)
    client.fill()

    world.end(session)
    world.wait(STALL_SECONDS + 1)

    assert client.aborted
    assert world.uses() == []


BACKLOG = 70_000


@pytest.mark.parametrize("open_one", [websocket, tunnel])
def test_the_ledger_says_how_much_waited_since_the_upgrade(world, open_one):
    session, client, upstream = open_one(world)
    (record,) = session.connections.open

    client.most_queued, upstream.most_queued = BACKLOG, 2 * BACKLOG
    client.fill()
    during = (record.backlog_to_client, record.backlog_to_session)
    client.most_queued *= 3
    client.hang_up()
    upstream.hang_up()

    assert during == (BACKLOG, 2 * BACKLOG)
    assert record.backlog_to_client == 3 * BACKLOG


def test_what_waited_before_the_upgrade_is_not_in_the_ledger(world):
    session, token = world.session()
    client = world.client()
    client.most_queued = BACKLOG
    client.send(upgrade(f"/{token}/"))
    taken_up(world, client, switched())

    client.fill()

    (record,) = session.connections.open
    assert record.backlog_to_client == 0


@pytest.mark.parametrize("count", [IdleCount.MESSAGES, IdleCount.BYTES])
def test_what_passes_over_a_tunnel_is_use_where_its_being_open_is_not(world, count):
    session, client, upstream = tunnel(world, max_idle_seconds=60, idle=IdleRequest(count))
    world.wait(30)

    client.send(b"x")
    by_client = session.idle_since
    world.wait(30)
    upstream.send(b"y")

    assert by_client == world.reactor.seconds() - 30
    assert session.idle_since == world.reactor.seconds()


def test_a_websocket_that_does_not_hold_its_session_is_its_last_use(world):
    idle = IdleRequest(IdleCount.MESSAGES)

    session, _client, _upstream = websocket(world, idle=idle)

    assert session.idle_since == world.reactor.seconds()
    assert session.last_use.kind is UseKind.WEBSOCKET


@pytest.mark.parametrize(("end", "how"), TUNNEL_ENDS.values(), ids=TUNNEL_ENDS)
def test_the_ledger_says_who_ended_a_tunnel_first(world, end, how):
    session, client, upstream = tunnel(world, user="ada")

    end(world, session, client, upstream)
    client.hang_up()
    upstream.hang_up()

    record = last_closed(session)
    assert (record.kind, record.how, record.code) == (ConnectionKind.TUNNEL, how, None)


def test_the_idle_timeout_of_a_tunnel_is_written_down():
    world = World(idle_timeout_seconds=10)
    session, _client, _upstream = tunnel(world)

    world.wait(11)

    assert last_closed(session).how is How.IDLE
    world.finish()


def test_a_handshake_that_goes_wrong_is_written_down_as_refused(world):
    session, token = world.session()
    client = world.client()
    client.send(upgrade(f"/{token}/"))

    world.accept().send(switched(accept=b"wrong"))

    assert last_closed(session).how is How.REFUSED


def test_a_refused_upgrade_is_no_connection(world):
    session, token = world.session()
    client = world.client()
    client.send(upgrade(f"/{token}/"))

    world.accept().send(OK)

    assert not session.connections.open
    assert not session.connections.closed


def test_an_open_connection_is_in_the_ledger_with_what_has_passed(world):
    session, client, upstream = websocket(world)
    asked, said = frame(TEXT, b"one", masked=True), frame(TEXT, b"three")

    client.send(asked)
    upstream.send(said * 2)
    (record,) = session.connections.open
    during = attrs.astuple(record.traffic)
    world.wait(3)
    client.hang_up()

    assert during == (0, len(asked), 2 * len(said), 1, 2)
    assert record.closed_at == record.opened + 3


def test_the_round_trip_of_a_ping_is_written_down_when_it_is_clear_which_was_answered(world):
    session, client, _upstream = websocket(world)
    (record,) = session.connections.open

    world.wait(60)
    world.advance(0.25)
    ((_, first),) = read(client.get())
    client.send(frame(PONG, first, masked=True))
    round_trips = [record.round_trip]
    world.wait(60.5)
    ((_, second),) = read(client.get())
    client.send(frame(PONG, first, masked=True))
    round_trips.append(record.round_trip)
    client.send(frame(PONG, second, masked=True))
    round_trips.append(record.round_trip)

    assert first != second
    assert round_trips == [0.25, 0.25, 0.75]
