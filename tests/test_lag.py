"""How late the reactor is."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from plane_tx.core.measures import Measures
from plane_tx.lag import INTERVAL_SECONDS, LagMeter


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def measures() -> Measures:
    return Measures()


def test_calls_that_come_late_are_counted(clock: Clock, measures: Measures) -> None:
    meter = LagMeter(clock, measures)
    meter.startService()

    clock.advance(INTERVAL_SECONDS)
    clock.advance(INTERVAL_SECONDS + 0.2)

    assert measures.reactor_lag.count == 2
    assert measures.reactor_lag.total == pytest.approx(0.2)
    assert list(measures.last_lags) == pytest.approx([0.0, 0.2])
    meter.stopService()


def test_a_clock_that_was_set_back_is_no_lag(clock: Clock, measures: Measures) -> None:
    meter = LagMeter(clock, measures)
    meter.startService()

    clock.rightNow -= 100
    clock.advance(100 + INTERVAL_SECONDS)

    assert measures.reactor_lag.total == pytest.approx(0.0)
    meter.stopService()


def test_once_stopped_nothing_is_left(clock: Clock, measures: Measures) -> None:
    meter = LagMeter(clock, measures)
    meter.startService()

    meter.stopService()

    assert clock.getDelayedCalls() == []
