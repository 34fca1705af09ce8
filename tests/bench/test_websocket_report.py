"""The tables of WebSockets say what was reached, and what was not."""

import pytest

from bench.report import HAPROXY, NGINX, OURS, absent
from bench.sockets import Idle, Opened, Storm
from bench.turns import Turn
from bench.websocket_report import SMALL_32, TARGETS, idle_table, seen, storm_table, targets


def turn(rate: float, p99: float = 1.0) -> Turn:
    return Turn(
        rate=rate,
        cpu_microseconds=40.0,
        busy=0.5,
        median_milliseconds=0.5,
        p99_milliseconds=p99,
        resident_bytes=64 << 20,
    )


def stormed(*counts: int) -> list[Storm]:
    return [Storm(Opened(count, 50 - count, 0.25), 1.5) for count in counts]


def idle(kib: float, busy: float = 0.0) -> Idle:
    return Idle(kib * 1024, busy, 0)


def rows_of(turns=None, storms=None, idles=None) -> list[str]:
    return [*targets(turns or {}, storms or {}, idles or {}, 90)][2:]


def test_messages_and_their_latency_are_told_beside_nginx() -> None:
    turns = {(SMALL_32, OURS): [turn(10, 1.4)], (SMALL_32, NGINX): [turn(10, 1.0)]}

    rate, latency, other = rows_of(turns)

    assert rate == (
        f"| {SMALL_32} | messages/s to nginx | >= 0.9 (goal 1.1) | 1.00 | 1.00 | 50% | 50% | met |"
    )
    assert latency == (
        f"| {SMALL_32} | 99% latency to nginx | <= 1.3 | 1.40 |  | 50% | 50% | **not met** |"
    )
    assert other.endswith("| not measured |")


@pytest.mark.parametrize(
    ("one", "memory", "cpu"),
    [
        (idle(20.0, 0.002), "20.0 |  |  |  | met |", "0.2% |  |  |  | met |"),
        (idle(20.1, 0.02), "20.1 |  |  |  | **not met** |", "2.0% |  |  |  | **not met** |"),
    ],
)
def test_an_idle_websocket_may_take_so_much(one, memory, cpu) -> None:
    *_, kib, busy = rows_of(idles={OURS: one})

    assert kib == f"| 90 idle WebSockets | KiB each | <= 20 (goal 12) | {memory}"
    assert busy == f"| 90 idle WebSockets | of a core | < 1% | {cpu}"


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ((50, 50), "50 |  |  |  | met |"),
        ((50, 49), "49 |  |  |  | **not met** |"),
    ],
)
def test_one_that_did_not_open_in_any_storm_is_too_many(counts, said) -> None:
    *_, row = rows_of(storms={OURS: stormed(*counts)})

    assert row == f"| 50 WebSockets at once | opened | 50 | {said}"


def test_every_row_of_a_table_has_as_many_cells() -> None:
    turns = {(SMALL_32, OURS): [turn(10)], (SMALL_32, NGINX): [turn(10)]}
    storms, idles = {OURS: stormed(50), HAPROXY: []}, {OURS: idle(9.5)}

    tables = [
        [*targets(turns, storms, idles, 90)],
        [*seen(turns)],
        [*idle_table(idles, 90, 5)],
        [*storm_table(storms)],
    ]

    assert [len({line.count("|") for line in table}) for table in tables] == [1, 1, 1, 1]
    assert tables[1][2].startswith(f"| {SMALL_32} | {OURS} | 10 | 0 | 1.00 |")
    assert tables[2][2] == f"| {OURS} | 9.5 | 0.0% | 0 |"
    assert tables[3][2:] == [f"| {OURS} | 50 | 0 | 0.25 | 1.50 |"]


def test_without_nginx_there_is_no_result() -> None:
    assert absent([OURS, HAPROXY], TARGETS) == [NGINX]
