"""A live server holds its contract whatever it is asked: schemathesis reads that and tries.

tests/schemathesis.toml says how much it tries, tests/schemathesis_hooks.py what it cannot know.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.live import ROOT, LiveServer, live_server

SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")
SETTINGS = ROOT / "tests" / "schemathesis.toml"

#: Sessions that nobody uses end soon, so that a run has few of them at once.
CONF = """
[engine]
kind = "process"
[defaults]
max_idle_seconds = 1
stop_grace_seconds = 1
startup_timeout_seconds = 5
[demo]
app = "echo"
"""

#: A run takes half of this on two cores that have other work.
MOST_SECONDS = 150


def run_schemathesis(server: LiveServer, report: Path) -> subprocess.CompletedProcess[str]:
    # What measures our own code must not slow it down.
    inherited = {name: it for name, it in os.environ.items() if not name.startswith("COVERAGE_")}
    return subprocess.run(
        [
            SCHEMATHESIS, "--config-file", SETTINGS, "run", f"{server.control}/openapi.json",
            "--no-color", "--report-json-path", report,
        ],
        cwd=ROOT,
        env={**inherited, "PYTHONPATH": str(ROOT), "PLANE_CLUSTER": server.cluster},
        capture_output=True,
        text=True,
        timeout=MOST_SECONDS,
        check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("schemathesis")
    with live_server(folder, CONF) as server:
        done = run_schemathesis(server, folder / "report.json")
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads((folder / "report.json").read_text())


def test_no_request_gets_an_answer_that_the_contract_does_not_have(report: Any) -> None:
    assert report["test_cases"]["generated"] > 500
    assert (report["failures"], report["errors"]) == ([], [])


def test_every_phase_was_run_to_its_end(report: Any) -> None:
    outcome = {name: phase["status"] for name, phase in report["phases"].items()}

    assert outcome == dict.fromkeys(("examples", "coverage", "fuzzing", "stateful"), "success")
    assert report["stop_reason"] == "completed"


def test_every_operation_was_reached_and_did_its_work(report: Any) -> None:
    accepted = Counter[str]()
    for operation, phases in report["valid_rates"].items():
        accepted[operation] = sum(phase["accepted"] for phase in phases.values())

    assert len(accepted) == report["operations"]["total"]
    assert [operation for operation, count in accepted.items() if not count] == []
