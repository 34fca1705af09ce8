"""The server and the load are put on cores that do not slow each other."""

import os

import pytest

from bench.processes import machine, siblings, two_cores

PAIRED = {0: {0, 1}, 1: {0, 1}, 2: {2, 3}, 3: {2, 3}}


@pytest.mark.parametrize(
    ("usable", "chosen"),
    [
        ({0, 1, 2, 3}, (0, 2)),
        ({1, 2}, (1, 2)),
        ({0, 1}, (0, 1)),  # there are no others
        ({3}, (3, 3)),
    ],
)
def test_two_threads_of_one_core_are_taken_only_where_there_is_no_other(usable, chosen) -> None:
    assert two_cores(usable, lambda core: frozenset(PAIRED[core])) == chosen


def test_a_core_is_among_its_own_threads() -> None:
    assert all(core in siblings(core) for core in os.sched_getaffinity(0))


def test_the_machine_is_told_with_the_build_of_the_interpreter() -> None:
    assert "--enable-optimizations" in machine("twisted")
