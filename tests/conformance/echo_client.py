"""Autobahn's echo client goes through the cases of a fuzzing server: echo_client.py URL AGENT."""

from __future__ import annotations

import sys
from typing import Any

from autobahn.twisted.websocket import (
    WebSocketClientFactory,
    WebSocketClientProtocol,
    connectWS,
)
from autobahn.websocket.compress import (
    PerMessageDeflateOffer,
    PerMessageDeflateResponse,
    PerMessageDeflateResponseAccept,
)
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConnector
from twisted.internet.task import react
from twisted.python.failure import Failure


class Echo(WebSocketClientProtocol):
    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        # A message may stand behind a Close; Autobahn tells of it, but would not send.
        if self.state == self.STATE_OPEN:
            self.sendMessage(payload, isBinary)


class Listen(WebSocketClientProtocol):
    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        self.factory.last = payload


class Visit(WebSocketClientFactory):
    """One connection; `over` fires with the last message when it has ended, however it did."""

    def __init__(self, url: str, protocol: type[WebSocketClientProtocol]) -> None:
        super().__init__(url)
        self.protocol = protocol
        self.last = b""
        self.over: Deferred[bytes] = Deferred()
        self.setProtocolOptions(
            failByDrop=False,
            perMessageCompressionOffers=[PerMessageDeflateOffer()],
            perMessageCompressionAccept=accept,
        )

    def clientConnectionLost(self, _connector: IConnector, _reason: Failure) -> None:
        self.over.callback(self.last)

    def clientConnectionFailed(self, _connector: IConnector, reason: Failure) -> None:
        self.over.errback(reason)


def accept(response: object) -> PerMessageDeflateResponseAccept | None:
    if isinstance(response, PerMessageDeflateResponse):
        return PerMessageDeflateResponseAccept(response)
    return None


def visit(url: str, protocol: type[WebSocketClientProtocol] = Listen) -> Deferred[bytes]:
    factory = Visit(url, protocol)
    connectWS(factory)
    return factory.over


async def main(_reactor: Any, url: str, agent: str) -> None:
    count = int(await visit(f"{url}/getCaseCount"))
    for number in range(1, count + 1):
        await visit(f"{url}/runCase?case={number}&agent={agent}", Echo)
    await visit(f"{url}/updateReports?agent={agent}")


if __name__ == "__main__":
    react(main, sys.argv[1:])
