"""What bytes on a connection mean: requests, replies, and what is neither."""

from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plane_tx.core import http1
from plane_tx.core.http1 import MAX_INTERIMS, MOST_COPIED_BYTES, RequestParser, ResponseParser
from plane_tx.core.messages import (
    Broken,
    EndOfMessage,
    Fields,
    Framing,
    RequestHead,
    ResponseHead,
    chunk,
    last_chunk,
    write_head,
)
from plane_tx.core.reader import MAX_HEAD_BYTES, MOST_AT_ONCE

END = EndOfMessage()


def joined(events):
    """Events with neighbouring pieces of body made one, for these may be cut anywhere."""
    whole = []
    for event in events:
        if isinstance(event, bytes) and whole and isinstance(whole[-1], bytes):
            whole[-1] += event
        else:
            whole.append(event)
    return whole


def fed(parser, *segments):
    return joined([event for segment in segments for event in parser.feed(segment)])


def requests(*segments):
    return fed(RequestParser(), *segments)


def replies(*segments, method=b"GET"):
    return fed(ResponseParser(method), *segments)


def closed_after(*segments, method=b"GET", clean=True):
    parser = ResponseParser(method)
    return joined([*fed(parser, *segments), *parser.close(clean=clean)])


def outline(events):
    """What happened, without the details."""
    return [
        event.status
        if isinstance(event, ResponseHead)
        else event.error.status
        if isinstance(event, Broken)
        else event.target
        if isinstance(event, RequestHead)
        else "end"
        if isinstance(event, EndOfMessage)
        else event
        for event in events
    ]


def head(*lines, first=b"GET / HTTP/1.1", host=b"Host: a"):
    kept = [line for line in (host, *lines) if line]
    return b"\r\n".join([first, *kept, b"", b""])


def post(*lines):
    return head(*lines, first=b"POST / HTTP/1.1")


CHUNKED = b"Transfer-Encoding: chunked"
SECOND = head(first=b"GET /2 HTTP/1.1")


# Requests


def test_a_head_tells_all_that_was_said():
    events = requests(head(b"X-A: 1", b"x-a:  2 \t", b"Empty:", first=b"GET /a?b HTTP/1.1"))

    assert events == [
        RequestHead(
            method=b"GET",
            target=b"/a?b",
            version=b"1.1",
            fields=Fields(((b"host", b"a"),), b"a"),
            framing=Framing.NONE,
            host=b"a",
            keep_alive=True,
            plain=(b"X-A: 1", b"x-a:  2 \t", b"Empty:"),
        ),
        END,
    ]
    assert events[0].headers == ((b"X-A", b"1"), (b"x-a", b"2"), (b"Empty", b""), (b"host", b"a"))


def test_a_body_of_a_length_is_told_as_it_comes():
    parser = RequestParser()

    events = [parser.feed(each) for each in (post(b"Content-Length: 5"), b"he", b"llo" + SECOND)]

    assert events[0][0].framing is Framing.LENGTH
    assert events[1:] == [[b"he"], [b"llo", END, *requests(SECOND)]]


def test_a_chunked_body_is_told_without_its_chunks_and_with_its_trailers():
    body = b"3;ext=1\r\nabc\r\n2\r\nde\r\n0\r\nX-Sum: 7\r\nX-Two: 8\r\n\r\n"

    first, *rest = requests(post(CHUNKED) + body)

    assert first.framing is Framing.CHUNKED
    assert rest == [b"abcde", EndOfMessage(((b"X-Sum", b"7"), (b"X-Two", b"8")))]


@pytest.mark.parametrize("length", [b"0", b"0\t"])
def test_a_length_of_nothing_is_no_body(length):
    first, *rest = requests(post(b"Content-Length: " + length))

    assert first.framing is Framing.NONE
    assert rest == [END]


@pytest.mark.parametrize(
    ("request_bytes", "kept"),
    [
        (head(), True),
        (head(b"Connection: Keep-Alive"), True),
        (head(b"Connection: x, Close"), False),
        (head(b"Connection: keep-alive, close"), False),
        (head(first=b"GET / HTTP/1.0"), False),
        (head(b"Connection: keep-alive", first=b"GET / HTTP/1.0"), True),
        (head(b"Connection: keep-alive, close", first=b"GET / HTTP/1.0"), False),
    ],
)
def test_a_connection_goes_on_as_its_version_and_headers_say(request_bytes, kept):
    first, _, *more = requests(request_bytes + SECOND)

    assert first.keep_alive is kept
    assert outline(more) == ([b"/2", "end"] if kept else [])


def test_requests_may_come_many_in_a_segment():
    events = requests(post(b"Content-Length: 2") + b"ab" + SECOND + post(CHUNKED) + b"0\r\n\r\n")

    assert outline(events) == [b"/", b"ab", "end", b"/2", "end", b"/", "end"]


def test_empty_lines_between_requests_are_passed_over():
    assert outline(requests(b"\r\n" + head() + b"\r\n\r\n" + SECOND)) == [b"/", "end", b"/2", "end"]


def test_nothing_is_read_after_the_last_request():
    parser = RequestParser()

    first = parser.feed(head(b"Connection: close") + b"garbage")

    assert outline(first) == [b"/", "end"]
    assert parser.feed(SECOND) == []
    assert parser.surplus == b""


def test_nothing_is_read_after_what_cannot_be_read():
    parser = RequestParser()

    first = parser.feed(head() + b"nonsense\r\n\r\n" + SECOND)

    assert outline(first) == [b"/", "end", 400]
    assert parser.feed(SECOND) == []


def test_an_unfinished_head_is_known():
    parser = RequestParser()

    seen = [parser.mid_head]
    for part in (b"GET", b" / HTTP/1.1\r\nHost: a\r\n", b"\r\n"):
        parser.feed(part)
        seen.append(parser.mid_head)

    assert seen == [False, True, True, False]


def test_a_header_that_was_the_last_one_too_says_the_same_again():
    parser, same = RequestParser(), head(b"X-A: 1")
    more = head(b"X-A: 1", b"Connection: close")

    first, again, other = (parser.feed(each)[0] for each in (same, same, more))

    assert again == first
    assert (first.keep_alive, other.keep_alive) == (True, False)


def test_a_request_that_is_the_last_one_again_is_told_again():
    parser, same = RequestParser(), head(b"Content-Length: 2") + b"ab"

    first, again = parser.feed(same), parser.feed(same)

    assert again == first
    assert again[0] is first[0]


def test_empty_lines_before_requests_that_come_again_are_counted_for_each_of_them():
    parser, same, lines = RequestParser(), head(), b"\r\n" * 20_000
    first = parser.feed(same)

    again = [event for _ in range(4) for each in (lines, same) for event in parser.feed(each)]

    assert again == first * 4


@pytest.mark.parametrize("other", [b"GET / HTTP/1.1\r\nA : b\r\n\r\n", b"G\0T / HTTP/1.1\r\n\r\n"])
def test_what_follows_a_request_that_came_again_is_judged_as_ever(other):
    parser, same = RequestParser(), head()
    parser.feed(same)
    parser.feed(same)

    (refused,) = parser.feed(other)

    assert isinstance(refused, Broken)


def test_a_reply_that_is_the_last_one_again_has_a_body_as_its_request_asks():
    parser = ResponseParser(b"GET")
    said = reply(b"Content-Length: 2")
    parser.feed(said + b"ab")
    parser.expect(b"HEAD")
    bodiless = parser.feed(said)
    parser.expect(b"GET")

    whole = parser.feed(said + b"cd")

    assert outline(bodiless) == [200, "end"]
    assert outline(whole) == [200, b"cd", "end"]


def test_a_reply_without_a_field_says_nothing_of_the_one_before():
    parser = ResponseParser(b"GET")
    parser.feed(reply(b"Content-Length: 1") + b"a")
    parser.expect(b"GET")

    events = parser.feed(b"HTTP/1.1 204 No Content\r\n\r\n")

    assert outline(events) == [204, "end"]
    assert events[0].headers == ()


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (b"http://b.example/x?y", (b"/x?y", b"b.example")),
        (b"http://b.example?y", (b"/?y", b"b.example")),
        (b"HTTPS://b.example:81", (b"/", b"b.example:81")),
    ],
)
def test_an_absolute_target_tells_path_and_host(target, expected):
    first, _ = requests(head(first=b"GET " + target + b" HTTP/1.1"))

    assert (first.target, first.host) == expected


def test_the_target_of_options_may_be_a_star():
    assert outline(requests(head(first=b"OPTIONS * HTTP/1.1"))) == [b"*", "end"]


def test_http_1_0_needs_no_host():
    first, _ = requests(head(first=b"GET / HTTP/1.0", host=b""))

    assert first.host == b""


REFUSED = {
    "two lengths": post(b"Content-Length: 1", b"Content-Length: 2"),
    "the same length twice": post(b"Content-Length: 1", b"Content-Length: 1"),
    "a list of lengths": post(b"Content-Length: 1, 1"),
    "a signed length": post(b"Content-Length: +1"),
    "a padded length": post(b"Content-Length: 01"),
    "a padded length of nothing": post(b"Content-Length: 00"),
    "an empty length": post(b"Content-Length:"),
    "a length and an encoding": post(b"Content-Length: 1", CHUNKED),
    "an encoding and a length": post(CHUNKED, b"Content-Length: 1"),
    "gzip": post(b"Transfer-Encoding: gzip"),
    "gzip, chunked": post(b"Transfer-Encoding: gzip, chunked"),
    "identity": post(b"Transfer-Encoding: identity"),
    "chunked twice": post(CHUNKED, CHUNKED),
    "chunked and a tab": post(CHUNKED + b"\t"),
    "chunked, a tab and a space": post(CHUNKED + b"\t "),
    "chunked, a space and a tab": post(CHUNKED + b" \t"),
    "chunked in 1.0": head(CHUNKED, first=b"POST / HTTP/1.0"),
    "an encoding without a body": head(b"Transfer-Encoding: gzip"),
    "bare LF after the request line": b"GET / HTTP/1.1\nHost: a\r\n\r\n",
    "bare LF after a header": b"GET / HTTP/1.1\r\nHost: a\n\r\n",
    "bare LF at the end": b"GET / HTTP/1.1\r\nHost: a\r\n\n",
    "bare CR": head(b"X: a\rb"),
    "NUL in a value": head(b"X: a\0b"),
    "NUL in the target": head(first=b"GET /\0 HTTP/1.1"),
    "obs-fold": head(b"X: a", b" b"),
    "a space before the colon": head(b"X : a"),
    "a space before the first header": head(host=b" Host: a"),
    "no name": head(b": a"),
    "0.9": b"GET /\r\n\r\n",
    "HTTP/0.9": head(first=b"GET / HTTP/0.9"),
    "HTTP/1.2": head(first=b"GET / HTTP/1.2"),
    "HTTP/2.0": head(first=b"GET / HTTP/2.0"),
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "CONNECT to a host": head(first=b"CONNECT a:443 HTTP/1.1"),
    "CONNECT to a path": head(first=b"CONNECT /a HTTP/1.1"),
    "no Host": head(host=b""),
    "two Hosts": head(b"Host: b"),
    "two Hosts in 1.0": head(b"Host: b", first=b"GET / HTTP/1.0"),
    "a target without a slash": head(first=b"GET a HTTP/1.1"),
    "another scheme": head(first=b"GET ftp://a/b HTTP/1.1"),
    "an unknown method": head(first=b"FOO / HTTP/1.1"),
    "a TLS hello": bytes.fromhex("16030100a5010000a10303"),
}


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED.keys())
def test_what_could_be_read_in_two_ways_is_refused(data):
    whole, bytewise = requests(data), requests(*(data[at : at + 1] for at in range(len(data))))

    assert outline(whole) == [400]
    assert outline(bytewise) == [400]


@pytest.mark.parametrize(
    "body",
    [
        b"zz\r\n",
        b"-1\r\na\r\n",
        b"0x1\r\na\r\n",
        b"1 \r\na\r\n",
        b"1\na\r\n",
        b"1\r\nab\r\n",
        b"fffffffffffffffff\r\n",
        b"0\r\nX : 1\r\n\r\n",
        b"0\r\nContent-Length: 1\r\n\r\n",
    ],
)
def test_a_chunk_that_makes_no_sense_ends_all(body):
    events = requests(post(CHUNKED) + body + SECOND)

    assert [event for event in outline(events) if event != b"a"] == [b"/", 400]


def test_a_head_may_be_long_but_not_longer():
    room = MAX_HEAD_BYTES - len(head(b"X: "))
    fits, exceeds = head(b"X: " + b"x" * room), head(b"X: " + b"x" * (room + 1))

    assert outline(requests(fits)) == [b"/", "end"]
    assert outline(requests(exceeds)) == [431]


@pytest.mark.parametrize(
    "start",
    [
        b"GET /",
        b"GET / HTTP/1.1\r\nX",
        b"GET / HTTP/1.1\r\nX: ",
        b"\r\n",
        head() + b"GET /",
        post(CHUNKED) + b"1;",
        post(CHUNKED) + b"0\r\nX: ",
        post(CHUNKED) + b"0\r\nX",
    ],
)
def test_a_line_that_never_ends_is_not_gathered_for_ever(start):
    parser = RequestParser()
    fed_bytes, events = 0, parser.feed(start)

    while not any(isinstance(event, Broken) for event in events):
        events = parser.feed((b"\r\n" if start == b"\r\n" else b"xx") * 500)
        fed_bytes += 1000

    assert outline(events) == [431]
    assert fed_bytes <= MAX_HEAD_BYTES + 1000


def test_many_small_headers_are_counted_together():
    parser = RequestParser()
    events = parser.feed(b"GET / HTTP/1.1\r\n")

    for _ in range(MAX_HEAD_BYTES // 8):
        events += parser.feed(b"A: 1234\r\n")

    assert outline(events) == [431]


# Upgrades

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04"

WEBSOCKET = head(b"Connection: keep-alive, Upgrade", b"Upgrade: WebSocket")


@pytest.mark.parametrize("segments", [(WEBSOCKET + b"abc", b"def"), (WEBSOCKET, b"abcdef")])
def test_what_follows_an_offer_of_websocket_is_kept_apart(segments):
    parser = RequestParser()

    first, end = fed(parser, *segments)

    assert (first.upgrade, first.keep_alive, end) == (b"websocket", False, END)
    assert parser.surplus == b"abcdef"
    assert not parser.mid_head


@pytest.mark.parametrize(
    ("lines", "body", "told"),
    [
        ((), b"", []),
        ((b"Content-Length: 4",), b"body", [b"body"]),
        ((CHUNKED,), b"4\r\nbody\r\n0\r\n\r\n", [b"body"]),
    ],
)
@pytest.mark.parametrize(
    "offer", [b"h2c", b"H2", b"h2c-14", b"HTTP/2.0", b"TLS/1.0, h2c", b"h3", b"b c", b"", b"/"]
)
def test_an_offer_of_http_itself_or_of_nothing_is_passed_over(lines, body, told, offer):
    request = post(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: " + offer, *lines)

    events = requests(request + body + SECOND)

    assert events[0].upgrade == b""
    assert outline(events) == [b"/", *told, "end", b"/2", "end"]


@pytest.mark.parametrize(
    ("offer", "passed"),
    [
        (b"echo", b"echo"),
        (b"tcp", b"tcp"),
        (b"SPDY/3.1", b"SPDY/3.1"),
        (b"h2c, Foo/1, TLS/1.2 ,bar", b"Foo/1, bar"),
    ],
)
@pytest.mark.parametrize("method", [b"GET", b"POST", b"OPTIONS"])
def test_any_other_offer_is_passed_on_and_what_follows_is_kept_apart(offer, passed, method):
    parser = RequestParser()
    lines = (b"Connection: Upgrade", b"Upgrade: " + offer)

    first, end = fed(parser, head(*lines, first=method + b" / HTTP/1.1") + b"abc", b"def")

    assert (first.method, first.upgrade, first.keep_alive, end) == (method, passed, False, END)
    assert parser.surplus == b"abcdef"


@pytest.mark.parametrize(
    ("lines", "body", "told"),
    [((b"Content-Length: 4",), b"body", b"body"), ((CHUNKED,), b"1\r\nx\r\n0\r\n\r\n", b"x")],
)
def test_no_offer_is_passed_on_of_a_request_with_a_body(lines, body, told):
    request = post(b"Connection: Upgrade", b"Upgrade: echo", *lines)

    events = requests(request + body + SECOND)

    assert events[0].upgrade == b""
    assert outline(events) == [b"/", told, "end", b"/2", "end"]


@pytest.mark.parametrize("segments", [[PREFACE], [PREFACE[:9], PREFACE[9:20], PREFACE[20:]]])
def test_the_preface_of_http_2_is_refused_by_its_name(segments):
    parser = RequestParser()

    events = [event for segment in segments for event in parser.feed(segment)]

    assert outline(events) == [400]
    assert str(events[0].error) == "HTTP/2 is not spoken here: use HTTP/1.1"


def test_an_offer_on_the_last_request_does_not_make_another_the_last():
    events = requests(head(b"Connection: close, Upgrade", b"Upgrade: h2c") + SECOND)

    assert outline(events) == [b"/", "end"]


@pytest.mark.parametrize(
    ("request_bytes", "body"),
    [
        (post(b"Connection: Upgrade", b"Upgrade: websocket"), b""),
        (head(b"Connection: Upgrade", b"Upgrade: websocket", b"Content-Length: 2"), b"ab"),
        (head(b"Connection: Upgrade", b"Upgrade: websocket", CHUNKED), b"2\r\nab\r\n0\r\n\r\n"),
        (head(b"Upgrade: websocket"), b""),
        (head(b"Connection: Upgrade"), b""),
    ],
)
def test_only_a_get_without_a_body_offers_websocket(request_bytes, body):
    events = requests(request_bytes + body + SECOND)

    assert events[0].upgrade == b""
    assert outline(events) == [b"/", *([b"ab"] if body else []), "end", b"/2", "end"]


def test_http_1_0_offers_no_websocket():
    lines = (b"Connection: keep-alive, Upgrade", b"Upgrade: websocket")

    events = requests(head(*lines, first=b"GET / HTTP/1.0") + SECOND)

    assert events[0].upgrade == b""
    assert outline(events) == [b"/", "end", b"/2", "end"]


# Replies


def reply(*lines, status=b"200 OK", version=b"1.1"):
    return b"\r\n".join([b"HTTP/" + version + b" " + status, *lines, b"", b""])


def test_a_status_line_and_headers_are_told():
    assert replies(reply(b"X: 1", b"Content-Length: 0", status=b"404 Not  there")) == [
        ResponseHead(
            status=404,
            reason=b"Not  there",
            fields=Fields(((b"content-length", b"0"),), framing=Framing.NONE),
            framing=Framing.NONE,
            keep_alive=True,
            plain=(b"X: 1",),
        ),
        END,
    ]


def test_a_reason_may_be_missing():
    first, _ = replies(b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n")

    assert (first.status, first.reason) == (200, b"")


@pytest.mark.parametrize(
    ("method", "data"),
    [
        (b"HEAD", reply(b"Content-Length: 5")),
        (b"HEAD", reply(CHUNKED)),
        (b"HEAD", reply()),
        (b"GET", reply(status=b"204 No Content")),
        (b"GET", reply(CHUNKED, status=b"204 No Content")),
        (b"GET", reply(b"Content-Length: 5", status=b"304 Not Modified")),
    ],
)
def test_a_reply_that_has_no_body_ends_with_its_head(method, data):
    parser = ResponseParser(method)

    first, end = parser.feed(data)

    assert (first.framing, end) == (Framing.NONE, END)
    assert parser.keep_alive
    assert parser.close() == []


@pytest.mark.parametrize(
    "data",
    [reply(b"Content-Length: 3") + b"abc", reply(CHUNKED) + b"3\r\nabc\r\n0\r\n\r\n"],
)
def test_interim_replies_come_before_the_real_one(data):
    interim = reply(status=b"100 Continue") + reply(b"Link: x", status=b"103 Early Hints")

    events = replies(interim + data)

    assert [event.interim for event in events[:3]] == [True, True, False]
    assert outline(events) == [100, 103, 200, b"abc", "end"]


def test_trailers_are_told_with_the_end():
    *_, end = replies(reply(CHUNKED) + b"1\r\na\r\n0\r\nX-Sum: 1\r\n\r\n")

    assert end.trailers == ((b"X-Sum", b"1"),)


def test_what_follows_a_101_is_kept_apart():
    parser = ResponseParser(b"GET")
    lines = (b"Connection: Upgrade", b"Upgrade: websocket")

    events = parser.feed(reply(*lines, status=b"101 Switching Protocols") + b"\x81\x02hi")

    assert outline(events) == [101, "end"]
    assert not events[0].interim
    assert parser.surplus == b"\x81\x02hi"
    assert not parser.dirty


def test_an_upgrade_offered_by_the_session_changes_nothing():
    lines = (b"Connection: Upgrade", b"Upgrade: h2,h2c", b"Content-Length: 3")

    assert outline(replies(reply(*lines) + b"abc")) == [200, b"abc", "end"]


def test_a_body_without_a_length_ends_with_the_connection():
    first, body, end = closed_after(reply(), b"ab", b"c")

    assert (first.framing, body, end) == (Framing.UNTIL_CLOSE, b"abc", END)


def test_a_body_without_a_length_does_not_end_with_a_broken_connection():
    assert outline(closed_after(reply(), b"abc", clean=False)) == [200, b"abc", 502]


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", []),
        (b"HTTP/1.1 2", []),
        (reply(status=b"100 Continue"), [100]),
        (reply(b"Content-Length: 5") + b"abc", [200, b"abc"]),
        (reply(CHUNKED) + b"3\r\nabc\r\n", [200, b"abc"]),
        (reply(CHUNKED) + b"3\r\nabc\r\n0\r\n", [200, b"abc"]),
    ],
)
def test_a_reply_that_is_cut_short_is_broken(data, told):
    assert outline(closed_after(data)) == [*told, 502]


@pytest.mark.parametrize(
    "data",
    [
        b"hello\r\n\r\n",
        reply(b"Content-Length: 1", b"Content-Length: 1"),
        reply(b"Content-Length: 1", CHUNKED),
        reply(b"Transfer-Encoding: gzip, chunked"),
        reply(CHUNKED + b"\t") + b"0\r\n\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        reply(b"X : 1"),
        reply(status=b"099 Odd"),
        reply(status=b"101 Switching Protocols"),
        reply(status=b"200 \x00"),
        reply(status=b"200 \x1b[2J"),
        reply(b"X: " + b"x" * MAX_HEAD_BYTES),
        reply(status=b"200 x" + b"x" * MAX_HEAD_BYTES),
    ],
)
def test_a_reply_that_cannot_be_read_is_broken(data):
    parser = ResponseParser(b"GET")

    events = parser.feed(data)

    assert outline(events) == [502]
    assert not parser.keep_alive
    assert parser.close() == []


def test_a_reply_whose_line_never_ends_is_broken():
    parser = ResponseParser(b"GET")
    parser.feed(b"HTTP/1.1 200 OK\r\nX: ")

    events = [event for _ in range(66) for event in parser.feed(b"x" * 1000)]

    assert outline(events) == [502]


def test_a_connection_whose_reply_cannot_be_read_is_dirty():
    parser = ResponseParser(b"GET")
    parser.feed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nConnection: a\r\n")

    parser.feed(b"\r\n")

    assert parser.dirty
    assert not parser.keep_alive


@pytest.mark.parametrize(
    ("first", "later"),
    [
        (reply(b"Content-Length: 1") + b"a" + reply(), b""),
        (reply(b"Content-Length: 1") + b"a", b"b"),
        (reply(b"Content-Length: 0") + b"garbage", b""),
        (reply(b"Content-Length: 0", b"Connection: close") + b"garbage", b""),
        (reply(b"Content-Length: 5", status=b"304 Not Modified") + b"12345", b""),
        (reply(status=b"204 No Content") + reply(b"Content-Length: 2") + b"ab", b""),
    ],
)
def test_what_nobody_asked_for_makes_a_connection_dirty(first, later):
    parser = ResponseParser(b"GET")

    events = fed(parser, first, later)

    assert outline(events)[-1] == "end"
    assert outline(events).count("end") == 1
    assert parser.dirty
    assert not parser.keep_alive


def test_an_empty_line_after_a_reply_is_passed_over():
    parser = ResponseParser(b"GET")

    parser.feed(reply(b"Content-Length: 0") + b"\r\n")

    assert parser.keep_alive


@pytest.mark.parametrize(
    ("version", "lines", "kept"),
    [
        (b"1.1", (b"Content-Length: 1",), True),
        (b"1.1", (b"Content-Length: 1", b"Connection: Close"), False),
        (b"1.1", (), False),
        (b"1.0", (b"Content-Length: 1",), False),
        (b"1.0", (b"Content-Length: 1", b"Connection: Keep-Alive"), True),
        (b"1.0", (b"Connection: keep-alive",), False),
    ],
)
def test_a_connection_is_kept_as_the_reply_says(version, lines, kept):
    parser = ResponseParser(b"GET")

    parser.feed(reply(*lines, version=version) + b"a")

    assert parser.keep_alive is kept


# Any segmentation

NAMES = st.sampled_from([b"X-A", b"x-b", b"Accept", b"Cookie"])
VALUES = st.binary(max_size=20).map(lambda raw: raw.hex().encode())
HEADERS = st.lists(st.tuples(NAMES, VALUES), max_size=4)
PIECES = st.lists(st.binary(min_size=1, max_size=40), max_size=4)


def framed(pieces, how, trailers):
    """The framing headers and the bytes of a body."""
    if how == "length":
        body = b"".join(pieces)
        return [(b"Content-Length", b"%d" % len(body))], body
    if how == "chunked":
        chunks = b"".join(map(chunk, pieces))
        return [(b"Transfer-Encoding", b"chunked")], chunks + last_chunk(trailers)
    return [], b""


def cut(data, places):
    at = sorted({place % (len(data) + 1) for place in places})
    return [data[a:b] for a, b in zip([0, *at], [*at, len(data)], strict=True)]


@st.composite
def request_streams(draw):
    stream = b""
    for _ in range(draw(st.integers(1, 4))):
        upgrade = draw(st.sampled_from([[], [(b"Connection", b"Upgrade"), (b"Upgrade", b"h2c")]]))
        how = draw(st.sampled_from(["none", "length", "chunked"]))
        framing, body = framed(draw(PIECES), how, tuple(draw(HEADERS)))
        headers = [(b"Host", b"a"), *draw(HEADERS), *upgrade, *framing]
        method = draw(st.sampled_from([b"GET", b"POST", b"PUT", b"OPTIONS"]))
        stream += write_head(method + b" /x?y HTTP/1.1", headers) + body
    return stream + draw(st.sampled_from([b"", b"", WEBSOCKET + b"\x81\x80frame"]))


@given(stream=request_streams(), places=st.lists(st.integers(0, 10**6), max_size=30))
def test_any_requests_are_the_same_in_any_segments(stream, places):
    whole, parts = RequestParser(), RequestParser()

    expected, told = fed(whole, stream), fed(parts, *cut(stream, places))

    assert told == expected
    assert parts.surplus == whole.surplus
    assert not any(isinstance(event, Broken) for event in told)
    assert not whole.mid_head
    heads = [event for event in told if isinstance(event, RequestHead)]
    assert len(heads) == stream.count(b" HTTP/1.1\r\n")


AGAIN = [
    head(),
    head(b"Content-Length: 3") + b"abc",
    head(b"Transfer-Encoding: chunked") + b"1\r\na\r\n0\r\n\r\n",
    head(b"X-A: 1"),
    head(b"X-A: 2"),
    head(b"X-A: 2", first=b"HEAD /b HTTP/1.1"),
    head(b"X-A: 2", host=b"Host: b"),
    head(b"X-A: 2", b"Connection: X-A"),
    head(b"X-A: 3", b"Connection: X-A"),
    head(b"X-A: 3", b"Content-Length: 3") + b"abc",
    head(b"Connection: Upgrade", b"Upgrade: h2c"),
]


@given(
    said=st.lists(st.sampled_from(AGAIN), min_size=1, max_size=8),
    places=st.lists(st.integers(0, 10**6), max_size=10),
)
def test_requests_that_come_again_are_told_as_if_each_were_the_first(said, places):
    expected = [event for each in said for event in requests(each)]

    told = requests(*cut(b"".join(said), places))

    assert told == expected


REPLIES_AGAIN = [
    reply(b"Content-Length: 3") + b"abc",
    reply(b"Content-Length: 3", b"X-A: 1") + b"abc",
    reply(b"Content-Length: 3", b"X-A: 2") + b"abc",
    reply(b"Content-Length: 3", b"X-A: 2", status=b"404 Not Found") + b"abc",
    reply(b"Content-Length: 3", b"X-A: 2", status=b"404 Gone") + b"abc",
    reply(b"X-A: 2", status=b"204 None"),
    reply(b"X-A: 3", status=b"204 None"),
    reply(b"Transfer-Encoding: chunked", b"X-A: 3") + b"1\r\na\r\n0\r\n\r\n",
    reply(b"X-A: 3", b"Connection: X-A", b"Content-Length: 0"),
]


@given(
    # At 0 every body is a view that can be.
    copied=st.sampled_from([0, MOST_COPIED_BYTES]),
    said=st.lists(st.sampled_from(REPLIES_AGAIN), min_size=1, max_size=8),
)
def test_replies_that_come_again_are_told_as_if_each_were_the_first(copied, said):
    parser, told = ResponseParser(b"GET"), []

    with patch.object(http1, "MOST_COPIED_BYTES", copied):
        for each in said:
            parser.expect(b"GET")
            told += fed(parser, each)

    assert told == [event for each in said for event in replies(each)]


def test_the_body_of_a_long_reply_that_comes_again_in_one_piece_is_no_copy():
    body = bytes(MOST_COPIED_BYTES)
    message = reply(b"Content-Length: %d" % len(body)) + body
    parser = ResponseParser(b"GET")
    first = parser.feed(message)
    parser.expect(b"GET")

    _, view, end = again = parser.feed(message)

    assert again == first
    assert (view.obj, end) == (message, END)


ONE_REPLY = reply(b"Content-Length: 3") + b"abc"


@pytest.mark.parametrize(
    ("segments", "told"),
    [
        ([ONE_REPLY], [200, b"abc", "end"]),
        ([ONE_REPLY[:-1], b"c"], [200, b"abc", "end"]),
        ([ONE_REPLY[:-3], b"abc"], [200, b"abc", "end"]),
        ([ONE_REPLY[:20], ONE_REPLY[20:]], [200, b"abc", "end"]),
        ([ONE_REPLY + b"\r\n"], [200, b"abc", "end"]),
        ([reply(b"Content-Length: 4") + b"abcd"], [200, b"abcd", "end"]),
    ],
    ids=["whole", "in two", "head first", "cut head", "empty line after", "another"],
)
def test_a_reply_that_comes_again_is_told_as_if_it_were_the_first(segments, told):
    parser = ResponseParser(b"GET")
    parser.feed(ONE_REPLY)
    parser.expect(b"GET")

    events = fed(parser, *segments)

    assert outline(events) == told
    assert parser.keep_alive


@pytest.mark.parametrize("after", [b"x", ONE_REPLY], ids=["a byte", "a whole reply"])
def test_what_follows_a_reply_that_comes_again_makes_the_connection_useless(after):
    parser = ResponseParser(b"GET")
    parser.feed(ONE_REPLY)
    parser.expect(b"GET")

    told = outline(parser.feed(ONE_REPLY + after))

    assert told[:3] == [200, b"abc", "end"]
    assert not parser.keep_alive


def test_a_head_that_comes_again_may_have_its_body_later():
    parser, first = RequestParser(), post(b"Content-Length: 2")
    parser.feed(first)
    parser.feed(b"ab")

    told = fed(parser, first, b"cd")

    assert outline(told) == [b"/", b"cd", "end"]


@st.composite
def reply_streams(draw):
    interim = draw(st.sampled_from([b"", reply(status=b"100 Continue") * 2]))
    how = draw(st.sampled_from(["none", "length", "chunked"]))
    pieces = draw(PIECES)
    framing, body = framed(pieces, how, tuple(draw(HEADERS)))
    if how == "none":
        body = b"".join(pieces)
    first = b"HTTP/1.1 " + draw(st.sampled_from([b"200 OK", b"404 Not Found", b"500 X"]))
    return interim + write_head(first, [*draw(HEADERS), *framing]) + body, b"".join(pieces)


@given(stream=reply_streams(), places=st.lists(st.integers(0, 10**6), max_size=30))
def test_any_reply_is_the_same_in_any_segments(stream, places):
    data, body = stream

    expected, told = closed_after(data), closed_after(*cut(data, places))

    assert told == expected
    assert b"".join(event for event in told if isinstance(event, bytes)) == body
    assert isinstance(told[-1], EndOfMessage)


@given(data=st.binary(max_size=200), places=st.lists(st.integers(0, 10**6), max_size=5))
def test_any_bytes_at_all_are_borne(data, places):
    for parser in (RequestParser(), ResponseParser(b"GET")):
        events = [event for part in cut(data, places) for event in parser.feed(part)]
        assert sum(isinstance(event, Broken) for event in events) <= 1


@given(
    request_bytes=st.sampled_from([*REFUSED.values()]),
    places=st.lists(st.integers(0, 10**6), max_size=10),
)
def test_what_is_refused_is_refused_in_any_segments(request_bytes, places):
    assert outline(requests(*cut(request_bytes, places))) == [400]


def test_a_reply_without_a_field_may_follow_one_with_fields() -> None:
    parser = ResponseParser(b"GET")
    parser.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    parser.expect(b"GET")

    events = parser.feed(b"HTTP/1.1 204 No Content\r\n\r\n")

    assert [type(event) for event in events] == [ResponseHead, EndOfMessage]


@pytest.mark.parametrize(
    "first", [b"POST /\nHost:a HTTP/1.1", b"GET /\n", b"GET /\nX: HTTP/1.1", b"GET /\rX: HTTP/1.1"]
)
def test_a_request_line_does_not_end_at_a_bare_line_feed(first):
    assert outline(requests(head(first=first))) == [400]


@pytest.mark.parametrize(("fields", "seen"), [(255, [b"/", "end"]), (256, [431])])
def test_a_head_may_have_many_fields_but_not_more(fields, seen):
    assert outline(requests(head(*[b"X: 1"] * fields))) == seen


def test_much_in_small_parts_is_read_in_several_goes():
    parser, many = RequestParser(), 3 * MOST_AT_ONCE

    goes = [parser.feed(SECOND * many)]
    while parser.pending:
        goes.append(parser.feed(b""))

    assert [len(events) for events in goes] == [2 * MOST_AT_ONCE] * 3
    assert not parser.feed(b"")


def test_chunks_of_a_byte_are_read_in_several_goes_and_arrive_whole():
    parser = RequestParser()
    (first,) = parser.feed(post(CHUNKED))
    events = parser.feed(b"1\r\na\r\n" * 1000 + b"0\r\n\r\n")
    in_one_go = len(events[0])

    while parser.pending:
        events += parser.feed(b"")

    assert first.framing is Framing.CHUNKED
    assert in_one_go < MOST_AT_ONCE
    assert joined(events) == [b"a" * 1000, END]


def test_a_trailer_cannot_end_a_connection():
    parts = post(CHUNKED), b"0\r\nConnection: close\r\n\r\n"

    assert outline(requests(*parts))[1:] == [400]


def test_more_trailers_than_anybody_has_are_refused():
    parser = RequestParser()
    parser.feed(post(CHUNKED))
    events = parser.feed(b"0\r\n" + b"X: 1\r\n" * 300 + b"\r\n")

    while parser.pending:
        events += parser.feed(b"")

    assert outline(events) == [431]


def test_proxy_connection_is_heeded_as_llhttp_does():
    (asked, _end) = requests(head(b"Proxy-Connection: close"))

    assert not asked.keep_alive


@pytest.mark.parametrize(
    "flood",
    [
        reply(status=b"102 Processing") * (MAX_INTERIMS + 1),
        reply(status=b"100 Continue", version=b"1.0"),
    ],
)
def test_interim_replies_have_their_bounds(flood):
    assert outline(replies(flood))[-1] == 502
