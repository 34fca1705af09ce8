"""What every command shares: the client, `--json`, and how an error becomes an exit code."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import attrs
import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from plane_tx.cli.texts import plain
from plane_tx.client import (
    Client,
    Forbidden,
    InvalidRequest,
    NotFound,
    PlaneClientError,
    SessionEnded,
    SessionFailed,
    Unauthorized,
    Unavailable,
)
from plane_tx.client.flows import Patience

#: Exit codes, by the first of these classes that an error is of; any other error is 1.
EXIT_CODES: Mapping[type[PlaneClientError], int] = {
    InvalidRequest: 2,
    NotFound: 3,
    Unauthorized: 4,
    Forbidden: 4,
    Unavailable: 5,
    SessionFailed: 6,
    SessionEnded: 6,
}

#: Who sits at a terminal is told soon that nobody answers.
PATIENCE = Patience(retries=1)

EPILOGUE = (
    "Exit codes: 0 it is done, 1 it failed, 2 asked wrongly, 3 no such session, 4 not allowed,"
    " 5 the server cannot be reached, 6 the session failed or has ended."
)


@attrs.define
class Run:
    """One run of the program: which server, as whom, and how the answer is to be shown."""

    url: str | None
    key_file: Path | None
    as_json: bool = False

    def client(self) -> Client:
        """The client of that server. Raises `InvalidRequest`."""
        return Client(self.url, self.key(), patience=PATIENCE)

    def key(self) -> str | None:
        """The API key in the file, where one was named."""
        if self.key_file is None:
            return None
        try:
            return self.key_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidRequest(f"{self.key_file}: cannot be read: {error}") from None

    def say(self, data: object, lines: Iterable[str] = ()) -> None:
        """Print `data` as a line of JSON, or `lines` to those who did not ask for JSON."""
        if self.as_json:
            click.echo(json.dumps(data))
            return
        for line in lines:
            click.echo(plain(line))


def exit_code(error: PlaneClientError) -> int:
    """What scripts are told of `error`."""
    return next((code for kind, code in EXIT_CODES.items() if isinstance(error, kind)), 1)


def command(function: Callable[..., None]) -> Callable[..., None]:
    """Add `--json`, and turn our errors into a line on stderr and an exit code."""

    @click.option("--json", "as_json", is_flag=True, help="Print JSON, an answer or event a line.")
    @functools.wraps(function)
    def within(*, as_json: bool, **said: Any) -> None:
        run = click.get_current_context().find_object(Run)
        assert run is not None, "the group makes it"
        run.as_json = run.as_json or as_json
        try:
            function(run, **said)
        except PlaneClientError as error:
            fail(run, error)
        except KeyboardInterrupt:
            # Of a command that follows something this is the usual end.
            sys.exit(130)

    return within


def fail(run: Run, error: PlaneClientError) -> None:
    """Say what went wrong, as JSON to those who asked for it, and end."""
    if run.as_json:
        told = {"kind": error.kind, "message": error.message, "status": error.status}
        click.echo(json.dumps({"error": told}), err=True)
    else:
        under = f" (in the server's log: {error.error_id})" if error.error_id else ""
        click.echo(f"plane-tx: {plain(error.message)}{plain(under)}", err=True)
    sys.exit(exit_code(error))


def table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> Table:
    """A table of plain text."""
    made = Table(box=None, pad_edge=False)
    for column in columns:
        made.add_column(column, no_wrap=column == "ID")
    for row in rows:
        made.add_row(*map(Text, row))
    return made


def show_table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    """Print a table, as wide as it must be where that is no terminal."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 500
    console.print(table(columns, rows))
