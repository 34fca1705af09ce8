"""Waiting for a name: everyone is answered once, and whoever leaves takes only itself along."""

from __future__ import annotations

import pytest
from twisted.internet.defer import CancelledError
from twisted.internet.task import Clock

from plane_tx.waiters import Waiters
from tests.recording_engine import now


class TooLate(Exception):
    pass


class Refused(Exception):
    pass


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def waiters(clock: Clock) -> Waiters[str]:
    return Waiters(clock)


def test_everyone_who_waits_for_a_name_is_told_in_the_order_they_came(
    clock: Clock, waiters: Waiters[str]
) -> None:
    told: list[int] = []
    for number in range(20):
        waiters.wait("a", 5, TooLate).addCallback(lambda _, number=number: told.append(number))
    other = waiters.wait("b", 5, TooLate)

    waiters.settle("a", "news")

    assert told == list(range(20))
    assert not other.called
    assert len(waiters) == 1
    waiters.settle("b", "news")
    assert clock.getDelayedCalls() == []


def test_everyone_is_refused_with_an_error_of_their_own(waiters: Waiters[str]) -> None:
    first, second = waiters.wait("a", 5, TooLate), waiters.wait("a", 5, TooLate)

    waiters.refuse("a", Refused)

    with pytest.raises(Refused) as one:
        now(first)
    with pytest.raises(Refused) as two:
        now(second)
    assert one.value is not two.value


def test_a_wait_ends_when_its_time_is_over(clock: Clock, waiters: Waiters[str]) -> None:
    short, long = waiters.wait("a", 5, TooLate), waiters.wait("a", 6, TooLate)

    clock.advance(5)

    with pytest.raises(TooLate):
        now(short)
    assert not long.called
    waiters.settle("a", "news")
    assert now(long) == "news"


def test_whoever_leaves_takes_only_itself_along(clock: Clock, waiters: Waiters[str]) -> None:
    leaving, staying = waiters.wait("a", 5, TooLate), waiters.wait("a", 5, TooLate)

    leaving.cancel()

    with pytest.raises(CancelledError):
        now(leaving)
    assert len(waiters) == 1
    waiters.settle("a", "news")
    assert now(staying) == "news"


def test_one_who_is_told_may_send_another_away(waiters: Waiters[str]) -> None:
    first = waiters.wait("a", 5, TooLate)
    second = waiters.wait("a", 5, TooLate)
    first.addCallback(lambda _: second.cancel())

    waiters.settle("a", "news")

    with pytest.raises(CancelledError):
        now(second)


def test_one_who_is_told_may_wait_again(waiters: Waiters[str]) -> None:
    again = waiters.wait("a", 5, TooLate).addCallback(lambda _: waiters.wait("a", 5, TooLate))

    waiters.settle("a", "first")
    waiters.settle("a", "second")

    assert now(again) == "second"


@pytest.mark.parametrize("end", ["settle", "refuse", "expire", "cancel"])
def test_no_wait_leaves_a_trace(clock: Clock, waiters: Waiters[str], end: str) -> None:
    waiting = waiters.wait("a", 5, TooLate)

    {
        "settle": lambda: waiters.settle("a", "news"),
        "refuse": lambda: waiters.refuse("a", Refused),
        "expire": lambda: clock.advance(5),
        "cancel": waiting.cancel,
    }[end]()

    waiting.addErrback(lambda _: None)
    assert len(waiters) == 0
    assert waiters._waiting == {}
    assert clock.getDelayedCalls() == []


def test_news_that_nobody_waits_for_is_nothing(waiters: Waiters[str]) -> None:
    waiters.settle("a", "news")
    waiters.refuse("a", Refused)

    assert len(waiters) == 0
