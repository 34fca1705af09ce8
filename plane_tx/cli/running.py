"""What every command shares: the client, `--json`, and how an error becomes an exit code."""

from __future__ import annotations

import errno
import functools
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import attrs
import click
from click.exceptions import NoArgsIsHelpError

from plane_tx.cli.interrupts import insistent_interrupts
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

#: What goes on for long outlives a restart of the server.
LONG_PATIENCE = Patience(retries=8)

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

    def client(self, patience: Patience = PATIENCE) -> Client:
        """The client of that server. Raises `InvalidRequest`."""
        return Client(self.url, self.key(), patience=patience)

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


class JsonUsageError(click.ClickException):
    """What was asked wrongly, for those who read JSON."""

    exit_code = 2

    def show(self, file: IO[Any] | None = None) -> None:
        """Print it as a line of JSON."""
        say_error("Usage", self.message, None)


class Group(click.Group):
    """The program: with `--json` also what click itself finds wrong is JSON."""

    def main(self, args: Sequence[str] | None = None, *rest: Any, **named: Any) -> Any:
        """Run it with the words of the command line."""
        words = sys.argv[1:] if args is None else list(args)
        self.as_json = "--json" in words
        return super().main(words, *rest, **named)

    def make_context(self, *arguments: Any, **named: Any) -> click.Context:
        """Read the words before the command."""
        with self._in_json():
            return super().make_context(*arguments, **named)

    def invoke(self, ctx: click.Context) -> Any:
        """Read the others and run the command."""
        with self._in_json():
            return super().invoke(ctx)

    @contextmanager
    def _in_json(self) -> Iterator[None]:
        try:
            yield
        except click.UsageError as error:
            if self.as_json and not isinstance(error, NoArgsIsHelpError):
                raise JsonUsageError(error.format_message()) from None
            raise


def examples(*lines: str) -> str:
    """The end of a command's help: lines that can be typed as they are."""
    return "\b\nExamples:\n" + "\n".join(f"  {each}" for each in lines)


def command(function: Callable[..., None]) -> Callable[..., None]:
    """Add `--json`, and turn our errors into a line on stderr and an exit code."""

    @click.option("--json", "as_json", is_flag=True, help="Print JSON, an answer or event a line.")
    @functools.wraps(function)
    def within(*, as_json: bool, **said: Any) -> None:
        run = click.get_current_context().find_object(Run)
        assert run is not None, "the group makes it"
        run.as_json = run.as_json or as_json
        try:
            with insistent_interrupts():
                function(run, **said)
        except PlaneClientError as error:
            fail(run, error)
        except KeyboardInterrupt:
            # Of a command that follows something this is the usual end.
            sys.exit(130)
        except OSError as error:
            # Click ends quietly when nobody reads on.
            if error.errno == errno.EPIPE:
                raise
            fail(run, PlaneClientError(f"{error.filename or 'the output'}: {error.strerror}"))

    return within


def fail(run: Run, error: PlaneClientError) -> None:
    """Say what went wrong, and end."""
    say_failure(run, error)
    sys.exit(exit_code(error))


def say_failure(run: Run, error: PlaneClientError) -> None:
    """Say what went wrong, as JSON to those who asked for it."""
    if run.as_json:
        say_error(error.kind, error.message, error.status, error.error_id)
    else:
        under = f" (in the server's log: {error.error_id})" if error.error_id else ""
        click.echo(f"plane-tx: {plain(error.message)}{plain(under)}", err=True)


def say_error(kind: str, message: str, status: int | None, error_id: str = "") -> None:
    """Print an error as a line of JSON, on stderr."""
    told = {"kind": kind, "message": message, "status": status, "id": error_id or None}
    click.echo(json.dumps({"error": told}), err=True)
