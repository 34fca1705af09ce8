"""What /proc says of a process is read as it is meant."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from plane_tx.engines.proc import Stat, family, group_stats

LINE = (
    "77 (a) b) (c) S 1 42 7 0 -1 4194560 113 0 0 0 1 20 300 4000 20 0 5 0 1234 9999 88"
    " 18446744073709551615 0 0 0 0 0 0 0 0 0 0 0 0 17 1 0 0 0 0 0\n"
)


def test_a_name_with_brackets_and_spaces_is_passed_over() -> None:
    told = Stat(pid=77, parent=1, group=42, ticks=4321, threads=5, pages=88)

    assert Stat.parse(LINE) == told


def test_our_own_group_is_there_and_its_time_is_in_seconds() -> None:
    stats = group_stats(os.getpgrp())

    assert stats.cpu_seconds >= time.process_time() / 2
    assert stats.memory_bytes > 1 << 20
    assert stats.pids >= 1


def box(proc: Path, *processes: tuple[int, int, int]) -> Path:
    """A /proc of these: each with its number, its parent and its group."""
    for pid, parent, group in processes:
        rest = LINE.partition(" 42 ")[2]
        (proc / str(pid)).mkdir()
        (proc / str(pid) / "stat").write_text(f"{pid} (x) S {parent} {group} {rest}")
    return proc


def test_a_family_is_a_group_and_all_who_descend_from_it(tmp_path: Path) -> None:
    proc = box(
        tmp_path,
        (50, 1, 50),
        (51, 50, 50),
        (7, 51, 7),  # has left the group, and its number is the lowest
        (60, 7, 60),
        (70, 1, 70),
        (71, 70, 70),
    )

    assert family(50, proc) == [7, 50, 51, 60]
    assert family(99, proc) == []


def test_a_group_without_a_process_takes_nothing() -> None:
    assert group_stats(1 << 30) is None


def test_a_process_that_the_box_hides_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    read_text = Path.read_text

    def hidden(path: Path, **options: Any) -> str:
        if path.parent.name == "1":
            raise PermissionError
        return read_text(path, **options)

    monkeypatch.setattr(Path, "read_text", hidden)

    assert group_stats(os.getpgrp()).pids >= 1
