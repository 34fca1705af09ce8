"""Measure the HTTP data plane beside other proxies, and write its part of RESULTS.md.

Every proxy is on one core; the origin and the load share the other. The proxies take turns, in
another order each round; the tables have medians.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import attrs

from bench import report
from bench.load import Case, Download, Upload, idle_bytes, verify
from bench.origin import MIDDLE, SMALL, origin, scratch
from bench.processes import machine, missing
from bench.proxies import KINDS, Kind, Proxy, named, proxies
from bench.report import (
    BUFFERED,
    DIFFERING,
    DOWN,
    MIDDLE_64,
    NEW,
    ONE,
    SMALL_64,
    SMALL_512,
    SPLICED,
    TWISTED,
    UP,
)
from bench.results import record
from bench.turns import Turn

#: Fewer rounds than this are a try, which RESULTS.md hears nothing of.
LEAST_ROUNDS = 3

AnyCase = Case | Download | Upload


@attrs.frozen
class Options:
    """What the command line asks for; the defaults are what RESULTS.md has."""

    rounds: int = 4
    seconds: int = 5
    idle: int = 10_000
    large_mib: int = 1024
    proxies: Collection[str] = tuple(kind.name for kind in KINDS)
    cases: Collection[str] = ("",)

    @property
    def large(self) -> int:
        """The bytes of a large body."""
        return self.large_mib << 20

    @property
    def is_try(self) -> bool:
        """Whether something was left out that belongs into RESULTS.md."""
        whole = Options(self.rounds, self.seconds)
        return self != whole or self.rounds < LEAST_ROUNDS

    def kinds_asked(self) -> list[Kind]:
        """The other proxies that have one of these names."""
        return [kind for kind in KINDS if kind.name in self.proxies]

    def cases_asked(self) -> list[AnyCase]:
        """The cases of which the name has one of these words."""
        every: tuple[AnyCase, ...] = (
            Case(ONE, SMALL, 1),
            Case(SMALL_64, SMALL, 64),
            Case(DIFFERING, SMALL, 64, script="differing.lua"),
            Case(SMALL_512, SMALL, 512),
            Case(MIDDLE_64, MIDDLE, 64),
            Case(NEW, SMALL, 64, close=True),
            Download(DOWN, self.large),
            Upload(UP, self.large),
        )
        return [case for case in every if any(word in case.name for word in self.cases)]


@contextmanager
def running(options: Options) -> Iterator[tuple[list[Proxy], Path]]:
    """All proxies, fresh, each shown to give the right bytes, and the files that they give."""
    with (
        scratch() as folder,
        origin(folder, options.large) as its,
        proxies(folder, its, options.kinds_asked()) as found,
    ):
        for proxy in found:
            verify(proxy, its.files)
        yield found, its.files


def takes_part(proxy: Proxy, case: AnyCase) -> bool:
    """Whether it is asked for this.

    twisted.web.proxy holds a whole body in memory; what nginx and HAProxy can do else is for long
    ones.
    """
    if proxy.name in (BUFFERED, SPLICED):
        return case.name in (MIDDLE_64, DOWN, UP)
    return proxy.name != TWISTED or isinstance(case, Case)


def take_turns(
    found: Sequence[Proxy], files: Path, options: Options
) -> dict[tuple[str, str], list[Turn]]:
    """Ask every proxy for everything, in another order each round."""
    cases = options.cases_asked()
    turns: dict[tuple[str, str], list[Turn]] = {
        (case.name, proxy.name): [] for case in cases for proxy in found
    }
    warming = 0 if options.rounds < LEAST_ROUNDS else 1
    for round_ in range(-warming, options.rounds):
        first = round_ % len(found)
        for case in cases:
            for proxy in (*found[first:], *found[:first]):
                if takes_part(proxy, case):
                    verify(proxy, files)
                    turn = case.turn(proxy, options.seconds if round_ >= 0 else 1)
                    if round_ >= 0:  # the one before warms everything up
                        turns[case.name, proxy.name].append(turn)
        print(f"round {round_ + 1} of {options.rounds}", file=sys.stderr)
    return turns


def told(
    turns: Mapping[tuple[str, str], Sequence[Turn]], idle: Mapping[str, float], options: Options
) -> Iterator[str]:
    """The lines for RESULTS.md."""
    yield f"{machine('twisted', 'httptools')};"
    yield f"{', '.join(map(named, options.kinds_asked()))};"
    yield f"{options.rounds} rounds of {options.seconds} s."
    yield ""
    yield from report.targets(turns, idle, options.idle)
    yield ""
    yield from report.seen(turns, {case.name: case.size for case in options.cases_asked()})
    yield ""
    yield from report.idle_table(idle, options.idle)


def options_asked() -> Options:
    parser = argparse.ArgumentParser(description=__doc__)
    usual = Options()
    parser.add_argument("--rounds", type=int, default=usual.rounds)
    parser.add_argument("--seconds", type=int, default=usual.seconds, help="of a turn of wrk")
    parser.add_argument("--idle", type=int, default=usual.idle, help="connections, for memory")
    parser.add_argument("--large-mib", type=int, default=usual.large_mib, help="down and up")
    parser.add_argument(
        "--proxies", nargs="*", default=usual.proxies, choices=usual.proxies, help="beside ours"
    )
    parser.add_argument("--cases", nargs="*", default=usual.cases, help="words of their names")
    return Options(**vars(parser.parse_args()))


def main() -> None:
    options = options_asked()
    if lacking := missing("wrk", "nginx"):
        raise SystemExit(lacking)
    # So that what was started ends with the run, however that is ended.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with running(options) as (found, _files):
        counted = [proxy for proxy in found if proxy.name not in (BUFFERED, SPLICED)]
        idle = {proxy.name: idle_bytes(proxy, options.idle) for proxy in counted}
    with running(options) as (found, files):
        turns = take_turns(found, files, options)
    absent = report.absent(proxy.name for proxy in found)
    if absent:
        print(f"a try only: {' and '.join(absent)} did not take part", file=sys.stderr)
    record("http", told(turns, idle, options), quick=options.is_try or bool(absent))


if __name__ == "__main__":
    main()
