"""Ends of real TCP connections that write down what comes and say only what a test tells them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Factory, Protocol
from zope.interface import implementer

PIECE = bytes(range(256)) * 256


class End(Protocol):
    """One end of a connection: `data` has what came, until `count` is asked for."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.total = 0
        self.lost = False
        self._hash = None
        self._waiting: list[Deferred[None]] = []

    def connectionMade(self) -> None:
        self.transport.setTcpNoDelay(True)

    def dataReceived(self, data: bytes) -> None:
        self.total += len(data)
        if self._hash is None:
            self.data += data
        else:
            self._hash.update(data)
        self._tell()

    def connectionLost(self, reason) -> None:
        self.lost = True
        self._tell()

    def _tell(self) -> None:
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(None)

    async def until(self, true: Callable[[End], bool]) -> None:
        while not true(self):
            assert not self.lost, f"lost after {self.total} bytes: {bytes(self.data[:500])!r}"
            each: Deferred[None] = Deferred()
            self._waiting.append(each)
            await each

    async def head(self) -> bytes:
        """Take the next head out of what came."""
        await self.until(lambda end: b"\r\n\r\n" in end.data)
        head, _, rest = bytes(self.data).partition(b"\r\n\r\n")
        self.data[:] = rest
        return head + b"\r\n\r\n"

    async def take(self, size: int) -> bytes:
        """Take so many bytes out of what came."""
        await self.until(lambda end: len(end.data) >= size)
        taken = bytes(self.data[:size])
        del self.data[:size]
        return taken

    def count(self) -> None:
        """Count and hash what comes from here on, and what is there, and keep nothing of it."""
        self._hash = hashlib.sha256(self.data)
        self.total = len(self.data)
        self.data.clear()

    def digest(self) -> str:
        return self._hash.hexdigest()

    async def closed(self) -> None:
        while not self.lost:
            each: Deferred[None] = Deferred()
            self._waiting.append(each)
            await each


@implementer(IPushProducer)
class Flood:
    """Writes `size` bytes as fast as they are taken; `sent` is how many were.

    It is `paused` while they are not.
    """

    def __init__(self, transport, size: int) -> None:
        self.sent = 0
        self.hash = hashlib.sha256()
        self.transport = transport
        self._size = size
        self.paused = False
        transport.registerProducer(self, True)
        self.resumeProducing()

    def resumeProducing(self) -> None:
        self.paused = False
        while not self.paused and self.sent < self._size:
            piece = PIECE[: self._size - self.sent]
            self.sent += len(piece)
            self.hash.update(piece)
            self.transport.write(piece)
        if self.sent == self._size:
            self.transport.unregisterProducer()

    def pauseProducing(self) -> None:
        self.paused = True

    def stopProducing(self) -> None:
        self.paused = True


class RawUpstream(Factory):
    """A session's server; it answers knocks by itself, `take` gives every other connection."""

    noisy = False

    def __init__(self) -> None:
        self.ends: list[UpstreamEnd] = []
        self._untaken: list[UpstreamEnd] = []
        self._takers: list[Deferred[UpstreamEnd]] = []

    def buildProtocol(self, addr) -> UpstreamEnd:
        end = UpstreamEnd()
        end.factory = self
        self.ends.append(end)
        return end

    def came(self, end: UpstreamEnd) -> None:
        self._untaken.append(end)
        if self._takers:
            self._takers.pop(0).callback(self._untaken.pop(0))

    async def take(self) -> UpstreamEnd:
        """The next connection on which something was asked."""
        if self._untaken:
            return self._untaken.pop(0)
        taker: Deferred[UpstreamEnd] = Deferred()
        self._takers.append(taker)
        return await taker


class UpstreamEnd(End):
    """A connection to the raw upstream."""

    factory: RawUpstream

    def dataReceived(self, data: bytes) -> None:
        if self.total == 0 and data.startswith(b"HEAD / HTTP/1.1\r\nHost: localhost\r\n"):
            self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            return
        first = self.total == 0
        super().dataReceived(data)
        if first:
            self.factory.came(self)
