"""Knock on an address until an HTTP server answers there (plane.md 2.4)."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.error import (
    ConnectError,
    ConnectingCancelledError,
    DNSLookupError,
)
from twisted.internet.error import ConnectionRefusedError as Refused
from twisted.internet.interfaces import ITCPTransport
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from plane_tx.core.knocks import Knock, Outcome, status_of
from plane_tx.core.model import Address, Readiness
from plane_tx.reactor import INetworkReactor

#: The first pause between two knocks, for a small server listens milliseconds after its start; it
#: doubles up to the longest one, which is Plane's.
FIRST_PAUSE_SECONDS = 0.002
LONGEST_PAUSE_SECONDS = 0.1

#: How long one knock may take, as Plane's may.
KNOCK_SECONDS = 1.0


class _Asking(Protocol):
    """Ask HEAD once; `answer` fires with the first bytes that came, none for a hang-up."""

    transport: ITCPTransport

    def __init__(self, path: str) -> None:
        self._path = path
        self._received = b""
        self.answer: Deferred[bytes] = Deferred(lambda _: self.transport.abortConnection())

    def connectionMade(self) -> None:
        request = f"HEAD {self._path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        self.transport.write(request.encode("ascii"))

    def dataReceived(self, data: bytes) -> None:
        self._received += data
        if len(self._received) >= len(b"HTTP/1.1 200"):
            self.transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if not self.answer.called:
            self.answer.callback(self._received)


async def _knock(reactor: INetworkReactor, address: Address, readiness: Readiness) -> Knock:
    endpoint = TCP4ClientEndpoint(reactor, address.host, address.port, KNOCK_SECONDS)
    factory = Factory.forProtocol(lambda: _Asking(readiness.path))
    factory.noisy = False
    try:
        asking = cast(_Asking, await endpoint.connect(factory))
        answer = await asking.answer.addTimeout(KNOCK_SECONDS, reactor)
    except Refused:
        return Knock(Outcome.REFUSED)
    except (ConnectError, DNSLookupError):
        return Knock(Outcome.UNREACHABLE)
    except DeferredTimeout:
        return Knock(Outcome.SILENT)
    except ConnectingCancelledError:
        # An endpoint's own word for it, which nobody who cancels us should need to know.
        raise CancelledError from None
    return Knock(Outcome.ANSWERED, answer) if answer else Knock(Outcome.HUNG_UP)


def answers_well(answer: bytes, readiness: Readiness) -> bool:
    """Whether the first bytes of an answer are HTTP, with a status that counts as ready."""
    status = status_of(answer)
    return status is not None and (not readiness.statuses or status in readiness.statuses)


def _heed_not(_knock: Knock) -> None:
    """What is done with a knock that nobody wants to hear of."""


async def probe(
    reactor: INetworkReactor,
    address: Address,
    readiness: Readiness,
    tell: Callable[[Knock], None] = _heed_not,
) -> None:
    """Return as soon as an HTTP server answers at `address`; knock until cancelled.

    `tell` hears of each knock that was in vain.
    """
    pause = FIRST_PAUSE_SECONDS
    while not answers_well((knock := await _knock(reactor, address, readiness)).answer, readiness):
        tell(knock)
        await deferLater(reactor, pause)
        pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
