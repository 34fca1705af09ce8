"""Everything one run has: a daemon, a faulty socket, the server, its load, and what must hold."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any

from tests.chaos.clients import Clients, Findings
from tests.chaos.docker import IMAGE, Contained, Docker, OwnDaemon
from tests.chaos.invariants import Invariants, Watcher
from tests.chaos.server import Server, clock_can_step
from tests.live import ROOT, ask, until

#: What goes wrong all the time, of all calls to the engine.
USUAL_ODDS = {"error": 0.01, "stall": 0.003, "reset": 0.003, "lost": 0.003}

INSTANCE = "chaos"

#: Sessions that nobody uses end while the suite runs, so that ends by themselves come up too.
IDLE_SECONDS = 15.0

#: How long a step waits for a container to do harm to.
VICTIM_SECONDS = 10.0


class FaultySocket:
    """The program before Docker's socket."""

    def __init__(self, folder: Path, docker: str, seed: int) -> None:
        self.path = str(folder / "faulty.sock")
        command = [sys.executable, "-m", "tests.chaos.faulty_docker", self.path, docker, str(seed)]
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        until(Docker(self.path, "").answers)

    def tell(self, **order: Any) -> None:
        """Give it an order, and wait until that is done."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == b"done\n"

    def close(self) -> None:
        self._process.communicate(timeout=10)


class World:
    """A run of it in `folder`; all its chances come from `seed`."""

    def __init__(self, folder: Path, seed: int, images_from: str, pace: float = 1.0) -> None:
        self.random = Random(seed)
        self._pace = pace
        self.findings = Findings()
        self.state = folder / "state"
        self.state.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", self.state], check=True)
        self.daemon = OwnDaemon(folder)
        self.daemon.start(spare=True)
        self.daemon.load(IMAGE, images_from)
        self.docker = Docker(self.daemon.path, INSTANCE)
        self.socket = FaultySocket(folder, self.daemon.path, seed)
        self.server = Server(folder, self.socket.path, INSTANCE, IDLE_SECONDS)
        if clock_can_step():
            self.server.step_clock(0)
        self.clients = Clients(self.server, self.findings, seed)
        self.rules = Invariants(self.server, self.docker, self.clients, self.findings)

    def start(self) -> None:
        self.socket.tell(odds=USUAL_ODDS)
        self.server.start()
        self.clients.start()
        self.watcher = Watcher(self.rules)

    def wait(self, least: float, most: float) -> None:
        time.sleep(self.random.uniform(least, most) * self._pace)

    def victim(self) -> Contained | None:
        """Some running container that nobody ends, to harm it; None if there is none for long."""
        deadline = time.monotonic() + VICTIM_SECONDS
        while not (running := self._running()):
            if time.monotonic() > deadline:
                return None
            time.sleep(0.1)
        victim = self.random.choice(sorted(running, key=lambda each: each.id))
        self.rules.harmed.add(victim.session_id)
        return victim

    def _running(self) -> list[Contained]:
        # Harm to one that a client has just ended would show nothing.
        ended = {name for name, each in list(self.clients.promises.items()) if each.ended}
        found = self.docker.containers()
        return [each for each in found if each.state == "running" and each.session_id not in ended]

    def close(self) -> None:
        self.clients.stop()
        self.socket.tell(odds={})
        self.end_all()
        self.rules.settled_empty()
        self.watcher.stop()
        self.server.stop()
        self.socket.close()
        self.docker.remove_all()
        self.daemon.remove()

    def ends(self) -> dict[str, int]:
        """How many sessions ended for which reason."""
        last = [told["status_history"][-1] for told in self.server.sessions().values()]
        reasons = Counter(str(entry.get("termination_reason")) for entry in last)
        return dict(reasons.most_common())

    def end_all(self) -> None:
        """Have every session ended, by idleness or by order."""
        sessions = self.server.sessions().items()
        live = [name for name, told in sessions if told["status"] != "terminated"]
        url = f"{self.server.control}/ctrl/b/{{}}/hard-terminate?wait=30"
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda name: ask("POST", url.format(name)), live))
