"""The probe: knocks until an HTTP server answers well, and leaves nothing when called off."""

from __future__ import annotations

import pytest
import pytest_twisted
from twisted.internet.defer import CancelledError, Deferred, ensureDeferred
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.error import (
    ConnectError,
    ConnectionDone,
    DNSLookupError,
    TCPTimedOutError,
)
from twisted.internet.error import ConnectionRefusedError as Refused
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure

from plane_tx.core.knocks import Knock, Outcome
from plane_tx.core.model import Address, Readiness
from plane_tx.probe import KNOCK_SECONDS, LONGEST_PAUSE_SECONDS, answers_well, probe
from tests.recording_engine import Dials, now

HOST = "10.0.0.1"
PAUSE = LONGEST_PAUSE_SECONDS


@pytest.fixture
def dials() -> Dials:
    return Dials()


def probing(dials: Dials, readiness: Readiness | None = None, host: str = HOST) -> Deferred[None]:
    address = Address(host, 8080)
    return ensureDeferred(probe(dials.reactor, address, readiness or Readiness()))


def test_it_asks_head_of_the_path_and_returns_when_that_is_answered(dials: Dials) -> None:
    answered = probing(dials, Readiness("/up?x"))

    transport = dials.answer(HOST)

    assert (
        transport.value() == b"HEAD /up?x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )
    assert transport.disconnected
    assert now(answered) is None
    assert dials.reactor.getDelayedCalls() == []


def test_an_answer_may_come_in_pieces(dials: Dials) -> None:
    answered = probing(dials)
    protocol, _ = dials.accept(HOST)

    for piece in (b"HT", b"TP/1.1 ", b"204"):
        protocol.dataReceived(piece)
    protocol.connectionLost(Failure(ConnectionDone()))

    assert now(answered) is None


def test_an_ipv6_address_is_dialled_as_it_is(dials: Dials) -> None:
    answered = probing(dials, host="fd00::1")

    dials.answer("fd00::1")

    assert now(answered) is None


@pytest.mark.parametrize(
    "error", [None, ConnectError(), TCPTimedOutError(), DNSLookupError(), OSError]
)
def test_a_server_that_does_not_listen_is_knocked_at_until_it_does(
    dials: Dials, error: Exception | None
) -> None:
    answered = probing(dials)
    if error is OSError:
        error = ConnectError(osError=111)

    for _ in range(100):
        dials.refuse(HOST, error)
        dials.reactor.advance(PAUSE)
    dials.answer(HOST)

    assert now(answered) is None
    assert len(dials.of(HOST)) == 101


def test_knocks_come_fast_at_first_and_then_ten_times_a_second(dials: Dials) -> None:
    probing(dials).addErrback(lambda failure: failure.trap(CancelledError) and None)
    pauses = []

    for _ in range(8):
        dials.refuse(HOST)
        (call,) = dials.reactor.getDelayedCalls()
        pauses.append(round(call.getTime() - dials.reactor.seconds(), 3))
        dials.reactor.advance(PAUSE)

    assert pauses == [0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.1, 0.1]


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1", b"HTTP/1.1 2x0 OK", b"SSH-2.0-OpenSSH_9.2", b"\x00" * 100]
)
def test_an_answer_that_is_not_http_is_none(dials: Dials, answer: bytes) -> None:
    answered = probing(dials)

    dials.answer(HOST, answer)
    dials.reactor.advance(PAUSE)

    assert len(dials.of(HOST)) == 2
    dials.answer(HOST)
    assert now(answered) is None


def test_a_status_that_is_not_asked_for_is_no_answer(dials: Dials) -> None:
    answered = probing(dials, Readiness(statuses=(200, 204)))

    dials.answer(HOST, b"HTTP/1.1 503 Service Unavailable\r\n\r\n")
    dials.reactor.advance(PAUSE)
    dials.answer(HOST, b"HTTP/1.0 204 No Content\r\n\r\n")

    assert now(answered) is None


def test_a_server_that_says_nothing_is_hung_up_on_and_knocked_at_again(dials: Dials) -> None:
    answered = probing(dials)
    protocol, transport = dials.accept(HOST)

    dials.reactor.advance(KNOCK_SECONDS)
    protocol.dataReceived(b"HTTP/1.1 200 OK")
    protocol.connectionLost(Failure(ConnectionDone()))
    dials.reactor.advance(PAUSE)

    assert transport.disconnected
    assert not answered.called
    dials.answer(HOST)
    assert now(answered) is None


def test_each_knock_in_vain_is_told_with_how_it_went(dials: Dials) -> None:
    told: list[Knock] = []
    address, readiness = Address(HOST, 8080), Readiness(statuses=(200,))
    answered = ensureDeferred(probe(dials.reactor, address, readiness, told.append))

    dials.refuse(HOST, Refused())
    dials.reactor.advance(PAUSE)
    dials.refuse(HOST, TCPTimedOutError())
    dials.reactor.advance(PAUSE)
    dials.answer(HOST, b"")
    dials.reactor.advance(PAUSE)
    dials.answer(HOST, b"HTTP/1.1 503 No")
    dials.reactor.advance(PAUSE)
    protocol, _ = dials.accept(HOST)
    dials.reactor.advance(KNOCK_SECONDS)
    protocol.connectionLost(Failure(ConnectionDone()))
    dials.reactor.advance(PAUSE)
    dials.answer(HOST)

    assert now(answered) is None
    assert told == [
        Knock(Outcome.REFUSED),
        Knock(Outcome.UNREACHABLE),
        Knock(Outcome.HUNG_UP),
        Knock(Outcome.ANSWERED, b"HTTP/1.1 503 No"),
        Knock(Outcome.SILENT),
    ]


@pytest.mark.parametrize("when", ["dialling", "waiting for an answer", "pausing"])
def test_called_off_it_leaves_nothing(dials: Dials, when: str) -> None:
    answered = probing(dials)
    transport = None
    if when == "pausing":
        dials.refuse(HOST)
    elif when == "waiting for an answer":
        _, transport = dials.accept(HOST)

    answered.cancel()

    with pytest.raises(CancelledError):
        now(answered)
    assert dials.reactor.getDelayedCalls() == []
    assert dials.reactor.connectors[0].stoppedConnecting == (when == "dialling")
    assert transport is None or transport.disconnected


@pytest.mark.parametrize(
    ("answer", "statuses", "well"),
    [
        (b"HTTP/1.1 200 OK", (), True),
        (b"HTTP/1.0 500 x", (), True),
        (b"HTTP/1.1 404", (404,), True),
        (b"HTTP/1.1 404", (200, 204), False),
        (b"HTTP/11 200", (), False),
        (b" HTTP/1.1 200", (), False),
        (b"", (), False),
    ],
)
def test_any_status_will_do_unless_some_are_named(
    answer: bytes, statuses: tuple[int, ...], well: bool
) -> None:
    assert answers_well(answer, Readiness(statuses=statuses)) is well


class Greeting(Protocol):
    def dataReceived(self, data: bytes) -> None:
        self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")


@pytest.mark.reactor
@pytest_twisted.ensureDeferred
async def test_a_real_server_is_found_and_a_real_dial_is_called_off() -> None:
    from twisted.internet import reactor

    factory = Factory.forProtocol(Greeting)
    port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(factory)
    address = Address("127.0.0.1", port.getHost().port)

    await probe(reactor, address, Readiness())
    await port.stopListening()
    vain = ensureDeferred(probe(reactor, address, Readiness()))
    vain.cancel()

    with pytest.raises(CancelledError):
        await vain
