"""The plain listener that sends everybody to https, in memory."""

import json

import pytest
from twisted.internet.defer import ensureDeferred
from twisted.internet.testing import MemoryReactorClock

from plane_tx.accesslog import BATCH_SECONDS, AccessLog
from plane_tx.core.access import FORMATS
from plane_tx.core.measures import Measures
from plane_tx.core.reader import MAX_HEAD_BYTES
from plane_tx.proxy.connection import FLUSH_SECONDS, HEAD_SECONDS, LINGER_SECONDS
from plane_tx.proxy.redirect import RedirectFactory
from tests.proxy.world import HereAndNow, Wire, body_of, done, head_of, status

CLUSTER = "example.com:8443"


class Plain:
    def __init__(self, log=None):
        self.reactor = MemoryReactorClock()
        self.log = log
        self.factory = RedirectFactory(self.reactor, CLUSTER, self.access_log())

    def access_log(self):
        if self.log is None:
            return None
        log = AccessLog(self.reactor, HereAndNow(), str(self.log), FORMATS["json"], Measures())
        log.startService()
        return log

    def logged(self, *names):
        self.reactor.advance(BATCH_SECONDS)
        lines = [json.loads(line) for line in self.log.read_text().splitlines()]
        return [tuple(line[name] for name in names) for line in lines]

    def client(self):
        wire = Wire(self.reactor)
        wire.protocol = self.factory.buildProtocol(None)
        wire.protocol.makeConnection(wire)
        return wire

    def told(self, data):
        client = self.client()
        client.send(data)
        return client.get()


@pytest.fixture(params=[False, True], ids=["", "logged"])
def plain(request, tmp_path):
    plain = Plain(tmp_path / "access.log" if request.param else None)
    yield plain
    plain.reactor.pump([1.0] * 60)
    assert plain.factory.connections == set()
    assert plain.reactor.getDelayedCalls() == []


def asking(target, host="example.com", method="GET", more=""):
    return f"{method} {target} HTTP/1.1\r\nHost: {host}\r\n{more}\r\n".encode("latin-1")


@pytest.mark.parametrize(
    ("target", "host", "location"),
    [
        ("/", "example.com", "https://example.com:8443/"),
        ("http://example.com", "example.com", "https://example.com:8443/"),
        ("http://example.com?q", "example.com", "https://example.com:8443/?q"),
        ("/tok/a?b=c&d", "example.com:80", "https://example.com:8443/tok/a?b=c&d"),
        ("/x", "sub.example.com", "https://sub.example.com:8443/x"),
        ("/x", "evil.org", "https://example.com:8443/x"),
        ("/x", "\xff<>:x:", "https://example.com:8443/x"),
        ("/x", "", "https://example.com:8443/x"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_every_request_is_sent_to_the_same_place_by_https(plain, target, host, location, method):
    answer = plain.told(asking(target, host, method))

    assert answer.startswith(b"HTTP/1.1 308 Permanent Redirect\r\n")
    assert head_of(answer)["location"] == location
    assert head_of(answer)["connection"] == "close"


def test_a_client_of_http_1_0_needs_no_host(plain):
    answer = plain.told(b"GET /x HTTP/1.0\r\n\r\n")

    assert head_of(answer)["location"] == "https://example.com:8443/x"


def test_only_the_first_request_is_answered(plain):
    client = plain.client()

    client.send(asking("/a") + asking("/b"))
    client.send(asking("/c"))

    assert client.get().count(b"308 ") == 1
    assert client.half_closed


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"GET / HTTP/1.1\nHost: example.com\n\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"GET /" + b"a" * MAX_HEAD_BYTES, 431),
    ],
)
def test_a_head_that_is_not_to_be_read_is_refused(plain, data, expected):
    assert status(plain.told(data)) == expected


def test_a_head_that_takes_too_long_is_408(plain):
    client = plain.client()
    client.send(b"GET / HTTP/1.1\r\n")

    plain.reactor.advance(HEAD_SECONDS)
    answer = client.get()

    assert status(answer) == 408
    assert b"30 s" in body_of(answer)


def test_a_connection_that_stays_silent_is_closed(plain):
    client = plain.client()

    plain.reactor.advance(HEAD_SECONDS)

    assert client.half_closed
    assert client.get() == b""


def test_a_client_that_never_leaves_is_dropped(plain):
    client = plain.client()
    client.send(asking("/"))
    client.stuck = True

    plain.reactor.advance(LINGER_SECONDS)
    plain.reactor.advance(FLUSH_SECONDS)

    assert client.aborted


def test_a_stopping_server_drops_everybody(plain):
    clients = [plain.client(), plain.client()]
    clients[0].send(asking("/"))

    done(ensureDeferred(plain.factory.close()))
    plain.reactor.advance(0)

    assert all(client.lost for client in clients)


logged = pytest.mark.parametrize("plain", [True], indirect=True)


@logged
def test_who_is_sent_away_has_a_line_in_the_access_log(plain):
    token = "t" * 43
    plain.told(asking(f"/{token}/a?secret", method="POST"))

    fields = ("peer", "method", "path", "session", "status", "bytes_out", "closed", "error")
    (line,) = plain.logged(*fields)

    assert line == ("127.0.0.1", "POST", "/tttttt…/a", "", 308, 0, "", "")


@logged
def test_what_cannot_be_read_has_a_line_without_method_and_path(plain):
    plain.told(b"GET /secret HTTP/1.1\nHost: example.com\n\n")
    plain.client().send(b"GET /secret")
    plain.reactor.advance(HEAD_SECONDS)

    lines = plain.logged("method", "path", "status", "error")

    assert lines == [("", "", 400, "BadRequest"), ("", "", 408, "HeadTimeout")]


@logged
def test_who_asks_for_nothing_has_no_line(plain):
    plain.client()
    plain.reactor.advance(HEAD_SECONDS)

    assert plain.logged("status") == []
