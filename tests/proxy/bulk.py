"""A session's server for bytes by the gigabyte, and what it shares with its clients.

As a process of its own, so that what it holds is not counted as the proxy's. Whoever is stuck or
slow there goes on when somebody asks for `/go`.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import re
import socket
import threading

#: What is sent or taken in one call.
PIECE = 1024 * 1024

_REQUEST = re.compile(rb"(\S+) /([a-z]*)/?(\d*) HTTP/1\.1\r\n")
_LENGTH = re.compile(rb"\r\nContent-Length: (\d+)\r\n")
_KEY = re.compile(rb"\r\nSec-WebSocket-Key: (\S+)\r\n")
_UPGRADE = re.compile(rb"\r\nUpgrade: (\S+)\r\n")

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Stream:
    """The same bytes over and over: each tells where it stands, so that none is missed."""

    def __init__(self, unit: bytes) -> None:
        self._period = len(unit)
        self._stretch = unit * (2 + PIECE // len(unit))

    def whole(self, size: int) -> int:
        """So many bytes or a little more, so that no unit is cut."""
        return size + -size % self._period

    def send(self, end: socket.socket, size: int) -> None:
        sent, stretch = 0, memoryview(self._stretch)
        while sent < size:
            start = sent % self._period
            sent += end.send(stretch[start : start + min(PIECE, size - sent)])

    def receive(self, end: socket.socket, size: int, early: bytes = b"") -> bool:
        """Take so many bytes, `early` first; whether they were those."""
        right, total = self._stretch.startswith(early), len(early)
        view = memoryview(bytearray(PIECE))
        while total < size:
            count = end.recv_into(view, min(PIECE, size - total))
            if not count:
                return False
            start = total % self._period
            right = right and self._stretch.startswith(view[:count], start, start + count)
            total += count
        return right


def _frame(mask: bytes) -> bytes:
    # A mask of zeros changes nothing.
    size = 40_009
    return (
        bytes((0x82, (0x80 if mask else 0) | 126))
        + size.to_bytes(2, "big")
        + mask
        + bytes(at % 251 for at in range(size))
    )


RAW = Stream(bytes(range(251)))
FRAMES = Stream(_frame(b""))
MASKED_FRAMES = Stream(_frame(bytes(4)))


def read_head(end: socket.socket, early: bytes = b"") -> tuple[bytes, bytes]:
    """The next head and what came with it; no head when the other end hung up."""
    while b"\r\n\r\n" not in early:
        more = end.recv(65536)
        if not more:
            return b"", b""
        early += more
    head, gap, rest = early.partition(b"\r\n\r\n")
    return head + gap, rest


class Bulk:
    """Serves each connection in a thread."""

    def __init__(self) -> None:
        self._go = threading.Event()

    def serve(self, port: int) -> None:
        with socket.create_server(("127.0.0.1", port), backlog=256) as listener:
            # Little is to wait in our kernel's buffers: it is not what is measured.
            for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
                listener.setsockopt(socket.SOL_SOCKET, option, 262_144)
            while True:
                end, _ = listener.accept()
                threading.Thread(target=self._converse, args=(end,), daemon=True).start()

    def _converse(self, end: socket.socket) -> None:
        with contextlib.suppress(ConnectionError), end:
            head, early = read_head(end)
            while head:
                upgrade = _UPGRADE.search(head)
                if upgrade:
                    self._switched(end, head, early, upgrade[1])
                    return
                early = self._answer(end, head, early)
                head, early = read_head(end, early)

    def _answer(self, end: socket.socket, head: bytes, early: bytes) -> bytes:
        method, what, size = _asked(head)
        if what == b"go":
            going, self._go = self._go, threading.Event()
            going.set()
        if what in (b"stuck", b"slow"):
            self._go.wait()
        if what == b"down":
            end.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
            RAW.send(end, size)
            return early
        told = b"ok"
        length = _LENGTH.search(head)
        if length:
            told, early = b"right" if RAW.receive(end, int(length[1]), early) else b"wrong", b""
        body = b"" if method == b"HEAD" else told
        end.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(told), body))
        return early

    def _switched(self, end: socket.socket, head: bytes, early: bytes, protocol: bytes) -> None:
        _, what, size = _asked(head)
        web = protocol == b"websocket"
        end.sendall(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n%s\r\n"
            % (protocol, _acceptance(head) if web else b"")
        )
        if what == b"down":
            (FRAMES if web else RAW).send(end, size)
            return
        self._go.wait()
        right = (MASKED_FRAMES if web else RAW).receive(end, size, early)
        end.sendall(b"\x82\x05" + (b"right" if right else b"wrong"))
        end.recv(1)


def _asked(head: bytes) -> tuple[bytes, bytes, int]:
    found = _REQUEST.match(head)
    assert found, head
    return found[1], found[2], int(found[3] or 0)


def _acceptance(head: bytes) -> bytes:
    key = _KEY.search(head)
    assert key, head
    digest = hashlib.sha1(key[1] + _GUID).digest()
    return b"Sec-WebSocket-Accept: %s\r\n" % base64.b64encode(digest)


if __name__ == "__main__":
    Bulk().serve(int(os.environ["PORT"]))
