"""The tables of the WebSockets' part of RESULTS.md."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence

from bench import report
from bench.report import NGINX, OURS, P99, Target, Turns, met, ratios, row
from bench.sockets import Idle, Storm

SMALL_32 = "64 B, 32 WebSockets"
LARGE_32 = "64 KiB, 32 WebSockets"
SIZES = {SMALL_32: 64, LARGE_32: 64 << 10}

#: What issue 5 asks for: of one idle WebSocket in KiB, of all of them as a part of a core.
MOST_IDLE, HOPED_IDLE = 20, 12
MOST_BUSY = 0.01

TARGETS = (
    Target(SMALL_32, NGINX, 0.9, unit="messages/s", goal=1.1),
    Target(SMALL_32, NGINX, 1.3, P99),
    Target(LARGE_32, NGINX, 0.9, unit="messages/s"),
)

Storms = Mapping[str, Sequence[Storm]]
Idles = Mapping[str, Idle]


def targets(turns: Turns, storms: Storms, idles: Idles, sockets: int) -> Iterator[str]:
    """The table of what was to be reached; so many `sockets` were idle."""
    yield from ratios(TARGETS, turns)
    if OURS in idles:
        name, mine = f"{sockets} idle WebSockets", idles[OURS]
        kib = mine.bytes_each / 1024
        wanted = f"<= {MOST_IDLE} (goal {HOPED_IDLE})"
        yield _alone(name, "KiB each", wanted, f"{kib:.1f}", kib <= MOST_IDLE)
        wanted = f"< {MOST_BUSY:.0%}"
        yield _alone(name, "of a core", wanted, f"{mine.busy:.1%}", mine.busy < MOST_BUSY)
    if storms.get(OURS):
        opened = [each.opened for each in storms[OURS]]
        asked = opened[0].count + opened[0].failed
        least = min(each.count for each in opened)
        name = f"{asked} WebSockets at once"
        yield _alone(name, "opened", str(asked), str(least), least == asked)


def _alone(name: str, what: str, wanted: str, measured: str, reached: bool) -> str:
    """The row of a target that is no ratio."""
    return row(name, what, wanted, measured, *[""] * 3, met(reached))


def seen(turns: Turns) -> Iterator[str]:
    """The table of all turns with messages."""
    yield from report.seen(turns, SIZES, "message")


def idle_table(idles: Idles, sockets: int, seconds: int) -> Iterator[str]:
    """The table of open WebSockets on which nobody says anything."""
    yield f"| {sockets} idle WebSockets, {seconds} s | KiB each | of a core | pings |"
    yield "| --- | ---: | ---: | ---: |"
    for proxy, each in idles.items():
        cells = (f"{each.bytes_each / 1024:.1f}", f"{each.busy:.1%}", f"{each.pings}")
        yield row(proxy, *cells)


def storm_table(storms: Storms) -> Iterator[str]:
    """The table of WebSockets that were opened at once: the fewest that were, and medians."""
    yield "| opened at once | WebSockets | failed | seconds | CPU ms each |"
    yield "| --- | ---: | ---: | ---: | ---: |"
    for proxy, each in storms.items():
        if each:
            least = min((storm.opened for storm in each), key=lambda opened: opened.count)
            seconds = statistics.median(storm.opened.seconds for storm in each)
            cpu = statistics.median(storm.cpu_milliseconds for storm in each)
            cells = (f"{least.count}", f"{least.failed}", f"{seconds:.2f}", f"{cpu:.2f}")
            yield row(proxy, *cells)
