"""The tables say what was reached, against what, and what was not measured."""

import pytest

from bench.report import (
    CADDY,
    CHP,
    DOWN,
    HAPROXY,
    NGINX,
    OURS,
    P99,
    SMALL_64,
    Target,
    absent,
    idle_table,
    seen,
    targets,
)
from bench.turns import Turn


def turn(rate: float, p99: float = 1.0) -> Turn:
    return Turn(
        rate=rate,
        cpu_microseconds=40.0,
        busy=0.5,
        median_milliseconds=0.5,
        p99_milliseconds=p99,
        resident_bytes=64 << 20,
    )


def test_a_ratio_is_the_median_of_the_rounds_and_not_of_the_rates() -> None:
    turns = {
        (SMALL_64, OURS): [turn(10), turn(80), turn(30)],
        (SMALL_64, NGINX): [turn(20), turn(100), turn(50)],
    }

    row = Target(SMALL_64, NGINX, 0.6).told(turns)

    assert row == f"| {SMALL_64} | requests/s to nginx | >= 0.6 | 0.60 | 1.00 | 50% | 50% | met |"


@pytest.mark.parametrize(
    ("p99", "said"),
    [(2.0, "2.00 |  | 50% | 50% | met |"), (2.1, "2.10 |  | 50% | 50% | **not met** |")],
)
def test_a_latency_must_not_be_more(p99: float, said: str) -> None:
    turns = {(SMALL_64, OURS): [turn(1, p99)], (SMALL_64, NGINX): [turn(1, 1.0)]}

    row = Target(SMALL_64, NGINX, 2, P99).told(turns)

    assert row == f"| {SMALL_64} | 99% latency to nginx | <= 2 | {said}"


def test_a_proxy_that_is_not_here_was_not_measured() -> None:
    row = Target(DOWN, HAPROXY, 0.7).told({(DOWN, OURS): [turn(1)]})

    assert row == f"| {DOWN} | requests/s to HAProxy | >= 0.7 |  |  |  |  | not measured |"


def test_a_run_without_a_rival_of_a_target_is_no_result() -> None:
    assert absent([OURS, NGINX, CADDY]) == [HAPROXY, CHP]
    assert absent([HAPROXY, CHP, NGINX]) == []


def test_the_memory_of_an_idle_connection_is_a_target() -> None:
    lines = [*targets({}, {OURS: 12.5 * 1024}, 10_000)]

    assert len({line.count("|") for line in lines}) == 1
    assert (
        lines[-1] == "| 10000 idle connections | KiB each | <= 12 | 12.5 |  |  |  | **not met** |"
    )


def test_a_turn_is_told_with_its_ratio_to_nginx() -> None:
    turns = {(SMALL_64, OURS): [turn(8000)], (SMALL_64, NGINX): [turn(10_000)]}

    lines = [*seen(turns, {SMALL_64: 1024})]

    assert lines[2] == (
        f"| {SMALL_64} | plane_tx | 8000 | 8 | 0.80 | 0.50 | 1.00 | 40 | 1.00 | 50% | 64 |"
    )
    assert len({line.count("|") for line in lines}) == 1


def test_the_idle_table_is_in_kib() -> None:
    assert [*idle_table({NGINX: 512.0}, 100)][-1] == "| nginx | 0.5 |"
