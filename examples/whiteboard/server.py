"""A whiteboard for many people: one page, one WebSocket each, all strokes in memory.

Plain HTTP/1.1 and RFC 6455 on asyncio and the standard library alone. In order: the words of
HTTP, the frames of a WebSocket, the board everyone shares, and the server that joins them.
"""

# ruff: noqa: E402  (the handler comes first: SIGTERM may arrive while the rest is imported)
from __future__ import annotations

import os
import signal

# As PID 1 in a container a process without a handler ignores SIGTERM.
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))

import asyncio
import base64
import hashlib
import json
import re
import struct
import sys
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/plane.js": ("plane.js", "text/javascript; charset=utf-8"),
}
FILE_HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",  # the URL of a session is a secret
    "X-Content-Type-Options": "nosniff",
}

HEAD_LIMIT = 16 * 1024
HEAD_SECONDS = 75  # also how long an idle keep-alive connection stays open
LINGER_SECONDS = 0.5
LINGER_BYTES = 1024 * 1024
MESSAGE_LIMIT = 64 * 1024
QUEUE_LIMIT = 1024 * 1024
SEGMENT_LIMIT = 5000
REPLAY_BATCH = 500
WIDTH, HEIGHT = 1600, 1000
COLOURS = {"ink", "red", "orange", "green", "blue", "violet"}


# HTTP

TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
VERSIONS = {"HTTP/1.0", "HTTP/1.1"}


@dataclass(eq=False)  # an exception must stay hashable
class HttpError(Exception):
    """A request that is answered by this status."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Request:
    """The head of a request; header names are in lower case."""

    method: str
    path: str
    version: str
    headers: dict[str, str]

    def lists(self, name: str, value: str) -> bool:
        """Whether the comma-separated header `name` has `value` among its items."""
        return value in (item.strip().lower() for item in self.headers.get(name, "").split(","))

    @property
    def has_body(self) -> bool:
        """Whether bytes of a body follow the head."""
        length = self.headers.get("content-length", "0")
        return "transfer-encoding" in self.headers or int(length) > 0

    @property
    def persistent(self) -> bool:
        """Whether another request may follow this one.

        No request here needs a body, so one is never read: the connection ends instead.
        """
        is_new = self.version == "HTTP/1.1"
        return is_new and not self.has_body and not self.lists("connection", "close")


def parse_head(head: bytes) -> Request:
    """Read a request head, or refuse it."""
    first, *lines = head.decode("latin-1")[: -len("\r\n\r\n")].split("\r\n")
    words = first.split(" ")
    if len(words) != 3 or not TOKEN.fullmatch(words[0]) or CONTROL.search(first):
        raise HttpError(400)
    method, target, version = words
    if version not in VERSIONS:
        raise HttpError(505 if version.startswith("HTTP/") else 400)
    headers = parse_headers(lines)
    if (version == "HTTP/1.1" and "host" not in headers) or not target.startswith("/"):
        raise HttpError(400)
    return Request(method, target.partition("?")[0], version, headers)


def parse_headers(lines: list[str]) -> dict[str, str]:
    """Read header lines; repeated ones are joined by commas, as RFC 9110 allows."""
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not TOKEN.fullmatch(name) or CONTROL.search(value):
            raise HttpError(400)
        name, value = name.lower(), value.strip(" \t")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    length = headers.get("content-length", "0")
    # isdigit() alone would let other scripts' digits through.
    if not (length.isascii() and length.isdigit() and len(length) < 19):
        raise HttpError(400)
    return headers


def response(status: int, headers: dict[str, str], body: bytes = b"", head: bool = False) -> bytes:
    """Build a response; the one to HEAD has the length of the body but not the body."""
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"]
    lines.append(time.strftime("Date: %a, %d %b %Y %H:%M:%S GMT", time.gmtime()))
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if status != HTTPStatus.SWITCHING_PROTOCOLS:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (b"" if head else body)


# WebSocket

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
OPCODES = {CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG}
MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


@dataclass(eq=False)  # an exception must stay hashable
class ClosedError(Exception):
    """The WebSocket is to be closed with this code; None is a close frame without one."""

    code: int | None


def accept_key(request: Request) -> str:
    """Check an opening handshake and give its Sec-WebSocket-Accept, or refuse."""
    headers = request.headers
    if not (request.lists("upgrade", "websocket") and request.lists("connection", "upgrade")):
        raise HttpError(426, {"Upgrade": "websocket", "Connection": "Upgrade"})
    if request.method != "GET" or request.version != "HTTP/1.1" or request.has_body:
        raise HttpError(400)
    if headers.get("sec-websocket-version") != "13":
        raise HttpError(426, {"Upgrade": "websocket", "Sec-WebSocket-Version": "13"})
    key = headers.get("sec-websocket-key", "")
    try:
        valid = len(base64.b64decode(key, validate=True)) == 16
    except ValueError:  # binascii.Error is one
        valid = False
    if not valid:
        raise HttpError(400)
    return base64.b64encode(hashlib.sha1(key.encode() + MAGIC).digest()).decode()


def build_frame(opcode: int, payload: bytes) -> bytes:
    """Build an unfragmented, unmasked frame, as a server sends it."""
    size = len(payload)
    if size < 126:
        return struct.pack("!BB", 0x80 | opcode, size) + payload
    if size < 1 << 16:
        return struct.pack("!BBH", 0x80 | opcode, 126, size) + payload
    return struct.pack("!BBQ", 0x80 | opcode, 127, size) + payload


def build_message(message: dict[str, Any]) -> bytes:
    """Build the text frame of a JSON message."""
    return build_frame(TEXT, json.dumps(message, separators=(",", ":")).encode())


def unmask(mask: bytes, data: bytes) -> bytes:
    """XOR data with the repeated mask; as two big integers, a byte at a time is too slow."""
    size = len(data)
    pad = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(data, "big") ^ int.from_bytes(pad, "big")).to_bytes(size, "big")


def close_code(payload: bytes) -> int | None:
    """Read the payload of a close frame; an invalid one is itself a reason to close."""
    if not payload:
        return None
    if len(payload) == 1:
        raise ClosedError(1002)
    code = int.from_bytes(payload[:2], "big")
    # 1004 to 1006 and 1015 must never be sent; 3000 to 4999 are for applications.
    if not (code in {1000, 1001, 1002, 1003} or 1007 <= code <= 1014 or 3000 <= code <= 4999):
        raise ClosedError(1002)
    decode_text(payload[2:])
    return code


def decode_text(payload: bytes) -> str:
    """Decode UTF-8 or ask to close with 1007."""
    try:
        return payload.decode()
    except UnicodeDecodeError:
        raise ClosedError(1007) from None


class WebSocket:
    """The server's end of one open WebSocket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.transport = writer.transport
        self.closed = False

    def send(self, frame: bytes) -> None:
        """Queue a frame, or drop a reader so slow that its queue is full."""
        if self.closed or self.transport.is_closing():
            return
        if self.transport.get_write_buffer_size() + len(frame) > QUEUE_LIMIT:
            self.transport.abort()
            return
        self.transport.write(frame)

    def close(self, code: int | None) -> None:
        """Send a close frame, at most once, and nothing after it."""
        self.send(build_frame(CLOSE, b"" if code is None else struct.pack("!H", code)))
        self.closed = True

    async def receive(self) -> str:
        """Give the next text message; raise ClosedError when there will be none."""
        message, started = b"", False
        while True:
            final, opcode, payload = await self._frame(MESSAGE_LIMIT - len(message))
            if opcode == CLOSE:
                raise ClosedError(close_code(payload))
            if opcode == PING:
                self.send(build_frame(PONG, payload))
            if opcode in (PING, PONG):
                continue
            if started != (opcode == CONTINUATION):
                raise ClosedError(1002)
            if opcode == BINARY:
                raise ClosedError(1003)
            message, started = message + payload, True
            if final:
                return decode_text(message)

    async def _frame(self, limit: int) -> tuple[bool, int, bytes]:
        """Read one frame; `limit` is the size its data may have."""
        first, second = await self.reader.readexactly(2)
        final, opcode, size = bool(first & 0x80), first & 0x0F, second & 0x7F
        # No extension is spoken, so a reserved bit is an error, and so is an unmasked frame.
        if first & 0x70 or opcode not in OPCODES or not second & 0x80:
            raise ClosedError(1002)
        if opcode >= CLOSE and (size > 125 or not final):
            raise ClosedError(1002)
        if size >= 126:
            size = await self._long_size(2 if size == 126 else 8)
        if opcode < CLOSE and size > limit:
            raise ClosedError(1009)
        mask = await self.reader.readexactly(4)
        return final, opcode, unmask(mask, await self.reader.readexactly(size))

    async def _long_size(self, width: int) -> int:
        """Read an extended length, which must need its width and fit in 63 bits."""
        size = int.from_bytes(await self.reader.readexactly(width), "big")
        if size < (126 if width == 2 else 1 << 16) or size >> 63:
            raise ClosedError(1002)
        return size


# The board

Segment = list[Any]  # [x0, y0, x1, y1, colour]


def is_segment(item: object) -> bool:
    """Whether this is one drawn line within the board."""
    if not isinstance(item, list) or len(item) != 5:
        return False
    if not all(type(number) in (int, float) for number in item[:4]):  # a bool is no number
        return False
    inside = all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in (item[:2], item[2:4]))
    return inside and isinstance(item[4], str) and item[4] in COLOURS


class Board:
    """What is drawn and who is looking."""

    def __init__(self) -> None:
        self.segments: deque[Segment] = deque(maxlen=SEGMENT_LIMIT)
        self.people: set[WebSocket] = set()

    def join(self, person: WebSocket) -> None:
        """Show a newcomer the whole board, and everyone the newcomer."""
        person.send(build_message({"type": "welcome", "limit": SEGMENT_LIMIT}))
        segments = list(self.segments)
        for start in range(0, len(segments), REPLAY_BATCH):
            batch = segments[start : start + REPLAY_BATCH]
            person.send(build_message({"type": "draw", "segments": batch}))
        self.people.add(person)
        self._count()

    def leave(self, person: WebSocket) -> None:
        """Forget someone."""
        self.people.discard(person)
        self._count()

    def handle(self, person: WebSocket, text: str) -> None:
        """Do what a message asks; one that makes no sense closes with 1008."""
        try:
            message = json.loads(text)
        except (ValueError, RecursionError):
            raise ClosedError(1008) from None
        kind = message.get("type") if isinstance(message, dict) else None
        if kind == "draw":
            self._draw(person, message.get("segments"))
        elif kind == "clear":
            self.segments.clear()
            self._tell(build_message({"type": "clear"}))
        else:
            raise ClosedError(1008)

    def _draw(self, author: WebSocket, segments: object) -> None:
        """Add segments and show them to all; to their author too, in the one common order."""
        if not isinstance(segments, list) or not all(map(is_segment, segments)):
            raise ClosedError(1008)
        self.segments.extend(segments)
        message = {"type": "draw", "segments": segments}
        self._tell(build_message(message), but=author)
        author.send(build_message({**message, "mine": True}))

    def _count(self) -> None:
        self._tell(build_message({"type": "people", "count": len(self.people)}))

    def _tell(self, frame: bytes, but: WebSocket | None = None) -> None:
        for person in self.people:
            if person is not but:
                person.send(frame)


# The server


async def linger(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """End the sending side, and read on a little: unread bytes would reset the connection
    and could take our last words with them.
    """
    with suppress(OSError, asyncio.TimeoutError):
        if writer.can_write_eof():
            writer.write_eof()
        await asyncio.wait_for(discard(reader), LINGER_SECONDS)


async def discard(reader: asyncio.StreamReader) -> None:
    """Read to the end, or as much as is decent."""
    left = LINGER_BYTES
    while left > 0 and (data := await reader.read(65536)):
        left -= len(data)


class Server:
    """Answers connections: the page, its module, the WebSocket, and nothing else."""

    def __init__(self) -> None:
        self.files = {
            path: ({"Content-Type": kind, **FILE_HEADERS}, (HERE / name).read_bytes())
            for path, (name, kind) in FILES.items()
        }
        self.board = Board()
        self.tasks: set[asyncio.Task[None]] = set()

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a new connection in a task of its own, which we own."""
        task = asyncio.ensure_future(self._serve(reader, writer))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def stop(self) -> None:
        """Tell everyone goodbye and end every connection."""
        for person in list(self.board.people):
            person.close(1001)
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection until it ends, whoever ends it."""
        try:
            # The peer may leave at any time, or say nothing for too long.
            with suppress(OSError, EOFError, asyncio.TimeoutError):
                while await self._answer_next(reader, writer):
                    pass
                await linger(reader, writer)
        finally:
            writer.close()

    async def _answer_next(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """Answer one request; say whether another may follow."""
        try:
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), HEAD_SECONDS)
            request = parse_head(head)
        except asyncio.LimitOverrunError:
            writer.write(response(431, {"Connection": "close"}))
            return False
        except HttpError as error:
            writer.write(response(error.status, {"Connection": "close"}))
            return False
        if request.path == "/ws":
            try:
                key = accept_key(request)
            except HttpError as error:
                return await self._reply(request, writer, error.status, error.headers)
            await self._talk(key, WebSocket(reader, writer))
            return False
        return await self._reply(request, writer, *self._file_for(request))

    def _file_for(self, request: Request) -> tuple[int, dict[str, str], bytes]:
        """Decide the answer to an ordinary request."""
        if request.path not in self.files:
            return 404, {"Content-Type": "text/plain"}, b"There is nothing here.\n"
        if request.method not in ("GET", "HEAD"):
            return 405, {"Allow": "GET, HEAD"}, b""
        return (200, *self.files[request.path])

    async def _reply(
        self,
        request: Request,
        writer: asyncio.StreamWriter,
        status: int,
        headers: dict[str, str],
        body: bytes = b"",
    ) -> bool:
        """Write a response at the pace of its reader; say whether another may follow."""
        if not request.persistent:
            joined = ", ".join(filter(None, [headers.get("Connection"), "close"]))
            headers = {**headers, "Connection": joined}
        writer.write(response(status, headers, body, head=request.method == "HEAD"))
        await asyncio.wait_for(writer.drain(), HEAD_SECONDS)
        return request.persistent

    async def _talk(self, key: str, person: WebSocket) -> None:
        """Open a WebSocket and pass its messages to the board until it closes."""
        upgrade = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Accept": key}
        person.send(response(101, upgrade))
        self.board.join(person)
        try:
            while True:
                self.board.handle(person, await person.receive())
        except ClosedError as closing:
            person.close(closing.code)
        finally:
            self.board.leave(person)


async def main(port: int) -> None:
    """Serve until SIGTERM or SIGINT."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    server = Server()
    listener = await asyncio.start_server(
        server.accept, os.environ.get("HOST", "0.0.0.0"), port, limit=HEAD_LIMIT, backlog=128
    )
    print(f"whiteboard: listening on port {port}", flush=True)
    await stopped.wait()
    listener.close()
    await server.stop()


if __name__ == "__main__":
    port = os.environ.get("PORT", "")
    if not port.isdigit():
        sys.exit("whiteboard: set PORT to the port to listen on, for example PORT=8080")
    asyncio.run(main(int(port)))
