"""What must hold of core.http1, and of what the proxy makes of its events, whatever it is fed.

A case is bytes. The first tells what is read: requests, or the reply to a GET, to a HEAD, or to a
GET whose connection breaks. The next two tell how large the pieces are that the rest comes in.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import cycle

import attrs

from plane_tx.core import http1
from plane_tx.core.fields import HOP_BY_HOP, Headers, tokens_of, values_of
from plane_tx.core.headers import (
    Introductions,
    Peer,
    interim_lines,
    passing,
    request_head_of,
    request_trailers,
    response_lines,
)
from plane_tx.core.http1 import RequestParser, ResponseParser
from plane_tx.core.messages import (
    Broken,
    EndOfMessage,
    Framing,
    RequestEvent,
    RequestHead,
    ResponseEvent,
    ResponseHead,
    chunk,
    join_head,
    last_chunk,
)
from plane_tx.core.model import Executable, Key, Spec, Token
from plane_tx.core.routes import Route
from tests.proxy.strict_http import Message, read_request, read_response
from tests.sessions import make_session

PEER = Peer("203.0.113.9", secure=False)
_SESSION = make_session("abc123", Key("k"), "", Spec(Executable()), 0.0, 1)
_TOKEN = Token("t" * 43, "abc123", "s3cret")
ROUTE = Route(_SESSION, _TOKEN, "/", "/", "")

#: The events of a connection, a letter each: h(ead), i(nterim head), b(ody), e(nd), x (broken).
_REQUESTS = re.compile(r"(hb?e)*(hb?)?x?")
_REPLY = re.compile(r"i*(x|hb?[ex])")

_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")

Event = RequestEvent | ResponseEvent


@attrs.frozen
class Reading:
    """What a parser made of a connection: its events, adjoining parts of a body as one.

    Of a body that breaks off a parser may tell more or less: nobody acts on it.
    """

    events: tuple[Event | tuple[str, int], ...]
    surplus: bytes
    reusable: bool = attrs.field(default=False, eq=False)


def check(case: bytes) -> None:
    """Raise AssertionError when something does not hold for `case`."""
    if len(case) < 3:
        return
    kind, sizes, data = case[0] % 4, case[1:3], case[3:]
    if kind == 0:
        _check_requests(data, sizes)
    else:
        _check_reply(data, sizes, b"HEAD" if kind == 2 else b"GET", clean=kind != 3)


def _check_requests(data: bytes, sizes: bytes) -> None:
    whole, parts = _requests([data]), _requests(_cut(data, sizes))
    assert parts == whole, "it matters where requests are cut"
    assert _REQUESTS.fullmatch(_letters(whole)), whole
    heads = [event for event in whole.events if isinstance(event, RequestHead)]
    assert all(head.keep_alive for head in heads[:-1]), "something follows the last request"
    assert not whole.surplus or heads[-1].upgrade, "bytes of no one"
    again = _requests([data] * 3)
    assert again == _requests([data * 3]), "it matters that requests came before"
    for head, body, end in _messages(whole):
        _check_body(head, body, end)
        if isinstance(head, RequestHead) and head.host and head.target != b"*":
            _check_request(head, body, end)


def _check_reply(data: bytes, sizes: bytes, method: bytes, *, clean: bool) -> None:
    whole = _reply([data], method, clean=clean)
    parts = _reply(_cut(data, sizes), method, clean=clean)
    assert parts == whole, "it matters where a reply is cut"
    # An empty line behind a reply is passed over when it comes with it, and distrusted alone.
    assert whole.reusable or not parts.reusable, "cut, it passes for less than it is"
    assert _REPLY.fullmatch(_letters(whole)), whole
    complete = isinstance(whole.events[-1], EndOfMessage)
    if whole.reusable and complete and not any(map(_switches, whole.events)):
        _check_reply_again(whole, data, sizes, method)
    for head in whole.events:
        if isinstance(head, ResponseHead) and head.interim:
            _check_response(head, b"", None, method)
    for head, body, end in _messages(whole):
        _check_body(head, body, end)
        if isinstance(head, ResponseHead):
            _check_response(head, body, end, method)


def _check_reply_again(first: Reading, data: bytes, sizes: bytes, method: bytes) -> None:
    parser, copied = ResponseParser(method), http1.MOST_COPIED_BYTES
    http1.MOST_COPIED_BYTES = 0
    try:
        for pieces in ([data], [data], _cut(data, sizes), [data], [data]):
            parser.expect(method)
            events = [event for piece in pieces for event in _fed(parser, piece)]
            assert _joined(events) == first.events, "it matters that a reply came before"
            assert not parser.surplus
    finally:
        http1.MOST_COPIED_BYTES = copied


def _fed(parser: RequestParser | ResponseParser, piece: bytes) -> Iterator[Event]:
    yield from parser.feed(piece)
    while parser.pending:
        yield from parser.feed(b"")


def _cut(data: bytes, sizes: bytes) -> Iterator[bytes]:
    at = 0
    for size in cycle(1 + size % 64 for size in sizes):
        if at >= len(data):
            return
        yield data[at : at + size]
        at += size


def _requests(pieces: Iterator[bytes] | list[bytes]) -> Reading:
    parser = RequestParser()
    events = [event for piece in pieces for event in _fed(parser, piece)]
    return Reading(_joined(events), parser.surplus)


def _reply(pieces: Iterator[bytes] | list[bytes], method: bytes, *, clean: bool) -> Reading:
    parser, events, surplus = ResponseParser(method), list[Event](), b""
    for piece in pieces:
        if any(map(_switches, events)):
            surplus += piece  # for another reader: the connection was handed over
        else:
            events += _fed(parser, piece)
            surplus = parser.surplus
    reusable = parser.keep_alive
    return Reading(_joined([*events, *parser.close(clean=clean)]), surplus, reusable)


def _switches(event: Event) -> bool:
    # A 101 that does not say so is refused, with whatever follows.
    if not isinstance(event, ResponseHead) or event.status != 101:
        return False
    named = b"".join(values_of(event.headers, b"upgrade"))
    return bool(named) and b"upgrade" in tokens_of(values_of(event.headers, b"connection"))


def _joined(events: Iterable[Event]) -> tuple[Event, ...]:
    joined: list[Event | tuple[str, int]] = []
    for event in events:
        if isinstance(event, Broken):
            if joined and isinstance(joined[-1], bytes):
                joined.pop()
            joined.append((event.error.kind, event.error.status))
        elif isinstance(event, bytes | memoryview):
            assert event, "a part of a body without a byte"
            before = joined.pop() if joined and isinstance(joined[-1], bytes) else b""
            joined.append(before + bytes(event))
        else:
            joined.append(event)
    return tuple(joined)


def _letters(reading: Reading) -> str:
    return "".join(map(_letter, reading.events))


def _letter(event: Event | tuple[str, int]) -> str:
    match event:
        case RequestHead():
            return "h"
        case ResponseHead():
            return "i" if event.interim else "h"
        case bytes():
            return "b"
        case EndOfMessage():
            return "e"
        case _:
            return "x"


def _messages(
    reading: Reading,
) -> Iterator[tuple[RequestHead | ResponseHead, bytes, EndOfMessage | None]]:
    """Each head with its body and its end; None for the end of one that is not complete."""
    head, body = None, b""
    for event in reading.events:
        match event:
            case RequestHead() | ResponseHead():
                head, body = event, b""
            case bytes():
                body = event
            case EndOfMessage():
                assert head is not None
                yield head, body, event
                head = None
    if head is not None and not (isinstance(head, ResponseHead) and head.interim):
        yield head, body, None


def _check_body(head: RequestHead | ResponseHead, body: bytes, end: EndOfMessage | None) -> None:
    _check_headers(head.headers)
    if end is not None:
        _check_headers(end.trailers)
    if head.framing is Framing.NONE:
        assert body == b"", "a body that was not announced"
    if head.framing is Framing.LENGTH:
        length = int(values_of(head.headers, b"content-length")[0])
        assert len(body) == length if end else len(body) < length, "a body of another length"


def _check_headers(headers: Headers) -> None:
    for name, value in headers:
        assert _NAME.fullmatch(name), name
        assert not set(value) & set(b"\r\n\0"), value
        assert value == value.strip(b" \t"), value


def _check_request(head: RequestHead, body: bytes, end: EndOfMessage | None) -> None:
    """Whatever was taken, the session is sent one request that has one meaning."""
    path = head.target.partition(b"?")[0].decode("latin-1")
    route = attrs.evolve(ROUTE, target=head.target.decode("latin-1"), path=path)
    first = b"%s %s HTTP/1.1" % (head.method, head.target)
    said = request_head_of(head, route, PEER, Introductions())
    chunked = head.framing is Framing.CHUNKED
    trailers = request_trailers(end.trailers) if end else ()
    read = read_request(said + _body(body, trailers, chunked=chunked, ended=end is not None))
    if end is None:
        assert read is None, "an end that never came"
        return
    assert read is not None, "no end"
    message, rest = read
    assert rest == b"", "more than one request"
    assert (message.first, message.body) == (first, body)
    assert message.fields[b"x-verified-secret"] == [b"s3cret"]
    assert message.fields[b"x-forwarded-for"] == [b"203.0.113.9"]
    mine = {b"connection", b"upgrade"} if head.upgrade else set()
    _check_end_to_end(message, mine)


def _check_response(
    head: ResponseHead, body: bytes, end: EndOfMessage | None, method: bytes
) -> None:
    """Whatever was taken, the client is sent one reply that has one meaning."""
    first = b"HTTP/1.1 %d %s" % (head.status, head.reason)
    chunked = head.framing in (Framing.CHUNKED, Framing.UNTIL_CLOSE)
    lines = interim_lines(head) if head.interim else response_lines(head, "abc123")
    if chunked:
        lines.append(b"Transfer-Encoding: chunked")
    trailers = tuple(passing(end.trailers)) if end else ()
    said = join_head(first, lines)
    said += _body(body, trailers, chunked=chunked, ended=end is not None)
    read = read_response(said, method)
    if end is None and not head.interim:
        assert read is None, "an end that never came"
        return
    assert read is not None, "no end"
    message, rest = read
    assert rest == b"", "more than one reply"
    assert (message.first, message.body) == (first, body)
    _check_end_to_end(message, set())


def _body(body: bytes, trailers: Headers, *, chunked: bool, ended: bool) -> bytes:
    if not chunked:
        return body
    return (chunk(body) if body else b"") + (last_chunk(trailers) if ended else b"")


def _check_end_to_end(message: Message, mine: set[bytes]) -> None:
    told = set(message.fields) | set(message.trailers)
    assert not (told & HOP_BY_HOP) - mine - {b"transfer-encoding"}, told
