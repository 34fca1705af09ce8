"""Which headers cross the proxy, and what it says itself."""

import json

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plane_tx.core.fields import REPLY_MARKS, REQUEST_MARKS, fields_of
from plane_tx.core.headers import (
    Introductions,
    Peer,
    Renditions,
    cors,
    reply_trailers,
    request_head_of,
    request_trailers,
    response_lines,
)
from plane_tx.core.heads import marked_fields, marked_request_fields, sorted_lines
from plane_tx.core.http1 import RequestParser
from plane_tx.core.messages import Framing, RequestHead, ResponseHead
from plane_tx.core.model import Executable, Key, Spec, Token
from plane_tx.core.routes import Route
from tests.sessions import make_session

PEER = Peer("203.0.113.9", secure=False)
SESSION = make_session("abc123", Key("k"), "", Spec(Executable()), 0.0, 1)
TOKEN = Token("t" * 43, "abc123", "s3cret", user="ann", claims={"role": "x"})
ROUTE = Route(SESSION, TOKEN, "/a?b", f"/{'t' * 43}/a", f"/{'t' * 43}")


def read(marks, *headers):
    """What a head has of these fields, by the names of its attributes."""
    plain, marked = sorted_lines(map(b": ".join, headers), marks)
    asked = marks is REQUEST_MARKS
    fields = marked_request_fields(marked) if asked else marked_fields(marked, marks)
    return {"fields": fields, "plain": plain}


def asked(*headers, **changes):
    head = RequestHead(
        method=b"GET",
        target=b"/",
        version=b"1.1",
        framing=Framing.NONE,
        host=b"localhost:9090",
        keep_alive=True,
        **read(REQUEST_MARKS, (b"Host", b"localhost:9090"), *headers),
    )
    return attrs.evolve(head, **changes)


def made_of(head, route=ROUTE, peer=PEER):
    first, *lines = request_head_of(head, route, peer, Introductions()).split(b"\r\n")[:-2]
    assert first == b"GET %s HTTP/1.1" % route.target.encode()
    return fields_of(lines)


def sent(*headers, route=ROUTE, peer=PEER, **changes):
    """The fields that the upstream is sent, names in lower case."""
    made = made_of(asked(*headers, **changes), route, peer)
    return [(name.lower(), value) for name, value in made]


def granted(**changes):
    return attrs.evolve(ROUTE, token=attrs.evolve(TOKEN, **changes))


def replied(*headers, status=200):
    read_so = read(REPLY_MARKS, *headers)
    head = ResponseHead(status, b"OK", framing=Framing.LENGTH, keep_alive=True, **read_so)
    return list(fields_of(response_lines(head, "abc123")))


def test_a_rendition_is_made_anew_only_for_another_head():
    renditions = Renditions()
    read_so = read(REPLY_MARKS, (b"X-One", b"1"))
    head, other = (
        ResponseHead(status, b"OK", framing=Framing.NONE, keep_alive=True, **read_so)
        for status in (200, 404)
    )

    made = [renditions.of(each, "abc123") for each in (head, head, other, head)]

    assert made[0].startswith(b"HTTP/1.1 200 OK\r\nX-One: 1\r\n")
    assert made[1] is made[0]
    assert made[2] == made[0].replace(b"200", b"404")
    assert made[3] == made[0]


def test_a_clients_own_headers_pass_in_order_and_as_often_as_sent():
    own = ((b"Cookie", b"a"), (b"X-One", b"1"), (b"cookie", b"b"), (b"Authorization", b"Basic x"))

    made = made_of(asked(*own))

    assert made[0] == (b"Host", b"localhost:9090")
    assert made[-6:-2] == own


def test_the_upstream_is_told_who_is_there():
    told = dict(sent())

    assert told[b"x-verified-username"] == b"ann"
    assert told[b"x-verified-user-data"] == b'{"role":"x"}'
    assert told[b"x-verified-path"] == ROUTE.path.encode()
    assert told[b"x-verified-backend"] == b"abc123"
    assert told[b"x-verified-secret"] == b"s3cret"
    assert told[b"via"] == b"1.1 plane-tx"


def test_no_user_is_no_header_and_no_claims_are_an_empty_object():
    told = dict(sent(route=granted(user=None, claims={})))

    assert b"x-verified-username" not in told
    assert told[b"x-verified-user-data"] == b"{}"


def test_a_static_token_tells_no_claims_and_an_empty_secret():
    told = dict(sent(route=granted(static=True, secret="", user=None, claims={})))

    assert b"x-verified-user-data" not in told
    assert told[b"x-verified-secret"] == b""


def test_a_user_that_is_not_ascii_is_percent_encoded():
    assert dict(sent(route=granted(user="Zoë 雪")))[b"x-verified-username"] == b"Zo%C3%AB %E9%9B%AA"


def test_no_two_users_have_one_name():
    users = ["Zoë", "Zo%C3%AB", "100%", "100%25"]

    told = {dict(sent(route=granted(user=user)))[b"x-verified-username"] for user in users}

    assert len(told) == len(users)
    assert b"100%" in told


def test_claims_that_are_not_ascii_are_escaped_and_come_back_whole():
    claims = {"näme": "雪\r\nX: y", "deep": [{"a": None}]}

    told = dict(sent(route=granted(claims=claims)))[b"x-verified-user-data"]

    assert told.isascii()
    assert b"\r" not in told
    assert b"\n" not in told
    assert json.loads(told) == claims


@pytest.mark.parametrize(
    "name",
    [
        b"x-verified-username",
        b"X-Verified-Blah",
        b"X_Verified_Username",
        b"x-verified_user-data",
        b"X-Forwarded-For",
        b"x_forwarded_proto",
        b"X.Verified.Username",
        b"True-Client-IP",
        b"X-Forwarded-Anything",
        b"Forwarded",
        b"X-Real-IP",
        b"x_real_ip",
    ],
)
def test_a_forged_header_is_dropped(name):
    assert b"forged" not in [value for _, value in sent((name, b"forged"))]


@pytest.mark.parametrize(
    "name",
    [
        b"Connection",
        b"HTTP2-Settings",
        b"Keep-Alive",
        b"Proxy-Authenticate",
        b"Proxy-Authorization",
        b"Proxy-Connection",
        b"TE",
        b"Trailer",
        b"Transfer-Encoding",
        b"Upgrade",
    ],
)
def test_what_concerns_one_connection_does_not_pass(name):
    assert name.lower() not in dict(sent((name, b"x")))
    assert name not in dict(replied((name, b"x")))


def test_what_connection_lists_does_not_pass():
    own = ((b"Connection", b"close, X-Hop"), (b"x-hop", b"1"), (b"X-End", b"1"))

    assert b"x-hop" not in dict(sent(*own))
    assert b"x-hop" not in dict(replied(*own))
    assert (b"x-end", b"1") in sent(*own)


def test_connection_takes_nothing_away_that_goes_end_to_end():
    listed = b"Host, Content-Length, Cookie, Authorization, X-Verified-Username"

    told = dict(sent((b"Connection", listed), (b"Content-Length", b"1"), (b"Cookie", b"c")))

    assert told[b"host"] == b"localhost:9090"
    assert told[b"content-length"] == b"1"
    assert told[b"cookie"] == b"c"
    assert told[b"x-verified-username"] == b"ann"


def test_a_chunked_body_is_framed_again():
    assert (b"transfer-encoding", b"chunked") in sent(framing=Framing.CHUNKED)


def test_an_upgrade_is_offered_again():
    told = dict(sent((b"Connection", b"keep-alive, Upgrade"), upgrade=b"websocket"))

    assert (told[b"connection"], told[b"upgrade"]) == (b"Upgrade", b"websocket")


@pytest.mark.parametrize(
    ("host", "secure", "proto", "port"),
    [
        (b"localhost:9090", False, b"http", b"9090"),
        (b"example.org", False, b"http", b"80"),
        (b"example.org", True, b"https", b"443"),
        (b"[::1]", False, b"http", b"80"),
        (b"[::1]:81", False, b"http", b"81"),
    ],
)
def test_the_upstream_is_told_where_the_client_went(host, secure, proto, port):
    told = dict(sent(peer=Peer("::1", secure), host=host))

    assert told[b"x-forwarded-for"] == b"::1"
    assert told[b"x-forwarded-proto"] == proto
    assert told[b"x-forwarded-host"] == host
    assert told[b"x-forwarded-port"] == port
    assert told[b"x-forwarded-prefix"] == ROUTE.prefix.encode()


def test_what_trusted_proxies_told_wins_and_our_prefix_follows_theirs():
    peer = Peer("203.0.113.9", True, b"203.0.113.9, 10.0.0.1", b"app.example.com", b"", b"/plane")

    told = dict(sent((b"X-Forwarded-For", b"forged"), peer=peer, host=b"inner:81"))

    assert told[b"x-forwarded-for"] == b"203.0.113.9, 10.0.0.1"
    assert told[b"x-forwarded-proto"] == b"https"
    assert told[b"x-forwarded-host"] == b"app.example.com"
    assert told[b"x-forwarded-port"] == b"443"
    assert told[b"x-forwarded-prefix"] == b"/plane" + ROUTE.prefix.encode()


def test_a_port_that_was_told_wins_over_that_of_the_host():
    peer = Peer("1.2.3.4", secure=True, host=b"app.example.com:1", port=b"8443")

    assert dict(sent(peer=peer))[b"x-forwarded-port"] == b"8443"


def test_a_path_that_is_passed_whole_has_no_prefix():
    assert b"x-forwarded-prefix" not in dict(sent(route=attrs.evolve(ROUTE, prefix="")))


def test_an_introduction_is_made_anew_only_when_what_it_tells_has_changed():
    introductions = Introductions()
    head, other = asked(), asked(host=b"other")
    elsewhere = attrs.evolve(PEER, address="203.0.113.10")
    another = granted(user="bob")

    made = [
        dict(fields_of(introductions.header(*said).split(b"\r\n")[1:-1]))
        for said in (
            (head, ROUTE, PEER),
            (asked(), ROUTE, PEER),
            (other, ROUTE, PEER),
            (other, ROUTE, elsewhere),
            (other, another, elsewhere),
            (other, attrs.evolve(another, prefix=""), elsewhere),
            (asked(upgrade=b"x"), ROUTE, PEER),
            (asked((b"X-One", b"1")), ROUTE, PEER),
        )
    ]

    assert made[1] == made[0]
    assert made[2][b"X-Forwarded-Host"] == b"other"
    assert made[3][b"X-Forwarded-For"] == b"203.0.113.10"
    assert made[4][b"x-verified-username"] == b"bob"
    assert b"X-Forwarded-Prefix" in made[4]
    assert b"X-Forwarded-Prefix" not in made[5]
    assert made[6][b"Upgrade"] == b"x"
    assert made[7][b"X-One"] == b"1"
    assert b"Upgrade" not in made[7]


ASKED_AGAIN = [
    b"Host: a\r\nX-One: 1",
    b"Host: a\r\nX-One: 2",
    b"Host: b\r\nX-One: 2",
    b"Host: a\r\nX-One: 2\r\nConnection: x-one",
    b"Host: a\r\nX-One: 3\r\nConnection: x-one",
    b"Host: a\r\nX-One: 3\r\nContent-Length: 0",
    b"Host: a\r\nX-One: 4\r\nContent-Length: 0",
]


@given(said=st.lists(st.sampled_from(ASKED_AGAIN), min_size=1, max_size=8))
def test_an_introduction_of_any_request_of_a_connection_is_that_of_the_first(said):
    stream = b"".join(b"GET / HTTP/1.1\r\n%s\r\n\r\n" % each for each in said)
    heads = [each for each in RequestParser().feed(stream) if isinstance(each, RequestHead)]
    introductions = Introductions()

    told = [introductions.header(head, ROUTE, PEER) for head in heads]

    assert len(told) == len(said)
    assert told == [Introductions().header(head, ROUTE, PEER) for head in heads]


def test_trailers_pass_but_those_that_would_change_the_message():
    mine = ((b"X-Sum", b"1"),)
    others = ((b"X_Verified_Username", b"root"), (b"Host", b"a"), (b"Cookie", b"c"), (b"TE", b"x"))

    assert request_trailers(others + mine) == mine


def test_a_reply_passes_with_our_own_words_added():
    own = ((b"Server", b"theirs"), (b"Set-Cookie", b"a"), (b"Set-Cookie", b"b"))

    made = replied(*own, (b"Content-Length", b"1"))

    assert tuple(made[:4]) == (*own, (b"Content-Length", b"1"))
    assert (b"Via", b"1.1 plane-tx") in made
    assert (b"x-plane-backend-id", b"abc123") in made


@pytest.mark.parametrize(
    "where",
    [b"https://elsewhere.example/a?b#c", b"/login", b"../up", b"", b"//host/", b"/to-ken/x"],
)
@pytest.mark.parametrize("name", [b"Location", b"location", b"Content-Location"])
def test_where_a_reply_leads_is_left_alone(name, where):
    said = (name, where)

    assert replied(said, status=302).count(said) == 1


def test_a_204_has_no_length():
    assert b"Content-Length" not in dict(replied((b"Content-Length", b"0"), status=204))


def test_every_origin_has_leave_when_the_upstream_says_nothing_of_it():
    assert replied()[-3:] == [
        (b"access-control-allow-origin", b"*"),
        (b"access-control-allow-methods", b"*"),
        (b"access-control-allow-headers", b"*, Authorization"),
    ]


@pytest.mark.parametrize("name", [b"Origin", b"METHODS", b"headers"])
def test_the_upstreams_own_word_on_origins_stands(name):
    said = ((b"Access-Control-Allow-" + name, b"theirs"),)

    assert cors(said) == ()
    assert [value for key, value in replied(*said) if key.lower().startswith(b"access")] == [
        b"theirs"
    ]


def test_our_via_comes_behind_those_of_the_proxies_before_us():
    made = made_of(asked((b"Via", b"1.0 fred")))

    assert [value for name, value in made if name == b"Via"] == [b"1.0 fred", b"1.1 plane-tx"]


def test_a_session_cannot_say_which_one_it_is():
    made = replied((b"X-Plane-Backend-Id", b"other"))

    assert [value for name, value in made if name.lower() == b"x-plane-backend-id"] == [b"abc123"]


def test_trailers_of_a_reply_pass_but_those_that_would_change_its_head():
    mine = ((b"X-Sum", b"1"),)
    others = ((b"Set-Cookie", b"a"), (b"X-Plane-Backend-Id", b"b"), (b"TE", b"x"))

    assert reply_trailers((*others, *mine)) == mine


def test_a_101_tells_of_no_body():
    made = dict(replied((b"Content-Length", b"4"), status=101))

    assert b"Content-Length" not in made
