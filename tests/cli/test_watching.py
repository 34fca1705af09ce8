"""The commands that follow, against a real server."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tests.live import PATIENCE_SECONDS, LiveServer

if TYPE_CHECKING:
    from tests.cli.conftest import Program

PROGRAM = Path(sys.executable).with_name("plane-tx")


def started(server: LiveServer, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [PROGRAM, "--url", server.control, *arguments], stdout=subprocess.PIPE, text=True
    )


def test_logs_prints_what_there_is(run: Program, session_id: str) -> None:
    assert "listening" in run("logs", session_id).stdout
    assert run("logs", session_id, "--tail", "0").stdout == ""
    assert run("logs", session_id, "--since", "0").stdout == ""


def test_logs_follows_until_the_end(server: LiveServer, run: Program, session_id: str) -> None:
    with started(server, "logs", "-f", "--json", session_id) as following:
        first = json.loads(following.stdout.readline())
        run("stop", session_id)

        assert following.wait(PATIENCE_SECONDS) == 0
    assert "listening" in first["text"]


def test_events_prints_until_ctrl_c(server: LiveServer, run: Program) -> None:
    with started(server, "events", "--json") as following:
        made = run.json("spawn", "echo")["backend_id"]
        # Spawning again until one is seen: nothing tells when the stream is open.
        run("stop", "--hard", made)
        run("stop", "--hard", run.json("spawn", "echo")["backend_id"])
        first = json.loads(following.stdout.readline())
        following.send_signal(signal.SIGINT)
        following.communicate(timeout=PATIENCE_SECONDS)

    assert "status" in first
    assert following.returncode == 130


def test_top_shows_what_each_takes(run: Program, session_id: str) -> None:
    table = run("top", "--once").stdout
    line = next(line for line in table.splitlines() if line.startswith(session_id))
    sample = run("top", "--once", "--json").stdout.splitlines()[0]

    assert "MiB" in line
    assert json.loads(sample)["memory_bytes"] > 0
