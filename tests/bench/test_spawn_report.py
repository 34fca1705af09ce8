"""The tables of sessions say what was reached, what was not, and where a spawn was meanwhile."""

import attrs
import pytest

from bench.spawn_report import (
    TARGETS,
    Pair,
    Seen,
    Sizes,
    Start,
    phases,
    spawns,
    started,
    stays,
    targets,
)

SIZES = Sizes(at_once=20, adopted=100, idle=10_000)

SEEN = Seen(
    alone=[Pair(0.216, 0.2), Pair(0.3, 0.2), Pair(0.2, 0.2)],
    at_once=[Pair(2.0, 2.0)],
    joins=[0.001, 0.003, 0.5],
    exits=[0.02, 0.03, 0.24],
    phases={"scheduled": [0.001, 0.002, 0.003], "starting": [0.2]},
    starts=[Start(0.5, 0.6, 70 << 20)],
    adoptions=[Start(0.7, 1.6, 80 << 20)],
    imports=(0.4, 60 << 20),
    idle_bytes=5120.0,
)


def results(seen: Seen) -> dict[str, str]:
    """The last cells of each row: what was measured, and whether that is enough."""
    cells = [line.split(" | ") for line in [*targets(seen, SIZES)][2:]]
    return {name.removeprefix("| "): f"{found} {met}" for name, _, _, found, met in cells}


def test_what_is_at_the_bound_of_a_ratio_or_a_join_is_met() -> None:
    told = results(SEEN)

    assert told["cold spawn"] == "1.08 met |"
    assert told["20 spawns at once"] == "1.00 met |"
    assert told["join"] == "3.00 met |"


def test_all_the_rest_is_met_only_below_its_bound() -> None:
    told = results(SEEN)

    assert told["an exit, told"] == "240.00 met |"
    assert told["100 sessions adopted"] == "0.90 met |"
    assert told["start to listening"] == "0.50 met |"
    assert told["start to listening, 100 sessions to adopt"] == "0.70 met |"
    assert told["resident at rest"] == "70.0 met |"
    assert told["10000 idle sessions"] == "5.0 met |"


@pytest.mark.parametrize(
    ("name", "worse"),
    [
        ("cold spawn", {"alone": [Pair(0.22, 0.2)]}),
        ("20 spawns at once", {"at_once": [Pair(2.1, 2.0)]}),
        ("join", {"joins": [0.0031]}),
        ("an exit, told", {"exits": [0.02, 0.25]}),
        ("100 sessions adopted", {"adoptions": [Start(0.7, 1.7)]}),
        ("start to listening", {"starts": [Start(1.0, 1.1)]}),
        ("start to listening, 100 sessions to adopt", {"adoptions": [Start(1.0, 1.1)]}),
        ("resident at rest", {"starts": [Start(0.5, 0.6, 85 << 20)]}),
        ("10000 idle sessions", {"idle_bytes": 25 * 1024.0}),
    ],
)
def test_what_is_missed_is_said(name: str, worse: dict[str, object]) -> None:
    told = results(attrs.evolve(SEEN, **worse))

    missed = [each for each, result in told.items() if "**not met**" in result]

    assert missed == [name]


def test_every_aim_has_a_row() -> None:
    lines = [*targets(SEEN, SIZES)]

    assert len(lines) == 2 + len(TARGETS)
    assert {line.count("|") for line in lines} == {6}


def test_spawns_are_told_in_milliseconds_with_the_least_and_the_most() -> None:
    lines = [*spawns(SEEN, SIZES)]

    assert lines[2] == "| one, ours | 216 | 200 | 300 |"
    assert lines[5] == "| 20 at once, the last, the Engine | 2000 | 2000 | 2000 |"
    assert lines[6] == "| a join, answered | 3.0 | 1.0 | 500.0 |"
    assert lines[7] == "| an exit, told | 30 | 20 | 240 |"


def test_a_spawn_is_told_by_the_statuses_it_was_in() -> None:
    lines = [*phases(SEEN)]

    assert lines[2:] == ["| scheduled | 2 |", "| starting | 200 |"]


def test_the_imports_are_told_beside_the_start() -> None:
    (line,) = started(SEEN)

    assert line.endswith("0.40 s and 60.0 MiB.")


def test_a_history_says_how_long_each_status_lasted() -> None:
    entries = {"scheduled": 1000, "loading": 1004, "starting": 1004, "waiting": 1254, "ready": 1256}
    history = [{"status": status, "time": time} for status, time in entries.items()]

    assert stays(history) == pytest.approx(
        {"scheduled": 0.004, "loading": 0.0, "starting": 0.25, "waiting": 0.002}
    )


def test_a_status_that_was_passed_over_is_not_told() -> None:
    history = [{"status": "scheduled", "time": 1000}, {"status": "ready", "time": 1250}]

    assert stays(history) == {"scheduled": 0.25}
