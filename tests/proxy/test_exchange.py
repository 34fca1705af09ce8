"""One request and its reply, in memory."""

import json

import attrs
import pytest
from twisted.internet.defer import ensureDeferred
from twisted.internet.error import DNSLookupError
from twisted.internet.error import TimeoutError as ConnectTimeout

from plane_tx.core.model import Address, Status
from plane_tx.core.use import Traffic
from plane_tx.proxy.upstream import (
    CONNECT_SECONDS,
    DRAIN_SECONDS,
    IDLE_MOST,
    IDLE_SECONDS,
    STALL_SECONDS,
)
from plane_tx.supervisor import CONFIRM_SECONDS
from tests.proxy.world import OK, body_of, head_of, long_reply, status


def asked(world, request=None, **config):
    """A ready session that was sent a request: session, client and upstream wires."""
    session, token = world.session(**config)
    client = world.client()
    client.send(request(token) if request else world.get(token))
    return session, client, world.accept()


def post(world, framing, body=b""):
    return lambda token: world.get(token, more=f"{framing}\r\n", method="POST") + body


def test_a_request_reaches_its_session_and_the_reply_comes_back(world):
    session, token = world.session(user="ann", auth={"role": "é"})
    client = world.client("203.0.113.9")

    client.send(world.get(token, "/a/b?c=d", "X-Verified-Username: forged\r\nX-Mine: 1\r\n"))
    upstream = world.accept()
    asked = upstream.get()
    upstream.send(b"HTTP/1.1 200 Fine\r\nServer: theirs\r\nContent-Length: 2\r\n\r\nok")
    answer = client.get()

    assert asked.startswith(b"GET /a/b?c=d HTTP/1.1\r\n")
    told = head_of(asked)
    assert told["host"] == "localhost:9090"
    assert told["x-mine"] == "1"
    assert told["x-verified-username"] == "ann"
    assert told["x-verified-user-data"] == '{"role":"\\u00e9"}'
    assert told["x-verified-path"] == f"/{token}/a/b"
    assert told["x-verified-backend"] == session.id
    assert told["x-forwarded-for"] == "203.0.113.9"
    assert told["x-forwarded-proto"] == "http"
    assert told["x-forwarded-prefix"] == f"/{token}"
    assert answer.startswith(b"HTTP/1.1 200 Fine\r\n")
    heard = head_of(answer)
    assert heard["server"] == "theirs"
    assert heard["x-plane-backend-id"] == session.id
    assert heard["access-control-allow-origin"] == "*"
    assert "connection" not in heard
    assert body_of(answer) == b"ok"


def test_the_next_request_uses_the_same_connections(world):
    _, client, upstream = asked(world)
    upstream.get()
    upstream.send(OK)
    client.get()

    client.send(world.get(world.token, "/two"))

    assert world.dialled == 0
    assert upstream.get().startswith(b"GET /two ")
    upstream.send(OK)
    assert body_of(client.get()) == b"ok"


def test_a_request_is_in_use_from_its_head_to_the_last_byte_of_its_reply(world):
    session, token = world.session()
    client = world.client()
    request = world.get(token)

    client.send(request[:20])
    before = world.uses()
    client.send(request[20:])
    during = world.uses()
    upstream = world.accept()
    upstream.send(OK[:-1])
    almost = world.uses()
    upstream.send(OK[-1:])

    assert (before, during, almost, world.uses()) == ([], ["request"], ["request"], [])
    assert session.idle_since == world.reactor.seconds()


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\nhello",
    ],
)
@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_a_body_passes_however_it_is_framed(world, reply, version):
    _session, token = world.session()
    client = world.client()
    client.send(world.get(token).replace(b"HTTP/1.1", f"HTTP/{version}".encode()))
    upstream = world.accept()

    for place in range(len(reply)):
        upstream.send(reply[place : place + 1])
    upstream.hang_up()
    answer = client.get()

    bounded = b"Content-Length" in reply
    body = body_of(answer)
    if bounded or version == "1.0":
        assert body == b"hello"
    else:
        assert body.startswith(b"1\r\nh\r\n1\r\ne\r\n")
        assert body.endswith(b"0\r\nX-Sum: 1\r\n\r\n" if b"X-Sum" in reply else b"0\r\n\r\n")
    assert client.half_closed == (version == "1.0")


@pytest.mark.parametrize(
    ("method", "reply"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
        ("HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"),
    ],
)
def test_a_reply_without_a_body_ends_with_its_head(world, method, reply):
    _, client, upstream = asked(world, lambda token: world.get(token, method=method))

    upstream.send(reply)

    assert body_of(client.get()) == b""
    assert world.uses() == []
    assert "1 idle" in repr(world.factory)


def test_a_client_of_http_1_0_that_asks_for_it_is_kept(world):
    _, client, upstream = asked(
        world,
        lambda token: world.get(token, more="Connection: keep-alive\r\n").replace(b"/1.1", b"/1.0"),
    )

    upstream.send(OK)

    assert head_of(client.get())["connection"] == "keep-alive"
    assert not client.half_closed


def test_connection_close_of_the_client_closes_after_the_reply(world):
    _, client, upstream = asked(world, lambda token: world.get(token, more="Connection: close\r\n"))

    upstream.send(OK)

    assert head_of(client.get())["connection"] == "close"
    assert client.half_closed


def test_a_continue_passes_end_to_end(world):
    framing = "Expect: 100-continue\r\nContent-Length: 4"
    _, client, upstream = asked(world, post(world, framing))
    head = upstream.get()

    upstream.send(b"HTTP/1.1 100 Continue\r\nConnection: x-hop\r\nX-Hop: 1\r\nX-End: 1\r\n\r\n")
    permit = client.get()
    client.send(b"body")
    upstream.send(OK)

    assert head_of(head)["expect"] == "100-continue"
    assert permit == b"HTTP/1.1 100 Continue\r\nX-End: 1\r\n\r\n"
    assert upstream.get() == b"body"
    assert body_of(client.get()) == b"ok"
    assert not client.half_closed


def test_a_client_of_http_1_0_is_spared_interim_replies(world):
    _, client, upstream = asked(world, lambda token: world.get(token).replace(b"/1.1", b"/1.0"))

    upstream.send(b"HTTP/1.1 103 Early Hints\r\n\r\n" + OK)

    assert client.get().startswith(b"HTTP/1.1 200 OK")


def test_chunks_and_trailers_of_a_request_pass_but_forged_ones(world):
    chunks = b"3\r\nabc\r\n0\r\nX-Sum: 7\r\nX-Verified-Username: root\r\nHost: evil\r\n\r\n"
    _, client, upstream = asked(world, post(world, "Transfer-Encoding: chunked", chunks))

    said = upstream.get()

    assert head_of(said)["transfer-encoding"] == "chunked"
    assert body_of(said) == b"3\r\nabc\r\n0\r\nX-Sum: 7\r\n\r\n"
    upstream.send(OK)
    assert body_of(client.get()) == b"ok"


def test_a_body_is_streamed_as_it_comes(world):
    _, client, upstream = asked(world, post(world, "Content-Length: 6", b"abc"))
    first = body_of(upstream.get())

    client.send(b"def")

    assert (first, upstream.get()) == (b"abc", b"def")


def test_an_early_reply_ends_the_upload(world):
    _, client, upstream = asked(world, post(world, "Content-Length: 100000", b"abc"))

    upstream.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
    client.send(b"more")
    world.advance(0)

    assert head_of(client.get())["connection"] == "close"
    assert client.half_closed
    assert not client.paused
    assert upstream.lost
    assert world.uses() == []


def test_a_body_that_comes_before_the_session_is_ready_waits_within_bounds(world):
    session, token = world.spawn()
    client = world.client()
    client.send(post(world, "Content-Length: 100000")(token))

    client.send(bytes(60000))
    some = client.paused
    client.send(bytes(40000))
    much = client.paused
    world.make_ready(session)
    upstream = world.accept()

    assert (some, much, client.paused) == (False, True, False)
    assert body_of(upstream.get()) == bytes(100000)


def test_a_session_that_does_not_keep_up_pauses_the_client(world):
    _, client, upstream = asked(world, post(world, "Content-Length: 100", b"abc"))

    upstream.fill()
    full = client.paused
    upstream.drain()

    assert (full, client.paused) == (True, False)


def test_a_client_that_does_not_keep_up_pauses_the_session(world):
    _, client, upstream = asked(world)
    upstream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc")

    client.fill()
    full = upstream.paused
    client.drain()

    assert (full, upstream.paused) == (True, False)


def test_a_connection_that_was_paused_at_its_last_byte_can_be_used_again(world):
    _, client, upstream = asked(world)

    client.fill()
    full = upstream.paused
    upstream.protocol.dataReceived(OK)  # it was on its way already

    assert (full, upstream.paused) == (True, False)


def test_a_request_of_a_client_that_does_not_read_waits_until_it_does(world):
    _session, token = world.session()
    client = world.client()
    client.fill()

    client.send(world.get(token))
    waited = not world.dialled
    client.drain()
    world.accept().send(OK)

    assert waited
    assert status(client.get()) == 200


# Holding


def test_a_held_request_is_carried_when_its_session_is_ready(world):
    session, token = world.spawn()
    client = world.client()

    client.send(world.get(token))
    held = world.uses()
    world.make_ready(session)
    admitted = world.uses()
    world.accept().send(OK)

    assert (held, admitted) == (["hold"], ["request"])
    assert body_of(client.get()) == b"ok"


def test_a_held_request_tells_who_asks_as_any_other(world):
    session, token = world.spawn(user="ann", auth={"role": "x"})
    client = world.client()

    client.send(world.get(token))
    world.make_ready(session)
    told = head_of(world.accept().get())

    assert told["x-verified-username"] == "ann"
    assert told["x-verified-user-data"] == '{"role":"x"}'
    assert told["x-verified-backend"] == session.id


def test_a_hold_that_runs_out_is_503_with_a_time_to_retry(world):
    session, token = world.spawn()
    client = world.client()
    client.send(world.get(token))

    world.wait(30)
    answer = client.get()

    assert status(answer) == 503
    assert head_of(answer)["retry-after"] == "2"
    assert head_of(answer)["x-plane-backend-id"] == session.id
    assert not client.half_closed
    assert world.uses() == []


def test_a_hold_whose_session_ends_is_410_with_the_reason(world):
    session, token = world.spawn()
    client = world.client()
    client.send(world.get(token))

    world.supervisor.soft_terminate(session.id)

    answer = client.get()
    assert status(answer) == 410
    assert "stopped by request" in json.loads(body_of(answer))["message"]


def test_a_client_that_leaves_while_held_takes_only_itself_along(world):
    session, token = world.spawn()
    first, second = world.client(), world.client()
    first.send(world.get(token))
    second.send(world.get(token))

    first.hang_up()
    left = world.uses()
    world.make_ready(session)
    world.accept().send(OK)

    assert left == ["hold"]
    assert body_of(second.get()) == b"ok"
    assert world.dialled == 0


def test_a_held_request_whose_rest_cannot_be_read_is_refused_once(world):
    session, token = world.spawn()
    client = world.client()
    client.send(post(world, "Transfer-Encoding: chunked")(token))

    client.send(b"zz\r\n")
    answer = client.get()
    world.make_ready(session)

    assert status(answer) == 400
    assert client.get() == b""
    assert world.dialled == 0


def test_a_request_that_turns_out_broken_is_taken_from_its_session(world):
    _, client, upstream = asked(world, post(world, "Transfer-Encoding: chunked", b"3\r\nabc\r\n"))

    client.send(b"zz\r\n")
    world.advance(0)

    assert status(client.get()) == 400
    assert upstream.lost


# Ends that come too early


def test_a_client_that_leaves_while_its_session_is_dialled_leaves_nothing(world):
    _, token = world.session()
    client = world.client()
    client.send(world.get(token))

    client.hang_up()

    assert world.reactor.connectors[-1].stoppedConnecting
    assert world.uses() == []


def test_a_session_learns_at_once_that_its_client_has_left(world):
    _, client, upstream = asked(world)
    upstream.send(b"HTTP/1.1 200 OK\r\n\r\ndata: 1\n\n")

    client.hang_up()
    world.advance(0)

    assert upstream.aborted
    assert world.uses() == []


def test_a_session_that_hangs_up_without_a_reply_is_502(world):
    session, client, upstream = asked(world)

    upstream.hang_up()
    before = client.get()
    world.wait(CONFIRM_SECONDS)
    answer = client.get()

    assert before == b""
    assert status(answer) == 502
    assert head_of(answer)["access-control-allow-origin"] == "*"
    assert head_of(answer)["x-plane-backend-id"] == session.id
    assert not client.half_closed


def test_a_session_that_hangs_up_because_it_ended_is_410_with_the_reason(world):
    session, client, upstream = asked(world)

    upstream.hang_up()
    world.end(session)

    answer = client.get()
    assert status(answer) == 410
    assert "its process ended by itself" in json.loads(body_of(answer))["message"]


def test_whoever_answers_late_where_an_ended_session_was_is_told_nothing(world):
    session, token = world.session()
    client = world.client()
    client.send(world.get(token))

    world.end(session)
    stranger = world.accept()

    assert stranger.get() == b""
    assert stranger.aborted
    assert status(client.get()) == 410


def test_a_session_that_hangs_up_while_it_is_ending_is_410(world):
    session, client, upstream = asked(world)
    world.engine.obeys = False
    world.supervisor.soft_terminate(session.id)

    upstream.hang_up()
    world.wait(CONFIRM_SECONDS)

    assert status(client.get()) == 410
    world.end(session)


@pytest.mark.parametrize(
    ("why", "told"),
    [
        (None, "refused the connection"),
        (DNSLookupError(), "refused the connection"),
        (ConnectTimeout(), "did not accept a connection in time"),
    ],
)
def test_a_session_that_cannot_be_reached_is_502(world, why, told):
    _, token = world.session()
    client = world.client()
    client.send(world.get(token))

    world.decline(why)
    world.wait(CONFIRM_SECONDS)
    answer = client.get()

    assert status(answer) == 502
    assert json.loads(body_of(answer)) == {
        "kind": "UpstreamUnreachable",
        "message": f"port 8080 of the session {told}",
    }
    assert world.reactor.tcpClients[-1][3] == CONNECT_SECONDS


def test_a_fault_of_ours_is_logged_and_answered(world, logged_failures):
    _, token = world.session()
    client = world.client()
    client.send(world.get(token))

    world.decline(ZeroDivisionError())

    assert status(client.get()) == 502
    logged_failures.claim(ZeroDivisionError)


def test_a_bounded_reply_that_breaks_off_arrives_as_far_as_it_came(world):
    _, client, upstream = asked(world)

    upstream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n0123456789")
    upstream.hang_up()
    world.advance(0)

    answer = client.get()
    assert (status(answer), body_of(answer)) == (200, b"0123456789")
    assert client.lost
    assert not client.aborted


def test_a_chunked_reply_that_breaks_off_is_never_completed(world):
    _, client, upstream = asked(world)

    upstream.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
    upstream.hang_up()
    world.advance(0)

    assert body_of(client.get()) == b"3\r\nabc\r\n"
    assert client.lost


def test_an_unbounded_reply_that_breaks_off_resets_the_client(world):
    _, client, upstream = asked(world, lambda token: world.get(token).replace(b"/1.1", b"/1.0"))

    upstream.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
    upstream.hang_up()
    world.advance(0)

    assert client.aborted


def test_a_close_delimited_reply_whose_connection_broke_is_not_complete(world):
    _, client, upstream = asked(world)

    upstream.send(b"HTTP/1.1 200 OK\r\n\r\nabc")
    upstream.reset()
    world.advance(0)

    assert body_of(client.get()) == b"3\r\nabc\r\n"
    assert client.lost


def test_a_client_that_does_not_read_the_end_of_a_cut_reply_is_dropped(world):
    _, client, upstream = asked(world)
    client.stuck = True
    upstream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc")

    upstream.hang_up()
    world.wait(31)

    assert client.aborted


@pytest.mark.parametrize(
    "reply",
    [
        b"hello\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + bytes(70000).replace(b"\0", b"a"),
    ],
)
def test_a_reply_that_makes_no_sense_is_502(world, reply):
    _, client, upstream = asked(world)

    upstream.send(reply)
    world.wait(CONFIRM_SECONDS)

    assert status(client.get()) == 502
    assert upstream.lost


def test_a_connection_on_which_more_came_than_was_asked_for_is_not_used_again(world):
    _, client, upstream = asked(world)

    upstream.send(OK + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
    world.advance(0)

    assert body_of(client.get()) == b"ok"
    assert upstream.lost


@pytest.mark.parametrize("keeps", [False, True])
def test_a_long_reply_that_comes_again_reaches_a_client_of_an_older_http(world, keeps):
    _, token = world.session()
    first, old = world.client(), world.client()
    first.send(world.get(token))
    upstream = world.accept()
    upstream.send(long_reply())
    ask = world.get(token, more="Connection: keep-alive\r\n" if keeps else "")

    old.send(ask.replace(b"HTTP/1.1", b"HTTP/1.0"))
    upstream.send(long_reply())
    answer = old.get()

    assert body_of(answer) == body_of(first.get()) == body_of(long_reply())
    assert head_of(answer)["connection"] == ("keep-alive" if keeps else "close")
    assert old.half_closed is not keeps


def test_a_client_that_leaves_before_it_has_read_a_long_reply_that_comes_again_leaves_nothing(
    world,
):
    session, client, upstream = asked(world)
    upstream.send(long_reply())
    client.send(world.get(world.token))
    client.fill()
    upstream.protocol.dataReceived(long_reply())  # it was on its way already

    client.reset()
    other = world.client()
    other.send(world.get(world.token))
    upstream.send(long_reply())

    assert body_of(other.get()) == body_of(long_reply())
    assert session.traffic.requests == 3


def test_an_idle_connection_on_which_something_comes_is_dropped(world):
    _, _client, upstream = asked(world)
    upstream.send(OK)

    upstream.send(b"HTTP/1.1 408 Request Timeout\r\n\r\n")
    world.advance(0)

    assert upstream.aborted


# Counting


@pytest.mark.parametrize(
    ("method", "reply", "size"),
    [
        ("GET", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 5),
        (
            "GET",
            (
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                b"2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\nX-Sum: 1\r\n\r\n"
            ),
            5,
        ),
        ("GET", b"HTTP/1.1 200 OK\r\n\r\nhello", 5),
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", 0),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", 0),
        ("GET", b"HTTP/1.1 103 Early\r\nX: 1\r\n\r\nHTTP/1.1 204 No\r\n\r\n", 0),
    ],
)
def test_the_body_of_a_reply_is_counted_without_its_framing(world, method, reply, size):
    _, _client, upstream = asked(world, lambda token: world.get(token, method=method))

    for place in range(len(reply)):
        upstream.send(reply[place : place + 1])
    upstream.hang_up()

    assert attrs.asdict(world.traffic()) == attrs.asdict(Traffic(1, 0, size, 0, 0))


@pytest.mark.parametrize(
    ("framing", "parts"),
    [
        ("Content-Length: 6", [b"abc", b"def"]),
        ("Transfer-Encoding: chunked", [b"3\r\nab", b"c\r\n3\r\ndef\r\n0\r\nX-Sum: 1\r\n\r\n"]),
    ],
)
def test_the_body_of_a_request_is_counted_without_its_framing(world, framing, parts):
    _, client, upstream = asked(world, post(world, framing, parts[0]))
    client.send(parts[1])
    during = world.traffic().bytes_from_clients

    upstream.send(OK)

    assert during == 6
    assert attrs.asdict(world.traffic()) == attrs.asdict(Traffic(1, 6, 2, 0, 0))


def test_what_waited_for_its_session_is_counted_once_it_is_carried(world):
    session, token = world.spawn()
    client = world.client()
    client.send(post(world, "Content-Length: 4", b"body")(token))
    held = attrs.asdict(world.traffic())
    world.make_ready(session)
    world.accept().send(OK)

    assert held == attrs.asdict(Traffic())
    assert attrs.asdict(world.traffic()) == attrs.asdict(Traffic(1, 4, 2, 0, 0))


def test_requests_on_one_connection_are_counted_each(world):
    session, client, upstream = asked(world)
    upstream.send(OK)
    during = attrs.asdict(world.traffic())

    client.send(world.get(world.token) * 2)
    upstream.send(OK)
    upstream.send(OK)

    assert during == attrs.asdict(Traffic(1, 0, 2))
    assert attrs.asdict(session.traffic) == attrs.asdict(Traffic(3, 0, 6))


def test_a_reply_that_goes_on_is_counted_as_it_comes(world):
    session, client, upstream = asked(world)
    upstream.send(b"HTTP/1.1 200 OK\r\n\r\n")
    (use,) = session.uses
    silent = use.last_data
    world.wait(5)
    upstream.send(b"data: 1\n\n")

    assert (silent, use.last_data) == (None, use.since + 5)
    assert world.traffic().bytes_to_clients == 9
    client.hang_up()
    assert session.traffic.bytes_to_clients == 9


def test_a_request_that_is_sent_again_is_one_request(world):
    _, client, upstream = asked(world)
    upstream.send(OK)
    client.send(world.get(world.token, "/again"))

    upstream.hang_up()
    world.accept().send(OK)

    assert world.traffic().requests == 2
    assert not world.supervisor.measures.upstream_errors


@pytest.mark.parametrize("reply", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"])
def test_a_request_that_its_session_fails_is_one_upstream_error(world, reply):
    _, _client, upstream = asked(world)
    upstream.send(reply)

    upstream.hang_up()
    world.wait(CONFIRM_SECONDS)

    assert world.supervisor.measures.upstream_errors == 1


def test_a_client_that_leaves_is_no_upstream_error(world):
    _, client, _upstream = asked(world)

    client.hang_up()

    assert not world.supervisor.measures.upstream_errors


# Revoking


def streaming(world, user):
    """A session of whose reply `user` has seen the beginning: session, client and upstream."""
    session, client, upstream = asked(world, user=user, token_ttl_seconds=60)
    upstream.send(b"HTTP/1.1 200 OK\r\n\r\ndata: 1\n\n")
    client.get()
    return session, client, upstream


def leads(world, token):
    """Whether a link leads to its session; whoever asks leaves at once."""
    client = world.client()
    client.send(world.get(token))
    refused = client.get()
    client.hang_up()
    assert not refused or status(refused) == 410
    return not refused


def test_a_reply_that_streams_is_cut_at_once_when_its_token_is_revoked(world):
    session, client, upstream = streaming(world, "ada")

    world.supervisor.revoke(session.id, "ada")

    assert client.aborted
    assert upstream.aborted
    assert client.get() == b""
    assert world.uses() == []


def test_a_held_request_is_refused_at_once_when_its_token_is_revoked(world):
    session, token = world.spawn(user="ada")
    client, other = world.client(), world.client()
    client.send(world.get(token))
    other.send(world.get(world.join(session, "bob")))

    world.supervisor.revoke(session.id, "ada")
    answer = client.get()
    held = world.uses()
    world.make_ready(session)
    world.accept().send(OK)

    assert status(answer) == 410
    assert json.loads(body_of(answer))["message"].startswith("this link was revoked")
    assert head_of(answer)["x-plane-backend-id"] == session.id
    assert held == ["hold"]
    assert body_of(other.get()) == b"ok"
    assert client.get() == b""
    assert world.dialled == 0


def test_a_request_without_a_reply_is_taken_back_when_its_token_is_revoked(world):
    session, client, upstream = asked(world, user="ada")

    world.supervisor.revoke(session.id, "ada")
    world.advance(0)

    assert status(client.get()) == 410
    assert upstream.aborted
    assert not client.half_closed
    assert world.uses() == []


def test_a_request_whose_session_is_dialled_is_taken_back_when_its_token_is_revoked(world):
    session, token = world.session(user="ada")
    client = world.client()
    client.send(world.get(token))

    world.supervisor.revoke(session.id, "ada")

    assert status(client.get()) == 410
    assert world.reactor.connectors[-1].stoppedConnecting
    assert world.uses() == []


def test_an_upload_ends_when_its_token_is_revoked(world):
    session, token = world.session(user="ada")
    client = world.client()
    client.send(post(world, "Content-Length: 100", b"abc")(token))
    upstream = world.accept()

    world.supervisor.revoke(session.id, "ada")
    client.send(b"more")
    world.advance(0)

    assert status(client.get()) == 410
    assert client.half_closed
    assert body_of(upstream.get()) == b"abc"
    assert upstream.aborted


def test_a_request_that_waits_to_be_told_why_it_failed_is_revoked_once(world):
    session, client, upstream = asked(world, user="ada")
    upstream.hang_up()

    world.supervisor.revoke(session.id, "ada")
    world.wait(CONFIRM_SECONDS)

    assert client.get().count(b"HTTP/1.1 ") == 1
    assert not client.closing
    assert not client.lost
    assert world.uses() == []


def test_what_is_pipelined_behind_a_revoked_request_is_refused_too(world):
    session, token = world.session(user="ada")
    client = world.client()
    client.send(world.get(token) * 3)
    world.accept()

    world.supervisor.revoke(session.id, "ada")

    assert client.get().count(b"HTTP/1.1 410 ") == 3
    assert world.dialled == 0


def test_a_revoked_link_is_410_and_those_of_others_and_later_ones_are_not(world):
    session, client, _upstream = streaming(world, "ada")
    mine, other, shared = world.token, world.join(session, "bob"), world.join(session)
    stream, idle = world.client(), world.client()
    stream.send(world.get(other))
    stream_upstream = world.accept()
    stream_upstream.send(b"HTTP/1.1 200 OK\r\n\r\ndata: 1\n\n")

    world.supervisor.revoke(session.id, "ada")
    later = world.join(session, "ada")
    stream_upstream.send(b"data: 2\n\n")

    assert client.aborted
    assert [leads(world, each) for each in (mine, other, shared, later)] == [
        False,
        True,
        True,
        True,
    ]
    assert b"data: 2" in stream.get()
    assert not idle.aborted
    assert world.uses() == ["request"]


def test_a_revocation_leaves_an_idle_connection_to_its_next_request(world):
    session, client, upstream = asked(world, user="ada")
    upstream.send(OK)
    client.get()

    world.supervisor.revoke(session.id, "ada")
    kept = not client.aborted
    client.send(world.get(world.token))

    assert kept
    assert status(client.get()) == 410


# Time to live


def test_a_link_that_nobody_uses_is_410_after_its_time(world):
    session, token = world.session(token_ttl_seconds=60)

    world.wait(59)
    world.supervisor.reap()
    alive = world.supervisor.registry.grants.get(token)
    world.wait(1)
    world.supervisor.reap()

    assert alive
    assert not leads(world, token)
    assert session.status is Status.READY
    assert len(world.supervisor.registry.grants) == 1


def test_a_link_lives_on_with_each_request(world):
    _session, token = world.session(token_ttl_seconds=60)
    led = []
    for _ in range(5):
        world.wait(50)
        world.supervisor.reap()
        led.append(leads(world, token))

    world.wait(60)
    world.supervisor.reap()

    assert led == [True] * 5
    assert not leads(world, token)
    assert len(world.supervisor.registry.grants._terms) == 0


@pytest.mark.parametrize("end", ["client", "session"])
def test_a_link_lives_while_a_reply_streams_and_its_time_after_it(world, end):
    _session, client, upstream = streaming(world, "ada")
    token = world.token
    for _ in range(10):
        world.wait(60)
        world.supervisor.reap()
    streamed = world.supervisor.registry.grants.get(token)

    (client if end == "client" else upstream).hang_up()
    world.wait(59)
    world.supervisor.reap()
    after = world.supervisor.registry.grants.get(token)
    world.wait(1)
    world.supervisor.reap()

    assert streamed is after is not None
    assert not leads(world, token)


def test_a_link_lives_while_its_request_is_held_and_carried(world):
    session, token = world.spawn(token_ttl_seconds=10)
    client = world.client()
    client.send(world.get(token))
    world.wait(20)
    world.supervisor.reap()
    world.make_ready(session)
    upstream = world.accept()
    world.wait(20)
    world.supervisor.reap()
    upstream.send(OK)

    assert body_of(client.get()) == b"ok"
    assert leads(world, token)
    assert world.supervisor.registry.grants._terms[token].open == 0


# Retrying


def test_a_request_is_sent_again_when_a_kept_connection_was_stale(world):
    _, client, upstream = asked(world)
    upstream.send(OK)
    client.get()

    client.send(world.get(world.token, "/again"))
    upstream.hang_up()
    second = world.accept()
    second.send(OK)

    assert second.get().startswith(b"GET /again ")
    assert body_of(client.get()) == b"ok"


def test_a_request_is_sent_again_only_once(world):
    _, client, upstream = asked(world)
    upstream.send(OK)
    client.get()
    client.send(world.get(world.token))

    upstream.hang_up()
    world.accept().hang_up()
    world.wait(CONFIRM_SECONDS)

    assert world.dialled == 0
    assert status(client.get()) == 502


@pytest.mark.parametrize(
    ("method", "more"), [("POST", ""), ("PATCH", ""), ("PUT", "Content-Length: 1\r\n")]
)
def test_a_request_that_may_have_had_an_effect_is_never_sent_again(world, method, more):
    _, client, upstream = asked(world)
    upstream.send(OK)
    client.get()
    client.send(world.get(world.token, "/", more, method))

    upstream.hang_up()
    world.wait(CONFIRM_SECONDS)

    assert world.dialled == 0
    assert status(client.get()) == 502
    client.hang_up()


def test_a_request_whose_reply_had_begun_is_never_sent_again(world):
    _, client, upstream = asked(world)
    upstream.send(OK)
    client.get()
    client.send(world.get(world.token))

    upstream.send(b"HTTP/1.1 2")
    upstream.hang_up()
    world.wait(CONFIRM_SECONDS)

    assert world.dialled == 0
    assert status(client.get()) == 502


# The pool


def test_an_idle_connection_is_dropped_after_a_while(world):
    _, _client, upstream = asked(world)
    upstream.send(OK)

    world.advance(IDLE_SECONDS - 0.1)
    kept = not upstream.closing
    world.advance(0.1)

    assert kept
    assert upstream.closing
    assert not upstream.aborted


def test_the_pool_keeps_no_more_than_so_many(world):
    _session, token = world.session()
    clients = [world.client() for _ in range(IDLE_MOST + 3)]
    for client in clients:
        client.send(world.get(token))
    upstreams = [world.accept() for _ in clients]

    for upstream in upstreams:
        upstream.send(OK)
    world.advance(0)

    assert f"{IDLE_MOST} open, {IDLE_MOST} idle" in repr(world.factory)


def test_the_end_of_a_session_drops_its_connections(world):
    session, _client, idle = asked(world)
    idle.send(OK)
    busy_client, other = world.client(), world.client()
    other.send(world.get(world.token))
    busy_client.send(world.get(world.token))
    busy = world.accept()
    idle.send(OK)
    busy.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")

    world.end(session)
    world.advance(0)
    at_once = (idle.closing, busy.closing or busy.aborted)
    world.wait(2 * DRAIN_SECONDS)

    assert at_once == (True, False)
    assert busy.aborted
    assert busy_client.lost


def test_a_slow_client_gets_all_that_an_ended_session_had_said(world):
    session, client, upstream = asked(world)
    upstream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nfour")
    client.get()
    client.fill()

    world.end(session)
    world.wait(20 * DRAIN_SECONDS)
    still_there = not upstream.aborted
    client.drain()
    upstream.send(b"more")

    assert still_there
    assert client.get() == b"more"


def test_a_connection_that_has_been_idle_too_long_is_given_to_nobody(world):
    _session, client, upstream = asked(world)
    upstream.send(OK)
    client.get()
    upstream.slow_to_close = True

    world.wait(IDLE_SECONDS)
    client.send(world.get(world.token, method="POST"))
    fresh = world.accept()
    fresh.send(OK)
    upstream.hang_up()

    assert upstream.closing
    assert fresh is not upstream
    assert status(client.get()) == 200


def test_a_session_that_takes_nothing_for_minutes_is_given_up(world):
    _session, client, upstream = asked(world, post(world, "Content-Length: 9", b"four"))
    upstream.fill()

    world.wait(STALL_SECONDS - 1)
    patient = not upstream.aborted
    world.wait(1 + CONFIRM_SECONDS)

    assert patient
    assert upstream.aborted
    assert status(client.get()) == 502
    assert world.uses() == []


def test_what_an_ended_session_had_to_say_still_arrives(world):
    session, client, upstream = asked(world)
    upstream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nla")

    world.end(session)
    upstream.send(b"st")
    world.advance(0)

    assert body_of(client.get()) == b"last"
    assert upstream.lost
    assert world.uses() == []


def test_a_stopping_server_does_not_wait_for_sessions_that_have_ended(world):
    session, client, upstream = asked(world)
    upstream.stuck = True
    world.end(session)
    client.hang_up()

    closing = ensureDeferred(world.factory.close())
    world.advance(0)

    assert closing.called
    assert upstream.lost
    assert world.reactor.getDelayedCalls() == []


def test_an_address_is_dialled_where_the_session_is(world):
    session, token = world.spawn()
    world.engine.run(session.id, Address("10.9.8.7", 1234))
    world.accept().send(b"HTTP/1.1 200 OK\r\n")
    world.advance(0)
    client = world.client()

    client.send(world.get(token))

    assert world.reactor.tcpClients[-1][:2] == ("10.9.8.7", 1234)


def test_a_small_request_leaves_in_one_piece_on_a_connection_that_was_kept(world):
    _session, client, upstream = asked(world)
    upstream.send(OK)
    upstream.get()
    pieces = []
    upstream.write = pieces.append

    client.send(post(world, "Content-Length: 5", b"hello")(world.token))

    assert len(pieces) == 1
    assert pieces[0].endswith(b"\r\n\r\nhello")


def test_a_reply_in_chunks_of_a_byte_arrives_whole_in_several_turns(world):
    _session, client, upstream = asked(world)

    upstream.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    upstream.send(b"1\r\na\r\n" * 2000 + b"0\r\n\r\n")
    paused = upstream.paused
    world.wait(1)

    assert paused
    assert body_of(client.get()).count(b"a") == 2000
    assert not upstream.paused


def test_a_reply_in_small_parts_is_read_whole_from_a_session_that_has_hung_up(world):
    _session, client, upstream = asked(world)

    upstream.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    upstream.send(b"1\r\na\r\n" * 2000 + b"0\r\n\r\n")
    upstream.hang_up()

    assert body_of(client.get()).endswith(b"0\r\n\r\n")
