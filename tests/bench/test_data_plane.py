"""The bench runs: a short try of it, ours beside nginx."""

import subprocess
import sys
from pathlib import Path

import pytest

from bench.report import DIFFERING, DOWN, NEW, NGINX, OURS, SMALL_64, UP

ROOT = Path(__file__).parent.parent.parent
SHORT = ("--rounds=1", "--seconds=1", "--idle=20", "--large-mib=8")


@pytest.mark.bench
def test_a_try_measures_ours_beside_nginx_and_leaves_the_results_alone() -> None:
    results = (ROOT / "bench/RESULTS.md").read_bytes()
    asked = ["--proxies", NGINX, "--cases", SMALL_64, "new connection", "GiB"]

    run = subprocess.run(
        [sys.executable, "-m", "bench.data_plane", *SHORT, *asked],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert run.returncode == 0, run.stderr
    for case in (SMALL_64, DIFFERING, NEW, DOWN, UP):
        assert f"| {case} | {OURS} | " in run.stdout
        assert f"| {case} | {NGINX} | " in run.stdout
    assert (ROOT / "bench/RESULTS.md").read_bytes() == results
