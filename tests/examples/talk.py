"""A WebSocket to a session as a program holds it: Autobahn's client, messages awaited in turn."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit

from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol
from autobahn.websocket.protocol import WebSocketProtocol
from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredQueue
from twisted.internet.endpoints import HostnameEndpoint

from tests.live import PATIENCE_SECONDS


class Talk(WebSocketClientProtocol):
    """Text messages of JSON; `closed` has the code and the reason in the end."""

    def __init__(self) -> None:
        super().__init__()
        self.opened: Deferred[None] = Deferred()
        self.closed: Deferred[tuple[int, str]] = Deferred()
        self._heard: DeferredQueue[Any] = DeferredQueue()

    def onOpen(self) -> None:
        self.opened.callback(None)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        self._heard.put(json.loads(payload))

    def onClose(self, wasClean: bool, code: int, reason: str) -> None:
        if not self.opened.called:
            self.opened.errback(ConnectionRefusedError(reason))
        self.closed.callback((code, reason))

    def say(self, message: Any) -> None:
        """Send it as JSON."""
        self.sendMessage(json.dumps(message).encode())

    async def hear(self) -> Any:
        """The next message."""
        return await self._heard.get().addTimeout(PATIENCE_SECONDS, reactor)

    async def hang_up(self) -> None:
        """Close, and return when nothing is left of it."""
        self.sendClose(WebSocketProtocol.CLOSE_STATUS_CODE_NORMAL)
        await self.closed


async def open_talk(url: str, origin: str | None = None) -> Talk:
    """One that is open. Raises `ConnectionRefusedError`, which tells the status of a refusal."""
    parts = urlsplit(url)
    factory = WebSocketClientFactory(url, origin=origin)
    factory.protocol = Talk
    endpoint = HostnameEndpoint(reactor, "127.0.0.1", parts.port)
    talk = await endpoint.connect(factory)
    await talk.opened.addTimeout(PATIENCE_SECONDS, reactor)
    return talk
