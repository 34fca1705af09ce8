"""The processes of a bench: the cores they are pinned to, and what they took of CPU and memory."""

from __future__ import annotations

import os
import platform
import resource
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

_IMPORTS = """
import twisted.scripts.twistd
import plane_tx.tap
print("imported", flush=True)
input()
"""


def siblings(core: int) -> frozenset[int]:
    """Which CPUs are threads of the same core, as far as the kernel tells; itself at least."""
    told = Path(f"/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list")
    try:
        parts = told.read_text(encoding="ascii").strip().split(",")
    except OSError:
        return frozenset((core,))
    ends = [tuple(map(int, part.split("-"))) for part in parts]
    return frozenset(each for part in ends for each in range(part[0], part[-1] + 1))


def two_cores(usable: Iterable[int], of: Callable[[int], frozenset[int]]) -> tuple[int, int]:
    """Two that are not threads of one core, where there are such; one twice if it is the only."""
    first, *others = sorted(usable)
    apart = [core for core in others if core not in of(first)]
    return first, (apart or others or [first])[0]


#: One core for the server that is measured, one for all that stands around it.
SERVER_CORE, LOAD_CORE = two_cores(os.sched_getaffinity(0), siblings)

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
    cores = f"{os.cpu_count()} CPUs"
    if LOAD_CORE in siblings(SERVER_CORE):
        cores += " (the two in use are threads of one core: each slows the other)"
    return (
        f"{time.strftime('%Y-%m-%d')}; {model}, {cores}, Linux"
        f" {platform.release().split('-')[0]}; {platform.python_implementation()}"
        f" {platform.python_version()} {_build()}, {versions}"
    )


def _build() -> str:
    """How the interpreter was built: one without profiles of its own use is a fifth slower."""
    asked = sysconfig.get_config_var("CONFIG_ARGS") or ""
    optimised = "--enable-optimizations" in asked
    built = ", ".join(platform.python_build())
    return f"({built}; configured {'with' if optimised else 'without'} --enable-optimizations)"


def imports() -> tuple[float, int]:
    """The seconds it takes to import all that a server imports and nothing else, and the bytes."""
    began = time.perf_counter()
    command = [sys.executable, "-c", _IMPORTS]
    with subprocess.Popen(
        command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "imported\n"
        took = time.perf_counter() - began
        held = resident_bytes([process.pid])
        process.communicate("\n")
    return took, held
