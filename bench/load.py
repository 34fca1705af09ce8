"""What the proxies are asked for, as a browser asks, and the checks that they truly answer it."""

from __future__ import annotations

import re
import resource
import select
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import attrs

from bench.origin import MIDDLE, SMALL
from bench.processes import LOAD_CORE, on_core, resident_bytes
from bench.proxies import Proxy
from bench.turns import PATIENCE_SECONDS, Turn, Watch, Wrk

#: What Chromium sends beside Host when a page fetches something.
BROWSER = {
    "Connection": "keep-alive",
    "sec-ch-ua": '"Chromium";v="140", "Not=A?Brand";v="24"',
    "User-Agent": (
        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko)"
        " Chrome/140.0.0.0 Safari/537.36"
    ),
    "Accept": "*/*",
    "Sec-Fetch-Site": "same-origin",
    "Sec-Fetch-Mode": "cors",
    "Sec-Fetch-Dest": "empty",
    "Referer": "http://localhost/board/4711?zoom=2",
    "Accept-Encoding": "gzip, deflate, br, zstd",
    "Accept-Language": "en-GB,en;q=0.9,de;q=0.8",
    "Cookie": "_ga=GA1.1.1714563418.1763879342; theme=dark; sid=7Zf2mQ9xKc41vBnT0eLrYw",
}

BUFFER_BYTES = 1 << 18


@attrs.frozen
class Case:
    """One thing that is asked for, over and over: a file of so many bytes."""

    name: str
    size: int
    connections: int
    close: bool = False
    script: str = "summary.lua"

    def turn(self, proxy: Proxy, seconds: int) -> Turn:
        headers = {**BROWSER, "Connection": "close"} if self.close else BROWSER
        wrk = Wrk(self.connections, seconds, headers, self.script, least_bytes=self.size)
        return wrk.ask(f"{proxy.name}, {self.name}", proxy.pids, f"{proxy.files}/{self.size}")


@attrs.frozen
class Download:
    """The large file on a connection of its own, for as long as it takes."""

    name: str
    size: int

    def turn(self, proxy: Proxy, _seconds: int) -> Turn:
        buffer = bytearray(BUFFER_BYTES)
        with on_core(LOAD_CORE), Plain(f"{proxy.files}/{self.size}") as plain:
            watch = Watch(proxy.pids)
            began = time.perf_counter()
            plain.send("GET", {})
            length, begun = plain.answer()
            left = length - len(begun)
            while left and (count := plain.socket.recv_into(buffer)):
                left -= count
            took = time.perf_counter() - began
            turn = watch.turn(1, took, took, took)
        if left or length != self.size:
            raise SystemExit(f"bench: {proxy.name}: of {length} bytes {left} did not come")
        return turn


@attrs.frozen
class Upload:
    """A body as large, sent on a connection of its own, until the sink says that it has it."""

    name: str
    size: int

    def turn(self, proxy: Proxy, _seconds: int) -> Turn:
        piece = bytes(BUFFER_BYTES)
        with on_core(LOAD_CORE), Plain(proxy.uploads) as plain:
            watch = Watch(proxy.pids)
            began = time.perf_counter()
            plain.send("POST", {"Content-Length": str(self.size)})
            for start in range(0, self.size, BUFFER_BYTES):
                plain.socket.sendall(piece[: self.size - start])
            plain.answer()
            took = time.perf_counter() - began
            return watch.turn(1, took, took, took)


class Plain:
    """A connection for one URL, without more than a socket between us and the bytes."""

    def __init__(self, url: str) -> None:
        self._parts = urlsplit(url)
        port = self._parts.port or 80
        self.socket = socket.create_connection(("127.0.0.1", port), PATIENCE_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_raised: object) -> None:
        self.socket.close()

    def send(self, method: str, headers: dict[str, str]) -> None:
        """Send the head of a request."""
        lines = [f"{method} {self._parts.path or '/'} HTTP/1.1", f"Host: {self._parts.netloc}"]
        lines += map(": ".join, {**BROWSER, **headers}.items())
        self.socket.sendall("\r\n".join((*lines, "", "")).encode())

    def answer(self) -> tuple[int, bytes]:
        """The Content-Length of the answer, which must be a good one, and what came of its body."""
        received = b""
        while b"\r\n\r\n" not in received:
            more = self.socket.recv(BUFFER_BYTES)
            if not more:
                raise SystemExit(f"bench: {self._parts.netloc} hung up after {received!r}")
            received += more
        head, _, body = received.partition(b"\r\n\r\n")
        length = re.search(rb"\r\ncontent-length: *(\d+)", head, re.IGNORECASE)
        if b" 200 " not in head.partition(b"\r\n")[0] or length is None:
            raise SystemExit(f"bench: {self._parts.netloc} answered {head!r}")
        return int(length.group(1)), body

    def body(self) -> bytes:
        """The body of the answer."""
        length, body = self.answer()
        while len(body) < length and (more := self.socket.recv(length - len(body))):
            body += more
        return body


def verify(proxy: Proxy, files: Path) -> None:
    """End the run unless the proxy gives the right bytes, twice on the same connection.

    Asked so before a turn, one that was idle for a while has its pages in memory and its
    connections to the origin renewed when the turn begins.
    """
    for size in (SMALL, MIDDLE):
        with Plain(f"{proxy.files}/{size}") as plain:
            for _ in range(2):
                plain.send("GET", {})
                if plain.body() != (files / str(size)).read_bytes():
                    raise SystemExit(f"bench: {proxy.name} does not give the file of {size} bytes")


@contextmanager
def many_files() -> Iterator[None]:
    """As many as the system lets this process open; a server has to see to it for itself."""
    usual, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (usual, most))


def idle_bytes(proxy: Proxy, connections: int) -> float:
    """The memory that one of so many connections takes that had a request and stay open."""
    before = resident_bytes(proxy.pids)
    with ExitStack() as stack, many_files():
        poll = select.poll()
        for _ in range(connections):
            plain = stack.enter_context(Plain(f"{proxy.files}/{SMALL}"))
            plain.send("GET", {})
            plain.body()
            poll.register(plain.socket, select.POLLIN)
        if closed := poll.poll(0):
            raise SystemExit(f"bench: {proxy.name} ended {len(closed)} of its connections")
        return (resident_bytes(proxy.pids) - before) / connections
