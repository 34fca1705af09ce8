"""Where `plane-tx` begins; without its libraries it says what to install."""

from __future__ import annotations

import io
import os
import sys

_LIBRARIES = ("click", "httpx", "rich")


def main() -> None:
    """Run the command line."""
    for stream in (sys.stdout, sys.stderr):
        # What the locale cannot say is shown as its code, and is no reason to fail.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        from plane_tx.cli.commands import plane_tx
    except ModuleNotFoundError as error:
        library = (error.name or "").partition(".")[0]
        if library not in _LIBRARIES:
            raise
        sys.exit(f"plane-tx needs {library}: pip install 'plane_tx[cli]'")
    try:
        plane_tx(prog_name="plane-tx")
    finally:
        _let_go_of_what_cannot_be_written()


def _let_go_of_what_cannot_be_written() -> None:
    try:
        sys.stdout.flush()
    except OSError:
        # It has been said. The interpreter would try again, and end with an exit code of its own.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
