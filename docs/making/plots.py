"""Draws what bench/RESULTS.md says as bars, into docs/images; the same each time."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from pathlib import Path

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "bench/RESULTS.md"
IMAGES = ROOT / "docs/images"

#: A picture's name: its title, the column that it shows, and the case whose rows they are.
PLOTS = {
    "bench-http": ("Replies of 1 KiB to 64 clients", "requests/s", "1 KiB, 64 connections"),
    "bench-bodies": ("Replies of 100 KiB to 64 clients", "MB/s", "100 KiB, 64 connections"),
    "bench-messages": ("Messages of 64 bytes, 32 WebSockets", "messages/s", "64 B, 32 WebSockets"),
    "bench-frames": ("Messages of 64 KiB, 32 WebSockets", "MB/s", "64 KiB, 32 WebSockets"),
    "bench-idle": ("An idle WebSocket's memory", "KiB each", "idle WebSockets"),
    "bench-spawn": ("From asking to the first byte", "median ms", "first byte of"),
}

Row = dict[str, str]

_LABEL, _BAR, _LINE, _TOP = 250, 330, 28, 48
_WIDTH = _LABEL + _BAR + 100

_STYLE = """\
text { font: 14px system-ui, sans-serif; fill: #1f2937 }
.title { font-size: 15px; font-weight: 600 }
.name { text-anchor: end }
.paper { fill: #f8fafc }
.bar { fill: #94a3b8 }
.ours { fill: #4f46e5 }
@media (prefers-color-scheme: dark) {
text { fill: #e5e7eb }
.paper { fill: #1e2129 }
.bar { fill: #64748b }
.ours { fill: #818cf8 }
}"""


def plots(results: str) -> dict[str, str]:
    """Each picture by its name, as SVG; ValueError when the results have nothing for one."""
    tables = list(_tables(results))
    return {
        name: _picture(f"{title}, {column}", _values(tables, column, case))
        for name, (title, column, case) in PLOTS.items()
    }


def _tables(text: str) -> Iterator[list[Row]]:
    for block in text.split("\n\n"):
        lines = [_cells(line) for line in block.splitlines() if line.startswith("|")]
        if len(lines) > 2:
            yield [dict(zip(lines[0], cells, strict=True)) for cells in lines[2:]]


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def _values(tables: list[list[Row]], column: str, case: str) -> list[tuple[str, float]]:
    """A name and a number a bar.

    Rows are those of the case in a table of many, or all of a table that is the case's own.
    """
    for rows in (rows for rows in tables if column in rows[0]):
        if "proxy" in rows[0]:
            found = [(row["proxy"], row[column]) for row in rows if row["asked for"] == case]
        else:
            first = next(iter(rows[0]))
            found = [(row[first], row[column]) for row in rows] if case in first else []
        if found:
            return [(name, float(value)) for name, value in found]
    raise ValueError(f"no table of the results has {column!r} for {case!r}")


def _picture(title: str, values: list[tuple[str, float]]) -> str:
    most = max(value for _, value in values)
    height = _TOP + _LINE * len(values) + 12
    bars = "\n".join(_bar(row, name, value, most) for row, (name, value) in enumerate(values))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img">\n'
        f"<title>{escape(title)}: {escape(_told(values))}</title>\n<style>\n{_STYLE}\n</style>\n"
        f'<rect class="paper" width="{_WIDTH}" height="{height}" rx="8"/>\n'
        f'<text class="title" x="20" y="30">{escape(title)}</text>\n{bars}\n</svg>\n'
    )


def _bar(row: int, name: str, value: float, most: float) -> str:
    top = _TOP + _LINE * row
    length = round(_BAR * value / most, 1)
    kind = "bar ours" if name == "plane_tx" or name.endswith("ours") else "bar"
    return (
        f'<text class="name" x="{_LABEL - 10}" y="{top + 15}">{escape(name)}</text>'
        f'<rect class="{kind}" x="{_LABEL}" y="{top}" width="{length}" height="20" rx="3"/>'
        f'<text x="{_LABEL + length + 8}" y="{top + 15}">{value:,g}</text>'
    )


def _told(values: list[tuple[str, float]]) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in values)


def main() -> None:
    """Draw them all anew."""
    for name, picture in plots(RESULTS.read_text()).items():
        (IMAGES / f"{name}.svg").write_text(picture)


if __name__ == "__main__":
    main()
