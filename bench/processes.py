"""The processes of a bench: the cores they are pinned to, and what they took of CPU and memory."""

from __future__ import annotations

import os
import platform
import resource
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

#: One core for the server that is measured, one for all that stands around it.
SERVER_CORE, LOAD_CORE = (sorted(os.sched_getaffinity(0)) * 2)[:2]

#: The steps in which the kernel tells CPU time.
TICK_SECONDS = 1 / os.sysconf("SC_CLK_TCK")


def missing(*programs: str) -> str | None:
    """What is missing of two cores and these programs, in a sentence."""
    absent = " ".join(program for program in programs if shutil.which(program) is None)
    if absent:
        return f"the bench needs {absent} (Debian: apt-get install {absent})"
    if SERVER_CORE == LOAD_CORE:
        return "the bench needs two cores, one for the server and one for the load"
    return None


@contextmanager
def on_core(core: int) -> Iterator[None]:
    """What is started within the block stays on this core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def with_children(pid: int) -> tuple[int, ...]:
    """A process and those that it started."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    return (pid, *map(int, children.split()))


def cpu_seconds(pids: Iterable[int]) -> float:
    """How long these have been on a core so far."""
    ticks = 0
    for pid in pids:
        # The name of the program, in parentheses, may hold blanks.
        words = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        ticks += int(words[11]) + int(words[12])
    return ticks * TICK_SECONDS


def resident_bytes(pids: Iterable[int]) -> int:
    """How much memory these hold; what two of them share is counted twice."""
    pages = (Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1] for pid in pids)
    return sum(map(int, pages)) * resource.getpagesize()


def machine(*packages: str) -> str:
    """What this runs on, in a line."""
    model = "an unknown CPU"
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            model = line.partition(": ")[2]
            break
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    return (
        f"{time.strftime('%Y-%m-%d')}; {model}, {os.cpu_count()} cores, Linux"
        f" {platform.release().split('-')[0]}; {platform.python_implementation()}"
        f" {platform.python_version()}, {versions}"
    )
