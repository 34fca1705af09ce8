"""Measure WebSockets beside other proxies, and write their part of RESULTS.md.

Every proxy is on one core; the echo server and the load share the other. The proxies take turns,
many short ones, in another order each round; the tables have medians. Load and echo server also
meet without a proxy: what they can do then is the most that they can.

Why they are written in C: with picows on uvloop for both, the fastest that PyPI has, a message of
64 bytes took the two of them 20 us of their core, and nginx as much of its own, so either could be
the limit. In C they take 12, nearly all of it in the kernel, where nothing can be left out: a
receive and a send on either side, which is what a proxy has too.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs

from bench import report, websocket_report
from bench.echo import Programs, compiled, echo
from bench.origin import scratch
from bench.processes import machine, missing
from bench.proxies import TUNNELS, Kind, Proxy, named, proxies
from bench.results import record
from bench.sockets import DIRECT, Idle, Messages, Storm, idle, settle, storm
from bench.turns import Turn
from bench.websocket_report import SIZES

#: Fewer rounds than this are a try, which RESULTS.md hears nothing of.
LEAST_ROUNDS = 3

CONNECTIONS = 32


@attrs.frozen
class Options:
    """What the command line asks for; the defaults are what RESULTS.md has."""

    rounds: int = 7
    seconds: int = 2
    idle: int = 9000
    idle_seconds: int = 5
    storm: int = 5000
    proxies: Collection[str] = tuple(kind.name for kind in TUNNELS)

    @property
    def is_try(self) -> bool:
        """Whether something was left out that belongs into RESULTS.md."""
        whole = Options(self.rounds, self.seconds)
        return self != whole or self.rounds < LEAST_ROUNDS

    def kinds_asked(self) -> list[Kind]:
        """The other proxies that have one of these names."""
        return [kind for kind in TUNNELS if kind.name in self.proxies]


@contextmanager
def running(options: Options, programs: Programs) -> Iterator[list[Proxy]]:
    """All proxies, fresh, and last the echo server on its own."""
    with (
        scratch() as folder,
        echo(folder, programs.echo) as its,
        proxies(folder, its.origin, options.kinds_asked()) as found,
    ):
        yield [*found, Proxy(DIRECT, (its.pid,), its.url, its.url)]


@attrs.frozen
class Seen:
    """The turns with messages, by case and proxy, and the storms, by proxy."""

    turns: dict[tuple[str, str], list[Turn]]
    storms: dict[str, list[Storm]]


def take_turns(options: Options, programs: Programs) -> Seen:
    """Ask every proxy for everything, in another order each round."""
    cases = [Messages(name, size, CONNECTIONS) for name, size in SIZES.items()]
    warming = 0 if options.rounds < LEAST_ROUNDS else 1
    with running(options, programs) as found:
        names = [proxy.name for proxy in found]
        seen = Seen(
            {(case.name, name): [] for case in cases for name in names},
            {name: [] for name in names},
        )
        for round_ in range(-warming, options.rounds):
            first = round_ % len(found)
            for proxy in (*found[first:], *found[:first]):
                for case in cases:
                    turn = case.turn(programs.load, proxy, options.seconds if round_ >= 0 else 1)
                    if round_ >= 0:  # the one before warms everything up
                        seen.turns[case.name, proxy.name].append(turn)
                if round_ >= 0:
                    seen.storms[proxy.name].append(storm(programs.load, proxy, options.storm))
            print(f"round {round_ + 1} of {options.rounds}", file=sys.stderr)
    return seen


def idle_ones(options: Options, programs: Programs) -> dict[str, Idle]:
    """What idle WebSockets take of each proxy, each fresh."""
    with running(options, programs) as found:
        for proxy in found:
            settle(proxy.pids)
        return {
            proxy.name: idle(programs.load, proxy, options.idle, options.idle_seconds)
            for proxy in found
            if proxy.name != DIRECT
        }


def told(seen: Seen, idles: dict[str, Idle], options: Options) -> Iterator[str]:
    """The lines for RESULTS.md."""
    yield f"{machine('twisted', 'autobahn')};"
    yield f"{', '.join(map(named, options.kinds_asked()))};"
    yield f"{options.rounds} rounds of {options.seconds} s."
    yield ""
    yield from websocket_report.targets(seen.turns, seen.storms, idles, options.idle)
    yield ""
    yield from websocket_report.seen(seen.turns)
    yield ""
    yield from websocket_report.idle_table(idles, options.idle, options.idle_seconds)
    yield ""
    yield from websocket_report.storm_table(seen.storms)


def options_asked() -> Options:
    parser = argparse.ArgumentParser(description=__doc__)
    usual = Options()
    parser.add_argument("--rounds", type=int, default=usual.rounds)
    parser.add_argument("--seconds", type=int, default=usual.seconds, help="of a turn")
    parser.add_argument("--idle", type=int, default=usual.idle, help="WebSockets, for memory")
    parser.add_argument("--idle-seconds", type=int, default=usual.idle_seconds)
    parser.add_argument("--storm", type=int, default=usual.storm, help="WebSockets at once")
    parser.add_argument(
        "--proxies", nargs="*", default=usual.proxies, choices=usual.proxies, help="beside ours"
    )
    return Options(**vars(parser.parse_args()))


def main() -> None:
    options = options_asked()
    if lacking := missing("gcc", "nginx"):
        raise SystemExit(lacking)
    # So that what was started ends with the run, however that is ended.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    # Not in memory: what is there often may not be run.
    with tempfile.TemporaryDirectory() as folder:
        programs = compiled(Path(folder))
        idles = idle_ones(options, programs)
        seen = take_turns(options, programs)
    absent = report.absent(idles, websocket_report.TARGETS)
    if absent:
        print(f"a try only: {' and '.join(absent)} did not take part", file=sys.stderr)
    record("websocket", told(seen, idles, options), quick=options.is_try or bool(absent))


if __name__ == "__main__":
    main()
