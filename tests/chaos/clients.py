"""The load: threads that connect, visit, stream, upload and end sessions, and judge each answer."""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
import time
from collections.abc import Callable
from random import Random
from typing import Any
from urllib.parse import urlsplit

import attrs

from tests.chaos.server import Server
from tests.live import ask
from tests.proxy import frames

#: How long any request may take to be answered or cut: the longest that this server may rightly
#: take is a connect that waits for recovery (10 s), a release (7 s) and a stalled engine (5 s).
LIMIT_SECONDS = 40.0

#: What a session may be answered with while everything around it fails.
_FAIR = frozenset({200, 410, 502, 503, 504})
_FAIR_OF_CONNECT = frozenset({200, 409, 429, 503})

KEYS = 8


@attrs.define
class Promise:
    """A link that was given out."""

    session_id: str
    key: str
    url: str
    #: Whether its session has answered by it.
    reached: bool = False
    #: Whether anybody has asked for the end of its session.
    ended: bool = False


class Findings:
    """What broke an invariant; it is told at once."""

    def __init__(self) -> None:
        self.all: list[str] = []

    def add(self, text: str) -> None:
        self.all.append(text)
        print(f"FOUND {text}", flush=True)  # noqa: T201  # the run's own output


class Counts:
    """How many requests ended how, over all clients."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: dict[tuple[str, object], int] = {}

    def add(self, what: str, how: object) -> None:
        with self._lock:
            self._seen[what, how] = self._seen.get((what, how), 0) + 1

    def __str__(self) -> str:
        seen = sorted(self._seen.items(), key=str)
        return ", ".join(f"{what} {how}: {count}" for (what, how), count in seen)


class Clients:
    """All of them; `promises` are the links they hold, by session."""

    def __init__(self, server: Server, findings: Findings, seed: object, count: int = 10) -> None:
        self.server = server
        self.findings = findings
        self.counts = Counts()
        self.promises: dict[str, Promise] = {}
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._live, args=(Random(f"{seed} client {n}"),), daemon=True)
            for n in range(count)
        ]

    def start(self) -> None:
        for each in self._threads:
            each.start()

    def stop(self) -> None:
        self._stopping.set()
        for each in self._threads:
            each.join(2 * LIMIT_SECONDS)
            if each.is_alive():
                self.findings.add("a client hangs")

    def _live(self, random: Random) -> None:
        while not self._stopping.wait(random.uniform(0, 0.3)):
            if not self.server.up:
                continue
            act = random.choices([self._come, self._visit, self._end], [4, 6, 1])[0]
            act(random)

    def _come(self, random: Random) -> None:
        key = f"key-{random.randrange(KEYS)}"
        body = {
            "key": {"name": key},
            "user": f"user-{random.randrange(3)}",
            "spawn_config": {"executable": {"app": "chaos"}},
        }
        url = f"{self.server.control}/ctrl/connect"
        answer = self._within_limit("connect", lambda: ask("POST", url, body))
        if answer is None:
            return
        if answer.status not in _FAIR_OF_CONNECT:
            self.findings.add(f"connect was answered {answer.status}: {answer.body[:300]!r}")
        if answer.status == 200:
            made = answer.json
            name = made["backend_id"]
            promise = Promise(name, key, made["url"])
            self._use(random, self.promises.setdefault(name, promise))

    def _visit(self, random: Random) -> None:
        known = list(self.promises.values())[-2 * KEYS :]
        if known:
            self._use(random, random.choice(known))

    def _end(self, random: Random) -> None:
        known = [each for each in list(self.promises.values())[-KEYS:] if not each.ended]
        if not known:
            return
        promise = random.choice(known)
        # Before it is sent: whether it arrived nobody knows if the server dies meanwhile.
        promise.ended = True
        how = random.choice(["soft", "hard"])
        url = f"{self.server.control}/ctrl/b/{promise.session_id}/{how}-terminate"
        answer = self._within_limit("end", lambda: ask("POST", url))
        if answer is not None and answer.status not in (200, 404):
            self.findings.add(f"{how}-terminate was answered {answer.status}: {answer.body!r}")

    def _use(self, random: Random, promise: Promise) -> None:
        use = random.choices([self._get, self._upload, self._stream, self._socket], [4, 1, 2, 2])
        use[0](random, promise)

    def _get(self, _: Random, promise: Promise) -> None:
        answer = self._within_limit("get", lambda: ask("GET", promise.url))
        self._judge(promise, answer)

    def _upload(self, random: Random, promise: Promise) -> None:
        body = bytes(random.randrange(1, 500_000))
        answer = self._within_limit("upload", lambda: ask("POST", f"{promise.url}upload", body))
        self._judge(promise, answer)

    def _judge(self, promise: Promise, answer: Any) -> None:
        if answer is None:
            return
        if answer.status not in _FAIR:
            self.findings.add(f"a visit was answered {answer.status}: {answer.body[:300]!r}")
        if answer.status == 200:
            promise.reached = True
            if answer.body.decode() != promise.session_id:
                self.findings.add(f"{answer.body!r} answered for {promise.session_id}")

    def _stream(self, random: Random, promise: Promise) -> None:
        leave = time.monotonic() + random.uniform(0.2, 3)

        def stream() -> Any:
            connection = self._connection()
            with contextlib.closing(connection):
                head = {"Host": urlsplit(promise.url).netloc}
                connection.request("GET", f"{urlsplit(promise.url).path}stream", headers=head)
                answer = connection.getresponse()
                while answer.status == 200 and time.monotonic() < leave:
                    line = answer.readline()
                    if not line:
                        break
                    if line.strip() and line.strip() != f"data: {promise.session_id}".encode():
                        self.findings.add(f"{line!r} was streamed by {promise.session_id}")
                return answer

        answer = self._within_limit("stream", stream)
        if answer is not None and answer.status not in _FAIR:
            self.findings.add(f"a stream was answered {answer.status}")

    def _socket(self, random: Random, promise: Promise) -> None:
        leave = time.monotonic() + random.uniform(0.2, 3)
        parts = urlsplit(promise.url)

        def converse() -> Any:
            with socket.create_connection(("127.0.0.1", parts.port), LIMIT_SECONDS) as wire:
                wire.sendall(frames.upgrade(f"{parts.path}socket", parts.netloc))
                head = wire.recv(4096)
                while head.startswith(b"HTTP/1.1 101") and time.monotonic() < leave:
                    wire.sendall(frames.frame(frames.TEXT, b"hello", masked=True))
                    # One whose session hangs is left, which is no fault: a WebSocket may be still.
                    wire.settimeout(3)
                    if not _was_told(wire):
                        return b""
                return head

        self._within_limit("socket", converse)

    def _connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(
            "127.0.0.1", self.server.proxy_port, timeout=LIMIT_SECONDS
        )

    def _within_limit(self, what: str, do: Callable[[], Any]) -> Any:
        """What `do` returns; None when it was cut, which is fair, within its limit."""
        began, generation = time.monotonic(), self.server.generation
        try:
            answer = do()
        except TimeoutError:
            answer = None
            self.counts.add(what, "silence")
            if self.server.up and self.server.generation == generation:
                took = time.monotonic() - began
                self.findings.add(f"{what} was neither answered nor cut in {took:.1f} s")
        except (OSError, http.client.HTTPException):
            answer = None
            self.counts.add(what, "cut")
        else:
            self.counts.add(what, getattr(answer, "status", "done"))
        return answer


def _was_told(wire: socket.socket) -> bool:
    try:
        return bool(wire.recv(4096))
    except TimeoutError:
        return False
