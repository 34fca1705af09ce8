"""What the proxies are asked for with WebSockets: messages, many idle ones, a storm of new ones."""

from __future__ import annotations

import math
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import attrs

from bench.load import BROWSER
from bench.processes import LOAD_CORE, TICK_SECONDS, cpu_seconds, on_core, resident_bytes
from bench.proxies import Proxy
from bench.turns import Turn, Watch

#: What a browser sends with an upgrade; its key is the one that wsload.c and wsecho.c know.
UPGRADE = {
    "Connection": "Upgrade",
    "Pragma": "no-cache",
    "Cache-Control": "no-cache",
    "User-Agent": BROWSER["User-Agent"],
    "Upgrade": "websocket",
    "Origin": "http://localhost",
    "Sec-WebSocket-Version": "13",
    "Accept-Encoding": BROWSER["Accept-Encoding"],
    "Accept-Language": BROWSER["Accept-Language"],
    "Cookie": BROWSER["Cookie"],
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits",
}

#: The name of what is measured without any proxy between load and echo server.
DIRECT = "none: what the load can do"

#: How many are opened at a time where it is no storm.
AT_ONCE = 64

SMALL = 64

#: A process that took no CPU for so long has nothing left to do; how long that may take.
QUIET_SECONDS = 0.5
MOST_SETTLING_SECONDS = 60


@attrs.frozen
class Opened:
    """How many WebSockets were opened, how many could not be, and how long all of it took."""

    count: int
    failed: int
    seconds: float


@attrs.frozen
class Ran:
    """The messages whose echo came, what they took in seconds, and the pings that came besides."""

    messages: int
    seconds: float
    median: float
    p99: float
    pings: int


@attrs.frozen
class Storm:
    """What became of WebSockets that were all opened at once."""

    opened: Opened
    cpu_milliseconds: float


@attrs.frozen
class Idle:
    """What one of many open WebSockets takes, and the part of a core that all of them take."""

    bytes_each: float
    busy: float
    pings: int


def upgrade(url: str) -> str:
    """The request that opens a WebSocket below this URL."""
    parts = urlsplit(url)
    lines = [f"GET {parts.path}/ws HTTP/1.1", f"Host: {parts.netloc}"]
    return "\r\n".join((*lines, *map(": ".join, UPGRADE.items()), "", ""))


def numbers(line: str, word: str) -> list[int] | None:
    """The numbers of a line of wsload that begins with `word`; None for any other."""
    first, *rest = line.split() or [""]
    return [int(each) for each in rest] if first == word else None


def failure(name: str) -> SystemExit:
    """What ends the run, when the load has said why."""
    return SystemExit(f"bench: {name}: the load has failed: see above")


class Load:
    """A process with open WebSockets of one proxy, which sends messages when it is told to."""

    def __init__(self, name: str, process: subprocess.Popen[str]) -> None:
        self._name = name
        self._process = process
        self.pid = process.pid
        count, failed, nanoseconds = self._said("opened")
        self.opened = Opened(count, failed, nanoseconds / 1e9)

    def run(self, seconds: int) -> Ran:
        """Let every WebSocket carry one message after the other; for 0 seconds only one."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"run {seconds}\n")
        self._process.stdin.flush()
        messages, took, median, p99, pings = self._said("ran")
        return Ran(messages, took / 1e9, median / 1e9, p99 / 1e9, pings)

    def all_opened(self) -> None:
        """End the run unless all of them were opened."""
        if self.opened.failed:
            raise SystemExit(f"bench: {self._name}: {self.opened.failed} WebSockets did not open")

    def _said(self, word: str) -> Sequence[int]:
        assert self._process.stdout is not None
        said = numbers(self._process.stdout.readline(), word)
        if said is None:
            raise failure(self._name)
        return said


@contextmanager
def load(
    program: Path, proxy: Proxy, connections: int, at_once: int, size: int = SMALL
) -> Iterator[Load]:
    """The load, its WebSockets open; with the block they are closed.

    Whatever went wrong, even after the last message, ends the run.
    """
    port = urlsplit(proxy.files).port
    words = (port, upgrade(proxy.files), connections, at_once, size)
    with on_core(LOAD_CORE):
        process = subprocess.Popen(
            [program, *map(str, words)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
    with process:
        try:
            yield Load(proxy.name, process)
        except BaseException:
            process.kill()
            raise
    # With its block it was told to end, and has ended.
    if process.returncode:
        raise failure(proxy.name)


@attrs.frozen
class Messages:
    """Messages of so many bytes; each WebSocket sends one when the echo of the last has come."""

    name: str
    size: int
    connections: int

    def turn(self, program: Path, proxy: Proxy, seconds: int) -> Turn:
        with load(program, proxy, self.connections, AT_ONCE, self.size) as its:
            its.all_opened()
            # Without a proxy it is the load itself that counts, and the echo server.
            pids = (*proxy.pids, its.pid) if proxy.name == DIRECT else proxy.pids
            watch = Watch(pids)
            ran = its.run(seconds)
            return watch.turn(ran.messages, ran.seconds, ran.median, ran.p99)


def storm(program: Path, proxy: Proxy, connections: int) -> Storm:
    """Open so many at once; each that is open must then carry a message."""
    used = cpu_seconds(proxy.pids)
    with load(program, proxy, connections, connections) as its:
        took = cpu_seconds(proxy.pids) - used
        if its.opened.count:
            its.run(0)
        each = took / max(its.opened.count, 1)
    settle(proxy.pids)
    return Storm(its.opened, each * 1e3)


def idle(program: Path, proxy: Proxy, connections: int, seconds: int) -> Idle:
    """Open so many of a fresh proxy, and watch it while nobody says anything.

    Each of them has carried a message before, and must carry one after it.
    """
    before = resident_bytes(proxy.pids)
    with load(program, proxy, connections, AT_ONCE) as its:
        its.all_opened()
        its.run(0)
        settle(proxy.pids)
        used = cpu_seconds(proxy.pids)
        time.sleep(seconds)
        busy = (cpu_seconds(proxy.pids) - used) / seconds
        grown = resident_bytes(proxy.pids) - before
        pings = its.run(0).pings
    settle(proxy.pids)
    return Idle(grown / connections, busy, pings)


def settle(pids: Sequence[int]) -> None:
    """Wait until these do nothing, for what they still have to do would meet the next turn."""
    until = time.monotonic() + MOST_SETTLING_SECONDS
    used = -math.inf
    while (now := cpu_seconds(pids)) - used > TICK_SECONDS:
        if time.monotonic() > until:
            raise SystemExit(f"bench: {pids} do not come to rest")
        used = now
        time.sleep(QUIET_SECONDS)
