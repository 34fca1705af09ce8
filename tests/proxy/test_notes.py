"""What the access log says of what clients, sessions and the proxy do, in memory."""

import pytest
from twisted.internet.defer import ensureDeferred

from plane_tx.core.forwarded import trusted_proxies
from plane_tx.proxy.connection import HEAD_SECONDS
from tests.proxy.frames import BINARY, CLOSE, TEXT, close, frame, switched, upgrade
from tests.proxy.world import CLUSTER, OK, World, body_of, long_reply, status

TUNNELLED = b"HTTP/1.1 101 Go\r\nConnection: Upgrade\r\nUpgrade: raw\r\n\r\n"
RAW = "Connection: Upgrade\r\nUpgrade: raw\r\n"


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path / "access.log", idle_timeout_seconds=30.0)
    yield world
    world.finish()


def asked(world, path="/page?q=1", more="", method="GET", user="ann", **config):
    """A ready session that was sent a request: client and upstream wires."""
    world.of, token = world.session(user=user, **config)
    client = world.client("203.0.113.9")
    client.send(world.get(token, path, more, method))
    return client, world.accept()


def ends(world, *names):
    """Of the one line of the log: how it ended, and the fields of these names."""
    (line,) = world.logged()
    return tuple(line[name] for name in ("status", "closed", "error", *names))


def test_a_request_has_one_line_when_its_reply_is_complete(world):
    _, upstream = asked(world, "/page?q=1", "Content-Length: 3\r\n", "POST")
    world.wires[-2].send(b"abc")
    world.wait(1)
    upstream.send(b"HTTP/1.1 201 Made\r\nContent-Length: 2\r\n\r\n")
    world.wait(2)
    before = world.logged()

    upstream.send(b"ok")
    (line,) = world.logged()

    assert before == []
    assert line == {
        "time": "2023-11-14T22:13:20.000Z",
        "session": world.of.id,
        "peer": "203.0.113.9",
        "user": "ann",
        "method": "POST",
        "path": "/page",
        "status": 201,
        "bytes_in": 3,
        "bytes_out": 2,
        "ms_first": 1000.0,
        "ms": 3250.0,
        "closed": "",
        "error": "",
    }


def test_bodies_are_counted_without_their_framing_and_for_each_request(world):
    client, upstream = asked(world)
    upstream.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")

    client.send(world.get(world.token, "/two", method="HEAD"))
    upstream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")

    assert [line["bytes_out"] for line in world.logged()] == [5, 0]


def test_a_long_reply_that_comes_again_is_counted_again(world):
    client, upstream = asked(world)
    upstream.send(long_reply())

    client.send(world.get(world.token, "/two"))
    upstream.send(long_reply())

    assert [line["bytes_out"] for line in world.logged()] == [len(body_of(long_reply()))] * 2


def test_pipelined_requests_have_a_line_each(world):
    client, upstream = asked(world)
    client.send(world.get(world.token, "/two") + b"nonsense\r\n\r\n")

    upstream.send(OK)
    upstream.send(OK)

    told = [(line["path"], line["status"], line["error"]) for line in world.logged()]
    assert told == [("/page", 200, ""), ("/two", 200, ""), ("", 400, "BadRequest")]


def test_an_interim_reply_is_not_the_reply(world):
    client, upstream = asked(world)
    upstream.send(b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\n")

    client.hang_up()

    assert ends(world, "ms_first") == (None, "client", "", None)


def test_a_client_that_leaves_in_the_middle_is_said_to_have(world):
    client, upstream = asked(world)
    upstream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nla")

    client.hang_up()

    assert ends(world, "bytes_out") == (200, "client", "", 2)


def test_a_client_that_leaves_while_held_was_sent_nothing(world):
    _, token = world.spawn()
    client = world.client()
    client.send(world.get(token))

    client.hang_up()

    assert ends(world, "ms_first", "path") == (None, "client", "", None, "/")


def test_a_held_request_has_the_time_of_its_hold(world):
    session, token = world.spawn()
    client = world.client()
    client.send(world.get(token))
    world.wait(5)
    world.make_ready(session)

    world.accept().send(OK)

    assert ends(world, "ms_first", "bytes_out") == (200, "", "", 5000.0, 2)


def test_a_hold_that_runs_out_is_a_refusal(world):
    session, token = world.spawn()
    client = world.client()
    client.send(world.get(token))

    world.wait(31)
    answer = client.get()

    size = len(answer.partition(b"\r\n\r\n")[2])
    assert ends(world, "session", "bytes_out") == (503, "", "SessionNotReady", session.id, size)


def test_a_session_that_breaks_off_is_said_to_have(world):
    _, upstream = asked(world)
    upstream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nla")

    upstream.hang_up()

    assert ends(world, "bytes_out") == (200, "session", "", 2)


def test_a_session_that_hangs_up_without_a_word_ended_a_request_that_we_answer(world):
    _, upstream = asked(world)

    upstream.hang_up()
    world.wait(2)

    assert ends(world) == (502, "session", "UpstreamUnreachable")


def test_a_request_that_is_sent_again_has_one_line(world):
    client, upstream = asked(world)
    upstream.send(OK)
    client.send(world.get(world.token, "/two"))

    upstream.hang_up()
    world.accept().send(OK)

    told = [(line["path"], line["status"], line["closed"]) for line in world.logged()]
    assert told == [("/page", 200, ""), ("/two", 200, "")]


def test_a_session_that_refuses_the_connection_is_a_refusal(world):
    _, token = world.session()
    world.client().send(world.get(token))

    world.decline()
    world.wait(2)

    assert ends(world) == (502, "", "UpstreamUnreachable")


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (b"", (410, "proxy", "UnknownToken")),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nla", (200, "proxy", "")),
    ],
)
def test_a_revoked_request_was_ended_by_us(world, reply, expected):
    _, upstream = asked(world)
    upstream.send(reply)

    world.supervisor.revoke(world.of.id, "ann")

    assert ends(world) == expected


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (b"", (504, "proxy", "IdleTimeout")),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nla", (200, "proxy", "")),
    ],
)
def test_an_idle_request_was_ended_by_us(world, reply, expected):
    _, upstream = asked(world)
    upstream.send(reply)

    world.wait(31)

    assert ends(world) == expected


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (b"", (503, "proxy", "SessionNotReady")),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nla", (200, "proxy", "")),
    ],
)
def test_a_request_that_outlasts_a_stop_was_ended_by_us(world, reply, expected):
    _, upstream = asked(world)
    upstream.send(reply)

    closing = ensureDeferred(world.factory.close())
    world.wait(15)

    assert closing.called
    assert ends(world) == expected


def test_an_upload_that_is_no_longer_http_was_ended_by_its_client(world):
    client, _ = asked(world, "/", "Transfer-Encoding: chunked\r\n", "POST")

    client.send(b"nonsense\r\n")

    assert ends(world) == (400, "client", "BadRequest")


@pytest.mark.parametrize(
    ("path", "shown", "expected"),
    [
        (f"/{'t' * 43}/page?q=1", "/tttttt…/page", (410, "", "UnknownToken")),
        ("/page", "/page", (410, "", "UnknownToken")),
        ("/", "/", (400, "", "BadRequest")),
        ("*", "*", (400, "", "BadRequest")),
    ],
)
def test_a_path_that_leads_nowhere_is_told_without_its_token(world, path, shown, expected):
    world.client().send(f"OPTIONS {path} HTTP/1.1\r\nHost: {CLUSTER}\r\n\r\n".encode())

    assert ends(world, "session", "path") == (*expected, "", shown)


def test_a_session_that_has_ended_is_named(world):
    session, token = world.session()
    world.end(session)

    world.client().send(world.get(token, "/late"))

    assert ends(world, "session", "path") == (410, "", "SessionEnded", session.id, "/late")


def test_a_refused_request_whose_body_is_still_coming_has_one_line(world):
    client = world.client()
    client.send(b"POST /x HTTP/1.1\r\nHost: localhost:9090\r\nContent-Length: 9\r\n\r\nsome")

    client.send(b"more!")

    assert ends(world, "bytes_in") == (410, "", "UnknownToken", 0)


def test_what_cannot_be_read_has_a_line_without_a_method(world):
    client = world.client("203.0.113.9")

    client.send(b"GET /\r\n\r\nno\r\n")

    expected = (400, "", "BadRequest", "", "", "203.0.113.9")
    assert ends(world, "method", "path", "peer") == expected


def test_a_head_that_takes_too_long_has_a_line_but_not_one_that_never_began(world):
    slow, silent = world.client(), world.client()
    slow.send(b"GET")

    world.wait(HEAD_SECONDS)

    assert ends(world) == (408, "", "HeadTimeout")
    assert silent.get() == b""


def test_health_checks_have_none(world):
    client = world.client()
    client.send(f"GET /ready HTTP/1.1\r\nHost: {CLUSTER}\r\n\r\n".encode())

    assert status(client.get()) == 200
    assert world.logged() == []


def test_a_redirect_of_ours_has_a_line(world):
    _, token = world.session()
    client = world.client()

    client.send(world.get(token, "", "Accept: text/html\r\n"))

    assert status(client.get()) == 308
    assert ends(world, "path", "bytes_out") == (308, "", "", f"/{token[:6]}…", 0)


def test_a_granted_preflight_has_the_status_that_its_client_saw(world):
    more = "Origin: https://a\r\nAccess-Control-Request-Method: PUT\r\n"
    _, upstream = asked(world, "/", more, "OPTIONS")

    upstream.send(b"HTTP/1.1 404 No\r\nContent-Length: 2\r\n\r\nno")

    assert ends(world, "bytes_out") == (204, "", "", 0)


@pytest.mark.parametrize("static", [False, True])
def test_the_token_of_a_session_is_never_in_its_path(world, static):
    spawn = {"use_static_token": True, "user": None} if static else {}
    _, token = world.session(**spawn)
    client = world.client()
    client.send(world.get(token, f"/x/{token}/y"))

    world.accept().send(OK)

    assert token[:7] not in world.log.read_text()
    assert ends(world, "path")[-1].endswith(f"/x/{token[:6]}…/y")
    assert token[:7] not in world.log.read_text()


def test_the_client_that_a_trusted_proxy_tells_of_is_the_peer(tmp_path):
    world = World(tmp_path / "log", trusted_proxies=trusted_proxies(["10.0.0.0/8"]))
    client = world.client("10.1.1.1")

    client.send(b"GET /x HTTP/1.1\r\nHost: localhost:9090\r\nX-Forwarded-For: 192.0.2.7\r\n\r\n")

    assert ends(world, "peer") == (410, "", "UnknownToken", "192.0.2.7")
    world.finish()


# Upgrades


def open_websocket(world):
    _, token = world.session(user="ann")
    browser = world.client()
    browser.send(upgrade(f"/{token}/ws?q=1"))
    upstream = world.accept()
    world.wait(1)
    upstream.send(switched())
    return browser, upstream


def test_a_websocket_has_one_line_when_it_ends(world):
    browser, upstream = open_websocket(world)
    browser.send(frame(TEXT, b"hello", masked=True))
    upstream.send(frame(BINARY, b"you"))
    world.wait(60)
    before = world.logged()

    browser.hang_up()

    sizes = (len(frame(TEXT, b"hello", masked=True)), len(frame(BINARY, b"you")))
    assert before == []
    assert ends(world, "path", "user", "bytes_in", "bytes_out", "ms_first") == (
        101, "client", "", "/ws", "ann", *sizes, 1000.0,
    )  # fmt: skip


def end_by_session(world, browser, upstream):
    upstream.send(close(1000))
    browser.send(frame(CLOSE, b"\x03\xe8", masked=True))
    upstream.hang_up()


def end_by_browser(world, browser, upstream):
    browser.send(frame(CLOSE, b"\x03\xe8", masked=True))
    upstream.send(close(1000))
    upstream.hang_up()


@pytest.mark.parametrize(
    ("end", "who"),
    [
        (end_by_session, "session"),
        (end_by_browser, "client"),
        (lambda world, browser, upstream: upstream.hang_up(), "session"),
        (lambda world, browser, upstream: browser.reset(), "client"),
        (lambda world, browser, upstream: world.end(*world.supervisor.registry), "session"),
        (
            lambda world, browser, upstream: world.factory.connections.copy().pop().go_away(),
            "proxy",
        ),
    ],
)
def test_who_ended_a_websocket_first_is_said(world, end, who):
    browser, upstream = open_websocket(world)

    end(world, browser, upstream)
    browser.hang_up()
    world.wait(15)

    assert ends(world) == (101, who, "")


def test_a_revoked_websocket_was_ended_by_us(world):
    open_websocket(world)
    (session,) = world.supervisor.registry

    world.supervisor.revoke(session.id, "ann")

    world.wait(1)
    assert ends(world) == (101, "proxy", "")


def test_a_refused_upgrade_is_an_ordinary_request(world):
    _, token = world.session()
    world.client().send(upgrade(f"/{token}/ws"))

    world.accept().send(b"HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno")

    assert ends(world, "bytes_out") == (403, "", "", 2)


@pytest.mark.parametrize("offer", [lambda token: upgrade(f"/{token}/ws"), None])
def test_an_upgrade_that_is_taken_up_wrongly_is_a_refusal(world, offer):
    _, token = world.session()
    client = world.client()
    client.send(offer(token) if offer else world.get(token, more=RAW))

    world.accept().send(b"HTTP/1.1 101 Go\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\n")
    client.hang_up()

    assert ends(world) == (502, "", "UpstreamUnreachable")


def test_an_upgrade_that_is_no_websocket_is_a_refusal_though_its_session_took_it_up(world):
    _, token = world.session()
    world.client().send(upgrade(f"/{token}/ws").replace(b"Version: 13", b"Version: 12"))

    world.accept().send(switched())

    assert ends(world) == (400, "", "BadRequest")


def test_a_tunnel_has_one_line_with_its_bytes_when_it_ends(world):
    client, upstream = asked(world, "/raw", RAW)
    upstream.send(TUNNELLED + b"hello")
    client.send(b"you")

    upstream.hang_up()

    assert ends(world, "path", "bytes_in", "bytes_out") == (101, "session", "", "/raw", 3, 5)


@pytest.mark.parametrize(
    ("end", "who"),
    [
        (lambda world, client, upstream: client.half_close(), "client"),
        (lambda world, client, upstream: upstream.half_close(), "session"),
        (lambda world, client, upstream: client.reset(), "client"),
        (lambda world, client, upstream: world.wait(31), "proxy"),
        (lambda world, client, upstream: world.supervisor.revoke(world.of.id, "ann"), "proxy"),
        (lambda world, client, upstream: ensureDeferred(world.factory.close()), "proxy"),
    ],
)
def test_who_ended_a_tunnel_first_is_said(world, end, who):
    client, upstream = asked(world, "/raw", RAW)
    upstream.send(TUNNELLED)

    end(world, client, upstream)
    client.hang_up()
    upstream.hang_up()
    world.wait(15)

    assert ends(world) == (101, who, "")


def test_without_a_log_nothing_is_noted():
    world = World()
    _, upstream = asked(world)
    (connection,) = world.factory.connections

    upstream.send(OK)

    assert connection._notes is None
    world.finish()
