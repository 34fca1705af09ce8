"""The proxy on real sockets: pace, size, number, and what is left in the end."""

import contextlib
import hashlib
import select
import socket
from types import SimpleNamespace

import pytest
import pytest_twisted
from twisted.internet.defer import DeferredList, ensureDeferred
from twisted.internet.endpoints import SSL4ClientEndpoint, TCP4ClientEndpoint
from twisted.internet.protocol import Factory
from twisted.internet.ssl import CertificateOptions, PrivateCertificate
from twisted.internet.task import deferLater

from plane_tx.core.http1 import MOST_COPIED_BYTES
from plane_tx.core.model import Address
from plane_tx.core.wire import ConnectRequest, ExecutableRequest, SpawnConfig
from plane_tx.proxy import connection as client_connection
from plane_tx.proxy import upstream as upstream_connection
from plane_tx.proxy.connection import KEEP_ALIVE_OPTIONS, below
from plane_tx.proxy.factory import ProxyFactory
from plane_tx.supervisor import Policy, Supervisor
from tests.certificate import self_signed
from tests.proxy.frames import BINARY, CLOSE, TEXT, accept_of, close, frame, read, upgrade
from tests.proxy.raw_upstream import PIECE, End, Flood, RawUpstream
from tests.recording_engine import RecordingEngine, unwritten

MIB = 1024 * 1024

#: What the kernel may hold of one direction: two connections, each with a buffer at both ends.
KERNEL = 32 * MIB

#: A safety net: what is waited for takes milliseconds.
PATIENCE_SECONDS = 60

#: More than anything here waits for.
DAY = 86_400

#: Twisted hands pyOpenSSL its own old kinds of object.
tls = pytest.mark.filterwarnings("ignore:Passing pyOpenSSL:DeprecationWarning")

SWITCHED = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: " + accept_of() + b"\r\n\r\n"
)

TUNNELLED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: raw\r\nConnection: Upgrade\r\n\r\n"


class Live:
    """A proxy on a loopback port, and a session whose server is a raw upstream."""

    def __init__(self, reactor) -> None:
        self.reactor = reactor
        self.engine = RecordingEngine()
        self.upstream = RawUpstream()
        self.clients: list[End] = []
        upstream_port = reactor.listenTCP(0, self.upstream, 511, "127.0.0.1")
        self.address = Address("127.0.0.1", upstream_port.getHost().port)
        policy = Policy(cluster="localhost:9090", control_url="", host_name="box")
        self.supervisor = Supervisor(reactor, self.engine, policy, unwritten())
        self.supervisor.start()
        self.factory = ProxyFactory(reactor, self.supervisor)
        self.port = reactor.listenTCP(0, self.factory, 511, "127.0.0.1")
        self._ports = [upstream_port, self.port]

    async def session(self, user=None):
        """The one session, ready, and the path to it."""
        config = SpawnConfig(executable=ExecutableRequest(image="x"))
        made = await self.supervisor.connect(ConnectRequest(spawn_config=config, user=user))
        self.session_id = made.backend_id
        self.engine.run(made.backend_id, self.address)
        session = self.supervisor.get(made.backend_id)
        await self.supervisor.hold(session)
        return session, f"/{made.token}"

    async def client(self) -> End:
        endpoint = TCP4ClientEndpoint(self.reactor, "127.0.0.1", self.port.getHost().port)
        end = await endpoint.connect(Factory.forProtocol(End))
        self.clients.append(end)
        return end

    async def tls_client(self) -> End:
        certificate = PrivateCertificate.loadPEM(self_signed()).options()
        port = self.reactor.listenSSL(0, self.factory, certificate, 5, "127.0.0.1")
        self._ports.append(port)
        trusting = CertificateOptions(verify=False)
        endpoint = SSL4ClientEndpoint(self.reactor, "127.0.0.1", port.getHost().port, trusting)
        end = await endpoint.connect(Factory.forProtocol(End))
        self.clients.append(end)
        return end

    async def asked(self, path, more="", method="GET"):
        """A client that sent a request, and the upstream end that got it."""
        client = await self.client()
        client.transport.write(asking(path, more, method))
        return client, await self.upstream.take()

    async def settle(self, true) -> None:
        """Turn the reactor until something is true that no event tells of."""
        for _ in range(PATIENCE_SECONDS * 100):
            if true():
                return
            await deferLater(self.reactor, 0.01)
        raise AssertionError(f"never true: {self.factory!r}")

    async def stalled(self, flood: Flood) -> None:
        """Return when nobody on the way can go on, since one side does not read."""

        def stuck() -> bool:
            legs = self.legs()
            reads = self.reactor.getReaders()
            held_back = any(leg not in reads for leg in legs)
            return self.is_full(flood.transport) and held_back and any(map(self.is_full, legs))

        await self.settle(stuck)
        assert flood.paused

    def is_full(self, transport) -> bool:
        """Whether something waits in a transport, and its socket takes none of it."""
        waits = transport in self.reactor.getWriters()
        return waits and not select.select([], [transport], [], 0)[1]

    @property
    def pooled(self):
        """The proxy's connections to sessions."""
        return [each for open_now in self.factory.pool._open.values() for each in open_now]

    def legs(self):
        """The proxy's own transports, each the one that has a socket."""
        return [below(each.transport) for each in (*self.factory.connections, *self.pooled)]

    def waiting_here(self) -> int:
        """How many bytes wait in the proxy's own transports."""
        return sum(len(leg.dataBuffer) + leg._tempDataLen for leg in self.legs())

    @contextlib.contextmanager
    def stopped_clock(self):
        """Whatever is to happen in a while does not: only what something has led to at once.

        Yields a clock that goes on.
        """
        later = self.reactor.callLater
        for call in self.reactor.getDelayedCalls():
            call.delay(DAY)
        self.reactor.callLater = lambda seconds, *what, **how: later(
            seconds + DAY if seconds else 0, *what, **how
        )
        try:
            yield SimpleNamespace(callLater=later)
        finally:
            del self.reactor.callLater
            for call in self.reactor.getDelayedCalls():
                if call.getTime() > self.reactor.seconds() + DAY / 2:
                    call.delay(-DAY)

    def is_empty(self) -> bool:
        return repr(self.factory) == (
            "<ProxyFactory [Clients: 0 | Relays: 0] <UpstreamPool [Connections: 0 open, 0 idle]>>"
        )

    async def finish(self) -> None:
        """End the session; then nothing may be left, by itself."""
        for client in self.clients:
            if not client.lost:  # TLS can be aborted only once
                client.transport.abortConnection()
        if self.session_id in self.engine.held:
            self.engine.exit(self.session_id)
        await self.settle(self.is_empty)
        assert not any(session.uses for session in self.supervisor.registry)
        assert "Holds: 0 | Deadlines: 0" in repr(self.supervisor)
        await self.factory.close()
        await self.supervisor.close()
        for port in self._ports:
            await port.stopListening()
        for end in self.upstream.ends:
            end.transport.abortConnection()


@pytest.fixture
def live():
    from twisted.internet import reactor

    live = Live(reactor)
    yield live
    pytest_twisted.blockon(ensureDeferred(live.finish()).addTimeout(2 * PATIENCE_SECONDS, reactor))


def asking(path, more="", method="GET"):
    return f"{method} {path} HTTP/1.1\r\nHost: localhost:9090\r\n{more}\r\n".encode()


def of(size):
    """The hash of what a Flood of this size sends."""
    whole, rest = divmod(size, len(PIECE))
    digest = hashlib.sha256()
    for _ in range(whole):
        digest.update(PIECE)
    digest.update(PIECE[:rest])
    return digest.hexdigest()


@pytest.mark.reactor
@pytest_twisted.ensureDeferred
async def test_a_request_and_its_reply_pass(live):
    session, path = await live.session()

    client, upstream = await live.asked(path + "/x")
    asked = await upstream.head()
    upstream.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
    answer = await client.head()

    assert asked.startswith(b"GET /x HTTP/1.1\r\n")
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert await client.take(5) == b"hello"
    assert session.uses == set()


@pytest.mark.parametrize("where", ["https://elsewhere.example/a?b", "/login", "../up", "{path}/x"])
@pytest_twisted.ensureDeferred
async def test_a_session_that_leads_elsewhere_is_taken_at_its_word(live, where):
    _, path = await live.session()
    location = f"Location: {where.format(path=path)}\r\n".encode()

    client, upstream = await live.asked(path + "/x")
    await upstream.head()
    upstream.transport.write(b"HTTP/1.1 302 Found\r\n" + location + b"Content-Length: 0\r\n\r\n")
    answer = await client.head()

    assert answer.startswith(b"HTTP/1.1 302 Found\r\n")
    assert [line for line in answer.splitlines(True) if b"ocation:" in line] == [location]


@pytest_twisted.ensureDeferred
async def test_the_kernel_is_asked_to_notice_a_client_that_vanished(live):
    _, path = await live.session()

    await live.asked(path + "/x")

    (connection,) = live.factory.connections
    handle = connection.transport.getHandle()
    said = [handle.getsockopt(socket.IPPROTO_TCP, option) for option, _ in KEEP_ALIVE_OPTIONS]
    assert said == [value for _, value in KEEP_ALIVE_OPTIONS] == [60, 15, 4]
    assert handle.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert handle.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest_twisted.ensureDeferred
async def test_a_session_is_sent_everything_at_once_and_noticed_when_it_vanished(live):
    _, path = await live.session()

    await live.asked(path + "/x")

    (connection,) = live.pooled
    handle = connection.transport.getHandle()
    assert handle.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert handle.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@tls
@pytest_twisted.ensureDeferred
async def test_the_kernel_is_asked_to_notice_a_tls_client_that_vanished(live):
    _, path = await live.session()
    client = await live.tls_client()

    client.transport.write(asking(path + "/x"))
    await live.upstream.take()

    (connection,) = live.factory.connections
    handle = connection.transport.transport.getHandle()
    said = [handle.getsockopt(socket.IPPROTO_TCP, option) for option, _ in KEEP_ALIVE_OPTIONS]
    assert said == [value for _, value in KEEP_ALIVE_OPTIONS]
    assert handle.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert handle.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.reactor
@pytest_twisted.ensureDeferred
async def test_a_reader_that_stops_stops_the_session_and_gets_all_in_the_end(live):
    size = 128 * MIB
    _, path = await live.session()
    client, upstream = await live.asked(path)
    client.transport.pauseProducing()
    await upstream.head()

    upstream.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
    flood = Flood(upstream.transport, size)
    await live.stalled(flood)
    sent, here = flood.sent, live.waiting_here()
    client.transport.resumeProducing()
    await client.head()
    client.count()
    await client.until(lambda end: end.total == size)

    assert sent < KERNEL
    assert here < MIB
    assert client.digest() == of(size)


@pytest.mark.reactor
@pytest_twisted.ensureDeferred
async def test_a_session_that_stops_reading_stops_the_client_and_gets_all_in_the_end(live):
    size = 128 * MIB
    _, path = await live.session()
    client, upstream = await live.asked(path, f"Content-Length: {size}\r\n", "POST")
    await upstream.head()
    upstream.transport.pauseProducing()

    flood = Flood(client.transport, size)
    await live.stalled(flood)
    sent, here = flood.sent, live.waiting_here()
    upstream.transport.resumeProducing()
    upstream.count()
    await upstream.until(lambda end: end.total == size)
    upstream.transport.write(b"HTTP/1.1 204 No Content\r\n\r\n")
    await client.head()

    assert sent < KERNEL
    assert here < MIB
    assert upstream.digest() == of(size)


@pytest_twisted.ensureDeferred
async def test_a_websocket_stops_for_the_slower_side_and_loses_nothing(live):
    size = 64 * MIB
    _, path = await live.session()
    client, upstream = await live.client(), live.upstream.take()
    client.transport.write(upgrade(path + "/"))
    upstream = await upstream
    await upstream.head()
    upstream.transport.write(SWITCHED)
    await client.head()
    client.transport.pauseProducing()

    upstream.transport.write(b"\x82\x7f" + size.to_bytes(8, "big"))
    flood = Flood(upstream.transport, size)
    await live.stalled(flood)
    sent, here = flood.sent, live.waiting_here()
    client.transport.resumeProducing()
    await client.take(10)
    client.count()
    await client.until(lambda end: end.total == size)

    assert sent < KERNEL
    assert here < MIB
    assert client.digest() == of(size)


@pytest.mark.parametrize("slow", ["client", "session"])
@pytest_twisted.ensureDeferred
async def test_a_tunnel_stops_for_the_slower_side_and_loses_nothing(live, slow):
    size = 64 * MIB
    session, path = await live.session()
    client, upstream = await live.asked(path, "Connection: Upgrade\r\nUpgrade: raw\r\n")
    await upstream.head()
    upstream.transport.write(TUNNELLED)
    await client.head()
    reader, writer = (client, upstream) if slow == "client" else (upstream, client)
    reader.transport.pauseProducing()

    flood = Flood(writer.transport, size)
    await live.stalled(flood)
    sent, here = flood.sent, live.waiting_here()
    reader.transport.resumeProducing()
    reader.count()
    await reader.until(lambda end: end.total == size)

    assert sent < KERNEL
    assert here < MIB
    assert reader.digest() == of(size)
    assert {use.kind for use in session.uses} == {"websocket"}


@pytest_twisted.ensureDeferred
async def test_a_slow_client_gets_all_that_an_ended_session_said_in_a_tunnel(live, monkeypatch):
    monkeypatch.setattr(upstream_connection, "DRAIN_SECONDS", 0.01)
    size = 8 * MIB
    session, path = await live.session()
    client, upstream = await live.asked(path, "Connection: Upgrade\r\nUpgrade: raw\r\n")
    await upstream.head()
    upstream.transport.write(TUNNELLED)
    await client.head()
    client.transport.pauseProducing()

    Flood(upstream.transport, size)
    upstream.transport.loseConnection()
    live.engine.exit(session.id)
    for _ in range(3):  # looks of the pool, which drops what was silent between two of them
        look = live.factory.pool._drains[session.id]
        await live.settle(lambda seen=look: live.factory.pool._drains.get(session.id) is not seen)
    client.transport.resumeProducing()
    client.count()
    await client.closed()

    assert client.total == size
    assert client.digest() == of(size)


@pytest_twisted.ensureDeferred
async def test_a_revoked_tunnel_is_cut_though_its_client_does_not_read(live):
    session, path = await live.session(user="ada")
    client, upstream = await live.asked(path, "Connection: Upgrade\r\nUpgrade: raw\r\n")
    await upstream.head()
    upstream.transport.write(TUNNELLED)
    await client.head()
    client.transport.pauseProducing()
    await live.stalled(Flood(upstream.transport, 64 * MIB))

    live.supervisor.revoke(session.id, "ada")
    await deferLater(live.reactor, 0)

    assert live.factory.connections == set()
    assert session.uses == set()


@pytest.mark.reactor
@pytest_twisted.ensureDeferred
async def test_many_tunnels_that_end_leave_nothing(live):
    session, path = await live.session()
    ways = [
        lambda client, upstream: client.transport.abortConnection(),
        lambda client, upstream: upstream.transport.abortConnection(),
        lambda client, upstream: client.transport.loseConnection(),
        lambda client, upstream: upstream.transport.loseConnection(),
    ]

    async def dig(number):
        client, upstream = await live.asked(path, "Connection: Upgrade\r\nUpgrade: raw\r\n")
        await upstream.head()
        upstream.transport.write(TUNNELLED + b"hello")
        await client.head()
        ways[number % len(ways)](client, upstream)

    results = await DeferredList([ensureDeferred(dig(number)) for number in range(100)])
    await live.settle(lambda: not session.uses)

    assert [ok for ok, _ in results] == [True] * 100
    assert len(live.factory.relays) == 0


@pytest_twisted.ensureDeferred
async def test_a_hundred_megabytes_pass_up_and_down_unchanged(live):
    size = 100_000_000
    _, path = await live.session()
    client, upstream = await live.asked(path, "Transfer-Encoding: chunked\r\n", "POST")
    await upstream.head()

    upstream.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
    down = Flood(upstream.transport, size)
    await client.head()
    client.count()
    await client.until(lambda end: end.total == size)

    other, upstream = await live.asked(path, f"Content-Length: {size}\r\n", "PUT")
    await upstream.head()
    upstream.count()
    up = Flood(other.transport, size)
    await upstream.until(lambda end: end.total == size)
    upstream.transport.write(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")

    assert (await other.head()).startswith(b"HTTP/1.1 201 ")
    assert client.digest() == down.hash.hexdigest()
    assert upstream.digest() == up.hash.hexdigest()


@pytest_twisted.ensureDeferred
async def test_a_reply_that_is_cut_short_arrives_as_far_as_it_came_and_then_ends(live):
    _, path = await live.session()
    client, upstream = await live.asked(path)

    upstream.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n0123456789")
    upstream.transport.loseConnection()
    await client.closed()

    assert (await client.head()).startswith(b"HTTP/1.1 200 OK\r\n")
    assert client.data == b"0123456789"


@pytest_twisted.ensureDeferred
async def test_a_session_that_refuses_an_upload_and_hangs_up_is_heard(live):
    refusal = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 4\r\n\r\nmuch"
    _, path = await live.session()
    client, upstream = await live.asked(path, "Content-Length: 100000\r\n", "POST")
    await upstream.head()
    (connection,) = live.factory.connections

    # So that it is the upload that meets the reset, before anybody has read what came ahead of it.
    upstream.transport.getHandle().sendall(refusal)
    upstream.transport.abortConnection()
    live.reactor.callLater(0, connection.dataReceived, b"x" * 1000)
    await client.closed()

    assert (await client.head()).startswith(b"HTTP/1.1 413 ")
    assert client.data == b"much"


@pytest_twisted.ensureDeferred
async def test_who_ends_its_side_behind_an_upload_gets_the_whole_reply(live):
    size = 4 * MIB
    _, path = await live.session()
    more = f"Connection: close\r\nContent-Length: {size}\r\n"
    client, upstream = await live.asked(path, more, "POST")
    await upstream.head()
    (connection,) = live.factory.connections

    flood = Flood(client.transport, size)
    client.transport.loseWriteConnection()
    upstream.count()
    await upstream.until(lambda end: end.total == size)
    await live.settle(lambda: connection._heard_all)
    upstream.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
    back = Flood(upstream.transport, size)
    await client.head()
    client.count()
    await client.closed()

    assert upstream.digest() == flood.hash.hexdigest()
    assert client.digest() == back.hash.hexdigest()


@tls
@pytest.mark.parametrize("secure", [False, True])
@pytest_twisted.ensureDeferred
async def test_a_long_reply_is_the_same_each_time_it_comes(live, secure):
    body = PIECE[: 3 * MOST_COPIED_BYTES]
    _, path = await live.session()
    client = await (live.tls_client() if secure else live.client())
    client.transport.write(asking(path))
    upstream = await live.upstream.take()

    replies = []
    for _ in range(4):
        await upstream.head()
        upstream.transport.write(
            b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        )
        replies.append((await client.head(), await client.take(len(body))))
        client.transport.write(asking(path))

    assert replies == [(replies[0][0], body)] * 4


@pytest_twisted.ensureDeferred
async def test_a_connection_whose_last_client_was_slow_carries_the_next_request(live):
    size = 16 * MIB
    _, path = await live.session()
    client, upstream = await live.asked(path)
    client.transport.pauseProducing()
    await upstream.head()
    upstream.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
    flood = Flood(upstream.transport, size)
    await live.stalled(flood)
    client.transport.resumeProducing()
    await client.until(lambda end: end.total > size)

    other = await live.client()
    other.transport.write(asking(path))
    await upstream.head()
    upstream.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    await other.head()

    assert await other.take(2) == b"ok"


@pytest_twisted.ensureDeferred
async def test_a_slow_reader_of_a_last_reply_gets_it_whole(live, monkeypatch):
    monkeypatch.setattr(client_connection, "LINGER_SECONDS", 0.01)
    size = MIB // 4
    _, path = await live.session()
    client, upstream = await live.asked(path, "Connection: close\r\n")
    client.transport.pauseProducing()
    await upstream.head()
    (connection,) = live.factory.connections
    # Room for the whole reply: the kernel's own choice is mostly more, but now and then less.
    below(connection.transport).socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MIB)
    upstream.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
    Flood(upstream.transport, size)

    await live.settle(lambda: connection._lost or connection.transport.disconnecting)
    client.transport.resumeProducing()
    await client.closed()
    await client.head()

    assert len(client.data) == size


@tls
@pytest.mark.parametrize("secure", [False, True])
@pytest_twisted.ensureDeferred
async def test_a_stop_lets_a_reply_arrive_that_is_on_its_way(live, secure):
    size = MIB
    session, path = await live.session()
    client = await (live.tls_client() if secure else live.client())
    client.transport.write(asking(path))
    upstream = await live.upstream.take()
    client.transport.pauseProducing()
    await upstream.head()
    upstream.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
    Flood(upstream.transport, size)
    await live.settle(lambda: not session.uses and not live.waiting_here())

    (connection,) = live.factory.connections
    connection.go_away()
    await deferLater(live.reactor, 0)
    open_then = len(live.factory.connections)
    client.transport.resumeProducing()
    await client.closed()
    await client.head()

    assert open_then == 0
    assert len(client.data) == size


@pytest_twisted.ensureDeferred
async def test_a_refused_upgrade_arrives_with_its_body(live):
    _, path = await live.session()
    client = await live.client()
    client.transport.write(upgrade(path + "/"))
    upstream = await live.upstream.take()
    await upstream.head()

    upstream.transport.write(b"HTTP/1.1 401 Who\r\nContent-Length: 6\r\n\r\nsecret")
    answer = await client.head()
    await client.closed()

    assert answer.startswith(b"HTTP/1.1 401 Who\r\n")
    assert client.data == b"secret"


@pytest.mark.reactor
@pytest_twisted.ensureDeferred
async def test_the_first_frame_may_come_in_one_packet_with_the_101(live):
    session, path = await live.session()
    client = await live.client()
    client.transport.write(upgrade(path + "/") + frame(TEXT, b"early", masked=True))
    upstream = await live.upstream.take()
    await upstream.head()

    upstream.transport.write(SWITCHED + frame(TEXT, b"hello"))
    await client.head()
    heard = await client.take(len(frame(TEXT, b"hello")))
    said = await upstream.take(len(frame(TEXT, b"early", masked=True)))
    live.engine.exit(session.id)
    await client.closed()

    assert read(heard) == [(TEXT, b"hello")]
    assert read(said) == [(TEXT, b"early")]
    assert read(client.data) == [(CLOSE, b"\x03\xe9exited")]


@tls
@pytest_twisted.ensureDeferred
async def test_over_tls_a_websocket_opens_talks_and_hears_its_end(live):
    session, path = await live.session()
    client = await live.tls_client()
    client.transport.write(upgrade(path + "/"))
    upstream = await live.upstream.take()
    asked = await upstream.head()

    upstream.transport.write(SWITCHED + frame(TEXT, b"hello"))
    await client.head()
    heard = await client.take(len(frame(TEXT, b"hello")))
    live.engine.exit(session.id)
    await client.closed()

    assert b"X-Forwarded-Proto: https\r\n" in asked
    assert read(heard) == [(TEXT, b"hello")]
    assert read(client.data) == [(CLOSE, b"\x03\xe9exited")]


@tls
@pytest_twisted.ensureDeferred
async def test_over_tls_a_reader_that_stops_stops_the_session(live):
    size = 64 * MIB
    _, path = await live.session()
    client = await live.tls_client()
    client.transport.write(asking(path, "Connection: close\r\n"))
    upstream = await live.upstream.take()
    client.transport.pauseProducing()
    await upstream.head()

    upstream.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
    flood = Flood(upstream.transport, size)
    await live.stalled(flood)
    sent = flood.sent
    client.transport.resumeProducing()
    await client.head()
    client.count()
    await client.until(lambda end: end.total == size)

    assert sent < KERNEL
    assert client.digest() == of(size)


@pytest.mark.reactor
@pytest_twisted.ensureDeferred
async def test_many_requests_at_once_are_all_answered(live):
    session, path = await live.session()

    async def serve():
        while True:
            ensureDeferred(serve_one(await live.upstream.take()))

    async def serve_one(upstream):
        while not upstream.lost:
            await upstream.head()
            upstream.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            await upstream.until(lambda end: end.lost or b"\r\n\r\n" in end.data)

    async def ask(number):
        client = await live.client()
        for turn in range(3):
            client.transport.write(asking(f"{path}/{number}/{turn}"))
            assert (await client.head()).startswith(b"HTTP/1.1 200 ")
            assert await client.take(2) == b"ok"

    serving = ensureDeferred(serve())
    results = await DeferredList([ensureDeferred(ask(number)) for number in range(200)])
    serving.addErrback(lambda _: None)
    serving.cancel()

    assert [ok for ok, _ in results] == [True] * 200
    assert session.uses == set()


@pytest.mark.reactor
@pytest_twisted.ensureDeferred
async def test_many_websockets_that_end_leave_nothing(live):
    session, path = await live.session()
    ways = [
        lambda client, upstream: client.transport.abortConnection(),
        lambda client, upstream: upstream.transport.write(close(1000)),
        lambda client, upstream: client.transport.loseConnection(),
        lambda client, upstream: upstream.transport.loseConnection(),
    ]

    async def talk(number):
        client = await live.client()
        client.transport.write(upgrade(f"{path}/{number}"))
        upstream = await live.upstream.take()
        await upstream.head()
        upstream.transport.write(SWITCHED)
        return client, upstream

    results = await DeferredList([ensureDeferred(talk(number)) for number in range(200)])
    pairs = [pair for ok, pair in results if ok]
    await DeferredList([ensureDeferred(client.head()) for client, _ in pairs])
    open_now = (len(live.factory.relays), {use.kind for use in session.uses})
    for number, (client, upstream) in enumerate(pairs):
        upstream.transport.write(frame(BINARY, bytes(1000)))
        ways[number % len(ways)](client, upstream)
    for number, (_, upstream) in enumerate(pairs):
        if number % len(ways) == 1:
            upstream.transport.loseConnection()
    await live.settle(lambda: not session.uses)
    await live.settle(lambda: not len(live.factory.relays))

    assert open_now == (200, {"websocket"})
    assert len(session.connections.closed) == 200
    assert not session.connections.open


async def halfway(live, client, doing, path):
    """The upstream end of something that is under way, and whose next byte is the client's."""
    more = "Content-Length: 1000000\r\n" if doing == "upload" else ""
    client.transport.write(asking(path, more, "POST" if doing == "upload" else "GET"))
    upstream = await live.upstream.take()
    await upstream.head()
    if doing == "upload":
        client.transport.write(bytes(1000))
        await upstream.take(1000)
        return upstream
    upstream.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (64 * MIB))
    await client.head()
    if doing == "download that is not read":
        client.transport.pauseProducing()
        await live.stalled(Flood(upstream.transport, 64 * MIB))
    return upstream


@tls
@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize(
    ("doing", "how"),
    [
        ("download", "loseConnection"),
        ("download", "abortConnection"),
        # Over TLS a Twisted client that says goodbye waits for ours, which it does not read.
        ("download that is not read", "abortConnection"),
        ("upload", "loseConnection"),
        ("upload", "abortConnection"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_session_learns_at_once_that_its_client_is_gone(live, doing, how, secure):
    session, path = await live.session()
    client = await (live.tls_client() if secure else live.client())
    upstream = await halfway(live, client, doing, path)

    with live.stopped_clock() as clock:
        getattr(client.transport, how)()
        await ensureDeferred(client.closed()).addTimeout(PATIENCE_SECONDS, clock)
        await ensureDeferred(upstream.closed()).addTimeout(PATIENCE_SECONDS, clock)

    assert upstream.lost
    assert session.uses == set()


@tls
@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("how", ["loseConnection", "abortConnection"])
@pytest_twisted.ensureDeferred
async def test_a_client_learns_at_once_that_its_session_hung_up(live, how, secure):
    session, path = await live.session()
    client = await (live.tls_client() if secure else live.client())
    upstream = await halfway(live, client, "download", path)

    with live.stopped_clock() as clock:
        getattr(upstream.transport, how)()
        await ensureDeferred(client.closed()).addTimeout(PATIENCE_SECONDS, clock)

    assert client.data == b""
    assert session.uses == set()


@tls
@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("how", ["loseConnection", "abortConnection"])
@pytest_twisted.ensureDeferred
async def test_a_client_is_told_that_its_session_hung_up_within_the_request(live, how, secure):
    session, path = await live.session()
    client = await (live.tls_client() if secure else live.client())
    upstream = await halfway(live, client, "upload", path)

    getattr(upstream.transport, how)()
    answer = await ensureDeferred(client.head()).addTimeout(PATIENCE_SECONDS, live.reactor)
    await client.closed()

    assert answer.startswith(b"HTTP/1.1 502 ")
    assert session.uses == set()
