"""What must hold whatever happens: one session per key, no orphans, working links, a clean log."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from tests.chaos.clients import Clients, Findings, Promise
from tests.chaos.docker import Contained, Docker
from tests.chaos.server import Server
from tests.live import Answer, ask

#: How long what does not match may take to do so; the server looks for it itself each minute.
SETTLING_SECONDS = 90.0

#: How long the link of a session that is ready may take to work.
REACHED_SECONDS = 10.0

#: The server is about 70 MiB at rest.
MOST_BYTES = 160 * 1024 * 1024
MOST_FILES = 600

_TROUBLE = re.compile(r"Traceback|Unhandled|[Cc]ritical|a (?:flight|watcher|part) failed|stumbled")

#: The statuses of a session whose container must be there.
_CONTAINED = frozenset({"waiting", "ready"})

#: How a session ends only when something was done to it.
_BY_HARM = frozenset({"lost", "exited", "oom"})


def doubled_keys(containers: Iterable[Contained]) -> list[str]:
    """The keys that more than one running container has."""
    held = Counter(each.key for each in containers if each.runs)
    return sorted(key for key, count in held.items() if count > 1)


def mismatches(containers: Iterable[Contained], sessions: Mapping[str, Any]) -> set[str]:
    """The ids of containers that no live session has, and of sessions that miss theirs."""
    contained = {each.session_id for each in containers}
    orphans = {
        name
        for name in contained
        if name not in sessions or sessions[name]["status"] == "terminated"
    }
    bereft = {
        name
        for name, told in sessions.items()
        if told["status"] in _CONTAINED and name not in contained
    }
    return orphans | bereft


def unexplained(sessions: Mapping[str, Any], harmed: set[str]) -> list[str]:
    """What is said of sessions that ended as if harm was done to them, when none was."""
    found = []
    for name, told in sessions.items():
        last = told["status_history"][-1]
        was_ready = any(entry["status"] == "ready" for entry in told["status_history"])
        reason = last.get("termination_reason")
        if was_ready and name not in harmed and reason in _BY_HARM:
            found.append(f"{name} ended as {reason}, with nothing done to it: {told['failure']}")
    return found


def trouble_in(log: str) -> list[str]:
    """The lines of a server's log that tell of an unhandled error, each with what follows it."""
    lines = log.splitlines()
    return [
        "\n    ".join(lines[number : number + 25])
        for number, line in enumerate(lines)
        if _TROUBLE.search(line)
    ][:3]


class Invariants:
    """Looks whether all of it holds; what does not is found once."""

    def __init__(
        self, server: Server, docker: Docker, clients: Clients, findings: Findings
    ) -> None:
        self.harmed: set[str] = set()
        #: Those that cannot be reached now: paused, or cut off.
        self.unreachable: set[str] = set()
        self._server = server
        self._docker = docker
        self._clients = clients
        self._findings = findings
        self._told: set[str] = set()

    def check(self) -> None:
        """All of them. The server and Docker must be up; the load may go on."""
        self._of_the_process()
        self._of_keys()
        self._of_orphans()
        self._of_links()
        # Whoever asked for an end of which nothing was written down may be told so or otherwise.
        asked = {each.session_id for each in self._clients.promises.values() if each.ended}
        for text in unexplained(self._server.sessions(), self.harmed | asked):
            self._tell(text)

    def settled_empty(self) -> None:
        """Nothing is left of anything."""
        until = time.monotonic() + SETTLING_SECONDS
        while self._docker.containers() and time.monotonic() < until:
            time.sleep(0.2)
        for each in self._docker.containers():
            self._tell(f"{each} is left over")

    def look(self) -> None:
        """What can be looked at any time, without waiting."""
        self._of_the_process()
        self._of_keys()

    def _tell(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            self._findings.add(text)

    def _of_the_process(self) -> None:
        for text in trouble_in(self._server.news()):
            self._tell(f"in the server's log: {text}")
        if self._server.died():
            self._tell("the server has ended of itself")
        elif self._server.up:
            if self._server.rss_bytes() > MOST_BYTES:
                self._tell(f"the server takes {self._server.rss_bytes() >> 20} MiB")
            if self._server.open_files() > MOST_FILES:
                self._tell(f"the server has {self._server.open_files()} open files")

    def _of_keys(self) -> None:
        for key in doubled_keys(self._docker.containers()):
            running = [each for each in self._docker.containers() if each.key == key]
            self._tell(f"{key} has more than one running container: {running}")

    def _of_orphans(self) -> None:
        until = time.monotonic() + SETTLING_SECONDS
        suspects = self._mismatches()
        while suspects and time.monotonic() < until:
            time.sleep(0.2)
            suspects &= self._mismatches()
        if suspects:
            sessions = self._server.sessions()
            for name in suspects:
                contained = [c for c in self._docker.containers() if c.session_id == name]
                told = sessions.get(name, {})
                history = told.get("status_history", "none")
                self._tell(f"no match after {SETTLING_SECONDS:g} s: {contained}, {history}")

    def _mismatches(self) -> set[str]:
        # Sessions first: one made in between has a container that is no orphan for that.
        before = self._server.sessions()
        containers = self._docker.containers()
        after = self._server.sessions()
        return mismatches(containers, before) & mismatches(containers, after)

    def _of_links(self) -> None:
        for name, told in self._server.sessions().items():
            promise = self._clients.promises.get(name)
            if promise is not None and told["status"] == "ready":
                self._of_link(promise)

    def _of_link(self, promise: Promise) -> None:
        answer = ask("GET", promise.url)
        # It may have ended meanwhile, or not come back yet from what was done to it.
        until = time.monotonic() + REACHED_SECONDS
        while not _is_from(promise, answer) and self._should_answer(promise):
            if time.monotonic() > until:
                self._tell(
                    f"{promise.session_id} is ready, but its link is answered {answer.status}:"
                    f" {answer.body[:300]!r}; {self._docker.account(f'plane-{promise.session_id}')}"
                )
                return
            time.sleep(0.2)
            answer = ask("GET", promise.url)

    def _should_answer(self, promise: Promise) -> bool:
        name = promise.session_id
        return name not in self.unreachable and self._status(name) == "ready"

    def _status(self, session_id: str) -> str:
        found = ask("GET", f"{self._server.control}/ctrl/b/{session_id}")
        return found.json["status"] if found.status == 200 else ""


class Watcher:
    """Looks at what must hold at any moment, in a thread of its own."""

    def __init__(self, rules: Invariants) -> None:
        self._rules = rules
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stopping.wait(0.3):
            # Docker, or the server, may be away just now.
            with contextlib.suppress(OSError):
                self._rules.look()


def _is_from(promise: Promise, answer: Answer) -> bool:
    return answer.status == 200 and answer.body.decode() == promise.session_id
