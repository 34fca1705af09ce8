"""Measure sessions in containers beside the Engine itself, and write their part of RESULTS.md.

The Engine makes containers just like those that our server has it make: what it is told is read
back from one of them. The two take turns, first one container and then many at once, and the table
has medians of the ratios. Nothing is pinned to a core: most of the work is the Engine's own.
"""

from __future__ import annotations

import argparse
import itertools
import os
import signal
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import attrs

from bench import engine
from bench.control import measured
from bench.engine import Engine
from bench.processes import imports, machine, resident_bytes
from bench.results import record
from bench.spawn_report import (
    Pair,
    Seen,
    Sizes,
    Start,
    phases,
    spawns,
    started,
    stays,
    targets,
)
from tests.live import LiveServer, ask

#: Fewer rounds than this are a try, which RESULTS.md hears nothing of.
LEAST_ROUNDS = 3

#: How many joins a round has.
JOINS = 50

#: How long a server that has just started is left alone before its memory is looked at.
REST_SECONDS = 1.0

#: How many sessions are made at a time where only their being there matters.
MADE_AT_A_TIME = 4

APP = "httpd"
CONF = f"""
[engine]
kind = "docker"
docker_socket = "{{socket}}"
instance = "{{instance}}"
[defaults]
max_idle_seconds = 0.0
[apps.{APP}]
image = "{engine.IMAGE}"
command = ["sh", "-c", "mkdir /www; echo here >/www/index.html; exec httpd -f -p $PORT -h /www"]
"""


@attrs.frozen
class Options:
    """What the command line asks for; the defaults are what RESULTS.md has."""

    rounds: int = 9
    pairs: int = 5
    at_once: int = 20
    adopted: int = 100
    idle: int = 10_000
    starts: int = 5

    @property
    def is_try(self) -> bool:
        """Whether something was left out that belongs into RESULTS.md."""
        return self != Options(self.rounds) or self.rounds < LEAST_ROUNDS

    @property
    def warming(self) -> int:
        """How many rounds and starts go before those that count."""
        return 0 if self.rounds < LEAST_ROUNDS else 1

    @property
    def sizes(self) -> Sizes:
        return Sizes(self.at_once, self.adopted, self.idle)


@attrs.frozen
class Bench:
    """Where the Engine is, and where servers of ours have their state."""

    options: Options
    socket: str
    folder: Path
    instance: str

    def server(self) -> LiveServer:
        """A server that starts now, and takes up what earlier ones have left."""
        return LiveServer(self.folder, CONF.format(socket=self.socket, instance=self.instance))

    @contextmanager
    def ready_server(self) -> Iterator[LiveServer]:
        """One that is ready; it is killed at the end, so its sessions stay."""
        server = self.server()
        try:
            server.wait_until_ready()
            yield server
        finally:
            _kill(server)

    def clear(self) -> None:
        """Remove what this run has left of containers and networks."""
        with closing(Engine(self.socket)) as asked:
            asked.remove_all(f"plane-tx.instance={self.instance}")
            asked.remove_all(f"{engine.LABEL}={self.instance}")
            for network in asked.ask("GET", "/networks"):
                if network["Name"].startswith(f"plane-tx-{self.instance}"):
                    asked.ask("DELETE", f"/networks/{network['Id']}")


def _kill(server: LiveServer) -> None:
    server.process.kill()
    server.process.wait()


def spawn(server: LiveServer) -> tuple[str, float]:
    """A session of ours, by its id, and the seconds until the first byte of its server's."""
    began = time.perf_counter()
    made = server.connect(APP)
    path = made["url"].partition(server.cluster)[2]
    proxy = ("127.0.0.1", server.proxy_port)
    answer = engine.first_byte(proxy, path, server.cluster)
    took = time.perf_counter() - began
    if b" 200 " not in answer:
        raise SystemExit(f"bench: {made['url']} answers {answer!r}: {server.log.read_text()}")
    return made["backend_id"], took


def join(server: LiveServer) -> float:
    """The seconds that a connect takes which joins the session of a key."""
    began = time.perf_counter()
    server.connect(APP, "joined")
    return time.perf_counter() - began


def together(count: int, work: Callable[[], object]) -> float:
    """The seconds that it takes until `work`, begun so many times at once, has ended each time."""
    with ThreadPoolExecutor(count) as threads:
        began = time.perf_counter()
        for doing in [threads.submit(work) for _ in range(count)]:
            doing.result()
        return time.perf_counter() - began


class Turns:
    """Ours and the Engine, in turns; after each turn all that it made is removed."""

    def __init__(self, bench: Bench, server: LiveServer, asked: Engine) -> None:
        self._bench = bench
        self._server = server
        self._asked = asked
        self._label = f"{engine.LABEL}={bench.instance}"
        self._pairs, self._names = itertools.count(), itertools.count()
        first, _ = spawn(server)
        self._body = asked.body_of(f"plane-{first}", bench.instance)
        self._end(first)
        self.phases: dict[str, list[float]] = defaultdict(list)

    def one(self) -> Pair:
        """A container of each, one after the other; who is first changes."""
        return self._pair(self._ours, self._engines)

    def at_once(self) -> Pair:
        """The same with many at once."""
        return self._pair(self._ours_at_once, self._engines_at_once)

    def exit(self) -> float:
        """The seconds from killing a container behind our back until its session is told ended."""
        session, _ = spawn(self._server)
        began = time.perf_counter()
        self._asked.ask("POST", f"/containers/plane-{session}/kill")
        self._server.wait_for(session, "terminated")
        return time.perf_counter() - began

    def _pair(self, ours: Callable[[], float], engines: Callable[[], float]) -> Pair:
        if next(self._pairs) % 2:
            took = engines()
            return Pair(ours(), took)
        return Pair(ours(), engines())

    def _ours(self) -> float:
        made, took = spawn(self._server)
        history = self._server.session(made)["status_history"]
        for status, seconds in stays(history).items():
            self.phases[status].append(seconds)
        self._end(made)
        return took

    def _engines(self) -> float:
        took = self._asked.spawn(self._name(), self._body)
        self._asked.remove_all(self._label)
        return took

    def _ours_at_once(self) -> float:
        made: list[str] = []
        count = self._bench.options.at_once
        took = together(count, lambda: made.append(spawn(self._server)[0]))
        for session in made:
            self._end(session)
        return took

    def _engines_at_once(self) -> float:
        def one() -> None:
            with closing(Engine(self._bench.socket)) as asked:
                asked.spawn(self._name(), self._body)

        took = together(self._bench.options.at_once, one)
        self._asked.remove_all(self._label)
        return took

    def _name(self) -> str:
        return f"{self._bench.instance}-{next(self._names)}"

    def _end(self, session: str) -> None:
        url = f"{self._server.control}/ctrl/b/{session}/hard-terminate?wait=60"
        assert ask("POST", url, {}).status == 200


@attrs.frozen
class Rounds:
    """What was seen in all rounds: pairs, joins, exits, and the statuses of our spawns."""

    alone: list[Pair] = attrs.field(factory=list)
    at_once: list[Pair] = attrs.field(factory=list)
    joins: list[float] = attrs.field(factory=list)
    exits: list[float] = attrs.field(factory=list)
    phases: dict[str, list[float]] = attrs.field(factory=dict)


def take_turns(bench: Bench) -> Rounds:
    """All rounds."""
    options = bench.options
    seen = Rounds()
    with bench.ready_server() as server, closing(Engine(bench.socket)) as asked:
        turns = Turns(bench, server, asked)
        server.wait_for(server.connect(APP, "joined")["backend_id"], "ready")
        for number in range(-options.warming, options.rounds):
            if number == 0:  # the one before warms everything up
                turns.phases.clear()
                seen = Rounds(phases=turns.phases)
            seen.alone.extend(turns.one() for _ in range(options.pairs))
            seen.at_once.append(turns.at_once())
            seen.joins.extend(join(server) for _ in range(JOINS))
            seen.exits.extend(turns.exit() for _ in range(options.pairs))
            print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
    bench.clear()
    return seen


def start(bench: Bench, sessions: int) -> Start:
    """One start, until so many sessions are ready; then the server is killed."""
    began = time.perf_counter()
    server = bench.server()
    try:
        _until(server, lambda: _listens(server))
        listening = time.perf_counter() - began
        _until(server, lambda: ask("GET", f"{server.control}/pub/ready").status == 200)
        _until(server, lambda: _count_ready(server) >= sessions)
        ready = time.perf_counter() - began
        time.sleep(0 if sessions else REST_SECONDS)
        return Start(listening, ready, resident_bytes([server.process.pid]))
    finally:
        _kill(server)


def _until(server: LiveServer, happened: Callable[[], bool]) -> None:
    """As `until`, looking more often."""
    deadline = time.monotonic() + engine.PATIENCE_SECONDS
    while not happened():
        if server.process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"bench: the server did not start: {server.log.read_text()}")
        time.sleep(0.002)


def _listens(server: LiveServer) -> bool:
    proxy = ("127.0.0.1", server.proxy_port)
    control = ("127.0.0.1", server.control_port)
    # What is asked for needs no session: one of an earlier run may be waited for.
    return all(engine.first_byte(each, "/", server.cluster) for each in (proxy, control))


def _count_ready(server: LiveServer) -> int:
    url = f"{server.control}/ctrl/backends?status=ready&limit=1000"
    return len(ask("GET", url).json["backends"])


def adoptions(bench: Bench) -> list[Start]:
    """Starts with sessions that a server which was killed has left."""
    with bench.ready_server() as server:
        count = bench.options.adopted
        with ThreadPoolExecutor(MADE_AT_A_TIME) as threads:
            for made in [threads.submit(spawn, server) for _ in range(count)]:
                made.result()
    return [start(bench, count) for _ in range(bench.options.starts)]


def look(bench: Bench) -> Seen:
    """Measure everything."""
    options = bench.options
    for _ in range(options.warming):
        start(bench, 0)  # this one compiles the modules
    starts = [start(bench, 0) for _ in range(options.starts)]
    bare = sorted(imports() for _ in range(options.starts))
    seen = take_turns(bench)
    adopted = adoptions(bench)
    idle = measured("idle", str(options.idle))
    return Seen(
        alone=seen.alone,
        at_once=seen.at_once,
        joins=seen.joins,
        exits=seen.exits,
        phases=seen.phases,
        starts=starts,
        adoptions=adopted,
        imports=bare[options.starts // 2],
        idle_bytes=idle,
    )


def told(seen: Seen, options: Options) -> Iterator[str]:
    """The lines for RESULTS.md."""
    yield f"{machine('twisted', 'treq')};"
    yield f"{options.rounds} rounds, each of {options.pairs} pairs of one and one pair of many."
    yield ""
    yield from targets(seen, options.sizes)
    yield ""
    yield from spawns(seen, options.sizes)
    yield ""
    yield from phases(seen)
    yield ""
    yield from started(seen)


def options_asked() -> Options:
    parser = argparse.ArgumentParser(description=__doc__)
    usual = Options()
    parser.add_argument("--rounds", type=int, default=usual.rounds)
    parser.add_argument("--pairs", type=int, default=usual.pairs, help="of single spawns a round")
    parser.add_argument("--at-once", type=int, default=usual.at_once, help="spawns")
    parser.add_argument("--adopted", type=int, default=usual.adopted, help="sessions")
    parser.add_argument("--idle", type=int, default=usual.idle, help="sessions, for memory")
    parser.add_argument("--starts", type=int, default=usual.starts, help="of each kind")
    return Options(**vars(parser.parse_args()))


def main() -> None:
    options = options_asked()
    socket = engine.where_docker_is()
    if lacking := engine.missing(socket):
        raise SystemExit(lacking)
    # Where this is set every start compiles all modules anew; one that is installed never does.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    # So that what was started ends with the run, however that is ended.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(options, socket, Path(folder), f"bench-{os.getpid()}")
        try:
            seen = look(bench)
        finally:
            bench.clear()
    record("spawn", told(seen, options), quick=options.is_try)


if __name__ == "__main__":
    main()
