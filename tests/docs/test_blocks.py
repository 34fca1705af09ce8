"""README.md and docs/ are true: commands print what is shown, and files are right."""

from __future__ import annotations

import json
import os
import shutil
import subprocess

import pytest

from plane_tx.core.config import parse_config
from tests.docs.conftest import Place
from tests.docs.pages import ROOT, Page, pages
from tests.docs.script import MARK, matches, script, steps

#: How long all that a page shows may take.
PATIENCE_SECONDS = 120

PAGES = pages()
NAMES = [page.name for page in PAGES]

#: What is neither run nor read here: parts of files, which are compared, and what programs say.
SHOWN = {"text", "http", "html"}


def _marked(page: Page) -> object:
    marks = [pytest.mark.docker] if page.needs("docker") else []
    return pytest.param(page, id=page.name, marks=marks)


@pytest.mark.parametrize("page", [_marked(page) for page in PAGES if steps(page.blocks())])
@pytest.mark.usefixtures("docker")
def test_every_step_of_a_page_gives_the_output_shown(page: Page, place: Place) -> None:
    its = steps(page.blocks())
    if page.blocks("javascript") and shutil.which("node") is None:
        missing = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        missing("needs node: `sudo make test` provides it on Debian")

    done = subprocess.run(
        ["bash", "-eu"], input=place.here(script(its)), capture_output=True, text=True,
        cwd=place.folder, env=place.environment, timeout=PATIENCE_SECONDS, check=False,
    )  # fmt: skip

    outputs = done.stdout.split(f"{MARK}\n")
    assert done.returncode == 0, f"after {outputs[-2:]}\n{done.stderr}"
    for step, output in zip(its, outputs, strict=False):
        shown = output if step.shown is None else place.here(step.shown)
        assert matches(output, shown), f"{step.command}\n{output}\n{shown}"
    assert "Traceback" not in (place.folder / "server.log").read_text()


def whole(text: str) -> str:
    """The text with a hash where a page leaves it out."""
    return text.replace("sha256:…", f"sha256:{'0' * 64}")


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_configuration_and_all_json_can_be_read(page: Page) -> None:
    readers = {"toml": parse_config, "json": lambda text, _: json.loads(text)}

    read = [
        readers[each.language](whole(each.body), f"{page.name}:{each.line}")
        for each in page.blocks(*readers)
    ]

    assert None not in read


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_what_is_shown_of_a_file_is_a_part_of_it(page: Page) -> None:
    parts = [block for block in page.blocks() if block.told("part of")]

    strange = [each.line for each in parts if each.body not in _text(each.told("part of"))]

    assert strange == []


def _text(path: str) -> str:
    return (ROOT / path).read_text()


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_block_is_held_to_something(page: Page) -> None:
    run_or_read = {"console", "sh", "python", "javascript", "toml", "json"} | SHOWN

    loose = [
        (each.line, each.language)
        for each in page.blocks()
        if each.language not in run_or_read and not each.told("part of") and not each.told("file")
    ]

    assert loose == []
    assert page.text.count("\n```") == 2 * len(page.blocks())
