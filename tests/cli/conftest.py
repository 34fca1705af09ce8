from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner, Result

from plane_tx.cli.commands import plane_tx
from tests.live import LiveServer
from tests.process_server import server

__all__ = ["server"]


class Program:
    """Runs `plane-tx` in this process against one server."""

    def __init__(self, url: str) -> None:
        self.url = url

    def __call__(self, *arguments: str) -> Result:
        return CliRunner().invoke(plane_tx, ["--url", self.url, *arguments])

    def json(self, *arguments: str) -> Any:
        """The one object that it prints with --json; it must succeed."""
        done = self(*arguments, "--json")
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)


@pytest.fixture
def run(server: LiveServer) -> Program:  # the fixture of that name
    return Program(server.control)


@pytest.fixture
def session_id(run: Program) -> Iterator[str]:
    told = run.json("spawn", "echo", "--user", "ada", "--label", "made=here")
    yield told["backend_id"]
    run("stop", "--hard", told["backend_id"])
