"""Whatever is valid arrives as it was sent, in whatever segments it comes."""

from __future__ import annotations

from unittest.mock import patch

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plane_tx.core import http1
from plane_tx.core.messages import chunk, last_chunk, write_head
from tests.proxy.strict_http import Message, read_request, read_response
from tests.proxy.world import CLUSTER, OK, World

#: What the proxy says itself, to a session and to a client.
OURS = (b"x-verified-", b"x-forwarded-", b"via", b"x-plane-", b"access-control-", b"connection")

VISIBLE = "".join(map(chr, range(0x21, 0x7F)))
PATHS = st.text(VISIBLE.replace("#", "").replace("?", ""), max_size=12)
QUERIES = st.none() | st.text(VISIBLE.replace("#", ""), max_size=12)
NAMES = st.text("abcXYZ019!$%&'*+.^_`|~-", max_size=8).map(lambda rest: f"Y-{rest}".encode())
KNOWN = st.sampled_from([b"Accept", b"Cookie", b"Authorization", b"Range", b"Origin", b"ETag"])
LATIN = "".join(map(chr, range(0xA1, 0x100)))
VALUES = st.text(VISIBLE + " \t" + LATIN, max_size=20).map(
    lambda text: text.encode("latin-1").strip(b" \t")
)
HEADERS = st.lists(st.tuples(NAMES | KNOWN, VALUES), max_size=4)
TRAILERS = st.lists(st.tuples(NAMES, VALUES), max_size=2)
PIECES = st.lists(st.binary(min_size=1, max_size=300), max_size=4)
PLACES = st.lists(st.integers(0, 10**6), max_size=30)
REASONS = st.text(VISIBLE + " " + LATIN, max_size=12).map(lambda text: text.encode("latin-1"))

METHODS = [b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"PROPFIND"]
STATUSES = [200, 201, 206, 301, 400, 404, 418, 500, 599, 999]
BODILESS = [204, 304]


@attrs.frozen
class Sent:
    """A message as it goes over the wire, and what it means; `closes` is how its body ends."""

    raw: bytes
    message: Message
    closes: bool = False


@pytest.fixture(scope="module")
def place():
    """A proxy with a ready session, for every example: each has connections of its own."""
    world = World()
    world.session()
    yield world
    world.finish()


def named(headers):
    fields: dict[bytes, list[bytes]] = {}
    for name, value in headers:
        fields.setdefault(name.lower(), []).append(value)
    return fields


def own(message):
    """The message without what the proxy added."""
    fields = {name: v for name, v in message.fields.items() if not name.startswith(OURS)}
    return attrs.evolve(message, fields=fields)


def cut(data, places):
    at = sorted({place % (len(data) + 1) for place in places})
    parts = (data[a:b] for a, b in zip([0, *at], [*at, len(data)], strict=True))
    return [part for part in parts if part]


def framed(how, pieces, trailers):
    """The header that frames a body, and its bytes."""
    if how == "length":
        body = b"".join(pieces)
        return [(b"Content-Length", b"%d" % len(body))], body
    if how == "chunked":
        chunks = b"".join(map(chunk, pieces))
        return [(b"Transfer-Encoding", b"chunked")], chunks + last_chunk(trailers)
    return [], b"".join(pieces)


@st.composite
def requests(draw):
    """A request that keeps its connection; the session is to see it without `/@@`."""
    how = draw(st.sampled_from(["none", "length", "chunked"]))
    pieces = draw(PIECES) if how != "none" else []
    trailers = draw(TRAILERS) if how == "chunked" else []
    framing, body = framed(how, pieces, trailers)
    expect = [(b"Expect", b"100-continue")] if pieces and draw(st.booleans()) else []
    headers = [(b"Host", CLUSTER.encode()), *draw(HEADERS), *expect, *framing]
    path, query = draw(PATHS), draw(QUERIES)
    target = (f"/{path}" if query is None else f"/{path}?{query}").encode()
    method = draw(st.sampled_from(METHODS))
    message = Message(
        b"%s %s HTTP/1.1" % (method, target), named(headers), b"".join(pieces), named(trailers)
    )
    return Sent(write_head(b"%s /@@%s HTTP/1.1" % (method, target), headers) + body, message)


@st.composite
def interims(draw):
    first = b"HTTP/1.1 %d %s" % (draw(st.sampled_from([100, 102, 103])), draw(REASONS))
    headers = draw(HEADERS)
    return Sent(write_head(first, headers), Message(first, named(headers)))


@st.composite
def replies(draw, method):
    """A reply to a request with `method`, and what a client is to read of it."""
    status = draw(st.sampled_from(STATUSES + BODILESS))
    first = b"HTTP/1.1 %d %s" % (status, draw(REASONS))
    headers = draw(HEADERS)
    how = draw(st.sampled_from(["length", "chunked", "until close"]))
    pieces = draw(PIECES)
    trailers = draw(TRAILERS) if how == "chunked" else []
    if method == b"HEAD" or status in BODILESS:
        length = [(b"Content-Length", b"%d" % draw(st.integers(0, 10**9)))]
        told = length if how == "length" and status != 204 else []
        return Sent(write_head(first, headers + told), Message(first, named(headers + told)))
    framing, body = framed(how, pieces, trailers)
    told = framing or [(b"Transfer-Encoding", b"chunked")]
    message = Message(first, named(headers + told), b"".join(pieces), named(trailers))
    return Sent(write_head(first, headers + framing) + body, message, how == "until close")


@st.composite
def dialogues(draw):
    """What is asked on one connection, one after the other, and what is replied to each."""
    methods = draw(st.lists(st.sampled_from(METHODS), min_size=1, max_size=3))
    return [
        (method, draw(st.lists(interims(), max_size=2)), draw(replies(method)))
        for method in methods
    ]


class Server:
    """A session's server: it reads each request strictly, and answers it."""

    def __init__(self, world):
        self.world = world
        self.requests = []
        self.continued = 0
        self._unread = {}

    def serve(self):
        """Take what has come until there is nothing more to take."""
        while self.world.dialled:
            self._unread[self.world.accept()] = b""
        before = len(self.requests)
        for wire in self._unread:
            self._read(wire)
        if self.world.dialled or len(self.requests) > before:
            self.serve()

    def _read(self, wire):
        begins = not self._unread[wire]
        unread = self._unread[wire] = self._unread[wire] + wire.get()
        if begins and b"\r\nExpect: 100-continue\r\n" in unread:
            self.continued += 1
            wire.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        read = read_request(unread)
        if read is not None:
            self.requests.append(own(read[0]))
            self._unread[wire] = read[1]
            wire.send(OK)


def leave(world):
    """Everybody leaves, so that the next example finds no connection."""
    for wire in world.wires:
        wire.hang_up()
    world.wires.clear()
    world.advance(0)


def all_replies(said, methods):
    """Every reply that was read, interim ones too, and what is left."""
    found = []
    for method in methods:
        while True:
            read = read_response(said, method)
            assert read is not None, said
            message, said = read
            found.append(message)
            if message.status >= 200:
                break
    return found, said


@settings(max_examples=300)
@given(asked=st.lists(requests(), min_size=1, max_size=4), places=PLACES, eager=st.booleans())
def test_any_requests_arrive_at_the_session_as_they_were_sent(place, asked, places, eager):
    server, client = Server(place), place.client()
    stream = b"".join(sent.raw for sent in asked).replace(b"/@@", f"/{place.token}".encode())

    for piece in cut(stream, places):
        client.send(piece)
        if eager:
            server.serve()
    server.serve()
    answers, rest = all_replies(client.get(), [sent.raw.split(b" ")[0] for sent in asked])
    leave(place)

    assert server.requests == [sent.message for sent in asked]
    assert [answer.status for answer in answers if answer.status != 100] == [200] * len(asked)
    assert len(answers) == len(asked) + server.continued
    assert rest == b""


@settings(max_examples=300)
@given(dialogue=dialogues(), places=PLACES)
def test_any_replies_arrive_at_the_client_as_they_were_sent(place, dialogue, places):
    client, upstream = place.client(), None
    expected, arrived, left = [], [], []

    for method, early, reply in dialogue:
        client.send(place.get(place.token, method=method.decode()))
        upstream = place.accept() if place.dialled else upstream
        for piece in cut(b"".join(sent.raw for sent in early) + reply.raw, places):
            upstream.send(piece)
        if reply.closes:
            upstream.hang_up()
        expected += [sent.message for sent in (*early, reply)]
        messages, rest = all_replies(client.get(), [method])
        arrived += [own(message) for message in messages]
        left.append(rest)
    leave(place)

    assert arrived == expected
    assert left == [b""] * len(dialogue)


@settings(max_examples=100)
@given(dialogue=dialogues())
def test_any_replies_arrive_as_well_when_they_come_again_and_nothing_is_copied(place, dialogue):
    client, upstream = place.client(), None
    expected, arrived = [], []

    with patch.object(http1, "MOST_COPIED_BYTES", 0):
        for method, early, reply in dialogue:
            for _ in range(3):
                client.send(place.get(place.token, method=method.decode()))
                upstream = place.accept() if place.dialled else upstream
                upstream.send(b"".join(sent.raw for sent in (*early, reply)))
                if reply.closes:
                    upstream.hang_up()
                expected += [sent.message for sent in (*early, reply)]
                arrived += [own(message) for message in all_replies(client.get(), [method])[0]]
    leave(place)

    assert arrived == expected
