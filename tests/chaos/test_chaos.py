"""Short forms of `make chaos`, with chances that are the same each time."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from tests.chaos.killed import Killed
from tests.live import ROOT

#: What is in `make chaos` 2 s; this is for a box that does much else meanwhile.
PATIENT_SECONDS = 20.0


@pytest.mark.docker
def test_sessions_outlive_a_server_that_is_killed_at_any_moment(tmp_path: Path) -> None:
    socket = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock").removeprefix("unix://")
    killed = Killed(tmp_path, socket, f"test-{uuid.uuid4().hex[:12]}", seed=1)

    killed.run(kills=8, within_seconds=PATIENT_SECONDS)

    assert killed.findings.all == []


@pytest.mark.chaos
@pytest.mark.docker
def test_all_holds_whatever_is_done_to_the_server_and_to_docker() -> None:
    steps = (
        "fail_often kill_server crash_docker fill_disk restart_docker remove_container"
        " starve_container pause_container blackhole step_clock"
    )
    command = [sys.executable, "-m", "tests.chaos.run", "--seed=1", "--pace=0.2", "--take"]

    ran = subprocess.run(
        [*command, *steps.split()], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert ran.returncode == 0, ran.stdout + ran.stderr
