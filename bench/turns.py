"""Turns: what a server did while it was asked for something for a while, and how two compare."""

from __future__ import annotations

import statistics
import subprocess
import time
from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path

import attrs

from bench.processes import LOAD_CORE, TICK_SECONDS, cpu_seconds, on_core, resident_bytes

HERE = Path(__file__).parent

#: How long wrk waits for an answer before it counts it as failed.
PATIENCE_SECONDS = 20


@attrs.frozen
class Turn:
    """What a server did in one turn; `busy` is the part of the time that it was on its core."""

    rate: float
    cpu_microseconds: float
    busy: float
    median_milliseconds: float
    p99_milliseconds: float
    resident_bytes: int


class Watch:
    """Tells what processes have used since it was made, and for how many requests."""

    def __init__(self, pids: Sequence[int]) -> None:
        self._pids = pids
        self._used = cpu_seconds(pids)
        self._began = time.perf_counter()

    def turn(self, requests: int, seconds: float, median: float, p99: float) -> Turn:
        """The turn that ends now; latencies in seconds."""
        # So that ratios can be told of a turn that is too short for the clock.
        used = max(cpu_seconds(self._pids) - self._used, TICK_SECONDS)
        took = time.perf_counter() - self._began
        return Turn(
            rate=requests / seconds,
            cpu_microseconds=used / requests * 1e6,
            busy=used / took,
            median_milliseconds=median * 1e3,
            p99_milliseconds=p99 * 1e3,
            resident_bytes=resident_bytes(self._pids),
        )


@attrs.frozen
class Wrk:
    """How wrk asks: `least_bytes` is what each answer has at least, `words` are the script's."""

    connections: int
    seconds: int
    headers: Mapping[str, str] = attrs.field(factory=dict)
    script: str = "summary.lua"
    words: tuple[str, ...] = ()
    least_bytes: int = 0

    def ask(self, name: str, pids: Sequence[int], url: str) -> Turn:
        """One turn of wrk; any answer but a good one ends the run."""
        command = ["wrk", "-t1", f"-c{self.connections}", f"-d{self.seconds}s", "--latency"]
        command += [f"--timeout={PATIENCE_SECONDS}s", "-s", str(HERE / self.script)]
        for header in self.headers.items():
            command += ["-H", ": ".join(header)]
        watch = Watch(pids)
        with on_core(LOAD_CORE):
            run = subprocess.run(
                [*command, url, "--", *self.words], stdout=subprocess.PIPE, text=True, check=True
            )
        requests, read, took, median, p99, failed = map(int, run.stdout.splitlines()[-1].split())
        if failed or not requests or read < requests * self.least_bytes:
            raise SystemExit(
                f"bench: {name}: of {requests} requests with {read} bytes {failed} failed:\n"
                f"{' '.join(command)} {url}\n{run.stdout}"
            )
        return watch.turn(requests, took / 1e6, median / 1e6, p99 / 1e6)


def median(turns: Iterable[Turn], attribute: str = "rate") -> float:
    """The median of what these turns have seen of something."""
    return statistics.median(getattr(turn, attribute) for turn in turns)


def ratio(
    turns: Mapping[Hashable, Sequence[Turn]], one: Hashable, to: Hashable, attribute: str = "rate"
) -> float:
    """The median of the ratios of two servers, round by round."""
    pairs = zip(turns[one], turns[to], strict=True)
    return statistics.median(getattr(a, attribute) / getattr(b, attribute) for a, b in pairs)
