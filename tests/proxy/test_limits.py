"""Every limit of the proxy listener answers, closes, and lets nothing through that is refused."""

from __future__ import annotations

import json

import pytest

from plane_tx.core.reader import MAX_HEAD_BYTES
from plane_tx.proxy.connection import HEAD_SECONDS, LINGER_SECONDS
from tests.proxy.hostile_bodies import BODIES
from tests.proxy.hostile_heads import HEADS
from tests.proxy.strict_http import read_response
from tests.proxy.world import CLUSTER

HOST = f"Host: {CLUSTER}\r\n".encode()
CHUNKED = b"POST /@@/ HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"
LONG = b"a" * (2 * MAX_HEAD_BYTES)
PIECE = 16384

#: What a client says, and the status and kind of the answer.
LIMITS = {
    "a target too long": (b"GET /@@/" + LONG, 431, "HeadTooLarge"),
    "a header too long": (b"GET /@@/ HTTP/1.1\r\nX: " + LONG, 431, "HeadTooLarge"),
    "headers too many": (
        b"GET /@@/ HTTP/1.1\r\n" + HOST + b"X: 1\r\n" * (MAX_HEAD_BYTES // 5),
        431,
        "HeadTooLarge",
    ),
    "a chunk's line too long": (CHUNKED + b"5;" + LONG, 431, "HeadTooLarge"),
    "trailers too long": (CHUNKED + b"0\r\nX: " + LONG, 431, "HeadTooLarge"),
    "HTTP/0.9": (b"GET /@@/\r\n\r\n", 400, "BadRequest"),
    "HTTP/1.2": (b"GET /@@/ HTTP/1.2\r\n" + HOST + b"\r\n", 400, "BadRequest"),
    "HTTP/2.0": (b"GET /@@/ HTTP/2.0\r\n" + HOST + b"\r\n", 400, "BadRequest"),
    "the preface of HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "BadRequest"),
    "TLS": (b"\x16\x03\x01\x02\x00\x01", 400, "BadRequest"),
    "no Host": (b"GET /@@/ HTTP/1.1\r\n\r\n", 400, "BadRequest"),
    "two of them": (b"GET /@@/ HTTP/1.1\r\n" + HOST * 2 + b"\r\n", 400, "BadRequest"),
    "CONNECT": (b"CONNECT a:443 HTTP/1.1\r\n" + HOST + b"\r\n", 400, "BadRequest"),
    "a head that never ends": (b"GET /@@/ HTTP/1.1\r\n" + HOST, 408, "HeadTimeout"),
}

#: What is refused with nothing asked before it.
REFUSED = [case for case in (*HEADS, *BODIES) if case.statuses in ((400,), (431,))]

#: These are whole and mean one thing, which is nothing to a session.
KEPT = ["line: asterisk form", "line: asterisk form for GET"]


#: Of these the head is in order; what follows it is not.
BEGUN = {"a chunk's line too long", "trailers too long"}


def tell(world, client, said):
    """What a client is told when it says this, in pieces as sockets take them; and who was asked.

    The session's server takes every connection, and what it is sent stays there.
    """
    upstreams = []
    for start in range(0, len(said), PIECE):
        client.send(said[start : start + PIECE])
        while world.dialled:
            if world.withdrawn:
                world.decline()
            else:
                upstreams.append(world.accept())
    return client.get(), upstreams


@pytest.mark.parametrize("name", LIMITS)
def test_a_limit_answers_and_closes(world, name):
    said, expected, kind = LIMITS[name]
    _, token = world.session()
    client = world.client()

    told, asked = tell(world, client, said.replace(b"@@", token.encode()))
    world.wait(HEAD_SECONDS if expected == 408 else 0)
    answer, rest = read_response(told + client.get())
    world.wait(LINGER_SECONDS + 1)

    assert answer.status == expected
    assert json.loads(answer.body)["kind"] == kind
    assert answer.fields[b"connection"] == [b"close"]
    assert rest == b""
    assert client.lost
    assert len(asked) == (name in BEGUN)
    assert all(upstream.aborted for upstream in asked)
    assert not any(LONG[:100] in upstream.value() for upstream in asked)


def test_whatever_cannot_be_read_closes(world):
    _, token = world.session()
    kept, passed = [], []

    for case in REFUSED:
        client = world.client()
        told, asked = tell(world, client, case.said.replace(b"@@", token.encode()))
        passed += [case.name] * any(not upstream.aborted for upstream in asked)
        answer, rest = read_response(told)
        closes = answer.fields.get(b"connection") == [b"close"] and not rest
        kept += [case.name] * (not closes or not client.half_closed)

    assert kept == KEPT
    assert passed == []
    assert len(REFUSED) > 150
