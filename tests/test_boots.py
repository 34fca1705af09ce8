"""Turns to start, and news of pulls."""

from __future__ import annotations

from twisted.internet.defer import CancelledError, DeferredSemaphore

from plane_tx.boots import PullNews, Turn
from plane_tx.core.model import Loading, Session, Starting, State, StatusEntry
from plane_tx.core.pulls import Pulling
from plane_tx.core.registry import Registry
from tests.conftest import LoggedFailures
from tests.sessions import make_session

NEWS = Pulling("app", 1, 2)


def in_state(state: State) -> Session:
    return make_session(history=[StatusEntry(state, 0.0)])


def test_a_turn_that_is_given_up_twice_lets_one_other_start() -> None:
    places = DeferredSemaphore(1)
    places.acquire()
    turn, waiting = Turn(places), [places.acquire(), places.acquire()]

    turn.give_up()
    turn.give_up()

    assert [each.called for each in waiting] == [True, False]


def test_a_turn_that_was_not_given_up_is_not_waited_for() -> None:
    places = DeferredSemaphore(1)
    places.acquire()

    waiting = Turn(places).take_back()

    assert waiting is None
    assert places.tokens == 0


def test_a_turn_that_was_given_up_comes_back_when_there_is_a_place() -> None:
    places = DeferredSemaphore(1)
    places.acquire()
    turn, other = Turn(places), places.acquire()
    turn.give_up()

    waiting = turn.take_back()
    assert waiting is not None
    early = waiting.called
    places.release()

    assert (other.called, early, waiting.called) == (True, False, True)
    turn.give_up()
    assert places.tokens == 1


def test_who_waits_no_more_for_a_place_leaves_it_to_others() -> None:
    places = DeferredSemaphore(1)
    places.acquire()
    turn, _ = Turn(places), places.acquire()
    turn.give_up()
    waiting = turn.take_back()
    assert waiting is not None
    waiting.addErrback(lambda failure: failure.trap(CancelledError) and None)

    waiting.cancel()
    turn.give_up()
    places.release()

    assert places.tokens == 1


def test_news_of_a_pull_is_noted_before_it_is_told() -> None:
    told: list[Pulling | None] = []
    news = PullNews(Registry())
    news.watch(lambda session: told.append(session.pulling))

    news.tell(in_state(Loading()), NEWS)

    assert told == [NEWS]


def test_news_that_comes_when_the_session_has_gone_on_is_none() -> None:
    told: list[Session] = []
    news, session = PullNews(Registry()), in_state(Starting())
    news.watch(told.append)

    news.tell(session, NEWS)

    assert (told, session.pulling) == ([], None)


def test_a_watcher_that_fails_keeps_the_news_from_nobody(logged_failures: LoggedFailures) -> None:
    told: list[Session] = []
    news, session = PullNews(Registry()), in_state(Loading())

    def fail(_: Session) -> None:
        raise ValueError("it is broken")

    news.watch(fail)
    news.watch(told.append)

    news.tell(session, NEWS)

    assert told == [session]
    assert logged_failures.claim(ValueError)
