from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner, Result

from plane_tx.cli.commands import plane_tx
from tests.live import LiveServer, live_server

SERVER = '[engine]\nkind = "process"\n[defaults]\nstop_grace_seconds = 1\n'


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    with live_server(tmp_path_factory.mktemp("server"), SERVER) as server:
        yield server


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
def run(server: LiveServer) -> Program:
    return Program(server.control)


@pytest.fixture
def session_id(run: Program) -> Iterator[str]:
    told = run.json("spawn", "echo", "--user", "ada", "--label", "made=here")
    yield told["backend_id"]
    run("stop", "--hard", told["backend_id"])
