"""Measure the HTTP data plane beside other proxies, and write its part of RESULTS.md.

Every proxy has one core to itself; the origin and the load share the other. The proxies take turns,
many short ones, in another order each round; the tables have medians.
"""

from __future__ import annotations

import argparse
import resource
import sys
from collections.abc import Iterator, Sequence

from bench.load import Case, Download, Upload, verify
from bench.origin import MIDDLE, SMALL, origin, scratch
from bench.processes import demand
from bench.proxies import KINDS, NGINX, TWISTED, Proxy, proxies
from bench.turns import Turn, median, ratio

ONE = Case("1 KiB, 1 connection", SMALL, 1)
SMALL_64 = Case("1 KiB, 64 connections", SMALL, 64)
SMALL_512 = Case("1 KiB, 512 connections", SMALL, 512)
MIDDLE_64 = Case("100 KiB, 64 connections", MIDDLE, 64)
NEW = Case("1 KiB, each on a new connection, 64 at a time", SMALL, 64, close=True)
DOWN = Download("1 GiB download")
UP = Upload("1 GiB upload")
CASES = (ONE, SMALL_64, SMALL_512, MIDDLE_64, NEW, DOWN, UP)

IDLE = 10_000
Turns = dict[tuple[str, str], list[Turn]]


def takes_part(proxy: Proxy, case: Case | Download | Upload) -> bool:
    """Whether it is asked for this: twisted.web.proxy holds a whole body in memory."""
    return proxy.name != TWISTED or isinstance(case, Case)


def take_turns(running: Sequence[Proxy], rounds: int, seconds: int) -> Turns:
    """Ask every proxy for everything, in another order each round."""
    turns: Turns = {(case.name, proxy.name): [] for case in CASES for proxy in running}
    for round_ in range(-1, rounds):
        first = round_ % len(running)
        for case in CASES:
            for proxy in (*running[first:], *running[:first]):
                if takes_part(proxy, case):
                    turn = case.turn(proxy, seconds if round_ >= 0 else 1)
                    if round_ >= 0:  # the one before warms everything up
                        turns[case.name, proxy.name].append(turn)
        print(f"round {round_ + 1} of {rounds}", file=sys.stderr)
    return turns


def report(turns: Turns) -> Iterator[str]:
    """The table of all that was measured."""
    yield (
        "| asked for | proxy | requests/s | MB/s | ratio to nginx | median ms | 99% ms"
        " | CPU us/request | of a core | resident MiB |"
    )
    yield "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    for case in CASES:
        for (asked, name), seen in turns.items():
            if asked == case.name and seen:
                rate = median(seen)
                yield (
                    f"| {case.name} | {name} | {rate:.{0 if rate > 10 else 2}f}"
                    f" | {rate * case.size / 1e6:.0f}"
                    f" | {ratio(turns, (asked, name), (asked, NGINX)):.2f}"
                    f" | {median(seen, 'median_milliseconds'):.2f}"
                    f" | {median(seen, 'p99_milliseconds'):.2f}"
                    f" | {median(seen, 'cpu_microseconds'):.0f}"
                    f" | {median(seen, 'busy'):.2f}"
                    f" | {median(seen, 'resident_bytes') / 2**20:.0f} |"
                )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--proxies", nargs="*", default=[kind.name for kind in KINDS])
    options = parser.parse_args()
    demand("wrk", "nginx")
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    with scratch() as folder, origin(folder) as its, proxies(folder, its, options.proxies) as all_:
        for proxy in all_:
            verify(proxy, folder / "origin" / "files")
        turns = take_turns(all_, options.rounds, options.seconds)
    print("\n".join(report(turns)))


if __name__ == "__main__":
    main()
