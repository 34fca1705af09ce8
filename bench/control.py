"""Measure the control listener against a bare Klein route, and write its part of RESULTS.md.

Every server is a process pinned to one core, wrk to another. They take turns, many short ones, so
that what else the machine does meets all of them; the table has medians.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import attrs

from bench.processes import SERVER_CORE, machine, missing, on_core
from bench.results import record
from bench.turns import HERE, Turn, Wrk, median, ratio

CONNECTIONS = 64

#: How many live sessions a server with many has, and a reaper whose tick is measured.
MANY = 20_000
MANY_TICKED = 100_000

#: What wrk asks for, as control.lua calls it, and how a reader does.
ASKED = {
    "key": "connect, joins; key only",
    "whole": "connect, joins; user, auth, spawn_config",
    "status": "status",
}

#: The least ratio to a bare route that issue 3 asks for.
LEAST = {"key": 0.5, "whole": 0.5, "status": 0.7}


@attrs.frozen
class Server:
    """A process to be measured: what it is called, where it listens, how many sessions it has."""

    name: str
    process: subprocess.Popen[str]
    port: int
    sessions: int


def _command(mode: str, *words: str) -> list[str]:
    return [sys.executable, str(HERE / "servers.py"), mode, *words]


@contextmanager
def serving(name: str, sessions: int, mode: str, *words: str) -> Iterator[Server]:
    """A server that ends with the block."""
    with on_core(SERVER_CORE):
        process = subprocess.Popen(_command(mode, *words), stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        port = process.stdout.readline()
        if not port:
            raise SystemExit(f"bench: the server of {name} did not start: see above")
        yield Server(name, process, int(port), sessions)
    finally:
        process.kill()
        process.wait()


def measured(mode: str, *words: str) -> Any:
    """What a process that measures itself has printed."""
    with on_core(SERVER_CORE):
        run = subprocess.run(_command(mode, *words), stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(run.stdout)


def ask(server: Server, kind: str, seconds: int) -> Turn:
    """One turn of wrk."""
    words = (kind, str(server.sessions))
    wrk = Wrk(CONNECTIONS, seconds, script="control.lua", words=words)
    name = f"{server.name}, {kind}"
    return wrk.ask(name, (server.process.pid,), f"http://127.0.0.1:{server.port}/")


def answers_of(server: Server) -> tuple[str, str]:
    """What a server with sessions answers to a connect that joins, and to a status."""
    base = f"http://127.0.0.1:{server.port}"
    joining = urllib.request.Request(
        f"{base}/ctrl/connect",
        b'{"key":{"name":"key-0"},"user":"ada"}',
        {"Content-Type": "application/json"},
    )
    asking = f"{base}/pub/b/session-0/status"
    with urllib.request.urlopen(joining) as connected, urllib.request.urlopen(asking) as status:
        return connected.read().decode(), status.read().decode()


Turns = dict[tuple[str, str], list[Turn]]


def take_turns(servers: list[Server], rounds: int, seconds: int) -> Turns:
    """Ask every server for everything, in another order each round."""
    turns: Turns = {(kind, server.name): [] for kind in ASKED for server in servers}
    for round_ in range(-1, rounds):
        for kind in ASKED:
            first = round_ % len(servers)
            for server in servers[first:] + servers[:first]:
                turn = ask(server, kind, seconds)
                if round_ >= 0:  # the one before warms everything up
                    turns[kind, server.name].append(turn)
        print(f"round {round_ + 1} of {rounds}", file=sys.stderr)
    return turns


def told(turns: Turns, kind: str) -> Iterator[str]:
    """The lines of the table for what was asked."""
    for server in ("bare Klein", "1 session", f"{MANY} sessions"):
        seen = turns[kind, server]
        rate = median(seen)
        cpu = median(seen, "cpu_microseconds")
        latency = median(seen, "median_milliseconds")
        pair = ((kind, server), (kind, "bare Klein"))
        rates = ratio(turns, *pair)
        by_cpu = 1 / ratio(turns, *pair, "cpu_microseconds")
        wanted = "" if server == "bare Klein" else f">= {LEAST[kind]}"
        yield (
            f"| {ASKED[kind]} | {server} | {rate:.0f} | {latency:.1f} | {cpu:.0f}"
            f" | {rates:.2f} | {by_cpu:.2f} | {wanted} |"
        )


def report(turns: Turns, rounds: int, seconds: int) -> Iterator[str]:
    """The lines about what wrk has seen."""
    here = machine("twisted", "klein", "werkzeug")
    yield f"{here}; {rounds} rounds of {seconds} s, {CONNECTIONS} connections."
    yield ""
    yield (
        "| asked for | server | requests/s | median ms | CPU us/request | ratio | ratio by CPU"
        " | wanted |"
    )
    yield "| --- | --- | ---: | ---: | ---: | ---: | ---: | --- |"
    for kind in ASKED:
        yield from told(turns, kind)
    yield ""
    yield f"| {MANY} live sessions against 1 | requests/s | by CPU | wanted |"
    yield "| --- | ---: | ---: | --- |"
    for kind, name in ASKED.items():
        pair = ((kind, f"{MANY} sessions"), (kind, "1 session"))
        rates = ratio(turns, *pair)
        by_cpu = 1 / ratio(turns, *pair, "cpu_microseconds")
        yield f"| {name} | {rates:.2f} | {by_cpu:.2f} | >= 0.90 |"
    yield ""


def report_alone() -> Iterator[str]:
    """The lines about what needs no wrk."""
    tick = measured("tick", str(MANY_TICKED))
    yield (
        f"A reaper's tick with {MANY_TICKED} ready sessions, none of them due:"
        f" median {tick['median'] * 1e6:.1f} us, longest {tick['longest'] * 1e6:.0f} us"
        " (wanted: < 1 ms)."
    )
    tokens = measured("tokens")
    yield (
        "A join leaves a token with its session until that is forgotten:"
        f" {tokens['plain']:.0f} bytes, {tokens['whole']:.0f} with a user and a claim."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--only-wrk", action="store_true", help="leave out tick and memory")
    options = parser.parse_args()
    if lacking := missing("wrk"):
        raise SystemExit(lacking)
    with ExitStack() as stack:
        one, many = (
            stack.enter_context(serving(name, sessions, "plane", str(sessions)))
            for name, sessions in (("1 session", 1), (f"{MANY} sessions", MANY))
        )
        bare = stack.enter_context(serving("bare Klein", 1, "bare", *answers_of(one)))
        turns = take_turns([bare, one, many], options.rounds, options.seconds)
    lines = [*report(turns, options.rounds, options.seconds)]
    if not options.only_wrk:
        lines += report_alone()
    record("control", lines, quick=options.rounds == 1)


if __name__ == "__main__":
    main()
