"""What pages have made of code is all there, and nothing that is gone."""

from __future__ import annotations

import json
import re

from docs.making import commands, contract, gallery, layers
from docs.making.hooks import complete
from tests.docs.pages import ROOT, Page

CONTRACT = json.loads(contract.CONTRACT.read_text())


def test_every_route_of_the_contract_has_a_section_of_the_api_page() -> None:
    wanted = {f"{method} {path}" for method, path, _ in contract.operations(CONTRACT)}

    sections = set(
        re.findall(r"^### ([A-Z]+ /.*)$", complete(Page("docs/api.md").text), re.MULTILINE)
    )

    assert sections == wanted


def test_every_field_of_a_request_has_its_type_and_its_default_there() -> None:
    told = contract.types()

    fields = CONTRACT["components"]["schemas"]["SpawnConfig"]["properties"]

    assert all(f"| `{field}` | " in told for field in fields)
    assert "| `routing` | [Routing](#routing) or null | `null` |" in told
    assert "| `executable` | [Executable](#executable) | required |" in told


def test_every_command_has_a_section_and_is_shown_at_work() -> None:
    page = Page("docs/cli.md")
    shown = "".join(block.body for block in page.blocks("console", "sh"))

    sections = re.findall(r"^<!-- insert: usage of (.*) -->$", page.text, re.MULTILINE)

    assert sorted(sections) == sorted(commands.names())
    assert [name for name in commands.names()[1:] if name not in shown] == []


def test_every_module_with_code_is_told_once_in_its_layer() -> None:
    told = re.findall(r"^\| `(plane_tx[\w.]*)` \| \S", layers.layers(), re.MULTILINE)

    known = layers.table()
    laid_out = [name for name, _ in layers.modules() if layers.layer(name, known) is not None]

    assert sorted(told) == laid_out


def test_every_module_that_the_page_of_the_code_names_is_one() -> None:
    named = re.findall(
        r"`((?:proxy|control|core|engines)\.\w+)(?:\.\w+)?`", Page("docs/layout.md").text
    )

    known = {name for name, _ in layers.modules()}

    assert [name for name in named if f"plane_tx.{name}" not in known] == []
    assert len(named) > 9


def test_every_example_with_a_command_is_in_the_table() -> None:
    wanted = {path.parent.name for path in ROOT.glob("examples/*/plane.toml")}

    commanded = set(re.findall(r"`make example-([\w-]+)`", gallery.examples()))

    assert commanded == wanted
