"""A reactor whose time nobody can set."""

from __future__ import annotations

import time

import pytest
from twisted.internet.base import ReactorBase

from plane_tx import clock
from plane_tx.clock import keep_time


class Idle(ReactorBase):
    """A reactor with timers and nothing else."""

    def installWaker(self) -> None:
        """Do without."""


class Clocks:
    """The system's clock and the one that nobody can set."""

    def __init__(self) -> None:
        self.told = 1_700_000_000.0
        self.steady = 50.0

    def time(self) -> float:
        return self.told

    def clock_gettime(self, which: int) -> float:
        assert which == clock.STEADY
        return self.steady


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    clocks = Clocks()
    monkeypatch.setattr(time, "time", clocks.time)
    monkeypatch.setattr(time, "clock_gettime", clocks.clock_gettime)
    return clocks


@pytest.mark.parametrize("step", [-3600.0, 3600.0])
def test_a_call_comes_in_its_time_whatever_the_clock_is_set_to(clocks: Clocks, step: float) -> None:
    reactor, called = Idle(), []
    keep_time(reactor)
    reactor.callLater(10, called.append, "due")

    clocks.told += step
    clocks.steady += 9
    reactor.runUntilCurrent()
    early = list(called)
    clocks.steady += 1
    reactor.runUntilCurrent()

    assert (early, called) == ([], ["due"])
    assert reactor.seconds() == 1_700_000_010.0


def test_the_time_begins_with_what_the_system_tells(clocks: Clocks) -> None:
    reactor = Idle()

    keep_time(reactor)

    assert reactor.seconds() == clocks.told
