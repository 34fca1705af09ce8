"""Kills the server at random moments under load, and looks whether its sessions outlive it."""

from __future__ import annotations

import contextlib
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

from tests.chaos.clients import Clients, Findings, Promise
from tests.chaos.docker import Docker
from tests.chaos.invariants import Invariants, Watcher
from tests.chaos.server import Server
from tests.live import Answer, ask

#: None: no session ends but those that a client ends.
IDLE_SECONDS = 600.0

#: Between a start and the next kill; the shortest hit a server that takes up what it finds.
LONGEST_LIFE_SECONDS = 2.5


class Killed:
    """A run on the Docker at the socket `docker`; all its chances come from `seed`."""

    def __init__(self, folder: Path, docker: str, instance: str, seed: int) -> None:
        self.findings = Findings()
        self.slowest_seconds = 0.0
        self._random = Random(seed)
        self._docker = Docker(docker, instance)
        self._server = Server(folder, docker, instance, IDLE_SECONDS)
        self.clients = Clients(self._server, self.findings, seed, count=6)
        self._rules = Invariants(self._server, self._docker, self.clients, self.findings)

    def run(self, kills: int, within_seconds: float) -> None:
        """Kill it so often; whoever was reached before is to be within that time of listening."""
        with contextlib.ExitStack() as undoing:
            undoing.callback(self._docker.remove_all)
            undoing.callback(self._server.stop)
            self._server.start()
            undoing.callback(Watcher(self._rules).stop)
            self.clients.start()
            undoing.callback(self.clients.stop)
            time.sleep(LONGEST_LIFE_SECONDS)
            for _ in range(kills):
                if self.findings.all:
                    break
                self._kill_once(within_seconds)
                self._rules.check()

    def _kill_once(self, within_seconds: float) -> None:
        time.sleep(self._random.uniform(0, LONGEST_LIFE_SECONDS))
        self._server.kill()
        running = {each.session_id for each in self._docker.containers() if each.runs}
        promises = list(self.clients.promises.values())
        due = [p for p in promises if p.session_id in running and p.reached and not p.ended]
        self._server.start()
        self._all_reached(due, within_seconds)

    def _all_reached(self, due: list[Promise], within_seconds: float) -> None:
        began = time.monotonic()
        with ThreadPoolExecutor(20) as pool:
            for promise, answer in zip(due, pool.map(_visit, due), strict=True):
                took, answered = answer
                right = answered.status == 200 and answered.body.decode() == promise.session_id
                if promise.ended:
                    continue
                self.slowest_seconds = max(self.slowest_seconds, took - began)
                if not right or took - began > within_seconds:
                    self.findings.add(
                        f"{promise.session_id} was answered {answered.status} {took - began:.2f} s"
                        f" after the start: {answered.body[:300]!r}"
                    )


def _visit(promise: Promise) -> tuple[float, Answer]:
    answer = ask("GET", promise.url)
    return time.monotonic(), answer
