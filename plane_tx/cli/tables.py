"""Tables of plain text, as wide as the terminal allows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

#: A column of a terminal is no wider than this, unless it is the first: an id is never cut.
MOST_CELLS = 32

#: Between two columns.
GAP = 2

#: So many columns are shown however narrow it is.
LEAST_COLUMNS = 2


def shown_columns(rows: Sequence[Sequence[str]], width: int) -> int:
    """How many columns of `rows`, from the left, a terminal of that width has room for."""
    used = 0
    for number, cells in enumerate(zip(*rows, strict=True)):
        widest = max(map(cell_len, cells))
        used += widest + GAP if number == 0 else min(widest, MOST_CELLS) + GAP
        if used - GAP > width and number >= LEAST_COLUMNS:
            return number
    return len(rows[0])


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], width: int | None) -> Table:
    """A table; where there is a `width`, it has the columns only for which there is room."""
    lines = [columns, *rows]
    count = len(columns) if width is None else shown_columns(lines, width)
    made = Table(box=None, pad_edge=False)
    for number, column in enumerate(columns[:count]):
        most = None if width is None or number == 0 else MOST_CELLS
        made.add_column(column, no_wrap=number == 0, max_width=most, overflow="fold")
    for line in lines[1:]:
        made.add_row(*map(Text, line[:count]))
    return made


def show_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table, with all columns where that is no terminal."""
    console = Console(highlight=False)
    width = console.width if console.is_terminal else None
    if width is None:
        console.width = 500
    console.print(table(columns, rows, width))
