"""docs/troubleshooting.md has a place for every kind of error, close code and finding there is."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from plane_tx.core.errors import PlaneError
from plane_tx.proxy import relay
from tests.docs.pages import ROOT

PAGE = (ROOT / "docs/troubleshooting.md").read_text()
SPEC = json.loads((ROOT / "plane_tx/control/openapi.json").read_text())

#: Of those, what the proxy sends; 1001 is said of all that ends with its session.
SENT = {relay.REVOKED, relay.TOO_BIG, relay.BAD_GATEWAY, 1001}

#: What nobody sends, and browsers tell (RFC 6455 section 7.4.1).
TOLD = {1005, 1006}


def below(heading: str) -> str:
    return PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def table(heading: str) -> dict[str, str]:
    """The first two cells of each row."""
    cells = [line.strip("| ").split(" | ") for line in below(heading).splitlines() if "|" in line]
    return {row[0].strip("`"): row[1] for row in cells[2:]}


def tree(kind: type[PlaneError]) -> Iterator[type[PlaneError]]:
    yield kind
    for each in kind.__subclasses__():
        if each.__module__.startswith("plane_tx.core."):
            yield from tree(each)


def source() -> str:
    """All of plane_tx, with strings in pieces made whole."""
    text = "\n".join(path.read_text() for path in sorted((ROOT / "plane_tx").rglob("*.py")))
    return re.sub(r'"\s*\n\s*f?"', "", text)


def test_every_kind_of_error_is_there_with_every_status_that_it_has() -> None:
    had: dict[str, set[int]] = {}
    for each in tree(PlaneError):
        had.setdefault(each.kind, set()).add(each.status)

    told = {
        kind: set(map(int, statuses.split(", ")))
        for kind, statuses in table("Every kind of error").items()
    }

    assert told == had
    assert set(SPEC["components"]["schemas"]["ErrorKind"]["enum"]) <= told.keys()


def test_every_close_code_that_the_proxy_sends_or_a_browser_tells_is_there() -> None:
    told = {int(code) for code in table("WebSockets close")}

    assert told >= SENT | TOLD


def test_the_proxy_sends_no_other_close_code() -> None:
    sources = "".join(path.read_text() for path in (ROOT / "plane_tx/proxy").glob("*.py"))

    by_number = {int(code) for code in re.findall(r"\.end\((\d+),", sources)}
    by_name = set(re.findall(r"\.end\(([A-Z_]+),", sources))

    assert by_number | {getattr(relay, name) for name in by_name} == SENT


def test_every_finding_of_doctor_is_there() -> None:
    sources = "".join(path.read_text() for path in (ROOT / "plane_tx/cli").glob("*.py"))
    found = set(re.findall(r'\b(?:ok|bad|warn|made)\(\s*"([^"]+)"', sources)) - {"auto"}

    told = set(
        re.findall(
            r"`([^`]+)`",
            " ".join(re.findall(r"^\| (.+?) \|", below("What doctor says"), re.MULTILINE)),
        )
    )

    assert found - told == set()


def test_every_message_that_a_heading_quotes_is_one_of_the_servers() -> None:
    said = source()
    quoted = re.findall(r"^### .*?`([^`/]+)`$", PAGE, re.MULTILINE)

    assert [message for message in quoted if message not in said] == []
    assert len(quoted) > 20
