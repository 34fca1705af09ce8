"""A server that was killed goes on where it was: sessions, links, leases and clocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from twisted.internet.defer import Deferred, ensureDeferred, execute
from twisted.logger import LogEvent, formatEvent, globalLogPublisher

from plane_tx.chronicle import PROMISE_SECONDS, USES_SECONDS
from plane_tx.core import errors, estimates
from plane_tx.core.idempotency import Answer
from plane_tx.core.model import Address, LogStream, Ready, Reason, Routing, Session, Status
from plane_tx.core.registry import ENDED_KEPT, ENDED_KEPT_SECONDS
from plane_tx.core.use import UseKind, Visit
from plane_tx.core.wire import (
    ConnectRequest,
    ConnectResponse,
    ExecutableRequest,
    LinkRequest,
    SpawnConfig,
)
from plane_tx.journal import Journal
from plane_tx.leases import MOST_LEASES
from plane_tx.recovery import AT_ONCE, CLEARING_SECONDS, RECOVERY_RETRY_SECONDS
from tests.conftest import LoggedFailures
from tests.recording_engine import EPOCH, Box, Held, address_of, now


class Runs:
    """One server after the other, with one journal and one engine."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.boxes: list[Box] = []

    def first(self, **policy: object) -> Box:
        journal = Journal(self.path, execute)
        journal.open(EPOCH)
        self.boxes.append(Box(journal, **policy))
        return self.boxes[-1].start()

    def killed(self, seconds: float = 0.0, *waits: str) -> Box:
        """What comes after the last one was killed; `waits` are calls that the engine keeps.

        The new one has started; `seconds` have passed since.
        """
        before = self.boxes[-1]
        now(before.journal.close())
        later = before.clock.seconds() - EPOCH + seconds
        journal = Journal(self.path, execute)
        journal.open(EPOCH + later)
        after = Box(journal)
        after.clock.advance(later)
        after.engine.held = before.engine.held
        after.engine.waits |= set(waits)
        self.boxes.append(after)
        return after.start()

    def close(self) -> None:
        now(self.boxes[-1].journal.close())


@pytest.fixture
def logged() -> Iterator[list[str]]:
    lines: list[str] = []

    def observe(event: LogEvent) -> None:
        lines.append(formatEvent(event))

    globalLogPublisher.addObserver(observe)
    yield lines
    globalLogPublisher.removeObserver(observe)


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[Runs]:
    runs = Runs(tmp_path / "journal.sqlite3")
    yield runs
    runs.close()


def history(session: Session) -> str:
    return " ".join(entry.state.status for entry in session.history)


def token_of(box: Box, response: ConnectResponse) -> object:
    return box.supervisor.registry.grants.get(response.token)


def write_uses(box: Box) -> None:
    writing = Deferred.fromCoroutine(box.supervisor.chronicle.write_uses())
    while not writing.called:
        box.clock.advance(0)
    now(writing)


# Sessions that live.


def test_a_link_that_was_asked_for_outlives_the_server(runs: Runs) -> None:
    box = runs.first()
    session = box.ready(None)
    url = now(ensureDeferred(box.supervisor.link(session.id, LinkRequest("ada"))))

    after = runs.killed()

    token = after.supervisor.registry.grants.get(url.split("/")[3])
    assert (token.session_id, token.user) == (session.id, "ada")


def test_of_many_boots_of_an_earlier_run_the_last_ones_count(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimates, "BOOTS_KEPT", 2)
    box = runs.first()
    for seconds in (9, 9, 1, 2):
        session = box.spawn(None)
        box.engine.creating(session.id)
        box.clock.advance(seconds)
        box.engine.run(session.id)
        box.dials.answer(address_of(session.id).host)

    after = runs.killed()

    estimate = after.supervisor.registry.estimates.of(session)
    assert (estimate.usually, estimate.at_most, estimate.boots) == (1.5, 2.0, 2)


def test_a_session_goes_on_as_it_was(runs: Runs) -> None:
    box = runs.first()
    values = {"subdomain": "home", "labels": {"a": "b"}, "lifetime_limit_seconds": 500}
    before = box.ready(user="me", tag="t", **values)
    box.clock.advance(7)

    box = runs.killed(10)

    after = box.supervisor.get(before.id)
    same = ("id", "key", "tag", "user", "created_at", "fencing_token", "own_token", "secret")
    assert [getattr(after, name) for name in same] == [getattr(before, name) for name in same]
    assert (after.history, after.adopted) == (before.history, True)
    assert after.spec.labels == {"a": "b"}
    assert box.supervisor.deadlines(after)["lifetime"] == EPOCH + 500
    assert box.supervisor.address_of(after) == address_of(before.id)
    assert box.supervisor.recovered


def test_its_idle_clock_begins_anew_and_never_earlier(runs: Runs) -> None:
    session = runs.first().ready(max_idle_seconds=100)

    box = runs.killed(99)

    idle_since = box.supervisor.get(session.id).idle_since
    assert idle_since == EPOCH + 99


@pytest.mark.parametrize("came", [True, False])
def test_the_claim_runs_on_unless_somebody_came(runs: Runs, came: bool) -> None:
    box = runs.first()
    session = box.ready(claim_within_seconds=100, max_idle_seconds=1000)
    if came:
        use = box.supervisor.begin_use(session, UseKind.REQUEST)
        box.supervisor.end_use(session, use)
    box.supervisor.chronicle.write_last()

    box = runs.killed()

    after = box.supervisor.get(session.id)
    assert (after.claimed, "unclaimed" in box.supervisor.deadlines(after)) == (came, not came)
    assert after.last_used == (EPOCH if came else None)


def test_every_token_leads_to_its_session_with_its_user_and_claims(runs: Runs) -> None:
    box = runs.first()
    made = now(box.connect("key", user="ada", auth={"role": "owner", "n": [1, None]}))
    joined = now(box.connect("key", user="bob", spawn=False))
    before = [token_of(box, response) for response in (made, joined)]

    box = runs.killed()

    after = [token_of(box, response) for response in (made, joined)]
    assert after == before
    assert after[0].claims == {"role": "owner", "n": [1, None]}


def test_a_static_token_and_one_in_a_host_lead_on(runs: Runs) -> None:
    box = runs.first()
    static = now(box.connect("static", use_static_token=True))
    host = now(box.connect("host", routing=Routing.HOST))

    box = runs.killed()

    assert token_of(box, static).static
    assert token_of(box, host).session_id == host.backend_id


def test_what_was_revoked_stays_revoked(runs: Runs) -> None:
    box = runs.first()
    taken, kept = now(box.connect(user="ada")), now(box.connect(user="bob", spawn=False))
    box.supervisor.revoke(taken.backend_id, "ada")

    box = runs.killed()

    assert token_of(box, taken) is None
    assert token_of(box, kept) is not None


def test_a_token_that_was_not_used_for_its_time_to_live_is_gone(runs: Runs) -> None:
    box = runs.first()
    opened = now(box.connect(user="ada", token_ttl_seconds=100))
    closed = now(box.connect(user="bob", spawn=False))
    session = box.supervisor.get(opened.backend_id)
    box.supervisor.begin_use(session, UseKind.WEBSOCKET, Visit(token=opened.token))
    box.supervisor.chronicle.write_last()

    box = runs.killed(100 + USES_SECONDS)
    box.supervisor.reap()
    found = [token_of(box, response) is not None for response in (opened, closed)]

    assert found == [True, False]
    box = runs.killed()
    assert token_of(box, closed) is None


def test_a_token_that_expired_before_is_not_there_after(runs: Runs) -> None:
    box = runs.first()
    expiring = now(box.connect(token_ttl_seconds=5))
    box.clock.advance(6)
    box.supervisor.reap()

    box = runs.killed()

    assert token_of(box, expiring) is None


def test_leases_run_on_until_their_end(runs: Runs) -> None:
    box = runs.first()
    session = box.ready(max_idle_seconds=10)
    for seconds, reason in ((50, "short"), (500, "long"), (600, "ended"), (0, "ended")):
        box.supervisor.keep_alive(session.id, seconds, reason)

    box = runs.killed(100)

    after = box.supervisor.get(session.id)
    assert [(use.reason, use.until) for use in after.uses] == [("long", EPOCH + 500)]
    assert after.idle_since is None
    box.clock.advance(400)
    assert after.idle_since == EPOCH + 500
    box.supervisor.soft_terminate(session.id)


def test_more_leases_than_there_may_be_keep_no_server_from_starting(runs: Runs) -> None:
    box = runs.first()
    session = box.ready()
    box.supervisor.keep_alive(session.id, 100, "first")
    for number in range(MOST_LEASES):
        row = (session.id, str(number), EPOCH + 100)
        box.journal._connection.execute("INSERT INTO leases VALUES (?, ?, ?)", row)

    box = runs.killed(10)

    assert len(box.supervisor._leases) == MOST_LEASES
    box.supervisor.hard_terminate(session.id)


def test_its_key_is_held_by_it(runs: Runs) -> None:
    before = runs.first().ready("key")

    joined = now(runs.killed().connect("key", spawn=False))

    assert (joined.backend_id, joined.spawned) == (before.id, False)


def test_numbers_go_on_growing_though_the_clock_was_set_back(runs: Runs) -> None:
    box = runs.first()
    box.clock.advance(1000)
    before = box.ready()

    later = runs.killed(-900).spawn("other")

    assert later.fencing_token > before.fencing_token


def test_an_address_that_has_changed_is_the_one_that_is_used(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = runs.first().ready()
    monkeypatch.setattr("tests.recording_engine.address_of", lambda _: Address("elsewhere", 1))

    after = runs.killed().supervisor.get(session.id)

    assert after.state == Ready(Address("elsewhere", 1))


# Those that were caught on their way.


def caught_at(box: Box, status: str) -> Session:
    """A session that has come as far as `status`, and is held by the engine from there on."""
    if status == "scheduled":
        box.engine.waits.add("spawn")
    session = box.spawn()
    if status in ("starting", "made"):
        box.engine.creating(session.id)
    if status == "made":
        labels = box.engine.pending[session.id].order.labels
        box.engine.held[session.id] = Held(labels, running=False, fresh=True)
    if status == "waiting":
        box.engine.run(session.id)
    return session


@pytest.mark.parametrize("status", ["scheduled", "loading", "starting"])
def test_one_that_was_never_made_ends_and_says_so(runs: Runs, status: str) -> None:
    session = caught_at(runs.first(), status)

    after = runs.killed().supervisor.get(session.id)

    assert after.state.reason is Reason.FAILED
    assert "restarted before the session was made" in after.state.failure.message


def test_one_that_was_made_and_not_started_is_started(runs: Runs) -> None:
    session = caught_at(runs.first(), "made")

    box = runs.killed(10)
    box.dials.answer(address_of(session.id).host)

    after = box.supervisor.get(session.id)
    assert history(after) == "scheduled loading starting waiting ready"
    assert after.idle_since == EPOCH + 10


def test_one_that_ran_before_we_knew_is_taken_up(runs: Runs) -> None:
    box = runs.first()
    session = caught_at(box, "starting")
    box.engine.held[session.id] = Held(box.engine.orders[session.id].labels)

    box = runs.killed()
    box.dials.answer(address_of(session.id).host)

    assert history(box.supervisor.get(session.id)) == "scheduled loading starting waiting ready"


def test_one_that_was_waiting_is_asked_again_and_its_time_runs_on(runs: Runs) -> None:
    session = caught_at(runs.first(), "waiting")

    box = runs.killed(299)
    before = box.supervisor.deadlines(box.supervisor.get(session.id))
    box.dials.answer(address_of(session.id).host)

    assert before == {"startup": EPOCH + 300}
    assert box.supervisor.get(session.id).status is Status.READY


def test_one_that_was_to_end_goes_on_ending(runs: Runs) -> None:
    box = runs.first()
    box.engine.obeys = False
    session = box.ready(stop_grace_seconds=30)
    box.supervisor.soft_terminate(session.id, by="me")

    box = runs.killed(10)

    after = box.supervisor.get(session.id)
    assert box.engine.called("stop") == [session.id]
    assert history(after).endswith("ready terminating terminated")
    assert (after.state.reason, after.state.exit_code) == (Reason.EXTERNAL, 143)


def test_one_that_has_ended_while_it_was_to_is_ended_as_was_asked(runs: Runs) -> None:
    box = runs.first()
    box.engine.obeys = False
    session = box.ready()
    box.supervisor.soft_terminate(session.id)
    del box.engine.held[session.id]

    after = runs.killed().supervisor.get(session.id)

    assert (after.state.reason, after.state.failure) == (Reason.EXTERNAL, None)


# Those that ended while nobody looked.


def test_one_that_exited_meanwhile_says_how(runs: Runs) -> None:
    box = runs.first()
    session = box.ready()
    box.engine.say(session.id, "last words", EPOCH, LogStream.STDERR)
    box.engine.held[session.id].running = False
    box.engine.held[session.id].exit_code = 3

    box = runs.killed()

    state = box.supervisor.get(session.id).state
    assert (state.reason, state.exit_code) == (Reason.EXITED, 3)
    assert [line.text for line in state.log_tail] == ["last words"]
    assert box.engine.held == {}


def test_one_that_vanished_meanwhile_is_lost_and_says_so(runs: Runs) -> None:
    box = runs.first()
    session = box.ready()
    del box.engine.held[session.id]

    box = runs.killed()

    state = box.supervisor.get(session.id).state
    assert state.reason is Reason.LOST
    assert "gone when the server came back" in state.failure.message


def test_one_that_ends_between_the_list_and_its_turn_says_how(runs: Runs) -> None:
    session = runs.first().ready()
    box = runs.killed(0, "adopt")

    box.engine.held[session.id].running = False
    box.engine.held[session.id].exit_code = 9
    box.engine.answer("adopt")

    assert box.supervisor.get(session.id).state.exit_code == 9


def test_one_that_cannot_be_reached_any_more_has_failed_and_is_removed(runs: Runs) -> None:
    session = runs.first().ready()
    box = runs.killed(0, "adopt")

    box.engine.reachable = False
    box.engine.answer("adopt")

    state = box.supervisor.get(session.id).state
    assert (state.reason, state.failure.message) == (Reason.FAILED, "its network publishes no port")
    assert box.engine.held == {}


def test_an_ended_session_is_remembered_with_its_cause_and_its_links(runs: Runs) -> None:
    box = runs.first()
    made = now(box.connect())
    box.engine.run(made.backend_id)
    box.engine.exit(made.backend_id, 1, tail=("oh no",))
    before = box.supervisor.get(made.backend_id)

    box = runs.killed(5)

    after = box.supervisor.get(made.backend_id)
    assert after.history == before.history
    assert token_of(box, made).session_id == after.id
    assert "Sessions: 0 live, 1 ended" in repr(box.supervisor)
    assert box.engine.called("remove") == []


def test_an_ended_session_is_forgotten_when_it_is_old(runs: Runs) -> None:
    box = runs.first()
    for key in ("old", "young"):
        session = box.ready(key)
        box.engine.exit(session.id)
        box.clock.advance(1)

    box = runs.killed(ENDED_KEPT_SECONDS - 1)

    assert [session.key.name for session in box.supervisor.registry] == ["young"]
    write_uses(box)
    box.clock.advance(1)
    write_uses(box)
    assert list(box.supervisor.registry) == []
    assert list(runs.killed().supervisor.registry) == []


def test_of_many_ended_sessions_the_last_are_known(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = runs.first()
    monkeypatch.setattr(box.supervisor.registry, "_ended_kept", 3)
    for number in range(5):
        session = box.ready(str(number))
        box.engine.exit(session.id)
        box.clock.advance(1)

    kept = sorted(session.key.name for session in runs.killed().supervisor.registry)

    assert kept == ["2", "3", "4"]
    assert ENDED_KEPT >= 3


# What the engine holds and no session has.


def test_a_container_of_a_session_that_has_ended_is_swept(runs: Runs) -> None:
    box = runs.first()
    session = box.ready()
    labels = box.engine.held[session.id].labels
    box.engine.exit(session.id)
    box.engine.held[session.id] = Held(labels)

    box = runs.killed()

    assert box.engine.held == {}
    assert box.supervisor.get(session.id).state.reason is Reason.EXITED


def test_of_two_containers_for_one_key_the_later_one_stays(runs: Runs) -> None:
    box = runs.first()
    first = box.ready()
    labels = box.engine.held[first.id].labels
    box.engine.exit(first.id)
    box.clock.advance(1)
    second = box.ready()
    box.engine.held[first.id] = Held(labels)
    runs.path.unlink()

    box = runs.killed()

    assert list(box.engine.held) == [second.id]
    assert [session.id for session in box.supervisor.registry] == [second.id]


def test_what_a_failing_journal_did_not_write_is_taken_up_by_its_labels(runs: Runs) -> None:
    box = runs.first()
    older = box.ready()
    box.journal._connection.execute("PRAGMA query_only = ON")
    box.engine.exit(older.id)
    box.clock.advance(1)
    newer = box.ready()

    box = runs.killed()

    assert box.supervisor.get(older.id).state.reason is Reason.LOST
    assert box.supervisor.registry.holder(newer.key).id == newer.id
    assert box.supervisor.get(newer.id).own_token == newer.own_token


def test_what_could_not_be_written_is_written_when_there_is_room(runs: Runs) -> None:
    box = runs.first()
    old = box.ready("old")
    box.journal._connection.execute("PRAGMA query_only = ON")
    made = now(box.connect("key", user="ada"))
    box.engine.run(made.backend_id)
    box.supervisor.keep_alive(made.backend_id, 500, "lease")
    box.engine.exit(old.id, 4)
    box.journal._connection.execute("PRAGMA query_only = OFF")

    write_uses(box)
    box = runs.killed()

    assert token_of(box, made).user == "ada"
    assert [use.reason for use in box.supervisor.get(made.backend_id).uses] == ["lease"]
    assert box.supervisor.get(old.id).state.exit_code == 4
    box.supervisor.hard_terminate(made.backend_id)


# While the engine has not told yet.


def test_a_link_is_held_until_the_engine_has_told(runs: Runs) -> None:
    session = runs.first().ready()
    box = runs.killed(0, "list_running")
    after = box.supervisor.get(session.id)
    early = box.supervisor.address_of(after)
    held = box.supervisor.hold(after)

    box.engine.answer("list_running")

    assert early is None
    assert now(held) == address_of(session.id)


def test_a_hold_that_runs_out_meanwhile_says_what_it_waited_for(runs: Runs) -> None:
    session = runs.first().ready()
    box = runs.killed(0, "list_running")
    held = box.supervisor.hold(box.supervisor.get(session.id))

    box.clock.advance(box.supervisor.policy.hold_seconds)

    with pytest.raises(errors.SessionNotReady, match="whether the session still"):
        now(held)


def test_a_held_link_of_a_session_that_is_gone_says_why(runs: Runs) -> None:
    box = runs.first()
    session = box.ready()
    del box.engine.held[session.id]
    box = runs.killed(0, "list_running")
    held = box.supervisor.hold(box.supervisor.get(session.id))

    box.engine.answer("list_running")

    with pytest.raises(errors.SessionEnded, match="gone when the server came back"):
        now(held)


@pytest.mark.parametrize("end", ["soft_terminate", "hard_terminate"])
def test_who_wants_an_end_meanwhile_has_it_once_the_engine_has_told(runs: Runs, end: str) -> None:
    session = runs.first().ready()
    box = runs.killed(0, "list_running")

    getattr(box.supervisor, end)(session.id)
    early = box.engine.called("stop") + box.engine.called("kill")
    box.clock.advance(60)
    box.supervisor.reap()
    box.engine.answer("list_running")

    assert early == []
    assert box.supervisor.get(session.id).status is Status.TERMINATED
    assert box.engine.held == {}


def test_a_session_in_use_meanwhile_is_not_idle_when_it_is_taken_up(runs: Runs) -> None:
    session = runs.first().ready(max_idle_seconds=5)
    box = runs.killed(0, "list_running")
    after = box.supervisor.get(session.id)
    use = box.supervisor.begin_use(after, UseKind.HOLD)
    box.clock.advance(60)
    box.supervisor.reap()

    box.engine.answer("list_running")

    assert (after.status, after.idle_since) == (Status.READY, None)
    box.supervisor.end_use(after, use)
    assert after.idle_since == EPOCH + 60


def test_sessions_are_taken_up_side_by_side_and_only_so_many(runs: Runs) -> None:
    box = runs.first()
    for number in range(AT_ONCE + 4):
        box.ready(str(number))
    box = runs.killed(0, "adopt")
    asked = [len(box.engine.called("adopt"))]

    while "adopt" in dict(box.engine._waiting):
        box.engine.answer("adopt")
        asked.append(len(box.engine.called("adopt")))

    assert asked[:2] == [AT_ONCE, AT_ONCE + 4]
    assert box.supervisor.recovered
    assert {session.unconfirmed for session in box.supervisor.registry} == {False}


def test_many_sessions_are_compared_in_several_turns_of_the_reactor(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("plane_tx.recovery.IN_ONE_TURN", 2)
    box = runs.first()
    for number in range(3):
        box.ready(str(number))
    box = runs.killed()
    early = box.supervisor.recovered

    box.clock.advance(0)

    assert (early, box.supervisor.recovered) == (False, True)
    assert {session.unconfirmed for session in box.supervisor.registry} == {False}


def test_an_engine_that_goes_away_half_way_is_asked_again_for_the_rest(runs: Runs) -> None:
    box = runs.first()
    sessions = [box.ready(str(number)) for number in range(3)]
    box = runs.killed(0, "adopt")
    box.engine.lose("away")
    box.engine.answer("adopt")
    lost = box.supervisor.recovered
    box.engine.waits.clear()

    box.engine.regain()

    assert not lost
    assert box.supervisor.recovered
    assert [box.supervisor.get(each.id).unconfirmed for each in sessions] == [False] * 3


def test_one_that_cannot_be_judged_is_in_nobodys_way(
    runs: Runs, logged_failures: LoggedFailures
) -> None:
    box = runs.first()
    sessions = [box.ready(str(number)) for number in range(2)]
    box = runs.killed(0, "adopt")
    (_, waiting), *_ = box.engine._waiting
    waiting.errback(ZeroDivisionError())
    box.engine._waiting.pop(0)

    box.engine.answer("adopt")

    assert len(logged_failures.claim(ZeroDivisionError)) == 1
    assert box.supervisor.recovered
    assert sum(box.supervisor.get(each.id).unconfirmed for each in sessions) == 1


def left_over(box: Box, key: str) -> str:
    """A session that has ended and whose container is still there; its id."""
    session = box.ready(key)
    labels = box.engine.held[session.id].labels
    box.engine.exit(session.id)
    box.engine.held[session.id] = Held(labels, running=False)
    return session.id


def test_what_the_engine_does_not_remove_keeps_nobody_waiting(runs: Runs) -> None:
    box = runs.first()
    stuck, session = left_over(box, "stuck"), box.ready()
    box = runs.killed(0, "remove")

    early = box.supervisor.recovered, box.supervisor.address_of(box.supervisor.get(session.id))
    box.clock.advance(CLEARING_SECONDS)
    box.supervisor.recovery.begin_if_at_rest()

    assert early == (True, address_of(session.id))
    assert box.engine.called("remove") == [stuck, stuck]


def test_one_that_the_engine_will_not_tell_of_keeps_nobody_waiting_and_is_asked_for_again(
    runs: Runs,
) -> None:
    box = runs.first()
    sessions = [box.ready(str(number)) for number in range(2)]
    box = runs.killed(0, "adopt")
    (_, waiting), *box.engine._waiting = box.engine._waiting

    waiting.errback(errors.EngineUnavailable("Docker could not adopt it: input/output error"))
    box.engine.answer("adopt")
    early = [box.supervisor.get(each.id).unconfirmed for each in sessions]
    joined = now(box.connect("1", spawn=False))
    box.engine.waits.clear()
    box.clock.advance(RECOVERY_RETRY_SECONDS)

    assert early == [False, True]  # the one that was made last is asked for first
    assert joined.backend_id == sessions[1].id
    assert not box.supervisor.get(sessions[1].id).unconfirmed


def test_a_stranger_is_not_swept_once_its_id_is_that_of_a_session(runs: Runs) -> None:
    box = runs.first()
    box.engine.waits.add("remove")
    for number in range(AT_ONCE):
        left_over(box, str(number))
    box.engine.held["mine"] = Held({}, running=False)
    box.supervisor.recovery.begin()

    session = box.spawn(id="mine")
    box.engine.run(session.id)
    while "remove" in dict(box.engine._waiting):
        box.engine.answer("remove")

    assert "mine" not in box.engine.called("remove")
    assert list(box.engine.held) == ["mine"]


# The journal and whoever is answered.


def test_a_row_that_is_damaged_costs_no_other_one(runs: Runs, logged: list[str]) -> None:
    box = runs.first()
    kept, spoilt = now(box.connect(user="ada")), now(box.connect(user="bob"))
    box.engine.run(kept.backend_id)
    box.supervisor.keep_alive(kept.backend_id, 50, "kept")
    box.supervisor.keep_alive(kept.backend_id, 50, "spoilt")
    execute_now = box.journal._connection.execute
    execute_now("UPDATE tokens SET claims = 'x' WHERE value = ?", (spoilt.token,))
    execute_now("UPDATE leases SET until = 'x' WHERE reason = 'spoilt'")
    other = now(box.connect("other"))
    execute_now("UPDATE sessions SET record = 5 WHERE id = ?", (other.backend_id,))

    box = runs.killed()

    found = [token_of(box, response) is not None for response in (kept, spoilt, other)]
    assert found == [True, False, False]
    assert [reason for reason, _ in box.supervisor._leases.of(kept.backend_id)] == ["kept"]
    assert len([line for line in logged if "rows of the journal are not understood" in line]) == 3


def test_leases_that_have_run_out_leave_no_rows(runs: Runs) -> None:
    box = runs.first()
    session = box.ready()
    for number in range(3):
        box.supervisor.keep_alive(session.id, 5, str(number))
        box.clock.advance(5)

    (count,) = box.journal._connection.execute("SELECT count(*) FROM leases").fetchone()

    assert count == 1


def test_a_token_in_use_that_a_failing_journal_did_not_note_is_noted_later(runs: Runs) -> None:
    box = runs.first()
    made = now(box.connect(token_ttl_seconds=100))
    session = box.supervisor.get(made.backend_id)
    box.supervisor.begin_use(session, UseKind.HOLD)
    write_uses(box)
    box.supervisor.begin_use(session, UseKind.WEBSOCKET, Visit(token=made.token))
    box.journal._connection.execute("PRAGMA query_only = ON")
    write_uses(box)
    box.journal._connection.execute("PRAGMA query_only = OFF")
    write_uses(box)

    box = runs.killed(1000)
    box.supervisor.reap()

    assert token_of(box, made) is not None


def test_what_could_not_be_written_is_written_at_the_end(runs: Runs) -> None:
    box = runs.first()
    session = box.ready()
    box.journal._connection.execute("PRAGMA query_only = ON")
    box.engine.exit(session.id, 4)
    box.journal._connection.execute("PRAGMA query_only = OFF")

    now(ensureDeferred(box.supervisor.close()))

    assert runs.killed().supervisor.get(session.id).state.exit_code == 4


def test_a_journal_that_goes_on_failing_is_asked_with_one_session_only(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = runs.first()
    box.journal._connection.execute("PRAGMA query_only = ON")
    for number in range(5):
        box.ready(str(number))
    asked: list[object] = []
    record = box.journal.record

    def noted(*writes: object) -> object:
        asked.append(writes)
        return record(*writes)

    monkeypatch.setattr(box.journal, "record", noted)
    write_uses(box)

    assert len(asked) == 1 + 1  # and that nothing was used


# What is promised to whoever is answered.


class SlowRuns:
    """A journal whose thread does nothing until it is told."""

    def __init__(self, path: Path) -> None:
        self.asked: list[tuple[Callable[[], None], Deferred[None]]] = []
        self.journal = Journal(path, self.run)
        self.journal.open(EPOCH)

    def run(self, work: Callable[[], None]) -> Deferred[None]:
        self.asked.append((work, Deferred()))
        return self.asked[-1][1]

    def write(self) -> None:
        while self.asked:
            work, done = self.asked.pop(0)
            execute(work).chainDeferred(done)


@pytest.mark.parametrize("known", [True, False])
def test_who_was_answered_has_a_link_whenever_the_server_is_killed(
    tmp_path: Path, known: bool
) -> None:
    slow = SlowRuns(tmp_path / "journal")
    box = Box(slow.journal).start()
    connecting = box.connect(user="ada")
    if known:
        slow.write()
    answered, asked = connecting.called, bool(box.engine.orders)

    slow.journal._connection.close()  # this is the kill
    again = Journal(tmp_path / "journal", execute)
    again.open(EPOCH)

    after = Box(again).start()
    ids = [session.id for session in after.supervisor.registry]
    assert (answered, asked, len(ids)) == (known, known, int(known))
    if known:
        assert token_of(after, now(connecting)).user == "ada"
    now(again.close())


def test_what_is_decided_is_known_together_with_the_session(tmp_path: Path) -> None:
    slow = SlowRuns(tmp_path / "journal")
    box = Box(slow.journal).start()
    given: list[Answer] = []

    def decided(response: ConnectResponse) -> None:
        given.append(Answer("app", "key", b"digest", response.backend_id.encode(), EPOCH))
        slow.journal.record_answer(given[0])

    spawn = SpawnConfig(executable=ExecutableRequest(image="image"))
    connecting = ensureDeferred(box.supervisor.connect(ConnectRequest(spawn_config=spawn), decided))
    (work, _), *others = slow.asked
    work()
    slow.journal._connection.close()  # this is the kill
    again = Journal(tmp_path / "journal", execute)
    again.open(EPOCH)

    (answer,) = again.take_answers()
    assert (others, connecting.called, answer) == ([], False, given[0])
    assert [row[0] for row in again.take_memory().sessions] == [answer.body.decode()]
    now(again.close())


def test_a_slow_journal_is_said_once_and_holds_up_nobody_for_long(
    tmp_path: Path, logged: list[str]
) -> None:
    slow = SlowRuns(tmp_path / "journal")
    box = Box(slow.journal).start()

    answered = []
    for _ in range(2):
        connecting = box.connect()
        box.clock.advance(PROMISE_SECONDS)
        answered.append(connecting.called)
    slow.write()

    assert answered == [True, True]
    assert len([line for line in logged if "takes more than 1 s" in line]) == 1
