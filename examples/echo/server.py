"""An HTTP and WebSocket server that shows what it was asked, for tests and benchmarks.

Every path below `/` is one function of the table at the end of the HTTP part; `GET /` lists them.
"""

# ruff: noqa: E402  (the handler comes first: SIGTERM may arrive while the rest is imported)
from __future__ import annotations

import os
import signal

# As PID 1 in a container a process without a handler ignores SIGTERM.
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))

import hashlib
import json
import sys
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, cast
from urllib.parse import parse_qsl

from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from autobahn.websocket.compress import PerMessageDeflateOffer, PerMessageDeflateOfferAccept
from twisted.internet import interfaces
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import (
    FilteringLogObserver,
    Logger,
    LogLevel,
    LogLevelFilterPredicate,
    globalLogBeginner,
    textFileLogObserver,
)
from twisted.python.failure import Failure
from twisted.web import http
from zope.interface import implementer

# Importing the name installs the reactor; the cast tells a type checker what it can do.
from twisted.internet import reactor as installed_reactor  # isort: skip

reactor = cast(Any, installed_reactor)
log = Logger()

PIECE = bytes(64 * 1024)
KEPT_BODY = 16 * 1024 * 1024
HEAD_LIMIT = 64 * 1024


# Requests


class Body:
    """A request body, counted and hashed as it arrives; its bytes are kept only if asked.

    It has the file methods that twisted.web calls on `Request.content`.
    """

    def __init__(self, keep: int) -> None:
        self.keep = keep
        self.size = 0
        self.kept = bytearray()
        self.sha256 = hashlib.sha256()

    def write(self, data: bytes) -> None:
        self.size += len(data)
        self.sha256.update(data)
        self.kept += data[: max(0, self.keep - len(self.kept))]

    def tell(self) -> int:
        return self.size

    def seek(self, offset: int, whence: int = 0) -> None:
        pass  # nobody reads it from here

    def close(self) -> None:
        self.kept.clear()


@implementer(interfaces.IPushProducer)
class Flow:
    """The pace of a response: `await flow.ready()` returns when the reader keeps up."""

    def __init__(self) -> None:
        self._resumed: Deferred[None] | None = None

    def pauseProducing(self) -> None:
        self._resumed = Deferred()

    def resumeProducing(self) -> None:
        resumed, self._resumed = self._resumed, None
        if resumed is not None:
            resumed.callback(None)

    def stopProducing(self) -> None:
        pass  # the connection is lost, which cancels whoever waits

    async def ready(self) -> None:
        if self._resumed is not None:
            await self._resumed


class Request(http.Request):
    """A request answered by a coroutine, which is cancelled when its client leaves.

    twisted.web calls `process` only when the whole body is here, but passes each piece to
    `content.write` as it arrives. So the body streams if `content` is not a file but a sink.
    `gotLength`, where twisted.web makes that file, is the place to say so.
    """

    channel: Channel
    body: Body

    def __init__(self, channel: Channel, queued: bool = False) -> None:
        # Form parsing would read the body back from the sink.
        super().__init__(channel, queued, parsePOSTFormSubmission=False)
        self.raw_headers: list[tuple[bytes, bytes]] = []

    def gotLength(self, length: int | None) -> None:
        keeps = self.channel.next_path().startswith(b"/echo")
        self.body = self.content = Body(KEPT_BODY if keeps else 0)

    def process(self) -> None:
        answer = find_answer(self.path)
        running = Deferred.fromCoroutine(self._answer(answer))
        if not self.finished:
            self.notifyFinish().addErrback(lambda _: running.cancel())
        running.addErrback(self._failed)

    async def _answer(self, answer: Answer) -> None:
        try:
            await answer(self)
        except (ValueError, OverflowError) as error:  # a query that makes no sense
            self.send_text(400, f"{error}\n")

    def _failed(self, failure: Failure) -> None:
        if failure.check(CancelledError) is None:
            log.failure("{request} failed", failure, request=self)
            self.loseConnection()

    @property
    def query(self) -> list[tuple[str, str]]:
        text = self.uri.partition(b"?")[2].decode("latin-1")
        return parse_qsl(text, keep_blank_values=True)

    def number(self, name: str, default: float) -> float:
        """A number of the query, not negative."""
        value = float(dict(self.query).get(name, default))
        if not 0 <= value < float("inf"):
            raise ValueError(f"{name} must be a number from 0 on")
        return value

    def headers_as_text(self) -> list[list[str]]:
        return [[part.decode("latin-1") for part in header] for header in self.raw_headers]

    def send(self, status: int, content_type: str, body: bytes) -> None:
        """Answer with a whole body."""
        self.setResponseCode(status, reason_phrase(status))
        if status not in http.NO_BODY_CODES:
            self.responseHeaders.setRawHeaders("Content-Type", [content_type])
            self.responseHeaders.setRawHeaders("Content-Length", [str(len(body))])
            self.write(body)
        self.finish()

    def send_text(self, status: int, text: str) -> None:
        self.send(status, "text/plain; charset=utf-8", text.encode())

    def send_json(self, value: object) -> None:
        self.send(200, "application/json", json.dumps(value).encode() + b"\n")

    async def stream(self, pieces: Callable[[int], bytes], count: int, delay: float = 0) -> None:
        """Answer with `pieces(0)` to `pieces(count - 1)`, no faster than they are read."""
        if self.method == b"HEAD":
            self.finish()
            return
        flow = Flow()
        self.registerProducer(flow, True)
        try:
            self.write(b"")  # the head leaves even when the first piece is late
            for index in range(count):
                if delay and index:
                    await deferLater(reactor, delay)
                self.write(pieces(index))
                await flow.ready()
        finally:
            if self.channel is not None:
                self.unregisterProducer()
        self.finish()


class Channel(http.HTTPChannel):
    """An HTTP/1.1 connection that keeps header lines as they came, and can become a WebSocket."""

    requestFactory = Request
    totalHeadersSize = MAX_LENGTH = HEAD_LIMIT

    def next_path(self) -> bytes:
        """The target of the request whose head was just read; its `uri` is not set yet."""
        return cast(bytes, self._path)

    def headerReceived(self, line: bytes) -> bool:
        accepted = cast(bool, super().headerReceived(line))
        if accepted:
            name, _, value = line.partition(b":")
            self.requests[-1].raw_headers.append((name, value.strip(b" \t")))
        return accepted

    def become(self, protocol: WebSocketServerProtocol, head: bytes) -> None:
        """Hand the connection over; `head` is the request that asked for it."""
        transport = self.transport
        transport.unregisterProducer()
        transport.protocol = protocol
        # What came in one packet with the head is given to this object when we return.
        self.rawDataReceived = protocol.dataReceived
        protocol.makeConnection(transport)
        protocol.dataReceived(head)


class Factory(http.HTTPFactory):
    """Makes connections; knows the status the process is to exit with."""

    protocol = Channel
    exit_code = 0

    def __init__(self) -> None:
        super().__init__(timeout=None)
        self.websockets = WebSocketServerFactory(server="")
        self.websockets.setProtocolOptions(perMessageCompressionAccept=accept_deflate)

    def log(self, request: http.Request) -> None:
        """No access log."""


# Answers

Answer = Callable[[Request], Awaitable[None]]


async def index(request: Request) -> None:
    request.send_text(200, "".join(f"{path}\n" for path in sorted(ANSWERS)))


async def missing(request: Request) -> None:
    request.send_text(404, "There is nothing here; / lists the paths.\n")


async def echo(request: Request) -> None:
    body = bytes(request.body.kept)
    try:
        text = body.decode()
    except UnicodeDecodeError:
        text = body.decode("latin-1")  # a character for each byte: nothing is lost
    request.send_json(
        {
            "method": request.method.decode("latin-1"),
            "path": request.uri.decode("latin-1"),
            "headers": request.headers_as_text(),
            "body": text,
            "body_bytes": request.body.size,
        }
    )


async def chunked(request: Request) -> None:
    count, size = int(request.number("count", 10)), int(request.number("size", 1024))
    piece = b"x" * size
    await request.stream(lambda _: piece, count, request.number("delay", 0))


async def sse(request: Request) -> None:
    count, interval = int(request.number("count", 10)), request.number("interval", 1)
    request.setHeader("Content-Type", "text/event-stream")
    request.setHeader("Cache-Control", "no-store")
    await request.stream(lambda tick: b'data: {"tick": %d}\n\n' % tick, count, interval)


async def slow(request: Request) -> None:
    seconds = request.number("seconds", 1)
    await deferLater(reactor, seconds)
    request.send_json({"seconds": seconds})


async def some_bytes(request: Request) -> None:
    size = int(request.number("size", 1024))
    request.setHeader("Content-Type", "application/octet-stream")
    if not request.number("chunked", 0):
        request.setHeader("Content-Length", str(size))
    full, rest = divmod(size, len(PIECE))
    last = PIECE[:rest]
    await request.stream(lambda index: PIECE if index < full else last, full + bool(rest))


async def upload(request: Request) -> None:
    request.send_json({"bytes": request.body.size, "sha256": request.body.sha256.hexdigest()})


async def status(request: Request) -> None:
    code = int(request.number("code", 200))
    if not 200 <= code <= 599:
        raise ValueError("code must be from 200 to 599")
    request.send_text(code, f"{code}\n")


async def headers(request: Request) -> None:
    for name, value in request.query:
        request.responseHeaders.addRawHeader(name.encode(), value.encode())
    request.send_text(200, "ok\n")


async def close(request: Request) -> None:
    request.loseConnection()


async def short(request: Request) -> None:
    request.setHeader("Content-Length", "100")
    request.write(b"0123456789")
    request.loseConnection()


async def leave(request: Request) -> None:
    code = int(request.number("code", 0))
    factory, transport = request.channel.factory, request.channel.transport
    request.setHeader("Connection", "close")
    request.send_json({"exit": code})
    transport.loseConnection()
    factory.exit_code = code
    reactor.callLater(0.05, reactor.stop)  # time for the answer to leave


async def environment(request: Request) -> None:
    prefixes = ("PORT", "SESSION_BACKEND_")
    request.send_json({k: v for k, v in os.environ.items() if k.startswith(prefixes)})


async def websocket(request: Request) -> None:
    if (request.getHeader("upgrade") or "").lower() != "websocket":
        request.setHeader("Upgrade", "websocket")
        request.send_text(426, "This path speaks WebSocket.\n")
        return
    query = dict(request.query)
    protocol = Echo()
    protocol.factory = request.channel.factory.websockets
    if request.path == b"/ws-headers":
        protocol.greeting = json.dumps(request.headers_as_text()).encode()
    elif query.get("greet") == "1":
        protocol.greeting = b"hello"
    if "close" in query:
        code, _, reason = query["close"].partition(":")
        protocol.farewell = (int(code), reason.encode())
        int(code).to_bytes(2, "big")  # one that does not fit is refused now, not at the close
    lines = [b"%s %s HTTP/1.1" % (request.method, request.uri)]
    lines += [b"%s: %s" % header for header in request.raw_headers]
    request.channel.become(protocol, b"\r\n".join([*lines, b"", b""]))


async def refuse_websocket(request: Request) -> None:
    request.setHeader("X-Why", "refused")
    request.send_text(int(request.number("code", 401)), "no entry")


ANSWERS: dict[str, Answer] = {
    "/": index,
    "/bytes": some_bytes,
    "/chunked": chunked,
    "/close": close,
    "/echo": echo,
    "/env": environment,
    "/exit": leave,
    "/headers": headers,
    "/short": short,
    "/slow": slow,
    "/sse": sse,
    "/status": status,
    "/upload": upload,
    "/ws": websocket,
    "/ws-headers": websocket,
    "/ws-refused": refuse_websocket,
}


def reason_phrase(code: int) -> bytes:
    """The standard phrase of a status; an unassigned one has none."""
    try:
        return HTTPStatus(code).phrase.encode()
    except ValueError:
        return b""


def find_answer(path: bytes) -> Answer:
    """Who answers a path; any path that begins with /echo is an echo."""
    text = path.decode("latin-1")
    return echo if text.startswith("/echo") else ANSWERS.get(text, missing)


# WebSocket


def accept_deflate(offers: list[Any]) -> PerMessageDeflateOfferAccept | None:
    """Accept the first offer of permessage-deflate."""
    for offer in offers:
        if isinstance(offer, PerMessageDeflateOffer):
            return PerMessageDeflateOfferAccept(offer)
    return None


class Echo(WebSocketServerProtocol):
    """Sends every message back, perhaps after a greeting, perhaps but once."""

    greeting: bytes | None = None
    farewell: tuple[int, bytes] | None = None

    def onConnect(self, request: Any) -> str | None:
        # As its own producer it stops reading when its answers are not read.
        self.transport.registerProducer(self.transport, True)
        return "echo.v1" if "echo.v1" in request.protocols else None

    def onOpen(self) -> None:
        if self.greeting is not None:
            self.sendMessage(self.greeting)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        self.sendMessage(payload, isBinary)
        if self.farewell is not None:
            # Unlike sendClose it lets a test choose any code.
            self.sendCloseFrame(*self.farewell)

    def dropConnection(self, abort: bool = False) -> None:
        # A transport with a paused producer would wait for it before closing.
        self.transport.unregisterProducer()
        super().dropConnection(abort)


# The process


def start_logging() -> None:
    """Send warnings and worse to stderr."""
    loud = LogLevelFilterPredicate(LogLevel.warn)
    observer = FilteringLogObserver(textFileLogObserver(sys.stderr), [loud])
    globalLogBeginner.beginLoggingTo([observer], redirectStandardIO=False)


def main() -> int:
    """Serve on $PORT until SIGTERM or /exit; give the exit code."""
    if code := os.environ.get("ECHO_EXIT_AT_ONCE"):
        print(f"echo: exits at once with {code}, as it was asked", file=sys.stderr)
        return int(code)
    port = os.environ.get("PORT", "")
    if not port.isdigit():
        print("echo: set PORT to the port to listen on, as in PORT=8080", file=sys.stderr)
        return 2
    start_logging()
    factory = Factory()

    def listen() -> None:
        # The process engine says loopback; in a container it must be every interface.
        host = os.environ.get("HOST", "0.0.0.0")
        reactor.listenTCP(int(port), factory, backlog=1024, interface=host)
        print(f"echo: listening on port {port}", flush=True)

    if os.environ.get("ECHO_NEVER_LISTEN") != "1":
        reactor.callLater(float(os.environ.get("ECHO_START_DELAY", "0")), listen)
    reactor.run()
    return factory.exit_code


if __name__ == "__main__":
    exit_code = main()
    sys.stdout.flush()
    os._exit(exit_code)  # nothing is left to clean up, and that would take another 0.1 s
