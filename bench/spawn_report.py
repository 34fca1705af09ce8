"""The tables of the part of RESULTS.md that is about sessions: made, joined, taken up, at rest."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence

import attrs

from bench.report import met, row

#: The ways a cold spawn goes, by what a status begins, in the order of the lifecycle.
STATUSES = ("scheduled", "loading", "starting", "waiting", "ready")


@attrs.frozen
class Pair:
    """What ours took and what the Engine took, one after the other, in seconds."""

    ours: float
    engine: float


@attrs.frozen
class Start:
    """What one start took: seconds until it listened, until all were ready, and bytes at rest."""

    listening: float
    ready: float
    resident_bytes: int = 0


@attrs.frozen
class Seen:
    """All that was measured; `phases` are the seconds that a cold spawn stayed in each status."""

    alone: Sequence[Pair]
    at_once: Sequence[Pair]
    joins: Sequence[float]
    exits: Sequence[float]
    phases: Mapping[str, Sequence[float]]
    starts: Sequence[Start]
    adoptions: Sequence[Start]
    #: Seconds and bytes of all that a start imports.
    imports: tuple[float, int]
    idle_bytes: float


@attrs.frozen
class Sizes:
    """How many of each there were."""

    at_once: int
    adopted: int
    idle: int


@attrs.frozen
class Target:
    """What issue 6 asks for: at most so much, or less than that; the name may tell a size."""

    name: str
    what: str
    bound: float
    measured: Callable[[Seen], float]
    less: bool = False
    digits: int = 2

    def told(self, seen: Seen, sizes: Sizes) -> str:
        """The row of the table."""
        found = self.measured(seen)
        reached = found < self.bound if self.less else found <= self.bound
        wanted = f"{'<' if self.less else '<='} {self.bound:g}"
        name = self.name.format_map(attrs.asdict(sizes))
        return row(name, self.what, wanted, f"{found:.{self.digits}f}", met(reached))


def ratio(pairs: Sequence[Pair]) -> float:
    """Ours to the Engine's, the median of the pairs."""
    return statistics.median(each.ours / each.engine for each in pairs)


def adoption(seen: Seen) -> float:
    """The seconds from listening until every session is ready again."""
    return statistics.median(each.ready - each.listening for each in seen.adoptions)


def listening(starts: Sequence[Start]) -> float:
    """The seconds until a start listens."""
    return statistics.median(each.listening for each in starts)


def resident(seen: Seen) -> float:
    """The MiB of a server without sessions."""
    return statistics.median(each.resident_bytes for each in seen.starts) / 2**20


TARGETS = (
    Target("cold spawn", "ratio to the Engine", 1.08, lambda seen: ratio(seen.alone)),
    Target("{at_once} spawns at once", "ratio to the Engine", 1, lambda seen: ratio(seen.at_once)),
    Target("join", "median ms", 3, lambda seen: statistics.median(seen.joins) * 1e3),
    Target("an exit, told", "most ms", 250, lambda seen: max(seen.exits) * 1e3, less=True),
    Target("{adopted} sessions adopted", "seconds", 1, adoption, less=True),
    Target("start to listening", "seconds", 1, lambda seen: listening(seen.starts), less=True),
    Target(
        "start to listening, {adopted} sessions to adopt", "seconds", 1,
        lambda seen: listening(seen.adoptions), less=True,
    ),
    Target("resident at rest", "MiB", 85, resident, less=True, digits=1),
    Target(
        "{idle} idle sessions", "KiB each", 25,
        lambda seen: seen.idle_bytes / 1024, less=True, digits=1,
    ),
)  # fmt: skip


def targets(seen: Seen, sizes: Sizes) -> Iterator[str]:
    """The table of what was to be reached."""
    yield "| asked for | in | wanted | measured | |"
    yield "| --- | --- | --- | ---: | --- |"
    for target in TARGETS:
        yield target.told(seen, sizes)


def spawns(seen: Seen, sizes: Sizes) -> Iterator[str]:
    """The table of what spawns took, in milliseconds."""
    yield "| first byte of | median ms | least ms | most ms |"
    yield "| --- | ---: | ---: | ---: |"
    several = f"{sizes.at_once} at once, the last"
    for name, pairs in (("one", seen.alone), (several, seen.at_once)):
        for whose, took in (
            ("ours", [pair.ours for pair in pairs]),
            ("the Engine", [pair.engine for pair in pairs]),
        ):
            yield row(f"{name}, {whose}", *(f"{each * 1e3:.0f}" for each in _spread(took)))
    yield row("a join, answered", *(f"{each * 1e3:.1f}" for each in _spread(seen.joins)))
    yield row("an exit, told", *(f"{each * 1e3:.0f}" for each in _spread(seen.exits)))


def phases(seen: Seen) -> Iterator[str]:
    """The table of where one of our spawns was, by its status history."""
    yield "| a spawn of ours is | median ms |"
    yield "| --- | ---: |"
    for status, took in seen.phases.items():
        yield row(status, f"{statistics.median(took) * 1e3:.0f}")


def started(seen: Seen) -> Iterator[str]:
    """What the imports alone take, beside which the start has to be seen."""
    seconds, held = seen.imports
    yield f"All that a start imports, and no more: {seconds:.2f} s and {held / 2**20:.1f} MiB."


def stays(history: Sequence[Mapping[str, object]]) -> dict[str, float]:
    """The seconds that a session which is ready was in each status, as its history tells."""
    entered = {str(each["status"]): float(str(each["time"])) / 1e3 for each in history}
    told = [status for status in STATUSES if status in entered]
    return {status: entered[after] - entered[status] for status, after in itertools.pairwise(told)}


def _spread(took: Sequence[float]) -> tuple[float, float, float]:
    return statistics.median(took), min(took), max(took)
