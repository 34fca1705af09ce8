"""Where `plane-tx` begins; without its libraries it says what to install."""

from __future__ import annotations

import sys

_LIBRARIES = ("click", "httpx", "rich")


def main() -> None:
    """Run the command line."""
    try:
        from plane_tx.cli.commands import plane_tx
    except ModuleNotFoundError as error:
        library = (error.name or "").partition(".")[0]
        if library not in _LIBRARIES:
            raise
        sys.exit(f"plane-tx needs {library}: pip install 'plane_tx[cli]'")
    plane_tx(prog_name="plane-tx")
