"""Who is in a process group, and what it takes of the box, read from /proc (proc(5)).

It blocks, so use a thread.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import attrs

from plane_tx.engines.interface import EngineStats

#: Where the kernel tells of its processes.
PROC = Path("/proc")

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@attrs.frozen
class Stat:
    """What /proc/PID/stat says of one process, as far as we care.

    `ticks` are its own and those of its children that it has waited for.
    """

    pid: int
    parent: int
    group: int
    ticks: int
    threads: int
    pages: int

    @classmethod
    def parse(cls, line: str) -> Stat:
        """Read the file; the program's name in it may hold spaces and brackets of its own."""
        fields = line[line.rindex(")") + 2 :].split()
        return cls(
            pid=int(line[: line.index(" ")]),
            parent=int(fields[1]),
            group=int(fields[2]),
            ticks=sum(map(int, fields[11:15])),
            threads=int(fields[17]),
            pages=int(fields[21]),
        )


def group_stats(group: int) -> EngineStats | None:
    """The sum over a process group; None when it has no process.

    The CPU time of a process that nobody in the group has waited for is lost with it, and a
    page that several share is counted for each. What the group sends is not counted by anybody.
    """
    members = [stat for stat in _stats() if stat.group == group]
    if not members:
        return None
    return EngineStats(
        cpu_seconds=sum(member.ticks for member in members) / _TICKS,
        memory_bytes=sum(member.pages for member in members) * _PAGE,
        memory_limit_bytes=None,
        pids=sum(member.threads for member in members),
        received_bytes=None,
        sent_bytes=None,
    )


def family(group: int, root: Path = PROC) -> list[int]:
    """The processes of a group, and all that descend from them, in groups of their own or not."""
    stats = list(_stats(root))
    found = {stat.pid for stat in stats if stat.group == group}
    # Whoever is younger than its parent is not always found after it: numbers begin anew.
    while born := {each.pid for each in stats if each.parent in found} - found:
        found |= born
    return sorted(found)


def _stats(root: Path = PROC) -> Iterator[Stat]:
    for process in root.glob("[0-9]*"):
        # It may end at any moment, or be another user's, which some boxes hide (hidepid=1).
        with suppress(FileNotFoundError, ProcessLookupError, PermissionError):
            yield Stat.parse((process / "stat").read_text(encoding="utf-8", errors="replace"))
