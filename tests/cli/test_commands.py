"""The program's own commands: drain, completion, and what it says of itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest
from click.testing import CliRunner

from plane_tx.cli.commands import plane_tx
from tests.live import live_server

if TYPE_CHECKING:
    from tests.cli.conftest import Program


def test_drain_begins_is_told_and_ends(run: Program) -> None:
    during, told, after = run("drain"), run.json("drain", "--status"), run("drain", "--off")

    assert during.stdout.startswith("the server takes no new sessions")
    assert told["draining"]
    assert after.stdout.startswith("the server takes new sessions")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_a_script_for_the_shell(shell: str) -> None:
    done = CliRunner().invoke(plane_tx, ["completion", shell])

    assert done.exit_code == 0
    assert f"_PLANE_TX_COMPLETE={shell}_complete" in done.stdout


@pytest.mark.parametrize("name", sorted(plane_tx.commands))
def test_every_command_has_help_and_json(name: str) -> None:
    done = CliRunner().invoke(plane_tx, [name, "--help"])

    assert done.exit_code == 0
    assert "--json" in done.stdout or name == "completion"
    assert isinstance(plane_tx.commands[name], click.Command)


def test_a_key_in_a_file_lets_in_and_another_does_not(tmp_path: Path) -> None:
    good, bad = tmp_path / "good", tmp_path / "bad"
    good.write_text("0123456789abcdef\n")
    bad.write_text("fedcba9876543210\n")
    keys = 'api_keys = ["me:admin:0123456789abcdef"]'

    with live_server(tmp_path, '[engine]\nkind = "process"\n', control=keys) as server:
        codes = [
            CliRunner().invoke(plane_tx, ["--url", server.control, *key, "ls"]).exit_code
            for key in (["--key-file", str(good)], ["--key-file", str(bad)], [])
        ]

    assert codes == [0, 4, 4]


def test_a_key_file_that_is_not_there_is_2(tmp_path: Path) -> None:
    done = CliRunner().invoke(plane_tx, ["--key-file", str(tmp_path / "none"), "ls"])

    assert done.exit_code == 2


@pytest.mark.parametrize("library", ["click", "httpx", "rich"])
def test_without_a_library_it_says_what_to_install(library: str) -> None:
    program = (
        f"import sys; sys.modules[{library!r}] = None\nfrom plane_tx.cli.entry import main; main()"
    )

    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )

    assert done.returncode == 1
    assert done.stderr == f"plane-tx needs {library}: pip install 'plane_tx[cli]'\n"
