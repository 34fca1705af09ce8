"""What is done again and again goes on, whatever one time meets."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from plane_tx.upkeep import Upkeep
from tests.conftest import LoggedFailures


def test_it_is_done_every_so_many_seconds_while_the_service_runs() -> None:
    clock, done = Clock(), []
    upkeep = Upkeep(clock, 10.0, lambda: done.append(clock.seconds()))

    upkeep.startService()
    clock.pump([5.0] * 5)
    upkeep.stopService()
    clock.pump([5.0] * 5)

    assert done == [10.0, 20.0]
    assert clock.getDelayedCalls() == []


def test_what_takes_long_is_not_begun_again_meanwhile() -> None:
    clock, begun = Clock(), []

    async def work() -> None:
        begun.append(Deferred())
        await begun[-1]

    upkeep = Upkeep(clock, 10.0, work)
    upkeep.startService()
    clock.pump([10.0] * 3)
    at_first = len(begun)
    begun[0].callback(None)
    clock.advance(10.0)

    assert (at_first, len(begun)) == (1, 2)
    upkeep.stopService()
    begun[1].callback(None)
    assert clock.getDelayedCalls() == []


def test_an_error_is_logged_and_is_not_the_end(logged_failures: LoggedFailures) -> None:
    clock = Clock()
    upkeep = Upkeep(clock, 10.0, lambda: 1 / 0)
    upkeep.startService()

    clock.pump([10.0] * 2)

    upkeep.stopService()
    assert len(logged_failures.claim(ZeroDivisionError)) == 2
