"""What each example of examples/ with an image promises: one command, and words that are true."""

from __future__ import annotations

import re
import subprocess

import pytest

from plane_tx.core.config import parse_config
from plane_tx.core.sections import Config
from tests.live import ROOT

EXAMPLES = ROOT / "examples"
CLIENT = ROOT / "plane_tx" / "control" / "client.js"

#: Those with an image; the others are processes that conf/ and the tests start.
NAMES = sorted(recipe.parent.name for recipe in EXAMPLES.glob("*/Dockerfile"))


def read_config(name: str) -> Config:
    place = EXAMPLES / name / "plane.toml"
    return parse_config(place.read_text(), str(place))


def read_me(name: str) -> str:
    return (EXAMPLES / name / "README.md").read_text()


@pytest.mark.parametrize("name", NAMES)
def test_its_configuration_runs_the_image_that_its_command_builds(name: str) -> None:
    config = read_config(name)

    assert config.engine.kind == "docker"
    assert config.engine.instance == f"example-{name}"  # no other server's sessions are its own
    assert config.apps[name].image == f"plane-tx/{name}"
    assert config.demo.app in ("", name)


@pytest.mark.parametrize("name", NAMES)
def test_its_ports_are_those_that_every_example_has(name: str) -> None:
    config = read_config(name)

    assert config.control.endpoint == ("tcp:8080:interface=127.0.0.1",)
    assert config.proxy.endpoint == ("tcp:9090:interface=127.0.0.1",)
    assert config.proxy.cluster == "localhost:9090"


@pytest.mark.parametrize("name", NAMES)
def test_its_image_is_made_of_a_base_that_can_be_chosen_for_a_user_without_rights(
    name: str,
) -> None:
    recipe = (EXAMPLES / name / "Dockerfile").read_text()

    said = re.findall(r"^(ARG BASE|FROM|USER)[ =](.+)$", recipe, re.MULTILINE)

    assert said[:2] == [("ARG BASE", "python:3.13-slim"), ("FROM", "${BASE}")]
    assert said[-1][0] == "USER"
    assert not said[-1][1].startswith(("root", "0"))


@pytest.mark.parametrize("name", NAMES)
def test_its_readme_is_short_and_names_its_one_command(name: str) -> None:
    words = read_me(name)

    assert len(words.splitlines()) <= 40
    assert f"make example-{name}\n" in words


@pytest.mark.parametrize("name", NAMES)
def test_every_make_of_its_readme_is_a_target(name: str) -> None:
    targets = {line.split()[1] for line in _make("examples") + _make("help")}

    named = set(re.findall(r"(?:`|^ {4})make ([\w-]+)", read_me(name), re.MULTILINE))

    assert named <= targets


@pytest.mark.parametrize("name", NAMES)
def test_its_readme_sends_to_the_demo_only_where_there_is_one(name: str) -> None:
    has_demo = read_config(name).demo.app == name

    assert ("http://localhost:8080/demo" in read_me(name)) == has_demo


@pytest.mark.parametrize("name", sorted(each.parent.name for each in EXAMPLES.glob("*/README.md")))
def test_every_link_of_its_readme_leads_somewhere(name: str) -> None:
    words = read_me(name)

    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", words)

    assert [link for link in links if not _is_there(name, link)] == []


def _is_there(name: str, link: str) -> bool:
    return link.startswith("https://") or (EXAMPLES / name / link).exists()


def test_the_client_that_an_image_carries_is_the_one_that_the_server_gives() -> None:
    copies = {each: each.read_bytes() for each in EXAMPLES.glob("*/plane.js")}

    assert [str(each) for each, held in copies.items() if held != CLIENT.read_bytes()] == []


def _make(target: str) -> list[str]:
    command = ["make", target]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
