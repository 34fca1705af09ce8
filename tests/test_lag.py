"""How late the reactor is."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from plane_tx.core.measures import LAG_BUCKETS, Histogram
from plane_tx.lag import INTERVAL_SECONDS, LagMeter


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def lag() -> Histogram:
    return Histogram(LAG_BUCKETS)


def test_calls_that_come_late_are_observed(clock: Clock, lag: Histogram) -> None:
    meter = LagMeter(clock, lag)
    meter.startService()

    clock.advance(INTERVAL_SECONDS)
    clock.advance(INTERVAL_SECONDS + 0.2)

    assert sum(lag.counts) == 2
    assert lag.total == pytest.approx(0.2)
    meter.stopService()


def test_a_clock_that_was_set_back_is_no_lag(clock: Clock, lag: Histogram) -> None:
    meter = LagMeter(clock, lag)
    meter.startService()

    clock.rightNow -= 100
    clock.advance(100 + INTERVAL_SECONDS)

    assert lag.total == pytest.approx(0.0)
    meter.stopService()


def test_once_stopped_nothing_is_left(clock: Clock, lag: Histogram) -> None:
    meter = LagMeter(clock, lag)
    meter.startService()

    meter.stopService()

    assert clock.getDelayedCalls() == []
