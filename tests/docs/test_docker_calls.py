"""docs/security.md names every call that the client makes to Docker, and no other."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/security.md").read_text()
SOURCE = (ROOT / "plane_tx/engines/docker/container.py").read_text()

ROW = re.compile(r"^\| (GET|POST|DELETE) \| `(\S+)` \|([^|]*)\| ([^|]+) \|$", re.MULTILINE)

#: How the page's variables look in a path; a container that has "…" in its name is a test's own.
PARTS = {"{id}": "[^/]+", "{name}": "(?!create$).+"}


@attrs.frozen
class Row:
    """A call as the page has it; a query's value is None where it is not always the same."""

    method: str
    path: str
    query: dict[str, str | None]

    def is_of(self, call: dict[str, Any]) -> bool:
        pattern = re.escape(self.path)
        for part, meaning in PARTS.items():
            pattern = pattern.replace(re.escape(part), meaning)
        version = "" if self.path == "/version" else r"/v1\.4[0-7]"
        said = re.fullmatch(version + pattern, call["path"])
        return bool(said) and call["method"] == self.method


def rows() -> Iterator[Row]:
    for method, path, query, _ in ROW.findall(PAGE):
        said = (word.partition("=") for word in re.findall(r"`(\S+)`", query))
        values = {name: None if value == "…" else value for name, _, value in said}
        yield Row(method, path, values)


def row_of(call: dict[str, Any]) -> Row | None:
    # Of two that fit, as `{id}/json` and `json`, the one with fewer variables is meant.
    found = [row for row in rows() if row.is_of(call)]
    return min(found, key=lambda row: row.path.count("{"), default=None)


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What the engine's tests had the client ask a Docker in memory for."""
    into = tmp_path_factory.mktemp("calls") / "calls"
    tests = sorted(map(str, (ROOT / "tests/engines").glob("test_docker_*.py")))
    options = ["-q", "-p", "no:cacheprovider", "-m", "not docker"]
    subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tests.engines.recorded_calls", *options, *tests],
        cwd=ROOT, env={**os.environ, "PLANE_TX_DOCKER_CALLS": str(into)}, check=True,
        capture_output=True,
    )  # fmt: skip
    return [json.loads(line) for line in into.read_text().splitlines()]


def test_every_call_is_in_the_table(calls: list[dict[str, Any]]) -> None:
    strange = [call for call in calls if row_of(call) is None]

    assert strange == []
    assert len(calls) > 100


def test_every_row_of_the_table_is_a_call(calls: list[dict[str, Any]]) -> None:
    made = {(row.method, row.path) for call in calls if (row := row_of(call))}

    assert made == {(row.method, row.path) for row in rows()}


def test_the_table_has_every_part_of_a_query_and_no_other(calls: list[dict[str, Any]]) -> None:
    said: dict[tuple[str, str], set[str]] = {}
    for call in calls:
        if row := row_of(call):
            said.setdefault((row.method, row.path), set()).update(call["query"])
            fixed = {name: value for name, value in row.query.items() if value is not None}
            assert {name: call["query"].get(name, value) for name, value in fixed.items()} == fixed

    assert said == {(row.method, row.path): set(row.query) for row in rows()}


def test_a_container_is_made_with_no_more_than_the_page_says(calls: list[dict[str, Any]]) -> None:
    (listed,) = re.findall(r"only these of\s+`HostConfig`:(.*?)\.\n", PAGE, re.DOTALL)
    shown = set(re.findall(r"`(\w+)`", listed))

    made = {name for call in calls for name in call["host_config"]}

    assert {"Privileged", "CapDrop", "NetworkMode"} <= made <= shown
    assert {name for name in shown if f'"{name}"' not in SOURCE} == set()
