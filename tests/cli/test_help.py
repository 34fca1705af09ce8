"""Every line that the help shows as an example does what it says, on a server that runs."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from plane_tx.cli.commands import plane_tx
from tests.live import PATIENCE_SECONDS, LiveServer, heed_interrupts

BIN = Path(sys.executable).parent

#: Those that go on until Ctrl-C.
ENDLESS = {
    "plane-tx events",
    "plane-tx events --json",
    "plane-tx logs -f my-session",
    "plane-tx top",
}

KEY_FILE, CONFIG = "key.txt", "plane.toml"


def example_lines(text: str) -> list[str]:
    """What stands below "Examples:" in a help text."""
    return re.findall(r"^    (\S.*)$", text.partition("Examples:\n")[2], re.MULTILINE)


def helps() -> Iterator[tuple[str, str]]:
    """The help of the program and of each command, as wide as it must be."""
    top = click.Context(plane_tx, info_name="plane-tx", max_content_width=200, terminal_width=200)
    yield "plane-tx", plane_tx.get_help(top)
    for name, command in plane_tx.commands.items():
        context = click.Context(command, info_name=name, parent=top, terminal_width=200)
        yield name, command.get_help(context)


HELPS = dict(helps())
EXAMPLES = [line for text in HELPS.values() for line in example_lines(text)]


@pytest.fixture
def environ(server: LiveServer, tmp_path: Path) -> dict[str, str]:
    (tmp_path / KEY_FILE).write_text("0123456789abcdef\n")
    (tmp_path / CONFIG).write_bytes(server.config.read_bytes())
    path = f"{BIN}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "PLANE_TX_URL": server.control, "BROWSER": "true"}


def with_sessions(server: LiveServer, line: str) -> str:
    """`line` about sessions that are there: each run of it has some of its own."""
    for name in sorted(set(re.findall(r"[a-z]+-session\b", line))):
        made = server.connect("echo", labels={"team": "blue"})["backend_id"]
        server.wait_for(made, "ready")
        line = line.replace(name, made)
    return line


@pytest.mark.parametrize("name", HELPS)
def test_every_help_has_an_example(name: str) -> None:
    assert example_lines(HELPS[name])


def test_those_that_go_on_are_among_the_examples() -> None:
    assert set(EXAMPLES) >= ENDLESS


@pytest.mark.parametrize("line", [each for each in EXAMPLES if each not in ENDLESS])
def test_an_example_succeeds(
    server: LiveServer, environ: dict[str, str], tmp_path: Path, line: str
) -> None:
    done = subprocess.run(
        ["bash", "-c", with_sessions(server, line)],
        cwd=tmp_path,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr


@pytest.mark.parametrize("line", sorted(ENDLESS))
def test_an_example_that_goes_on_ends_with_ctrl_c(
    server: LiveServer, environ: dict[str, str], tmp_path: Path, line: str
) -> None:
    command = ["bash", "-c", f"exec {with_sessions(server, line)}"]
    with subprocess.Popen(
        command,
        cwd=tmp_path,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=heed_interrupts,  # noqa: PLW1509  # it takes no lock
    ) as going_on:
        assert going_on.stdout is not None
        while not select.select([going_on.stdout], [], [], 0.2)[0]:
            # Until something was printed: nothing tells when a stream is open.
            server.connect("echo")
        going_on.send_signal(signal.SIGINT)
        _, told = going_on.communicate(timeout=PATIENCE_SECONDS)

    assert (going_on.returncode, told) == (130, b"")
