"""The bench of WebSockets runs: a short try of it, ours beside nginx."""

import subprocess
import sys
from pathlib import Path

import pytest

from bench.report import NGINX, OURS
from bench.sockets import DIRECT
from bench.websocket import Options
from bench.websocket_report import SIZES

ROOT = Path(__file__).parent.parent.parent
SHORT = ("--rounds=1", "--seconds=1", "--idle=20", "--idle-seconds=1", "--storm=20")


@pytest.mark.parametrize(
    ("options", "is_try"),
    [
        (Options(), False),
        (Options(rounds=3, seconds=1), False),
        (Options(rounds=2), True),
        (Options(storm=20), True),
        (Options(proxies=(NGINX,)), True),
    ],
)
def test_what_leaves_something_out_is_a_try(options: Options, is_try: bool) -> None:
    assert options.is_try is is_try


@pytest.mark.bench
def test_a_try_measures_ours_beside_nginx_and_leaves_the_results_alone() -> None:
    results = (ROOT / "bench/RESULTS.md").read_bytes()

    run = subprocess.run(
        [sys.executable, "-m", "bench.websocket", *SHORT, "--proxies", NGINX],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert run.returncode == 0, run.stderr
    for proxy in (OURS, NGINX, DIRECT):
        assert all(f"| {case} | {proxy} | " in run.stdout for case in SIZES)
        assert f"| {proxy} | 20 | 0 | " in run.stdout
    assert "| 20 idle WebSockets | KiB each | " in run.stdout
    assert (ROOT / "bench/RESULTS.md").read_bytes() == results
