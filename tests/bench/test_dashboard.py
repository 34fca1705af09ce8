"""The bench of the dashboard runs: a short try of it, with few sessions."""

import subprocess
import sys
from pathlib import Path

import pytest

from bench.dashboard import SEEN, UNSEEN, Options, at

ROOT = Path(__file__).parent.parent.parent
SHORT = ("--rounds=1", "--seconds=1", "--sessions=50")


@pytest.mark.parametrize(
    ("options", "is_try"),
    [
        (Options(), False),
        (Options(rounds=3), False),
        (Options(rounds=2), True),
        (Options(sessions=50), True),
    ],
)
def test_what_leaves_something_out_is_a_try(options: Options, is_try: bool) -> None:
    assert options.is_try is is_try


@pytest.mark.parametrize(("part", "value"), [(0.5, 3.0), (0.99, 4.0), (0.0, 1.0)])
def test_a_part_of_the_values_is_at_or_below_what_is_told(part: float, value: float) -> None:
    assert at(part, [4.0, 2.0, 3.0, 1.0]) == value


@pytest.mark.bench
@pytest.mark.chromium
def test_a_try_measures_page_and_server_and_leaves_the_results_alone() -> None:
    results = (ROOT / "bench/RESULTS.md").read_bytes()

    run = subprocess.run(
        [sys.executable, "-m", "bench.dashboard", *SHORT],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert run.returncode == 0, run.stderr
    assert "| the longest update of the page | < 100 ms | " in run.stdout
    assert all(f"| {name} | " in run.stdout for name in (SEEN, UNSEEN))
    assert (ROOT / "bench/RESULTS.md").read_bytes() == results
