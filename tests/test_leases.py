"""Leases: each holds its session for its time, and lets go of it once."""

from __future__ import annotations

import pytest
from twisted.internet.defer import ensureDeferred

from plane_tx.core import errors
from plane_tx.core.model import Reason, Session, Status
from plane_tx.core.use import UseKind, Visit
from plane_tx.core.views import session as told
from plane_tx.leases import MOST_LEASES
from tests.recording_engine import EPOCH, Box, address_of, now


@pytest.fixture
def box() -> Box:
    return Box().start()


def let_pass(box: Box, seconds: float) -> None:
    """Advance in steps of half a second, and reap after each."""
    for _ in range(int(seconds * 2)):
        box.clock.advance(0.5)
        box.supervisor.reap()


def reasons(session: Session) -> set[str]:
    return {use.reason for use in session.uses if use.kind is UseKind.LEASE}


def test_a_lease_keeps_a_session_and_its_idle_time_begins_at_its_end(box: Box) -> None:
    session = box.ready(max_idle_seconds=10)

    until = box.supervisor.keep_alive(session.id, 60, "a backup")
    let_pass(box, 60)
    after, idle_since = session.status, session.idle_since
    let_pass(box, 9.5)
    before_its_end = session.status
    let_pass(box, 0.5)

    assert until == idle_since == EPOCH + 60
    assert after is before_its_end is Status.READY
    assert (session.status, session.state.reason) == (Status.TERMINATED, Reason.IDLE)
    box.assert_at_rest()


def test_a_lease_that_is_taken_while_its_session_boots_holds_from_ready_on(box: Box) -> None:
    session = box.spawn(max_idle_seconds=10)
    box.supervisor.keep_alive(session.id, 60, "")
    box.engine.run(session.id)
    box.dials.answer(address_of(session.id).host)

    let_pass(box, 69.5)
    alive = session.status
    let_pass(box, 0.5)

    assert alive is Status.READY
    assert session.status is Status.TERMINATED


def test_a_lease_that_ends_before_ready_starts_no_idle_clock(box: Box) -> None:
    session = box.spawn(max_idle_seconds=10)
    box.supervisor.keep_alive(session.id, 5, "")
    let_pass(box, 50)
    booting = session.idle_since
    box.engine.run(session.id)
    box.dials.answer(address_of(session.id).host)

    assert booting is None
    assert session.idle_since == EPOCH + 50


def test_a_lease_is_told_with_its_end_and_its_reason(box: Box) -> None:
    session = box.ready()

    box.supervisor.keep_alive(session.id, 1.5, "a backup")

    since = int(EPOCH) * 1000
    leases = [{"since": since, "until": since + 1500, "reason": "a backup"}]
    assert told(session, {})["leases"] == leases
    assert told(session, {})["connections"] == []


@pytest.mark.parametrize("seconds", [5, 90])
def test_a_new_call_for_the_same_reason_replaces_the_lease(box: Box, seconds: float) -> None:
    session = box.ready(max_idle_seconds=10)
    box.supervisor.keep_alive(session.id, 60, "a backup")
    box.clock.advance(1)

    until = box.supervisor.keep_alive(session.id, seconds, "a backup")
    one = len(session.uses), len(box.clock.getDelayedCalls())
    box.clock.advance(seconds)

    assert until == EPOCH + 1 + seconds
    assert one == (1, 1)
    assert session.idle_since == until
    assert box.clock.getDelayedCalls() == []


def test_a_lease_that_is_renewed_never_leaves_its_session_idle(box: Box) -> None:
    session = box.ready()
    box.supervisor.keep_alive(session.id, 60, "a backup")
    ends: list[float] = []
    box.supervisor._leases._end = lambda session, use: ends.append(len(session.uses))

    box.supervisor.keep_alive(session.id, 60, "a backup")

    assert ends == [2]


def test_leases_for_several_reasons_hold_until_the_last_has_ended(box: Box) -> None:
    session = box.ready()
    for seconds in (20, 10, 30):
        box.supervisor.keep_alive(session.id, seconds, f"{seconds} s")

    box.clock.advance(25)
    left = reasons(session)
    box.clock.advance(5)

    assert left == {"30 s"}
    assert session.idle_since == EPOCH + 30


def test_no_seconds_end_a_lease_now(box: Box) -> None:
    session = box.ready()
    box.supervisor.keep_alive(session.id, 60, "a backup")
    box.supervisor.keep_alive(session.id, 60, "another")

    until = box.supervisor.keep_alive(session.id, 0, "a backup")

    assert until is None
    assert reasons(session) == {"another"}
    assert len(box.supervisor._leases) == len(box.clock.getDelayedCalls()) == 1


def test_no_seconds_for_a_reason_that_holds_nothing_is_nothing(box: Box) -> None:
    session = box.ready()

    assert box.supervisor.keep_alive(session.id, 0, "a backup") is None
    assert session.uses == set()
    assert box.supervisor._leases._running == {}


def test_a_reason_too_many_is_refused_and_the_others_stay(box: Box) -> None:
    session, other = box.ready("a"), box.ready("b")
    for number in range(MOST_LEASES):
        box.supervisor.keep_alive(session.id, 60, str(number))

    with pytest.raises(errors.InvalidRequest, match="reason: this session has 64 leases"):
        box.supervisor.keep_alive(session.id, 60, "one more")
    renewed = box.supervisor.keep_alive(session.id, 90, "0")
    box.supervisor.keep_alive(session.id, 0, "one more")
    box.supervisor.keep_alive(session.id, 0, "1")

    assert MOST_LEASES == 64
    assert renewed == EPOCH + 90
    assert box.supervisor.keep_alive(session.id, 60, "one more")
    assert box.supervisor.keep_alive(other.id, 60, "another session")
    assert len(session.uses) == 64


@pytest.mark.parametrize("obeys", [True, False])
def test_leases_end_with_their_session(box: Box, obeys: bool) -> None:
    box.engine.obeys = obeys
    session = box.ready()
    box.supervisor.keep_alive(session.id, 60, "a")
    box.supervisor.keep_alive(session.id, 60, "b")

    box.supervisor.soft_terminate(session.id)

    assert session.uses == set()
    assert not box.supervisor.registry.uses.total()
    assert box.supervisor._leases._running == {}
    assert box.clock.getDelayedCalls() == []


def test_leases_end_with_a_session_that_ends_by_itself(box: Box) -> None:
    session = box.ready()
    box.supervisor.keep_alive(session.id, 60, "a")

    box.engine.exit(session.id, 1)

    assert session.uses == set()
    box.assert_at_rest()


def test_a_session_that_ends_takes_no_lease_and_says_why(box: Box) -> None:
    box.engine.obeys = False
    session = box.ready()
    box.supervisor.soft_terminate(session.id)

    with pytest.raises(errors.SessionEnded, match="is ending: it was stopped by request"):
        box.supervisor.keep_alive(session.id, 60, "")
    box.engine.exit(session.id)
    with pytest.raises(errors.SessionEnded, match="has ended: it was stopped by request"):
        box.supervisor.keep_alive(session.id, 0, "")
    with pytest.raises(errors.NotFound):
        box.supervisor.keep_alive("x", 60, "")
    box.assert_at_rest()


def test_a_lifetime_ends_a_session_that_a_lease_holds(box: Box) -> None:
    session = box.ready(lifetime_limit_seconds=20)
    box.supervisor.keep_alive(session.id, 60, "")

    let_pass(box, 20)

    assert session.state.reason is Reason.LIFETIME
    box.assert_at_rest()


def test_nobody_has_come_because_of_a_lease(box: Box) -> None:
    session = box.ready(claim_within_seconds=5, max_idle_seconds=60)
    box.supervisor.keep_alive(session.id, 30, "")
    let_pass(box, 30)
    held = (session.status, session.claimed)

    let_pass(box, 5)

    assert held == (Status.READY, False)
    assert session.state.reason is Reason.UNCLAIMED


def test_who_has_come_has_come_with_or_without_a_lease(box: Box) -> None:
    session = box.ready(claim_within_seconds=5, max_idle_seconds=60)
    box.supervisor.keep_alive(session.id, 30, "")
    use = box.supervisor.begin_use(session, UseKind.REQUEST, Visit("1.2.3.4"))
    box.supervisor.end_use(session, use)

    let_pass(box, 89.5)
    claimed = session.status
    let_pass(box, 0.5)

    assert claimed is Status.READY
    assert session.state.reason is Reason.IDLE


def test_closing_lets_go_of_every_timer(box: Box) -> None:
    session = box.ready()
    box.supervisor.keep_alive(session.id, 60, "a")
    box.supervisor.keep_alive(session.id, 90, "b")

    now(ensureDeferred(box.supervisor.close()))

    assert session.status is Status.READY
    assert len(box.supervisor._leases) == 0
    assert box.clock.getDelayedCalls() == []
