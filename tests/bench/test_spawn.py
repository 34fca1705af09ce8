"""The bench of sessions runs: a short try of it, ours beside the Engine."""

import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from bench.engine import LABEL, Engine, where_docker_is
from bench.spawn import Options
from bench.spawn_report import TARGETS

ROOT = Path(__file__).parent.parent.parent
SHORT = ("--rounds=1", "--pairs=1", "--at-once=2", "--adopted=2", "--idle=20", "--starts=1")


def containers_of(run: str) -> list[str]:
    """The ids of the containers, running or not, that a run has left."""
    with closing(Engine(where_docker_is())) as engine:
        found = engine.ask("GET", "/containers/json?all=1")
    marks = {("plane-tx.instance", run), (LABEL, run)}
    return [one["Id"] for one in found if marks.intersection(one["Labels"].items())]


@pytest.mark.parametrize(
    ("options", "is_try"),
    [
        (Options(), False),
        (Options(rounds=3), False),
        (Options(rounds=2), True),
        (Options(pairs=1), True),
        (Options(at_once=2), True),
        (Options(adopted=2), True),
        (Options(idle=20), True),
        (Options(starts=1), True),
    ],
)
def test_what_leaves_something_out_is_a_try(options: Options, is_try: bool) -> None:
    assert options.is_try is is_try


@pytest.mark.docker
def test_a_try_measures_ours_beside_the_engine_and_leaves_nothing_behind() -> None:
    results = (ROOT / "bench/RESULTS.md").read_bytes()

    run = subprocess.Popen(
        [sys.executable, "-m", "bench.spawn", *SHORT],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    told, errors = run.communicate()

    assert run.returncode == 0, errors
    assert sum(told.count(f"| {target.what} | ") for target in TARGETS) >= len(TARGETS)
    assert "| 2 at once, the last, the Engine | " in told
    assert containers_of(f"bench-{run.pid}") == []
    assert (ROOT / "bench/RESULTS.md").read_bytes() == results
