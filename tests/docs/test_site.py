"""The built site: complete, in itself, and readable where there is no network and no server."""

from __future__ import annotations

import re
from pathlib import Path

from tests.docs.pages import ROOT


def test_every_page_of_docs_is_in_it_and_in_its_contents(site: Path) -> None:
    wanted = {path.with_suffix(".html").name for path in (ROOT / "docs").glob("*.md")}

    contents = set(re.findall(r'href="(\w+\.html)"', (site / "index.html").read_text()))

    assert wanted <= {path.name for path in site.glob("*.html")}
    assert wanted <= contents


LOADS = re.compile(
    r'<(?:script|img|iframe|source)\b[^>]*\bsrc="?(\w+:[^">\s]*)|<link\b[^>]*\bhref="?(\w+:[^">\s]*)'
)


def test_no_page_loads_anything_from_elsewhere(site: Path) -> None:
    found = {path.name: LOADS.findall(path.read_text()) for path in site.rglob("*.html")}

    assert {name: loads for name, loads in found.items() if loads} == {}
