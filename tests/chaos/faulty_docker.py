"""A socket before Docker's own that answers some calls with an error, late, or not at all.

    python -m tests.chaos.faulty_docker SOCKET DOCKER_SOCKET SEED

It takes orders on its standard input, one JSON object a line, and answers each with a line:
`{"odds": {"error": 0.01}}` has one call of a hundred go wrong so, `{"cut": true}` breaks every
connection, and `{"away": true}` does so and lets none in until `{"away": false}`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from random import Random
from typing import Any

import httptools
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.stdio import StandardIO
from twisted.protocols.basic import LineOnlyReceiver

STALL_SECONDS = 5.0

_ERROR = b'{"message":"chaos: the engine failed"}\n'


class Fault(StrEnum):
    #: Answered with 500; Docker does not hear of it.
    ERROR = "error"
    #: The connection breaks; Docker does not hear of it.
    RESET = "reset"
    #: The connection breaks when Docker answers: it has done what it was asked.
    LOST = "lost"
    #: Docker hears of it `STALL_SECONDS` later.
    STALL = "stall"


def chosen(random: Random, odds: Mapping[str, float]) -> Fault | None:
    """What is done to the next call; each fault of `odds` is as likely as that says."""
    point = random.random()
    for fault in Fault:
        point -= odds.get(fault, 0.0)
        if point < 0:
            return fault
    return None


class Requests:
    """Cuts what a client sends into whole requests; Docker's clients wait for each answer."""

    def __init__(self) -> None:
        self._parser = httptools.HttpRequestParser(self)
        self._raw = b""
        self._complete = False

    def on_message_complete(self) -> None:
        self._complete = True

    def feed(self, data: bytes) -> bytes:
        """The request that `data` completes, or nothing."""
        self._raw += data
        self._parser.feed_data(data)
        if not self._complete:
            return b""
        request, self._raw, self._complete = self._raw, b"", False
        return request


class Near(Protocol):
    """The client's side."""

    factory: Faulty

    def connectionMade(self) -> None:
        self.requests = Requests()
        self.far: Far | None = None
        self.delayed: Any = None
        self.gone = False
        self.factory.open.add(self)

    def dataReceived(self, data: bytes) -> None:
        request = self.requests.feed(data)
        if request:
            self._take(request, chosen(self.factory.random, self.factory.odds))

    def _take(self, request: bytes, fault: Fault | None) -> None:
        if fault is Fault.ERROR:
            head = f"HTTP/1.1 500 Internal Server Error\r\nContent-Length: {len(_ERROR)}\r\n\r\n"
            self.transport.write(head.encode() + _ERROR)
        elif fault is Fault.RESET:
            self.transport.abortConnection()
        elif fault is Fault.STALL:
            later = self.factory.reactor.callLater
            self.delayed = later(STALL_SECONDS, self._pass, request, lose=False)
        else:
            self._pass(request, lose=fault is Fault.LOST)

    def _pass(self, request: bytes, *, lose: bool) -> None:
        self.delayed = None
        if self.far is None:
            connecting = self.factory.docker.connect(Factory.forProtocol(Far))
            connecting.addCallbacks(self._connected, lambda _: self.hang_up(), [request, lose])
        else:
            self.far.ask(request, lose=lose)

    def _connected(self, far: Far, request: bytes, lose: bool) -> None:
        self.far, far.near = far, self
        if self.gone:
            far.transport.abortConnection()
            return
        self.transport.registerProducer(far.transport, streaming=True)
        far.ask(request, lose=lose)

    def hang_up(self) -> None:
        self.transport.abortConnection()

    def connectionLost(self, reason: object = None) -> None:
        self.gone = True
        self.factory.open.discard(self)
        if self.delayed is not None:
            self.delayed.cancel()
        if self.far is not None:
            self.far.transport.abortConnection()


class Far(Protocol):
    """Docker's side."""

    near: Near
    lose = False

    def ask(self, request: bytes, *, lose: bool) -> None:
        self.lose = lose
        self.transport.write(request)

    def dataReceived(self, data: bytes) -> None:
        if self.lose:
            self.near.hang_up()
        else:
            self.near.transport.write(data)

    def connectionLost(self, reason: object = None) -> None:
        self.near.transport.loseConnection()


class Faulty(Factory):
    """What all connections share."""

    protocol = Near
    noisy = False

    def __init__(self, reactor: Any, path: str, docker: str, random: Random) -> None:
        self.reactor = reactor
        self.path = path
        self.docker = UNIXClientEndpoint(reactor, docker, timeout=5)
        self.random = random
        self.odds: Mapping[str, float] = {}
        self.open: set[Near] = set()
        self._port: Any = None

    def appear(self) -> None:
        Path(self.path).unlink(missing_ok=True)
        self._port = self.reactor.listenUNIX(self.path, self, backlog=512)

    def cut(self) -> None:
        for each in tuple(self.open):
            each.hang_up()

    def vanish(self) -> None:
        port, self._port = self._port, None
        if port is not None:
            port.stopListening()
        self.cut()

    def obey(self, order: Mapping[str, Any]) -> None:
        self.odds = order.get("odds", self.odds)
        if order.get("cut"):
            self.cut()
        if order.get("away"):
            self.vanish()
        elif "away" in order:
            self.appear()


class Orders(LineOnlyReceiver):
    """Standard input; when it ends, so do we."""

    delimiter = b"\n"

    def __init__(self, faulty: Faulty) -> None:
        self._faulty = faulty

    def lineReceived(self, line: bytes) -> None:
        self._faulty.obey(json.loads(line))
        self.sendLine(b"done")

    def connectionLost(self, reason: object = None) -> None:
        if self._faulty.reactor.running:
            self._faulty.reactor.stop()


def main() -> None:
    from twisted.internet import reactor

    path, docker, seed = sys.argv[1:]
    faulty = Faulty(reactor, path, docker, Random(seed))
    faulty.appear()
    StandardIO(Orders(faulty))
    reactor.run()


if __name__ == "__main__":
    main()
