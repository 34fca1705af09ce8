"""An epoll reactor with turns of ours, and real sockets: it reads, ends and fails as Twisted's."""

import socket

import pytest
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.selectreactor import SelectReactor
from twisted.python import context, log

from plane_tx.poll import poll_plainly


class Said(Protocol):
    """Notes what it is told and in which log context; `b"raise"` makes it fail."""

    def __init__(self):
        self.heard = []

    def dataReceived(self, data):
        self.heard.append((data, context.get(log.ILogContext)["system"]))
        if data == b"raise":
            raise RuntimeError("a fault of the protocol's")

    def connectionLost(self, reason):
        self.heard.append(reason.type)


def closed(reactor):
    reactor.removeAll()
    reactor.waker.connectionLost(None)
    if isinstance(reactor, EPollReactor):
        reactor._poller.close()


@pytest.fixture
def reactor():
    reactor = EPollReactor()
    poll_plainly(reactor)
    yield reactor
    closed(reactor)


@pytest.fixture
def joined(reactor):
    """A client's socket, and the protocol at the other end of it."""
    protocol = Said()
    factory = Factory.forProtocol(lambda: protocol)
    factory.noisy = False
    port = reactor.listenTCP(0, factory, interface="127.0.0.1")
    with socket.create_connection(("127.0.0.1", port.getHost().port)) as client:
        until(reactor, lambda: protocol.transport is not None)
        yield client, protocol
        if protocol.transport.connected:
            protocol.transport.abortConnection()
            until(reactor, lambda: not protocol.transport.connected)
    port.stopListening()
    until(reactor, lambda: not port.connected)


def until(reactor, there):
    while not there():
        reactor.runUntilCurrent()
        reactor.doIteration(0.01)


def test_bytes_are_read_without_a_log_context_of_their_own(reactor, joined):
    client, protocol = joined

    client.sendall(b"hello")
    until(reactor, lambda: protocol.heard)

    assert protocol.heard == [(b"hello", "-")]


def test_what_waits_is_written_and_the_end_is_heard(reactor, joined):
    client, protocol = joined
    large = bytes(1 << 20)

    protocol.transport.write(large)
    said = b""
    while len(said) < len(large):
        reactor.doIteration(10)
        said += client.recv(1 << 20)
    client.close()
    until(reactor, lambda: protocol.heard)

    assert said == large
    assert protocol.heard == [ConnectionDone]


def test_a_reset_is_heard(reactor, joined):
    client, protocol = joined

    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    client.close()
    until(reactor, lambda: protocol.heard)

    assert protocol.heard == [ConnectionLost]


def test_a_protocol_that_raises_loses_its_connection_and_no_other(reactor, joined, logged_failures):
    client, protocol = joined

    client.sendall(b"raise")
    until(reactor, lambda: len(protocol.heard) == 2)

    assert protocol.heard == [(b"raise", "-"), RuntimeError]
    assert len(logged_failures.claim(RuntimeError)) == 1


def test_a_connection_that_an_event_before_has_closed_is_passed_over(reactor, joined):
    client, protocol = joined
    handle = protocol.transport.fileno()
    client.sendall(b"late")

    protocol.transport = reactor._selectables.pop(handle)
    reactor.doIteration(10)
    passed_over = list(protocol.heard)
    reactor._selectables[handle] = protocol.transport
    until(reactor, lambda: protocol.heard)

    assert passed_over == []
    assert protocol.heard == [(b"late", "-")]


@pytest.mark.parametrize("kind", [SelectReactor, type("Own", (EPollReactor,), {})])
def test_any_other_reactor_stays_as_it_is(kind):
    other = kind()

    poll_plainly(other)

    assert "doIteration" not in vars(other)
    closed(other)
