"""Autobahn's echo server, as a session: on $HOST and $PORT, with permessage-deflate."""

from __future__ import annotations

import os
from collections.abc import Iterable

from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from autobahn.websocket.compress import PerMessageDeflateOffer, PerMessageDeflateOfferAccept
from twisted.internet import reactor


class Echo(WebSocketServerProtocol):
    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        # A message may stand behind a Close; Autobahn tells of it, but would not send.
        if self.state == self.STATE_OPEN:
            self.sendMessage(payload, isBinary)


def accept(offers: Iterable[object]) -> PerMessageDeflateOfferAccept | None:
    for offer in offers:
        if isinstance(offer, PerMessageDeflateOffer):
            return PerMessageDeflateOfferAccept(offer)
    return None


def main() -> None:
    factory = WebSocketServerFactory()
    factory.protocol = Echo
    # A violation is answered by a Close frame that says which, not by a dropped connection.
    factory.setProtocolOptions(failByDrop=False, perMessageCompressionAccept=accept)
    reactor.listenTCP(int(os.environ["PORT"]), factory, interface=os.environ["HOST"])
    reactor.run()


if __name__ == "__main__":
    main()
