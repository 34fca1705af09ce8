"""RESULTS.md: each bench writes its own part of it, between two comments, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

RESULTS = Path(__file__).with_name("RESULTS.md")


def replaced(text: str, name: str, lines: Iterable[str]) -> str:
    """`text` with these lines as the part called `name`; a part that is new comes last."""
    begin = f"<!-- make bench-{name} writes what follows -->\n"
    end = f"<!-- make bench-{name} wrote what precedes -->\n"
    before, begun, rest = text.partition(begin)
    _, ended, after = rest.partition(end)
    if begun and not ended:
        raise ValueError(f"{RESULTS.name}: no {end.strip()!r} after {begin.strip()!r}")
    if not begun:
        before = before.rstrip("\n") + "\n\n"
    return "".join((before, begin, "\n", *(f"{line}\n" for line in lines), "\n", end, after))


def record(name: str, lines: Iterable[str], quick: bool) -> None:
    """Print the lines, and unless this was but a quick try write them as the part called `name`."""
    told = list(lines)
    print("\n".join(told))
    if not quick:
        RESULTS.write_text(replaced(RESULTS.read_text("utf-8"), name, told), encoding="utf-8")
