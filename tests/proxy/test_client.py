"""A client's connection: heads, order, time and what the proxy answers itself, in memory."""

import json

import pytest
from twisted.protocols.haproxy._wrapper import HAProxyWrappingFactory

from plane_tx.core.forwarded import trusted_proxies
from plane_tx.core.model import Routing
from plane_tx.core.reader import MOST_AT_ONCE
from plane_tx.proxy.connection import (
    FLUSH_SECONDS,
    HEAD_SECONDS,
    KEEP_ALIVE_SECONDS,
    LINGER_SECONDS,
)
from tests.proxy.world import CLUSTER, OK, World, body_of, head_of, status

READY = f"GET /ready HTTP/1.1\r\nHost: {CLUSTER}\r\n\r\n".encode()
PAGE = "Accept: text/html,*/*\r\n"


def told(client, path, more="", method="GET", host=CLUSTER):
    """What the proxy answers at once to a request for `path`."""
    client.send(f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n{more}\r\n".encode())
    return client.get()


# Time


def test_a_head_that_takes_too_long_is_408(world):
    client = world.client()
    world.advance(HEAD_SECONDS - 1)
    client.send(b"GET / HT")

    world.advance(HEAD_SECONDS - 1)
    before = client.get()
    client.send(b"TP/1.1\r\n")
    world.advance(1)

    assert before == b""
    assert status(client.get()) == 408
    assert client.half_closed


def test_a_second_head_that_takes_too_long_is_408(world):
    client = world.client()
    client.send(READY + b"GET ")
    client.get()

    world.advance(HEAD_SECONDS)

    assert status(client.get()) == 408


def test_a_head_that_began_behind_a_request_has_its_time_from_the_reply_on(world):
    _, token = world.session()
    client = world.client()
    client.send(world.get(token) + b"GET ")
    upstream = world.accept()
    world.wait(2 * HEAD_SECONDS)

    upstream.send(OK)
    world.wait(HEAD_SECONDS - 1)
    before = status(client.get())
    world.wait(1)

    assert (before, status(client.get())) == (200, 408)


def test_a_connection_that_stays_silent_is_closed(world):
    client = world.client()

    world.advance(HEAD_SECONDS)
    world.wait(LINGER_SECONDS)

    assert client.get() == b""
    assert client.lost


def test_a_connection_without_a_request_is_closed_after_a_while(world):
    client = world.client()
    client.send(READY)

    world.advance(KEEP_ALIVE_SECONDS - 0.1)
    kept = not client.half_closed
    world.advance(0.1)
    closing = client.half_closed
    world.wait(LINGER_SECONDS)

    assert (kept, closing, client.lost, client.aborted) == (True, True, True, False)


def test_a_client_is_listened_to_for_a_while_after_our_last_word(world):
    client = world.client()

    client.send(b"nonsense\r\n\r\n")
    half = (client.half_closed, client.lost, client.paused)
    client.send(bytes(100000))
    world.wait(LINGER_SECONDS)

    assert half == (True, False, False)
    assert client.lost
    assert not client.aborted


def test_a_slow_reader_of_our_last_words_has_time_for_them_but_not_for_ever(world):
    client = world.client()
    client.stuck = True
    client.send(b"nonsense\r\n\r\n")

    world.wait(LINGER_SECONDS + FLUSH_SECONDS - 1)
    waiting = not client.aborted
    world.wait(1)

    assert (waiting, client.aborted) == (True, True)


def test_a_client_that_leaves_by_itself_needs_no_farewell(world):
    client = world.client()
    client.send(b"nonsense\r\n\r\n")

    client.hang_up()

    assert world.reactor.getDelayedCalls() == []


def test_over_tls_the_end_is_left_to_tls(world):
    client = world.client(secure=True)

    client.send(b"nonsense\r\n\r\n")
    world.advance(0)

    assert status(client.get()) == 400
    assert not client.half_closed
    assert client.lost


def test_over_tls_the_session_is_told_so(world):
    _, token = world.session()
    client = world.client(secure=True)

    client.send(world.get(token))

    assert head_of(world.accept().get())["x-forwarded-proto"] == "https"


# Order


def test_pipelined_requests_are_answered_in_order_one_at_a_time(world):
    _, token = world.session()
    client = world.client()

    client.send(world.get(token, "/1") + READY + world.get(token, "/2") + world.get(token, "/3"))
    upstream = world.accept()
    asked = [upstream.get().split(b" ")[1]]
    for reply in (b"a", b"b", b"c"):
        upstream.send(OK.replace(b"ok", reply * 2))
        asked.append(upstream.get()[4:7].strip())
    answers = client.get().split(b"HTTP/1.1 ")[1:]

    assert asked == [b"/1", b"/2", b"/3", b""]
    assert [answer.partition(b"\r\n\r\n")[2] for answer in answers] == [b"aa", b"", b"bb", b"cc"]


def test_thousands_of_refused_requests_in_one_segment_need_no_depth(world):
    client = world.client()
    request = f"GET / HTTP/1.1\r\nHost: {CLUSTER}\r\n\r\n".encode()

    client.send(request * 2000)
    in_one_turn = client.value().count(b"HTTP/1.1 400 ")
    for _ in range(2000 // MOST_AT_ONCE):
        world.advance(0)

    assert in_one_turn == MOST_AT_ONCE
    assert client.get().count(b"HTTP/1.1 400 ") == 2000


def test_more_pipelined_requests_than_may_wait_pause_the_client(world):
    _, token = world.session()
    client = world.client()
    client.send(world.get(token))

    client.send(world.get(token) * 1000)
    full = client.paused
    upstream = world.accept()
    for _ in range(1001):
        upstream.send(OK)
        world.advance(0)

    assert full
    assert not client.paused
    assert client.get().count(b"HTTP/1.1 200 ") == 1001


def test_what_cannot_be_read_behind_a_request_waits_for_its_reply(world):
    _, token = world.session()
    client = world.client()

    client.send(world.get(token) + b"nonsense\r\n\r\n")
    before = client.get()
    world.accept().send(OK)
    answers = client.get()

    assert before == b""
    assert answers.index(b"HTTP/1.1 200") < answers.index(b"HTTP/1.1 400")
    assert client.half_closed


def test_nothing_is_taken_behind_a_request_that_closes(world):
    _, token = world.session()
    client = world.client()

    client.send(world.get(token, more="Connection: close\r\n") + READY)
    client.send(READY)
    world.accept().send(OK)
    client.send(READY)

    assert client.get().count(b"HTTP/1.1 ") == 1


def test_a_refused_request_with_a_body_to_come_closes(world):
    client = world.client()

    answer = told(client, "/", "Content-Length: 5\r\n", "POST")

    assert head_of(answer)["connection"] == "close"
    assert client.half_closed


def test_a_refused_request_whose_body_has_come_does_not_close(world):
    client = world.client()

    post = f"POST / HTTP/1.1\r\nHost: {CLUSTER}\r\nContent-Length: 5\r\n\r\nhello".encode()
    client.send(post + READY)
    answers = client.get()

    assert answers.index(b"HTTP/1.1 400") < answers.index(b"HTTP/1.1 200")
    assert not client.half_closed


# What the proxy answers itself


@pytest.mark.parametrize(("recovered", "expected"), [(True, 200), (False, 503)])
def test_ready_tells_whether_the_engine_has_told_what_it_runs(world, recovered, expected):
    world.supervisor.recovery.done = recovered

    answer = told(world.client(), "/ready", host="any")

    assert status(answer) == expected
    assert body_of(answer) == b""


@pytest.mark.parametrize("path", ["/", "/?x=1", "*", "//x", "/?"])
def test_a_path_that_names_no_session_is_400(world, path):
    answer = told(world.client(), path, method="OPTIONS")

    assert status(answer) == 400
    assert "location" not in head_of(answer)


def test_the_root_redirects_where_the_configuration_says():
    world = World(root_redirect_url="https://example.org/x")

    answer = told(world.client(), "/")

    assert status(answer) == 301
    assert head_of(answer)["location"] == "https://example.org/x"
    assert head_of(answer)["content-length"] == "0"
    world.finish()


@pytest.mark.parametrize("path", ["/favicon.ico", "/" + "x" * 43 + "/a", "/s.foo/bar"])
def test_an_unknown_token_is_410(world, path):
    answer = told(world.client(), path)

    assert status(answer) == 410
    assert head_of(answer)["access-control-allow-origin"] == "*"
    assert head_of(answer)["access-control-allow-methods"] == "*"
    assert head_of(answer)["access-control-allow-headers"] == "*, Authorization"
    assert head_of(answer)["server"] == "plane-tx"


def test_a_session_that_has_ended_is_410_with_the_reason(world):
    session, token = world.session()
    world.end(session)
    client = world.client()

    client.send(world.get(token))

    answer = client.get()
    assert status(answer) == 410
    assert json.loads(body_of(answer))["kind"] == "SessionEnded"
    assert head_of(answer)["x-plane-backend-id"] == session.id


@pytest.mark.parametrize("host", ["elsewhere:9090", "localhost", f"sub.{CLUSTER}", "[::1"])
def test_a_host_where_the_session_does_not_live_is_403(world, host):
    _, token = world.session()

    assert status(told(world.client(), f"/{token}/", host=host)) == 403


def test_a_session_with_a_subdomain_lives_only_there(world):
    _, token = world.session(subdomain="sub")
    there, here = world.client(), world.client()

    there.send(f"GET /{token}/ HTTP/1.1\r\nHost: sub.{CLUSTER}\r\n\r\n".encode())
    world.accept().send(OK)

    assert status(there.get()) == 200
    assert status(told(here, f"/{token}/")) == 403


@pytest.mark.parametrize("path", ["/", "/ready", "/a/b?c"])
def test_a_session_with_a_host_of_its_own_has_every_path_there(world, path):
    _, token = world.session(routing=Routing.HOST)
    client = world.client()

    client.send(f"GET {path} HTTP/1.1\r\nHost: {token}.{CLUSTER}\r\n\r\n".encode())
    upstream = world.accept()
    asked = upstream.get()
    upstream.send(OK)

    assert asked.startswith(f"GET {path} HTTP/1.1\r\n".encode())
    assert "x-forwarded-prefix" not in head_of(asked)
    assert body_of(client.get()) == b"ok"


def test_the_path_of_a_static_token_passes_unchanged(world):
    _, token = world.session(use_static_token=True)
    client = world.client()

    client.send(world.get(token, "/foobar"))
    upstream = world.accept()
    asked = upstream.get()
    upstream.send(OK)

    assert asked.startswith(f"GET /{token}/foobar HTTP/1.1\r\n".encode())
    assert head_of(asked)["x-verified-secret"] == ""
    assert "x-verified-user-data" not in head_of(asked)


@pytest.mark.parametrize(
    ("asked", "upstream_sees"),
    [("", "/"), ("?x=1", "/?x=1"), ("/", "/"), ("/a//b?c/d", "/a//b?c/d")],
)
def test_the_token_is_taken_from_the_path(world, asked, upstream_sees):
    _, token = world.session()
    client = world.client()

    client.send(world.get(token, asked))
    upstream = world.accept()

    assert upstream.get().startswith(f"GET {upstream_sees} HTTP/1.1\r\n".encode())


@pytest.mark.parametrize("query", ["", "?a=b&c"])
def test_a_navigation_without_the_last_slash_is_sent_there(world, query):
    _, token = world.session()

    answer = told(world.client(), f"/{token}{query}", PAGE)

    assert status(answer) == 308
    assert head_of(answer)["location"] == f"/{token}/{query}"


def test_a_program_without_the_last_slash_is_not_sent_anywhere(world):
    _, token = world.session()
    client, poster = world.client(), world.client()

    client.send(world.get(token, ""))
    poster.send(world.get(token, "", PAGE, "POST"))

    assert world.dialled == 2


def test_an_absolute_target_has_the_say_over_the_host(world):
    _, token = world.session()
    client = world.client()

    client.send(f"GET http://{CLUSTER}/{token}/x HTTP/1.1\r\nHost: other\r\n\r\n".encode())
    asked = world.accept().get()

    assert asked.startswith(b"GET /x HTTP/1.1\r\n")
    assert head_of(asked)["host"] == CLUSTER
    assert b"other" not in asked


# The form of errors


def test_an_error_is_json_for_programs(world):
    answer = told(world.client(), "/nothing", "Accept: */*\r\n")

    assert head_of(answer)["content-type"] == "application/json"
    assert json.loads(body_of(answer))["kind"] == "UnknownToken"
    assert int(head_of(answer)["content-length"]) == len(body_of(answer))


def test_an_error_is_an_escaped_page_for_browsers(world):
    answer = told(world.client(), "/x", PAGE, host="<script>")

    assert head_of(answer)["content-type"] == "text/html; charset=utf-8"
    assert b"&lt;script&gt;" in body_of(answer)
    assert b"<script>" not in body_of(answer)


def test_an_error_for_head_has_no_body(world):
    answer = told(world.client(), "/nothing", method="HEAD")

    assert body_of(answer) == b""
    assert int(head_of(answer)["content-length"]) > 0


@pytest.mark.parametrize(
    ("request_bytes", "expected"),
    [
        (b"GET / HTTP/1.1\nHost: a\n\n", 400),
        (b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 70000, 431),
        (b"GET /" + b"x" * 70000, 431),
    ],
)
def test_a_head_that_is_not_to_be_read_is_refused(world, request_bytes, expected):
    client = world.client()

    client.send(request_bytes)

    answer = client.get()
    assert status(answer) == expected
    assert head_of(answer)["connection"] == "close"
    assert client.half_closed


def test_nothing_of_an_ambiguous_request_reaches_the_session(world):
    _, token = world.session()
    client = world.client()

    both = "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"
    client.send(world.get(token, "/", both, "POST") + b"0\r\n\r\n")

    assert status(client.get()) == 400
    assert world.dialled == 0


# Proxies in front


def forwarded(world, more, host="127.0.0.1"):
    """What a session is told by a request from `host` that says `more`, and the use it is."""
    session, token = world.session()
    client = world.client(host)
    client.send(world.get(token, "/", more))
    upstream = world.accept()
    told = {k: v for k, v in head_of(upstream.get()).items() if k.startswith("x-forwarded-")}
    (use,) = session.uses
    upstream.send(OK)
    return told, use.visit.peer, f"/{token}"


SAID = (
    "X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Prefix: /plane\r\n"
    "X-Forwarded-Host: app.example.com\r\n"
)


def test_what_a_trusted_proxy_says_of_its_client_passes_with_its_own_address_added():
    world = World(trusted_proxies=trusted_proxies(["127.0.0.0/8"]))

    told, peer, prefix = forwarded(world, SAID)

    assert told == {
        "x-forwarded-for": "203.0.113.9, 127.0.0.1",
        "x-forwarded-proto": "https",
        "x-forwarded-host": "app.example.com",
        "x-forwarded-port": "443",
        "x-forwarded-prefix": f"/plane{prefix}",
    }
    assert peer == "203.0.113.9"
    world.finish()


def test_what_anyone_else_says_is_replaced():
    world = World(trusted_proxies=trusted_proxies(["127.0.0.0/8"]))

    told, peer, prefix = forwarded(world, SAID, host="198.51.100.7")

    assert told == {
        "x-forwarded-for": "198.51.100.7",
        "x-forwarded-proto": "http",
        "x-forwarded-host": CLUSTER,
        "x-forwarded-port": "9090",
        "x-forwarded-prefix": prefix,
    }
    assert peer == "198.51.100.7"
    world.finish()


def test_a_missing_slash_is_added_below_the_prefix_of_a_trusted_proxy():
    world = World(trusted_proxies=trusted_proxies(["127.0.0.1"]))
    _, token = world.session()

    answer = told(world.client(), f"/{token}", f"{PAGE}X-Forwarded-Prefix: /plane\r\n")

    assert head_of(answer)["location"] == f"/plane/{token}/"
    world.finish()


def test_http_2_is_refused_by_its_name(world):
    client = world.client()

    client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")
    answer = client.get()

    assert status(answer) == 400
    assert json.loads(body_of(answer))["message"] == "HTTP/2 is not spoken here: use HTTP/1.1"
    assert client.half_closed


# A client that ends its side


@pytest.mark.parametrize("last", ["HTTP/1.1\r\nConnection: close", "HTTP/1.0"])
def test_who_ends_its_side_behind_its_last_request_gets_the_reply(world, last):
    session, token = world.session()
    client = world.client()
    client.send(world.get(token).replace(b"HTTP/1.1", last.encode()))
    upstream = world.accept()

    client.half_close()
    upstream.send(OK[:-1])
    held = world.uses()
    upstream.send(OK[-1:])
    answer = client.get()
    world.advance(0)

    assert held == ["request"]
    assert body_of(answer) == b"ok"
    assert (client.lost, client.aborted) == (True, False)
    assert session.uses == set()


def test_who_ends_its_side_of_a_connection_that_was_kept_has_gone(world):
    session, token = world.session()
    client = world.client()
    client.send(world.get(token))
    upstream = world.accept()

    client.half_close()

    assert upstream.aborted
    assert session.uses == set()


def test_the_end_behind_a_whole_upload_that_is_still_held_is_no_parting(world):
    session, token = world.spawn()
    client = world.client()
    more = "Connection: close\r\nContent-Length: 5\r\n"
    client.send(world.get(token, "/", more, "POST") + b"hello")

    client.half_close()
    world.make_ready(session)
    upstream = world.accept()
    asked = upstream.get()
    upstream.send(OK)

    assert body_of(asked) == b"hello"
    assert body_of(client.get()) == b"ok"


@pytest.mark.parametrize("sent", [b"", b"hell"])
def test_the_end_within_a_body_breaks_the_request_off(world, sent):
    session, token = world.session()
    client = world.client()
    more = "Connection: close\r\nContent-Length: 5\r\n"
    client.send(world.get(token, "/", more, "POST") + sent)
    upstream = world.accept()

    client.half_close()
    answer = client.get()
    world.advance(0)

    assert status(answer) == 400
    assert upstream.aborted
    assert client.lost
    assert session.uses == set()


def test_the_end_behind_requests_that_wait_their_turn_leaves_them_there(world):
    _, token = world.session()
    client = world.client()
    client.send(world.get(token) + world.get(token, "/last", "Connection: close\r\n"))
    upstream = world.accept()

    client.half_close()
    upstream.send(OK)
    first = client.get()
    upstream.send(OK)
    second = client.get()

    assert (body_of(first), body_of(second)) == (b"ok", b"ok")
    assert head_of(second)["connection"] == "close"


def test_the_end_within_a_body_that_waits_its_turn_is_a_parting(world):
    session, token = world.session()
    client = world.client()
    more = "Connection: close\r\nContent-Length: 9\r\n"
    client.send(world.get(token) + world.get(token, "/last", more, "POST") + b"some")
    upstream = world.accept()

    client.half_close()

    assert upstream.aborted
    assert session.uses == set()


def test_a_write_that_fails_ends_what_a_half_closed_client_asked_for(world):
    session, token = world.session()
    client = world.client()
    client.send(world.get(token, more="Connection: close\r\n"))
    upstream = world.accept()
    client.half_close()

    client.reset()

    assert upstream.aborted
    assert session.uses == set()


def test_behind_the_proxy_protocol_an_end_is_of_both_sides(world):
    session, token = world.session()
    client = world.wire(HAProxyWrappingFactory(world.factory).buildProtocol(None))
    client.send(b"PROXY TCP4 192.0.2.7 127.0.0.1 50000 9090\r\n")
    client.send(world.get(token, more="Connection: close\r\n"))
    upstream = world.accept()

    client.half_close()

    assert upstream.aborted
    assert session.uses == set()


def test_an_end_after_our_last_word_needs_no_farewell(world):
    client = world.client()
    _, token = world.session()
    client.send(world.get(token, more="Connection: close\r\n"))
    world.accept().send(OK)

    client.half_close()
    world.advance(0)

    assert (client.lost, client.aborted) == (True, False)


def test_who_reads_none_of_our_answers_is_given_no_more_of_them(world):
    client = world.client()
    client.fill()

    for _ in range(10):
        if not client.paused:
            client.send(READY * 2000)
    unread = client.get()
    paused = client.paused
    client.drain()
    world.wait(30)

    assert unread == b""
    assert paused
    assert client.get().count(b"HTTP/1.1 200 ") >= 2000
    assert not client.paused
