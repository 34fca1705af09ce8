"""The Autobahn Testsuite against a peer directly and through a real proxy, at the same time."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import attrs

from tests.conformance.comparison import Report, read_report
from tests.live import free_ports, live_server, until

HERE = Path(__file__).parent
PINS = HERE / "requirements.txt"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "plane_tx"
#: Where provide.sh puts the suite: other pins, another place.
SUITE = CACHE / f"autobahntestsuite-{hashlib.sha256(PINS.read_bytes()).hexdigest()[:12]}"
WSTEST = [str(SUITE / "bin/python"), "-E", str(HERE / "wstest.py")]
DIRECT, PROXIED = "direct", "proxied"


@attrs.frozen
class Scope:
    """Which cases are run, by Autobahn's patterns, and how much of them."""

    cases: Sequence[str]
    #: How many messages a case sends that sends many; None leaves it at the suite's own 1000.
    messages: int | None
    #: How long one side may take.
    seconds: float


#: 283 cases in seconds: with 1000 messages 12.1 and 13.1 alone spend minutes, all of it in zlib.
QUICK = Scope([*(f"{group}.*" for group in (1, 2, 3, 4, 5, 6, 7, 10)), "12.1.*", "13.1.*"], 20, 120)
WHOLE = Scope(["*"], None, 4 * 3600)


def missing() -> str | None:
    """Why the suite cannot be run, in a sentence."""
    if (SUITE / "installed").exists():
        return None
    return "no Autobahn Testsuite: `make test` provides it where a Python 2.7 is found"


def against_server(folder: Path, scope: Scope) -> tuple[Report, Report]:
    """The fuzzing client meets an echo server: what it reports directly, and through the proxy."""
    server = [sys.executable, str(HERE / "echo_server.py")]
    with _both_ways(folder, {DIRECT: server, PROXIED: server}) as urls:
        clients = {}
        for agent, url in urls.items():
            spec = _spec(folder, agent, scope, servers=[{"agent": agent, "url": url}])
            clients[agent] = [*WSTEST, "client", spec]
        _run(folder, clients, scope.seconds)
    return _reports(folder)


def against_client(folder: Path, scope: Scope) -> tuple[Report, Report]:
    """The fuzzing server meets an echo client: what it reports directly, and through the proxy."""
    servers = {}
    for agent in (DIRECT, PROXIED):
        servers[agent] = [*WSTEST, "server", _spec(folder, agent, scope, url="ws://127.0.0.1")]
    program = [sys.executable, str(HERE / "echo_client.py")]
    with _both_ways(folder, servers) as urls:
        clients = {agent: [*program, url.rstrip("/"), agent] for agent, url in urls.items()}
        _run(folder, clients, scope.seconds)
    return _reports(folder)


def _spec(folder: Path, agent: str, scope: Scope, **ours: object) -> str:
    place = folder / f"{agent}.json"
    said = {"outdir": str(folder / agent), "cases": scope.cases, "messages": scope.messages}
    place.write_text(json.dumps(said | ours))
    return str(place)


def _reports(folder: Path) -> tuple[Report, Report]:
    return read_report(folder / DIRECT, DIRECT), read_report(folder / PROXIED, PROXIED)


@contextlib.contextmanager
def _both_ways(folder: Path, servers: Mapping[str, list[str]]) -> Iterator[dict[str, str]]:
    """The WebSocket URLs of two servers: one by itself, one a session behind the proxy."""
    conf = f'[engine]\nkind = "process"\n[apps.peer]\ncommand = {json.dumps(servers[PROXIED])}\n'
    with _by_itself(folder, servers[DIRECT]) as direct, live_server(folder, conf) as server:
        url = server.connect("peer")["url"]
        yield {DIRECT: direct, PROXIED: url.replace("http:", "ws:", 1)}


@contextlib.contextmanager
def _by_itself(folder: Path, command: list[str]) -> Iterator[str]:
    (port,) = free_ports(1)
    where = {"HOST": "127.0.0.1", "PORT": str(port)}
    with (
        (folder / "server_by_itself.log").open("wb") as log,
        _ended(subprocess.Popen(command, env=os.environ | where, stdout=log, stderr=log)) as server,
    ):
        until(lambda: server.poll() is not None or _listens(port))
        yield f"ws://127.0.0.1:{port}/"
    _assert_untroubled(folder / "server_by_itself.log")


def _listens(port: int) -> bool:
    with socket.socket() as knock:
        return knock.connect_ex(("127.0.0.1", port)) == 0


def _assert_untroubled(log: Path) -> None:
    assert "Traceback" not in log.read_text(), log.read_text()


def _run(folder: Path, programs: Mapping[str, list[str]], seconds: float) -> None:
    """Run all of these at the same time, to their end."""
    with contextlib.ExitStack() as stack:
        running = {}
        for name, command in programs.items():
            log = stack.enter_context((folder / f"{name}.log").open("wb"))
            program = subprocess.Popen(command, stdout=log, stderr=log)
            running[name] = stack.enter_context(_ended(program))
        for name, program in running.items():
            assert program.wait(seconds) == 0, (folder / f"{name}.log").read_text()
            _assert_untroubled(folder / f"{name}.log")


@contextlib.contextmanager
def _ended(program: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    try:
        yield program
    finally:
        program.terminate()
        program.wait()
