"""A transport that writes through says what Twisted's own does, in the same order, but sooner."""

from __future__ import annotations

import contextlib
import socket
import struct

import pytest
import pytest_twisted
from twisted.internet import threads, unix
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.endpoints import (
    SSL4ClientEndpoint,
    TCP4ClientEndpoint,
    UNIXClientEndpoint,
    UNIXServerEndpoint,
)
from twisted.internet.error import ConnectionAborted, ConnectionLost
from twisted.internet.protocol import Factory
from twisted.internet.ssl import CertificateOptions, PrivateCertificate
from twisted.internet.task import deferLater
from twisted.internet.testing import StringTransport

from plane_tx.proxy.write_through import (
    LONG_READ,
    MOST_PIECES,
    SHORT_READ,
    write_pieces,
    write_through,
)
from tests.certificate import self_signed
from tests.proxy.raw_upstream import End, Flood

#: Much more than both ends of a connection hold here.
LARGE = bytes(range(256)) * 8192

#: A safety net: what is waited for takes milliseconds.
PATIENCE_SECONDS = 30

#: Closed so, an end sends a reset.
AT_ONCE = struct.pack("ii", 1, 0)


class Near(End):
    """The end whose transport writes through; `lost_by` has why it ended, each time."""

    def __init__(self, made: Deferred[Near]) -> None:
        super().__init__()
        self.made = made
        self.lost_by = []
        self.longest = 0

    def connectionMade(self) -> None:
        super().connectionMade()
        write_through(self.transport)
        self.made.callback(self)

    def dataReceived(self, data: bytes) -> None:
        self.longest = max(self.longest, len(data))
        super().dataReceived(data)

    def connectionLost(self, reason) -> None:
        self.lost_by.append(reason.type)
        super().connectionLost(reason)


class Silent(Near):
    """One that leaves its transport alone."""

    def connectionMade(self) -> None:
        self.made.callback(self)


class Pair:
    """A connection of which the kernel holds little; its far end is a plain socket."""

    def __init__(self, reactor, near: Near, far: socket.socket) -> None:
        self.reactor = reactor
        self.near = near
        self.transport = near.transport
        self.handle = near.transport.getHandle()
        self.handle.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        self.far = far
        far.settimeout(PATIENCE_SECONDS)

    @property
    def queued(self) -> int:
        """How many bytes wait in the transport."""
        transport = self.transport
        return len(transport.dataBuffer) - transport.offset + transport._tempDataLen

    @property
    def waits_to_write(self) -> bool:
        return self.transport in self.reactor.getWriters()

    def fill(self) -> bytes:
        """Let the kernel hold all that it can; what it holds."""
        filled = bytearray()
        with contextlib.suppress(BlockingIOError):
            while True:
                filled += LARGE[: self.handle.send(LARGE)]
        return bytes(filled)

    def take(self, size: int) -> bytes:
        """So many bytes, for which the reactor does not turn."""
        taken = b""
        while len(taken) < size and (more := self.far.recv(size - len(taken))):
            taken += more
        return taken

    async def rest(self, size: float = float("inf")) -> bytes:
        """What comes until the end, or until it is so many bytes; the reactor turns meanwhile."""
        came = b""
        self.far.setblocking(False)
        while len(came) < size:
            try:
                more = self.far.recv(65536)
            except BlockingIOError:
                await deferLater(self.reactor, 0)
                continue
            if not more:
                break
            came += more
        return came

    async def ended(self) -> None:
        await ensureDeferred(self.near.closed()).addTimeout(PATIENCE_SECONDS, self.reactor)

    def finish(self) -> None:
        self.far.close()
        if not self.near.lost:
            self.transport.abortConnection()
            pytest_twisted.blockon(ensureDeferred(self.ended()))


async def accepted(reactor, far):
    made = Deferred()
    factory = Factory.forProtocol(lambda: Near(made))
    port = reactor.listenTCP(0, factory, 5, "127.0.0.1")
    far.connect(("127.0.0.1", port.getHost().port))
    near = await made
    await port.stopListening()
    return near, far


async def dialled(reactor, listening):
    listening.bind(("127.0.0.1", 0))
    listening.listen()
    endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", listening.getsockname()[1])
    near = await endpoint.connect(Factory.forProtocol(lambda: Near(Deferred())))
    far, _ = listening.accept()
    listening.close()
    return near, far


@pytest.fixture(params=[accepted, dialled], ids=["accepted", "dialled"])
def pair(request):
    from twisted.internet import reactor

    plain = socket.socket()
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    ends = pytest_twisted.blockon(ensureDeferred(request.param(reactor, plain)))
    pair = Pair(reactor, *ends)
    yield pair
    pair.finish()


def test_a_write_is_sent_before_the_reactor_turns(pair):
    pair.transport.write(b"hello")
    pair.transport.write(b" there")

    assert pair.take(11) == b"hello there"
    assert not pair.waits_to_write


def test_pieces_are_sent_in_order_before_the_reactor_turns(pair):
    write_pieces(pair.transport, [b"hello", memoryview(b"oh there")[2:]])

    assert pair.take(11) == b"hello there"
    assert not pair.waits_to_write


@pytest.mark.reactor
@pytest_twisted.ensureDeferred
async def test_what_the_kernel_does_not_take_of_pieces_follows(pair):
    write_pieces(pair.transport, [b"head", memoryview(LARGE)])
    queued = pair.queued
    came = await pair.rest(4 + len(LARGE))

    assert 0 < queued < len(LARGE)
    assert pair.transport.most_queued == queued
    assert came == b"head" + LARGE


@pytest_twisted.ensureDeferred
async def test_pieces_do_not_overtake_what_waits(pair):
    before = pair.fill()
    pair.transport.write(b"one")
    pair.take(len(before))  # now the kernel would take more
    write_pieces(pair.transport, [b"two", memoryview(LARGE)])
    came = await pair.rest(6 + len(LARGE))

    assert came == b"onetwo" + LARGE


@pytest_twisted.ensureDeferred
async def test_a_full_socket_takes_no_piece_and_all_of_them_wait(pair):
    before = pair.fill()

    write_pieces(pair.transport, [b"hello", memoryview(b" there")])
    queued = pair.queued
    came = await pair.rest(len(before) + 11)

    assert queued == 11
    assert came == before + b"hello there"


@pytest_twisted.ensureDeferred
async def test_a_connection_that_is_broken_by_pieces_ends_once(pair):
    pair.handle.shutdown(socket.SHUT_WR)

    write_pieces(pair.transport, [b"hello", memoryview(b" there")])
    within = list(pair.near.lost_by)
    await pair.ended()

    assert within == []
    assert pair.near.lost_by == [ConnectionLost]


def test_a_transport_that_does_not_write_through_is_given_bytes():
    transport = StringTransport()

    write_pieces(transport, [b"hello", memoryview(b" there")])

    assert transport.value() == b"hello there"


def test_nothing_is_written_by_writing_nothing(pair):
    pair.transport.write(b"")
    pair.fill()
    pair.transport.write(b"")

    assert pair.queued == 0
    assert not pair.waits_to_write


@pytest.mark.reactor
@pytest_twisted.ensureDeferred
async def test_what_the_kernel_does_not_take_follows(pair):
    pair.transport.write(LARGE)
    queued = pair.queued
    came = await pair.rest(len(LARGE))

    assert 0 < queued < len(LARGE)
    assert came == LARGE
    assert pair.queued == 0
    assert not pair.waits_to_write


@pytest_twisted.ensureDeferred
async def test_a_write_does_not_overtake_what_waits_though_there_is_room(pair):
    pair.transport.write(LARGE)
    first = pair.take(len(LARGE) - pair.queued)  # now the kernel would take more
    pair.transport.write(b"one")
    pair.transport.write(b"two")
    came = await pair.rest(len(LARGE) - len(first) + 6)

    assert first + came == LARGE + b"onetwo"


@pytest_twisted.ensureDeferred
async def test_a_full_socket_takes_nothing_and_all_of_it_waits(pair):
    before = pair.fill()

    pair.transport.write(b"hello")
    queued = pair.queued
    came = await pair.rest(len(before) + 5)

    assert queued == 5
    assert came == before + b"hello"


@pytest_twisted.ensureDeferred
async def test_the_most_that_waited_is_remembered_after_it_has_gone(pair):
    before = pair.fill()
    pair.transport.write(b"one")
    pair.transport.write(LARGE)
    await pair.rest(len(before) + 3 + len(LARGE))
    pair.fill()
    pair.transport.write(b"less")
    queued = pair.queued

    assert queued == 4
    assert pair.transport.most_queued == 3 + len(LARGE)


@pytest.mark.reactor
@pytest_twisted.ensureDeferred
async def test_what_was_sent_of_a_buffer_does_not_wait_any_more(pair):
    pair.transport.write(LARGE)
    await pair.rest(len(LARGE) // 2)
    pair.transport.write(LARGE)
    waited = pair.queued
    await pair.rest(waited)

    assert len(LARGE) < waited < 2 * len(LARGE)
    assert pair.transport.most_queued == waited


def test_nothing_ever_waited_where_the_kernel_took_all(pair):
    pair.transport.write(b"hello")
    pair.take(5)
    pair.transport.write(b"")

    assert pair.transport.most_queued == 0


@pytest.mark.parametrize("how", ["reset", "broken pipe"])
@pytest.mark.reactor
@pytest_twisted.ensureDeferred
async def test_a_broken_connection_ends_once_and_by_the_reactor(pair, how):
    if how == "reset":
        pair.far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
        pair.far.close()
    else:
        pair.handle.shutdown(socket.SHUT_WR)

    pair.transport.write(b"hello")
    pair.transport.write(b" there")
    within = list(pair.near.lost_by)
    await pair.ended()
    await deferLater(pair.reactor, 0)

    assert within == []
    assert pair.near.lost_by == [ConnectionLost]


@pytest.mark.parametrize("pair", [dialled], indirect=True)
@pytest.mark.parametrize("pieces", [1, 2], ids=["write", "writeSequence"])
@pytest.mark.reactor
@pytest_twisted.ensureDeferred
async def test_what_came_before_a_connection_broke_is_read_and_then_it_has_ended(pair, pieces):
    pair.far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
    pair.far.sendall(b"said before")
    pair.far.close()

    pair.transport.write(b"hello") if pieces == 1 else pair.transport.writeSequence([b"a", b"b"])
    within = bytes(pair.near.data)
    await pair.ended()

    assert within == b""
    assert pair.near.data == b"said before"
    assert pair.near.lost_by == [ConnectionLost]


@pytest.mark.parametrize("pair", [dialled], indirect=True)
@pytest.mark.reactor
@pytest_twisted.ensureDeferred
async def test_nothing_more_is_read_of_a_broken_connection_that_is_aborted(pair):
    pair.far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
    pair.far.sendall(b"said before")
    pair.far.close()

    pair.transport.write(b"hello")
    pair.transport.abortConnection()
    await pair.ended()
    await deferLater(pair.reactor, 0)

    assert pair.near.data == b""
    assert len(pair.near.lost_by) == 1


@pytest.mark.reactor
@pytest_twisted.ensureDeferred
async def test_more_pieces_than_the_kernel_takes_at_once_are_all_sent(pair):
    pieces = [b"%04d" % number for number in range(MOST_PIECES + 1)]

    pair.transport.writeSequence(pieces)

    assert await pair.rest(4 * len(pieces)) == b"".join(pieces)


@pytest_twisted.ensureDeferred
async def test_what_is_written_to_a_lost_connection_is_dropped(pair):
    pair.far.close()
    await pair.ended()

    pair.transport.write(b"too late")

    assert pair.queued == 0
    assert len(pair.near.lost_by) == 1


@pytest.mark.parametrize("before", [b"first", LARGE], ids=["nothing waits", "much waits"])
@pytest.mark.parametrize("how", ["loseConnection", "loseWriteConnection"])
@pytest_twisted.ensureDeferred
async def test_what_is_written_at_the_end_comes_last_as_with_twisted(pair, how, before):
    pair.transport.write(before)

    getattr(pair.transport, how)()
    pair.transport.write(b"last")
    came = await pair.rest()
    pair.transport.write(b"too late")

    assert came == before + b"last"
    assert pair.queued == 0


@pytest.mark.parametrize("before", [b"first", LARGE], ids=["nothing waits", "much waits"])
@pytest_twisted.ensureDeferred
async def test_an_abort_drops_what_waits_and_nothing_is_sent_after_it(pair, before):
    pair.transport.write(before)
    came = pair.take(len(before) - pair.queued)

    pair.transport.abortConnection()
    pair.transport.write(b"too late")
    await pair.ended()
    pair.transport.write(b"too late")

    assert before.startswith(came)
    with pytest.raises(ConnectionResetError):
        pair.far.recv(1)
    assert pair.near.lost_by == [ConnectionAborted]


@pytest.mark.reactor
@pytest_twisted.ensureDeferred
async def test_a_producer_is_paused_while_much_waits_and_resumed_after(pair):
    flood = Flood(pair.transport, len(LARGE))
    paused, sent, queued = flood.paused, flood.sent, pair.queued
    came = await pair.rest(len(LARGE))

    assert paused
    assert sent < len(LARGE)
    assert queued > pair.transport.bufferSize
    assert came == LARGE
    assert flood.sent == len(LARGE)


@pytest.mark.reactor
@pytest.mark.parametrize("pair", [dialled], indirect=True)
@pytest_twisted.ensureDeferred
async def test_what_is_long_is_read_in_longer_pieces_and_what_is_short_is_not(pair):
    pair.transport.pauseProducing()
    pair.far.setblocking(False)
    waiting = pair.far.send(LARGE)
    pair.far.setblocking(True)
    sending = threads.deferToThread(pair.far.sendall, LARGE[waiting:])
    pair.transport.resumeProducing()
    await sending
    await pair.near.until(lambda near: near.total == len(LARGE))
    longest, room = pair.near.longest, []

    for short in range(1, 4):
        pair.far.sendall(b"x")
        await pair.near.until(lambda near, short=short: near.total == len(LARGE) + short)
        room.append(pair.transport.bufferSize)

    assert SHORT_READ < longest <= LONG_READ
    assert room[1:] == [SHORT_READ, SHORT_READ]
    assert bytes(pair.near.data) == LARGE + b"xxx"


@pytest.mark.filterwarnings("ignore:Passing pyOpenSSL:DeprecationWarning")
@pytest.mark.parametrize("begun", ["at once", "later"])
@pytest.mark.parametrize("pieces", [False, True])
@pytest_twisted.ensureDeferred
async def test_nothing_passes_tls_by(begun, pieces):
    from twisted.internet import reactor

    made = Deferred()
    factory = Factory.forProtocol(lambda: Near(made))
    certificate = PrivateCertificate.loadPEM(self_signed()).options()
    if begun == "later":
        made.addCallback(lambda end: end.transport.startTLS(certificate) or end)
        port = reactor.listenTCP(0, factory, 5, "127.0.0.1")
    else:
        port = reactor.listenSSL(0, factory, certificate, 5, "127.0.0.1")
    trusting = CertificateOptions(verify=False)
    endpoint = SSL4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port, trusting)
    far = await endpoint.connect(Factory.forProtocol(End))
    near = await made

    if pieces:
        near.transport.writeSequence([b"sec", b"ret"])
    else:
        near.transport.write(b"secret")
    heard = await far.take(6)
    near.transport.abortConnection()
    await far.closed()
    await port.stopListening()

    assert heard == b"secret"


@pytest_twisted.ensureDeferred
async def test_any_other_transport_is_left_as_it_is(tmp_path):
    from twisted.internet import reactor

    made = Deferred()
    place = str(tmp_path / "socket")
    served = Factory.forProtocol(lambda: Silent(made))
    port = await UNIXServerEndpoint(reactor, place).listen(served)
    dialled = Factory.forProtocol(lambda: Silent(Deferred()))
    far = await UNIXClientEndpoint(reactor, place).connect(dialled)
    ends = [await made, far]
    before = [type(end.transport) for end in ends]

    for end in ends:
        write_through(end.transport)
    after = [type(end.transport) for end in ends]
    far.transport.abortConnection()
    await ends[0].closed()
    await port.stopListening()

    assert after == before == [unix.Server, unix.Client]
