"""A WebSocket through the proxy: Autobahn shakes hands on both legs, then frames pass as bytes.

The request to upgrade goes to the session like any other, so a refusal is an ordinary reply. Once
the session has answered 101, Autobahn's client checks that answer, Autobahn's server checks the
browser's request and accepts it. Extensions are agreed between browser and session: neither leg
looks into a frame, so neither may take a part in them.
"""

from __future__ import annotations

from typing import Any

import attrs
from autobahn.twisted.websocket import (
    WebSocketClientFactory,
    WebSocketClientProtocol,
    WebSocketServerFactory,
    WebSocketServerProtocol,
)
from autobahn.websocket.types import ConnectionRequest

from plane_tx.core.access import Access, End
from plane_tx.core.errors import BadRequest, PlaneError
from plane_tx.core.fields import Headers, name_of, values_of
from plane_tx.core.headers import response_lines
from plane_tx.core.messages import RequestHead, ResponseHead, write_head
from plane_tx.proxy.answers import refusal
from plane_tx.proxy.upstream import UpstreamConnection
from plane_tx.reactor import IFlowTransport, INetworkReactor


@attrs.frozen
class Handshake:
    """The heads that agreed on an upgrade, and what came behind each."""

    request: RequestHead
    browser_surplus: bytes
    response: ResponseHead
    upstream_surplus: bytes


@attrs.frozen
class RelayEnds:
    """The two connections of an upgrade, and what the access log is to say of it."""

    browser: IFlowTransport
    upstream: UpstreamConnection
    access: Access | None = None

    def opened(self, now: float) -> None:
        """The browser is told that the session has taken it up."""
        if self.access is not None:
            self.access.replied(101, now)

    def refuse(self, request: RequestHead, error: PlaneError, now: float) -> None:
        """Tell the browser that there will be no upgrade; its connection then has to end."""
        said = refusal(error, close=True, head=request)
        if self.access is not None:
            self.access.answered(said, error.kind, now)
        self.browser.write(said)

    def misunderstood(self, now: float) -> None:
        """Autobahn has told the browser what is wrong with its request (always by 400)."""
        if self.access is not None:
            self.access.replied(400, now)
            self.access.error = BadRequest.kind

    def ended_by(self, end: End) -> None:
        """One side has ended what is open, or ends it now; only the first one counts."""
        if self.access is not None:
            self.access.ended_by(end)


class BrowserLeg(WebSocketServerProtocol):
    """Judges the browser's request to upgrade, and accepts it in the session's words."""

    def __init__(self, subprotocol: str | None, lines: list[bytes]) -> None:
        super().__init__()
        self._subprotocol = subprotocol
        self._lines = lines

    def onConnect(self, request: ConnectionRequest) -> str | None:
        """What the 101 says beside the handshake itself."""
        return self._subprotocol

    def sendData(self, data: bytes, sync: bool = False, chopsize: int | None = None) -> None:
        """Send the answer to the handshake, which is all that is sent by this leg."""
        # Autobahn takes headers as text alone, and theirs may be any bytes.
        if data.startswith(b"HTTP/1.1 101 "):
            data = b"\r\n".join([data.removesuffix(b"\r\n\r\n"), *self._lines, b"", b""])
        transport: Any = self.transport
        transport.write(data)


class UpstreamLeg(WebSocketClientProtocol):
    """Judges the session's 101; the request it answers was sent by the exchange."""

    def __init__(self, key: bytes) -> None:
        super().__init__()
        self.websocket_key = key

    def startHandshake(self) -> None:
        """Nothing: the request is on its way already."""


class Legs:
    """Shakes hands by Autobahn on both legs; one of these serves every WebSocket of a proxy.

    A leg is let go of once it is open, for no frame passes through it.
    """

    def __init__(self, reactor: INetworkReactor) -> None:
        # Autobahn's factories carry no annotations.
        browser: Any = WebSocketServerFactory
        upstream: Any = WebSocketClientFactory
        self._browser = browser(reactor=reactor, server="")
        self._upstream = upstream("ws://session", reactor=reactor)
        for factory in (self._browser, self._upstream):
            # Both heads are whole before a leg is made, so no handshake can hang.
            factory.setProtocolOptions(openHandshakeTimeout=0)
        self._browser_leg = _configured(BrowserLeg, self._browser)
        self._upstream_leg = _configured(UpstreamLeg, self._upstream)

    def open_upstream(self, shaken: Handshake, transport: IFlowTransport) -> bool:
        """Whether the session's 101 answers the request."""
        key = b"".join(values_of(shaken.request.headers, b"sec-websocket-key"))
        leg = self._upstream_leg(key.strip())
        leg.factory = self._upstream
        agreed = (b"upgrade", b"connection", b"sec-websocket-accept")
        headers = _only(shaken.response.headers, agreed)
        return _opens(leg, transport, write_head(b"HTTP/1.1 101 Switching Protocols", headers))

    def open_browser(self, shaken: Handshake, transport: IFlowTransport, session_id: str) -> bool:
        """Whether the browser's request was accepted; else it was told why not."""
        lines = [
            line
            for line in response_lines(shaken.response, session_id)
            if name_of(line) not in (b"sec-websocket-accept", b"sec-websocket-protocol")
        ]
        leg = self._browser_leg(_subprotocol(shaken.response), lines)
        leg.factory = self._browser
        asked = (
            b"host",
            b"upgrade",
            b"connection",
            b"sec-websocket-key",
            b"sec-websocket-version",
            b"sec-websocket-protocol",
        )
        headers = _only(shaken.request.headers, asked)
        return _opens(leg, transport, write_head(b"GET / HTTP/1.1", headers))


def _configured(leg: Any, factory: Any) -> Any:
    # Autobahn would copy the options of its factory into every leg, and format them for its log.
    options = {name: _unbound(getattr(factory, name)) for name in leg.CONFIG_ATTRS}
    return type(leg.__name__, (leg,), {**options, "CONFIG_ATTRS": ()})


def _unbound(option: object) -> object:
    return staticmethod(option) if callable(option) else option


def _opens(leg: Any, transport: IFlowTransport, head: bytes) -> bool:
    leg.makeConnection(transport)
    leg.dataReceived(head)
    opened = bool(leg.state == leg.STATE_OPEN)
    # A leg and its Deferreds hold each other: it would wait for the collector.
    vars(leg).clear()
    return opened


def _only(headers: Headers, names: tuple[bytes, ...]) -> Headers:
    return tuple(header for header in headers if header[0].lower() in names)


def _subprotocol(head: ResponseHead) -> str | None:
    chosen = values_of(head.headers, b"sec-websocket-protocol")
    return chosen[0].strip().decode("latin-1") if chosen else None


def agreed_wrongly(shaken: Handshake) -> str:
    """What is wrong with how the session took up the offer; "" when nothing is."""
    fields = shaken.response.fields
    if fields.framing is not None or fields.fault:
        return "the session's 101 tells of a body (RFC 9110 section 8.6)"
    chosen = _subprotocol(shaken.response)
    # Case matters here, unlike in most lists (RFC 6455 section 4.1).
    offers = b",".join(values_of(shaken.request.headers, b"sec-websocket-protocol"))
    offered = {offer.strip() for offer in offers.split(b",")}
    if chosen is None or chosen.encode("latin-1") in offered:
        return ""
    return f"the session chose the subprotocol {chosen!r}, which was not offered"
