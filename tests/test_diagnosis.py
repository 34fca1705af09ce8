"""Why a server does not answer is found out once for all who ask, and before it ends of that."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionRefusedError as Refused

from plane_tx.core.errors import EngineUnavailable
from plane_tx.core.listeners import Listener
from plane_tx.core.model import Address, Reason, Session, Status
from plane_tx.core.wire import ExecutableRequest, ReadinessRequest
from plane_tx.diagnosis import (
    FRESH_SECONDS,
    LOOK_SECONDS,
    LOOKS_AT_ONCE,
    PATIENCE_SECONDS,
)
from tests.conftest import LoggedFailures
from tests.recording_engine import Box, address_of, now

ELSEWHERE = "port 8080 is not open; the container listens on 3000: "
UNKNOWN = "port 8080 is not open: "
LIMIT = 300


@pytest.fixture
def box() -> Box:
    return Box().start()


def waiting(box: Box, key: str = "key", **executable: Any) -> Session:
    """A session that runs, and refused its first knock."""
    wanted = ExecutableRequest(image="image", **executable)
    session = box.spawn(key, executable=wanted)
    box.engine.run(session.id)
    refuse(box, session)
    return session


def refuse(box: Box, session: Session) -> None:
    box.dials.refuse(address_of(session.id).host, Refused())


def overdue(box: Box, **executable: Any) -> Session:
    """One whose time to start has just run out; the reaper has not looked yet."""
    session = waiting(box, **executable)
    box.clock.advance(LIMIT)
    return session


def asked(box: Box) -> int:
    return len(box.engine.called("listening"))


def at_rest(box: Box, *sessions: Session) -> None:
    for session in sessions:
        box.supervisor.hard_terminate(session.id)
    assert len(box.supervisor._conductor.diagnosis) == 0
    box.assert_at_rest()


# Before its end.


def test_a_session_ends_with_why_it_never_answered(box: Box) -> None:
    session = overdue(box)
    box.engine.listens[session.id] = (Listener("0.0.0.0", 3000),)

    ended = box.supervisor.reap()

    assert ended == 1
    assert session.state.reason is Reason.STARTUP_TIMEOUT
    assert session.state.failure.kind == "startup-timeout"
    assert session.state.failure.message.startswith(
        f"its server did not answer HTTP within 300 s of its start: {ELSEWHERE}"
    )
    at_rest(box)


def test_a_wrong_status_is_why_and_the_engine_is_not_asked(box: Box) -> None:
    session = waiting(box, readiness=ReadinessRequest("/up", (200,)))
    box.clock.advance(1)
    box.dials.answer(address_of(session.id).host, b"HTTP/1.1 503 No\r\n")
    box.clock.advance(LIMIT)

    box.supervisor.reap()

    assert "HEAD /up is answered by 503, not by 200: " in session.state.failure.message
    assert asked(box) == 0


def test_an_end_waits_for_the_engine_only_so_long(box: Box) -> None:
    box.engine.waits.add("listening")
    session = overdue(box)

    at_once = box.supervisor.reap()
    status = session.status
    box.clock.advance(LOOK_SECONDS)
    later = box.supervisor.reap()

    assert (at_once, status, later) == (0, Status.WAITING, 1)
    assert UNKNOWN in session.state.failure.message
    assert asked(box) == 1
    box.engine.answer("listening")
    at_rest(box)


def test_many_that_are_due_together_end_together(box: Box) -> None:
    box.engine.waits.add("listening")
    sessions = [waiting(box, f"key-{number}") for number in range(3 * LOOKS_AT_ONCE)]
    box.clock.advance(LIMIT)
    box.supervisor.reap()
    at_once = asked(box)

    box.clock.advance(LOOK_SECONDS)
    ended = box.supervisor.reap()

    assert (at_once, ended) == (LOOKS_AT_ONCE, len(sessions))
    box.engine.answer("listening")
    at_rest(box)


def test_a_reaper_that_is_late_does_not_begin_to_look_again(box: Box) -> None:
    box.engine.waits.add("listening")
    session = overdue(box)
    box.supervisor.reap()

    box.clock.advance(10 * FRESH_SECONDS)
    box.supervisor.reap()

    assert session.state.reason is Reason.STARTUP_TIMEOUT
    assert asked(box) == 1
    box.engine.answer("listening")


def test_one_that_answers_while_it_is_looked_at_lives_on(box: Box) -> None:
    box.engine.waits.add("listening")
    session = overdue(box)
    box.supervisor.reap()

    box.dials.answer(address_of(session.id).host)
    box.engine.answer("listening")
    box.supervisor.reap()

    assert session.status is Status.READY
    at_rest(box, session)


@pytest.mark.parametrize("how", ["exit", "lose", "close"])
def test_what_happens_while_it_is_looked_at_goes_before(box: Box, how: str) -> None:
    box.engine.waits.add("listening")
    session = overdue(box)
    box.supervisor.reap()

    if how == "exit":
        box.engine.exit(session.id, 3)
    elif how == "lose":
        box.engine.lose_sight(session.id)
    else:
        now(Deferred.fromCoroutine(box.supervisor.close()))
    box.engine.answer("listening")
    box.clock.advance(LOOK_SECONDS)

    reason = getattr(session.state, "reason", None)
    assert reason is (Reason.EXITED if how == "exit" else None)


def test_an_engine_that_does_not_answer_keeps_no_session(box: Box) -> None:
    session = overdue(box)
    box.engine.refusal = EngineUnavailable("Docker does not answer")

    box.supervisor.reap()

    assert UNKNOWN in session.state.failure.message


def test_an_engine_that_breaks_keeps_no_session(box: Box, logged_failures: LoggedFailures) -> None:
    session = overdue(box)
    box.engine.refusal = ZeroDivisionError()

    box.supervisor.reap()

    logged_failures.claim(ZeroDivisionError)
    assert UNKNOWN in session.state.failure.message


def test_a_session_that_was_not_started_in_time_is_not_looked_at(box: Box) -> None:
    session = box.spawn()
    box.engine.creating(session.id)
    box.clock.advance(LIMIT)

    box.supervisor.reap()

    assert session.state.failure.message.startswith("the engine did not start it within 300 s: ")
    assert asked(box) == 0


# For those who wait.


def why(box: Box, session: Session) -> Deferred[str | None]:
    return box.supervisor.why_not_answering(session)


def test_who_waits_is_told_why_after_a_moment(box: Box) -> None:
    session = waiting(box)
    box.engine.listens[session.id] = (Listener("127.0.0.1", 8080),)

    early = now(why(box, session))
    box.clock.advance(PATIENCE_SECONDS)
    late = now(why(box, session))

    assert early is None
    assert late == (
        "the container listens on 127.0.0.1:8080 only: have it listen on 0.0.0.0 (all addresses)"
    )
    at_rest(box, session)


def test_all_who_wait_share_one_look_in_a_while(box: Box) -> None:
    box.engine.waits.add("listening")
    session = waiting(box)
    box.clock.advance(PATIENCE_SECONDS)

    both = [why(box, session), why(box, session)]
    box.engine.answer("listening")
    third = why(box, session)
    first_asked = asked(box)
    box.engine.waits.clear()
    box.clock.advance(FRESH_SECONDS + 0.1)
    fourth = why(box, session)

    told = [now(each) for each in (*both, third, fourth)]
    assert all(each.startswith(UNKNOWN) for each in told)
    assert (first_asked, asked(box)) == (1, 2)
    at_rest(box, session)


def test_who_leaves_takes_only_itself_along(box: Box) -> None:
    box.engine.waits.add("listening")
    session = waiting(box)
    box.clock.advance(PATIENCE_SECONDS)
    leaving, staying = why(box, session), why(box, session)
    leaving.addErrback(lambda _: None)

    leaving.cancel()
    box.engine.answer("listening")

    assert now(staying).startswith(UNKNOWN)
    at_rest(box, session)


def test_nothing_is_known_of_a_session_that_was_not_knocked_at(box: Box) -> None:
    session = box.spawn()
    box.engine.run(session.id)
    box.clock.advance(PATIENCE_SECONDS)

    assert now(why(box, session)) is None


def unready(box: Box) -> Session:
    return box.spawn()


def unconfirmed(box: Box) -> Session:
    session = waiting(box)
    box.engine.lose_sight(session.id)
    return session


def over(box: Box) -> Session:
    session = waiting(box)
    box.supervisor.hard_terminate(session.id)
    return session


@pytest.mark.parametrize("make", [unready, Box.ready, unconfirmed, over])
def test_only_a_session_that_is_known_to_wait_is_looked_at(
    box: Box, make: Callable[[Box], Session]
) -> None:
    session = make(box)
    box.clock.advance(PATIENCE_SECONDS)

    assert now(why(box, session)) is None
    assert asked(box) == 0


def test_a_look_is_called_off_when_its_session_moves_on(box: Box) -> None:
    box.engine.waits.add("listening")
    session = waiting(box)
    box.clock.advance(PATIENCE_SECONDS)
    telling = why(box, session)

    box.dials.answer(address_of(session.id).host)

    assert now(telling) is None
    box.engine.answer("listening")
    at_rest(box, session)


def test_a_session_that_was_found_again_is_judged_by_new_knocks(box: Box) -> None:
    session = waiting(box)
    box.engine.lose_sight(session.id)
    box.engine.find_again(session.id, Address("new.invalid", 8080))
    box.dials.refuse("new.invalid", Refused())
    box.clock.advance(PATIENCE_SECONDS)

    assert now(why(box, session)).startswith(UNKNOWN)
    at_rest(box, session)
