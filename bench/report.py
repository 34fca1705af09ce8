"""The tables of the data plane's part of RESULTS.md: what was seen, and what was to be reached."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import attrs

from bench.turns import Turn, median, ratio

#: The turns of each case, by its name, and proxy.
Turns = Mapping[tuple[str, str], Sequence[Turn]]

OURS, NGINX, HAPROXY = "plane_tx", "nginx", "HAProxy"
BUFFERED, SPLICED = "nginx (buffered)", "HAProxy (splicing)"
CADDY, CHP, TWISTED = "Caddy", "configurable-http-proxy", "twisted.web.proxy"

ONE = "1 KiB, 1 connection"
SMALL_64 = "1 KiB, 64 connections"
DIFFERING = "1 KiB, 64 connections, each request differs"
SMALL_512 = "1 KiB, 512 connections"
MIDDLE_64 = "100 KiB, 64 connections"
NEW = "1 KiB, each on a new connection, 64 at a time"
DOWN, UP = "1 GiB download", "1 GiB upload"

RATE, P99 = "rate", "p99_milliseconds"

#: The most that an idle connection may take, in KiB.
MOST_IDLE = 12


@attrs.frozen
class Target:
    """What an issue asks of us in one case, as a ratio to another proxy in the same run.

    The goal is what it hopes for beyond that.
    """

    case: str
    to: str
    bound: float
    attribute: str = RATE
    unit: str = "requests/s"
    goal: float | None = None

    def told(self, turns: Turns) -> str:
        """The row of the table."""
        most = self.attribute == P99
        what = "99% latency" if most else self.unit
        wanted = f"{'<=' if most else '>='} {self.bound:g}"
        if self.goal is not None:
            wanted += f" (goal {self.goal:g})"
        ours, theirs = (self.case, OURS), (self.case, self.to)
        if not turns.get(ours) or not turns.get(theirs):
            return row(self.case, f"{what} to {self.to}", wanted, *[""] * 4, "not measured")
        reached = ratio(turns, ours, theirs, self.attribute)
        reaches = reached <= self.bound if most else reached >= self.bound
        by_cpu = 1 / ratio(turns, ours, theirs, "cpu_microseconds")
        busy = (f"{median(turns[one], 'busy'):.0%}" for one in (ours, theirs))
        cells = (wanted, f"{reached:.2f}", "" if most else f"{by_cpu:.2f}", *busy, met(reaches))
        return row(self.case, f"{what} to {self.to}", *cells)


TARGETS = (
    Target(SMALL_64, NGINX, 0.6),
    Target(SMALL_64, CHP, 6),
    Target(SMALL_64, NGINX, 2, P99),
    Target(DIFFERING, NGINX, 0.6),
    Target(DIFFERING, CHP, 6),
    Target(MIDDLE_64, NGINX, 1.5),
    Target(MIDDLE_64, HAPROXY, 0.9),
    Target(MIDDLE_64, NGINX, 2, P99),
    Target(DOWN, HAPROXY, 0.7),
    Target(UP, HAPROXY, 0.7),
)


def absent(names: Iterable[str], targets: Iterable[Target] = TARGETS) -> list[str]:
    """Whom a target compares ours to, but are not among these: without them there is no result."""
    return sorted({target.to for target in targets}.difference(names))


def row(*cells: str) -> str:
    """A row of a table."""
    return f"| {' | '.join(cells)} |"


def met(reached: bool) -> str:
    """What the last cell of a target says."""
    return "met" if reached else "**not met**"


def ratios(asked: Iterable[Target], turns: Turns) -> Iterator[str]:
    """A table of what was to be reached, to which rows can be added."""
    yield "| asked for | ratio of ours | wanted | measured | by CPU | our core | its core | |"
    yield "| --- | --- | --- | ---: | ---: | ---: | ---: | --- |"
    for target in asked:
        yield target.told(turns)


def targets(turns: Turns, idle: Mapping[str, float], connections: int) -> Iterator[str]:
    """The table of what was to be reached."""
    yield from ratios(TARGETS, turns)
    if OURS in idle:
        kib = idle[OURS] / 1024
        name = f"{connections} idle connections"
        yield row(
            name, "KiB each", f"<= {MOST_IDLE}", f"{kib:.1f}", *[""] * 3, met(kib <= MOST_IDLE)
        )


def seen(turns: Turns, sizes: Mapping[str, int], what: str = "request") -> Iterator[str]:
    """The table of all turns; `sizes` tells the bytes of what is counted in each case."""
    yield (
        f"| asked for | proxy | {what}s/s | MB/s | ratio to nginx | median ms | 99% ms"
        f" | CPU us/{what} | ratio by CPU | core | resident MiB |"
    )
    yield "| --- | --- |" + " ---: |" * 9
    for case, size in sizes.items():
        for (asked, proxy), its in turns.items():
            if asked == case and its:
                yield row(case, proxy, *_cells(its, size, turns, (case, proxy)))


def _cells(its: Sequence[Turn], size: int, turns: Turns, which: tuple[str, str]) -> tuple[str, ...]:
    rate = median(its)
    to = (which[0], NGINX)
    compared = bool(turns.get(to))
    return (
        f"{rate:.0f}" if rate >= 10 else f"{rate:.2f}",
        f"{rate * size / 1e6:.0f}",
        f"{ratio(turns, which, to):.2f}" if compared else "",
        f"{median(its, 'median_milliseconds'):.2f}",
        f"{median(its, P99):.2f}",
        f"{median(its, 'cpu_microseconds'):.0f}",
        f"{1 / ratio(turns, which, to, 'cpu_microseconds'):.2f}" if compared else "",
        f"{median(its, 'busy'):.0%}",
        f"{median(its, 'resident_bytes') / 2**20:.0f}",
    )


def idle_table(idle: Mapping[str, float], connections: int) -> Iterator[str]:
    """The table of what a connection takes that had one request and stays open."""
    yield f"| {connections} idle keep-alive connections | KiB each |"
    yield "| --- | ---: |"
    for proxy, each in idle.items():
        yield row(proxy, f"{each / 1024:.1f}")
