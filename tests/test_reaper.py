"""The reaper: every clock of a session ends it when it is due, not before, and not when in use."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from plane_tx.conduct import ENDING_RETRY_SECONDS
from plane_tx.core.model import Reason, Session, Status
from plane_tx.core.use import Use, UseKind
from plane_tx.core.wire import ExecutableRequest, ReadinessRequest
from plane_tx.reaper import TICK_SECONDS, Reaper
from tests.conftest import LoggedFailures
from tests.recording_engine import Box, address_of


@pytest.fixture
def box() -> Box:
    return Box().start()


@pytest.fixture(autouse=True)
def reaper(box: Box) -> Iterator[Reaper]:
    reaper = Reaper(box.clock, box.supervisor)
    reaper.startService()
    yield reaper
    reaper.stopService()
    reaper.stopService()
    assert not [call for call in box.clock.getDelayedCalls() if call.func is reaper._loop]


def let_pass(box: Box, seconds: float) -> None:
    """Advance tick by tick, as a real clock does."""
    ticks, rest = divmod(seconds, TICK_SECONDS)
    for _ in range(int(ticks)):
        box.clock.advance(TICK_SECONDS)
    box.clock.advance(rest)


def assert_ends_after(box: Box, session: Session, seconds: float, reason: Reason) -> None:
    let_pass(box, seconds - TICK_SECONDS)
    assert session.status is not Status.TERMINATED
    let_pass(box, TICK_SECONDS)
    assert (session.status, session.state.reason) == (Status.TERMINATED, reason)


def test_a_session_that_nobody_uses_ends_when_it_was_idle_for_long_enough(box: Box) -> None:
    session = box.ready(max_idle_seconds=10)

    assert_ends_after(box, session, 10, Reason.IDLE)


def test_the_idle_clock_starts_anew_after_each_use(box: Box) -> None:
    session = box.ready(max_idle_seconds=10)
    for _ in range(5):
        let_pass(box, 9.75)
        use = box.supervisor.begin_use(session, UseKind.REQUEST)
        box.supervisor.end_use(session, use)

    assert_ends_after(box, session, 10, Reason.IDLE)


def test_a_use_that_lasts_for_hours_keeps_a_session(box: Box) -> None:
    session = box.ready(max_idle_seconds=10)
    stream = box.supervisor.begin_use(session, UseKind.REQUEST)
    let_pass(box, 3 * 3600)
    after = session.status

    box.supervisor.end_use(session, stream)

    assert after is Status.READY
    assert_ends_after(box, session, 10, Reason.IDLE)


@pytest.mark.parametrize("kind", UseKind)
def test_a_session_with_any_use_is_not_idle(box: Box, kind: UseKind) -> None:
    session = box.ready(max_idle_seconds=10)
    box.supervisor.begin_use(session, kind)
    short = box.supervisor.begin_use(session, UseKind.REQUEST)

    let_pass(box, 5)
    box.supervisor.end_use(session, short)
    let_pass(box, 60)

    assert session.status is Status.READY


def passive(box: Box, session: Session) -> Use:
    """A WebSocket of which only what passes counts, opened by a request as the proxy does it."""
    request = box.supervisor.begin_use(session, UseKind.REQUEST)
    socket = box.supervisor.begin_use(session, UseKind.WEBSOCKET, passive=True)
    box.supervisor.end_use(session, request)
    return socket


def test_a_session_whose_only_websocket_is_passive_and_silent_ends_as_idle(box: Box) -> None:
    session = box.ready(max_idle_seconds=10)
    let_pass(box, 9)

    passive(box, session)

    assert_ends_after(box, session, 10, Reason.IDLE)


def test_each_touch_of_a_passive_websocket_keeps_its_session_for_the_idle_time(box: Box) -> None:
    session = box.ready(max_idle_seconds=10)
    socket = passive(box, session)

    for _ in range(100):
        let_pass(box, 9.75)
        box.supervisor.touch(session, socket)

    assert_ends_after(box, session, 10, Reason.IDLE)


@pytest.mark.parametrize("kind", [UseKind.REQUEST, UseKind.HOLD, UseKind.LEASE])
def test_a_hold_beside_a_passive_websocket_keeps_the_session(box: Box, kind: UseKind) -> None:
    session = box.ready(max_idle_seconds=10)
    socket = passive(box, session)
    hold = box.supervisor.begin_use(session, kind)
    let_pass(box, 60)
    held = session.status

    box.supervisor.touch(session, socket)
    box.supervisor.end_use(session, hold)

    assert held is Status.READY
    assert_ends_after(box, session, 10, Reason.IDLE)


def test_a_passive_websocket_that_closes_gives_its_session_no_more_time(box: Box) -> None:
    session = box.ready(max_idle_seconds=10)
    socket = passive(box, session)
    let_pass(box, 6)

    box.supervisor.end_use(session, socket)

    assert_ends_after(box, session, 4, Reason.IDLE)


def test_a_passive_websocket_is_a_claim(box: Box) -> None:
    session = box.ready(claim_within_seconds=5, max_idle_seconds=60)

    box.supervisor.begin_use(session, UseKind.WEBSOCKET, passive=True)

    assert_ends_after(box, session, 60, Reason.IDLE)


def test_after_a_storm_of_passive_websockets_nothing_is_left(box: Box, reaper: Reaper) -> None:
    session = box.ready(max_idle_seconds=10)
    sockets = [passive(box, session) for _ in range(200)]
    for number in range(0, 200, 3):
        box.supervisor.touch(session, sockets[number])
        box.supervisor.end_use(session, sockets[number])
        box.supervisor.end_use(session, sockets[number])

    let_pass(box, 10)
    for socket in sockets:
        box.supervisor.end_use(session, socket)
    reaper.stopService()

    assert (session.holds, session.passives, session.uses) == (0, 0, set())
    assert box.supervisor.registry.uses.total() == 0
    box.assert_at_rest()


def test_a_session_that_boots_is_never_idle(box: Box) -> None:
    session = box.spawn(max_idle_seconds=1, claim_within_seconds=1)
    let_pass(box, 60)
    box.engine.run(session.id)
    let_pass(box, 60)
    waiting = session.status

    box.dials.answer(address_of(session.id).host)

    assert waiting is Status.WAITING
    assert_ends_after(box, session, 1, Reason.IDLE)


def test_a_session_that_nobody_comes_for_is_unclaimed(box: Box) -> None:
    session = box.ready(claim_within_seconds=5, max_idle_seconds=60)

    assert_ends_after(box, session, 5, Reason.UNCLAIMED)


def test_a_session_that_somebody_came_for_is_claimed_for_good(box: Box) -> None:
    session = box.ready(claim_within_seconds=5, max_idle_seconds=60)

    use = box.supervisor.begin_use(session, UseKind.REQUEST)
    box.supervisor.end_use(session, use)

    assert_ends_after(box, session, 60, Reason.IDLE)


def test_a_lifetime_ends_even_a_session_in_use(box: Box) -> None:
    session = box.ready(lifetime_limit_seconds=20)
    box.supervisor.begin_use(session, UseKind.WEBSOCKET)

    assert_ends_after(box, session, 20, Reason.LIFETIME)


def test_a_lifetime_is_counted_from_the_request(box: Box) -> None:
    session = box.spawn(lifetime_limit_seconds=20)
    let_pass(box, 10)
    box.engine.run(session.id)

    assert_ends_after(box, session, 10, Reason.LIFETIME)


def test_a_server_that_never_answers_is_given_up(box: Box) -> None:
    readiness = ReadinessRequest(timeout_seconds=30)
    session = box.spawn(executable=ExecutableRequest(image="image", readiness=readiness))
    let_pass(box, 600)
    box.engine.creating(session.id)
    let_pass(box, 10)
    box.engine.run(session.id)

    assert_ends_after(box, session, 20, Reason.STARTUP_TIMEOUT)

    assert "did not answer HTTP within 30 s" in session.state.failure.message
    assert box.engine.called("kill") == [session.id]


def test_an_engine_that_never_finishes_is_given_up(box: Box) -> None:
    session = box.spawn()
    box.engine.creating(session.id)

    assert_ends_after(box, session, 300, Reason.STARTUP_TIMEOUT)


def test_a_session_that_does_not_stop_is_killed_after_its_grace(box: Box) -> None:
    box.engine.obeys = False
    session = box.ready(max_idle_seconds=10, stop_grace_seconds=7)
    let_pass(box, 10)
    asked = session.status

    assert asked is Status.TERMINATING
    assert_ends_after(box, session, 7, Reason.IDLE)


def test_a_tick_that_fails_is_not_the_last(
    box: Box, logged_failures: LoggedFailures, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = box.ready(max_idle_seconds=10)
    with monkeypatch.context() as broken:
        broken.setattr(box.supervisor, "reap", lambda: 1 / 0)
        let_pass(box, 5)

    assert_ends_after(box, session, 5, Reason.IDLE)
    assert len(logged_failures.claim(ZeroDivisionError)) == 20


def test_a_tick_costs_what_is_due_and_not_what_exists(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(50):
        box.ready(None, max_idle_seconds=60)
    due = box.ready("key", max_idle_seconds=5)
    looked_at: list[str] = []
    get = box.supervisor.registry.get
    monkeypatch.setattr(
        box.supervisor.registry, "get", lambda name: looked_at.append(name) or get(name)
    )

    let_pass(box, 10)

    assert set(looked_at) == {due.id}


def test_after_a_storm_of_sessions_nothing_is_left(box: Box, reaper: Reaper) -> None:
    sessions = [box.ready(None, max_idle_seconds=number % 7) for number in range(100)]

    let_pass(box, 10)
    reaper.stopService()

    assert {session.status for session in sessions} == {Status.TERMINATED}
    box.assert_at_rest()


def test_a_reaper_that_was_stopped_ends_nothing(box: Box, reaper: Reaper) -> None:
    session = box.ready(max_idle_seconds=1)

    reaper.stopService()
    box.clock.advance(60)

    assert session.status is Status.READY


def test_a_session_that_fails_the_reaper_takes_no_other_along(
    box: Box, logged_failures: LoggedFailures
) -> None:
    broken, sound = box.ready("a", max_idle_seconds=1), box.ready("b", max_idle_seconds=1)
    whole, broken.spec = broken.spec, None

    let_pass(box, 2)

    assert sound.status is Status.TERMINATED
    assert logged_failures.claim(AttributeError)
    broken.spec = whole
    let_pass(box, ENDING_RETRY_SECONDS)
    assert broken.status is Status.TERMINATED
