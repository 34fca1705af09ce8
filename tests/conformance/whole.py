"""Runs the whole Autobahn Testsuite, and writes what came of it into docs/conformance.md."""

from __future__ import annotations

import platform
import re
import shutil
import sys
from importlib.metadata import version
from pathlib import Path

from tests.conformance.comparison import Report, differences, table
from tests.conformance.suite import PINS, WHOLE, against_client, against_server, missing

ROOT = Path(__file__).parent.parent.parent
DOCUMENT = ROOT / "docs/conformance.md"
#: Where the suite's own reports stay, with every case's bytes.
REPORTS = ROOT / "build/conformance"

HEAD = """# Conformance

The [Autobahn Testsuite](https://github.com/crossbario/autobahn-testsuite) judges how well a peer
keeps to RFC 6455 and RFC 7692. Here it judges one twice, directly and through the proxy. A case is
equal when behaviour, close behaviour, close code and reason are the same both times (of 7.1.6,
whose end is left to chance, the behaviours); the last column says what they were directly. `make
conformance` wrote this. `make test` runs groups 1 to 7, 10, 12.1 and 13.1, with 20 messages a case
in the last two instead of 1000.
"""

SERVER = "A server behind the proxy: Autobahn's echo server and the suite's client"
CLIENT = "A client before the proxy: Autobahn's echo client and the suite's server"


def section(title: str, direct: Report, proxied: Report) -> str:
    """One comparison, in Markdown."""
    found = differences(direct, proxied)
    listed = "\n".join(f"- {line}" for line in found) if found else "Nothing differs."
    return f"## {title}\n\n{table(direct, proxied)}\n\n{listed}\n"


def versions() -> str:
    """What was run, in a sentence."""
    suite = re.search(r"^autobahntestsuite==(.*)$", PINS.read_text(), re.MULTILINE)[1]
    ours = ", ".join(f"{name} {version(name.lower())}" for name in ("Autobahn", "Twisted"))
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"Autobahn Testsuite {suite}; the echo peers and the proxy on {ours}, {python}.\n"


def main() -> None:
    if reason := missing():
        sys.exit(reason)
    shutil.rmtree(REPORTS, ignore_errors=True)
    parts, troubles = [HEAD, versions()], []
    for name, title, run in (
        ("server", SERVER, against_server),
        ("client", CLIENT, against_client),
    ):
        folder = REPORTS / name
        folder.mkdir(parents=True)
        direct, proxied = run(folder, WHOLE)
        parts.append(section(title, direct, proxied))
        troubles += differences(direct, proxied)
    DOCUMENT.write_text("\n".join(parts))
    sys.exit("\n".join(troubles) or None)


if __name__ == "__main__":
    main()
