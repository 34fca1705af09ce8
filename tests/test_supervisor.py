"""The one door to sessions: one per key, under the caps, over before the next begins."""

from __future__ import annotations

import functools

import attrs
import pytest
from twisted.internet.defer import CancelledError, ensureDeferred
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from plane_tx.core import errors
from plane_tx.core.connect import CapacityLimits
from plane_tx.core.model import (
    Executable,
    IdleCount,
    IdleRule,
    Key,
    Reason,
    Routing,
    Session,
    Spec,
    Status,
)
from plane_tx.core.record import RECORD_LABEL, to_labels
from plane_tx.core.use import UseKind, Visit
from plane_tx.core.wire import ExecutableRequest
from plane_tx.engines.interface import IEngine
from plane_tx.recovery import RECOVERY_RETRY_SECONDS, RECOVERY_SECONDS
from plane_tx.supervisor import (
    CLOSE_SECONDS,
    CONFIRM_SECONDS,
    RELEASE_MARGIN_SECONDS,
    Supervisor,
)
from tests.conftest import LoggedFailures
from tests.recording_engine import EPOCH, Box, Held, RecordingEngine, address_of, now
from tests.sessions import make_session


@pytest.fixture
def box() -> Box:
    return Box().start()


def history(session: Session) -> str:
    return " ".join(entry.state.status for entry in session.history)


def test_the_engine_that_these_tests_stand_on_keeps_the_contract() -> None:
    assert verifyObject(IEngine, RecordingEngine())


# Connect.


def test_fifty_connects_on_one_key_make_one_session_and_49_joins(box: Box) -> None:
    responses = [now(box.connect("key")) for _ in range(50)]

    assert [response.spawned for response in responses] == [True] + [False] * 49
    assert len({response.backend_id for response in responses}) == 1
    assert len({response.token for response in responses}) == 50
    assert len({response.secret_token for response in responses}) == 50
    assert len(box.engine.called("spawn")) == 1


def test_fifty_keys_make_fifty_sessions_and_afterwards_all_is_at_rest(box: Box) -> None:
    responses = [now(box.connect(f"key {number}")) for number in range(50)]
    sessions = [box.supervisor.get(response.backend_id) for response in responses]
    while box.engine.pending:
        for session_id in list(box.engine.pending):
            box.engine.run(session_id)
            box.dials.answer(address_of(session_id).host)

    ready = [session.status for session in sessions]
    for session in sessions[::2]:
        box.supervisor.soft_terminate(session.id)
    for session in sessions[1::2]:
        box.engine.exit(session.id, 1)

    assert all(response.spawned for response in responses)
    assert ready == [Status.READY] * 50
    box.assert_at_rest()
    assert "50 ended | Tokens: 100" in repr(box.supervisor)


def test_the_answer_is_planes(box: Box) -> None:
    spawned = now(box.connect("key", lifetime_limit_seconds=60, subdomain="sub", user="me"))
    joined = now(box.connect("key", auth={"a": 1}))

    assert attrs.asdict(spawned) == {
        "backend_id": spawned.backend_id,
        "spawned": True,
        "status": "scheduled",
        "token": spawned.token,
        "url": f"http://sub.localhost:9090/{spawned.token}/",
        "subdomain": "sub",
        "secret_token": spawned.secret_token,
        "status_url": f"http://localhost:8080/pub/b/{spawned.backend_id}/status",
        "drone": "localhost",
        "expires_at": (int(EPOCH) + 60) * 1000,
    }
    assert (joined.status, joined.drone, joined.spawned) == ("loading", None, False)
    token = box.supervisor.registry.grants.get(joined.token)
    assert (token.user, token.claims, token.secret) == (None, {"a": 1}, joined.secret_token)


def test_without_a_key_each_connect_is_a_session_of_its_own(box: Box) -> None:
    first, second = now(box.connect(None)), now(box.connect(None))

    assert first.spawned
    assert second.spawned
    assert first.backend_id != second.backend_id


def test_a_static_token_is_the_same_for_every_connect(box: Box) -> None:
    responses = [now(box.connect("key", use_static_token=True)) for _ in range(3)]

    (token,) = {response.token for response in responses}
    assert token.startswith("s.")
    assert {response.secret_token for response in responses} == {None}
    order = box.engine.orders[responses[0].backend_id]
    assert order.environment["SESSION_BACKEND_STATIC_TOKEN"] == token


def test_a_user_or_claims_do_not_go_with_the_static_token_of_a_session_that_lives(box: Box) -> None:
    now(box.connect("key", use_static_token=True))

    for said in ({"user": "ada"}, {"auth": {"role": "admin"}}):
        with pytest.raises(errors.InvalidRequest, match="a static token is shared by everyone"):
            now(box.connect("key", spawn=False, **said))


def test_a_static_link_leads_to_its_session_after_a_restart_too(box: Box) -> None:
    token = now(box.connect("key", use_static_token=True)).token
    session = next(iter(box.supervisor.registry))
    later = Box()
    labels = box.engine.orders[session.id].labels
    later.engine.held[session.id] = Held(labels)

    later.start()

    assert later.supervisor.registry.grants.get(token).session_id == session.id
    assert now(later.connect("key", spawn=False)).token == token


def test_a_token_may_stand_in_the_host(box: Box) -> None:
    response = now(box.connect("key", routing=Routing.HOST))

    assert response.url == f"http://{response.token}.localhost:9090/"
    assert len(response.token) == 52


def test_the_engine_gets_planes_environment_and_the_labels_to_know_it_by(box: Box) -> None:
    session = box.spawn("key", executable=ExecutableRequest(image="image", port=9000))

    order = box.engine.orders[session.id]
    assert order.environment == {
        "PORT": "9000",
        "SESSION_BACKEND_ID": session.id,
        "SESSION_BACKEND_KEY": "key",
        "SESSION_BACKEND_FENCING_TOKEN": str(session.fencing_token),
        "SESSION_BACKEND_URL": f"http://localhost:9090/{session.own_token.value}/",
        "SESSION_BACKEND_CONTROL_URL": "http://localhost:8080",
        "SESSION_BACKEND_SECRET": session.secret,
    }
    assert order.labels == to_labels(session)
    assert order.key == session.key


def test_fencing_tokens_grow_within_one_millisecond(box: Box) -> None:
    tokens = [box.spawn(None).fencing_token for _ in range(3)]

    first = int(EPOCH) * 1000
    assert tokens == [first, first + 1, first + 2]


def test_another_tag_is_refused_while_the_session_lives(box: Box) -> None:
    session = box.spawn("key", tag="a")

    with pytest.raises(errors.KeyHeld, match=session.id):
        now(box.connect("key", tag="b"))


def test_nothing_to_join_and_nothing_to_spawn_is_refused(box: Box) -> None:
    with pytest.raises(errors.KeyUnheldNoSpawnConfig):
        now(box.connect("key", spawn=False))


def test_a_live_session_is_joined_without_a_spawn_config(box: Box) -> None:
    session = box.spawn("key")

    assert now(box.connect("key", spawn=False)).backend_id == session.id


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ({"cluster": "elsewhere"}, errors.InvalidRequest),
        ({"executable": ExecutableRequest(app="none")}, errors.InvalidRequest),
        ({"executable": ExecutableRequest()}, errors.InvalidRequest),
        ({"id": "taken"}, errors.FailedToAcquireKey),
        ({"subdomain": "taken"}, errors.FailedToAcquireKey),
    ],
)
def test_what_is_refused_leaves_nothing_behind(
    box: Box, values: dict[str, object], error: type[Exception]
) -> None:
    box.spawn("other", id="taken", subdomain="taken")
    before = repr(box.supervisor)

    with pytest.raises(error):
        now(box.connect("key", **values))

    assert repr(box.supervisor) == before
    assert now(box.connect("key")).spawned


def test_its_own_cluster_may_be_named(box: Box) -> None:
    assert now(box.connect("key", cluster="localhost:9090")).spawned


def test_an_id_is_taken_even_after_its_session_has_ended(box: Box) -> None:
    session = box.spawn("key", id="mine")
    box.supervisor.hard_terminate(session.id)

    with pytest.raises(errors.FailedToAcquireKey, match="'mine' is taken"):
        now(box.connect("key", id="mine"))


# A key on its way out.


def test_a_connect_meanwhile_waits_for_the_end_and_then_spawns_anew(box: Box) -> None:
    box.engine.obeys = False
    old = box.ready("key", tag="a")
    box.supervisor.soft_terminate(old.id)

    waiting = [box.connect("key", tag="b") for _ in range(3)]
    early = [each.called for each in waiting]
    box.engine.exit(old.id, 0)

    responses = [now(each) for each in waiting]
    assert early == [False] * 3
    assert [response.spawned for response in responses] == [True, False, False]
    assert {response.backend_id for response in responses} != {old.id}
    assert len(box.supervisor._conductor.releases) == 0


def test_a_wait_for_a_key_ends_with_the_grace_and_a_margin(box: Box) -> None:
    box.engine.obeys = False
    old = box.ready("key", stop_grace_seconds=7)
    box.supervisor.soft_terminate(old.id)
    waiting = box.connect("key")

    box.clock.advance(7 + RELEASE_MARGIN_SECONDS - 0.001)
    early = waiting.called
    box.clock.advance(0.001)

    assert not early
    with pytest.raises(errors.FailedToAcquireKey, match=f"{old.id} that holds the key does not"):
        now(waiting)
    assert len(box.supervisor._conductor.releases) == 0


def test_who_gives_up_waiting_for_a_key_leaves_the_others(box: Box) -> None:
    box.engine.obeys = False
    old = box.ready("key")
    box.supervisor.soft_terminate(old.id)
    leaving, staying = box.connect("key"), box.connect("key")

    leaving.cancel()
    box.engine.exit(old.id, 0)

    with pytest.raises(CancelledError):
        now(leaving)
    assert now(staying).spawned


def test_without_a_spawn_config_there_is_nothing_to_wait_for(box: Box) -> None:
    box.engine.obeys = False
    box.supervisor.soft_terminate(box.ready("key").id)

    with pytest.raises(errors.KeyUnheldNoSpawnConfig):
        now(box.connect("key", spawn=False))


# Caps.


def test_places_are_taken_at_once_and_given_back_at_the_end() -> None:
    box = Box(limits=CapacityLimits(max_sessions=2)).start()
    first, _ = box.spawn("a"), box.spawn("b")

    with pytest.raises(errors.AtCapacity, match="all 2 sessions"):
        now(box.connect("c"))
    joined = now(box.connect("a"))
    box.supervisor.hard_terminate(first.id)

    assert not joined.spawned
    assert now(box.connect("c")).spawned


def test_each_user_has_a_number_of_sessions() -> None:
    box = Box(limits=CapacityLimits(max_sessions_per_user=1)).start()
    first = box.spawn("a", user="me")

    with pytest.raises(errors.UserAtCapacity, match="'me' has all 1"):
        now(box.connect("b", user="me"))
    assert box.spawn("c", user="you")
    assert box.spawn("d")
    box.supervisor.hard_terminate(first.id)

    assert box.spawn("b", user="me")


class Storm:
    """200 connects that wait for the same moment, and what each of them got."""

    def __init__(self, box: Box, **values: object) -> None:
        box.engine.waits.add("list_running")
        self.box = box.start()
        self.waiting = [box.connect(f"key {number}", **values) for number in range(200)]
        self.early = [each.called for each in self.waiting]

    def breaks(self) -> tuple[list[Session], list[errors.PlaneError]]:
        """Let all of them go on at once; the sessions spawned, and the errors of the others."""
        results: list[object] = []
        for each in self.waiting:
            each.addBoth(results.append)
        self.box.engine.answer("list_running")
        refused = [result.value for result in results if isinstance(result, Failure)]
        made = [result for result in results if not isinstance(result, Failure)]
        assert len(results) == 200
        assert all(response.spawned for response in made)
        return [self.box.supervisor.get(response.backend_id) for response in made], refused


def test_of_200_connects_at_once_as_many_spawn_as_there_are_places() -> None:
    box = Box(limits=CapacityLimits(max_sessions=10, max_starting=0))
    storm = Storm(box, lifetime_limit_seconds=60)

    sessions, refused = storm.breaks()

    assert not any(storm.early)
    assert len(sessions) == len(box.engine.called("spawn")) == box.supervisor.registry.live_count
    assert len(sessions) == 10
    assert {type(error) for error in refused} == {errors.AtCapacity}
    assert {error.retry_after_seconds for error in refused} == {60}
    assert len(refused) == box.supervisor.measures.refusals["AtCapacity"] == 190
    assert len(box.supervisor.registry.grants) == 20


def test_of_200_connects_of_one_user_as_many_spawn_as_they_may_have() -> None:
    box = Box(limits=CapacityLimits(max_sessions_per_user=10, max_starting=0))
    storm = Storm(box, user="ann", lifetime_limit_seconds=90)

    sessions, refused = storm.breaks()
    other = box.spawn("other", user="bob", lifetime_limit_seconds=1)

    assert len(sessions) == len(box.supervisor.registry.of_user("ann")) == 10
    assert {type(error) for error in refused} == {errors.UserAtCapacity}
    assert {error.retry_after_seconds for error in refused} == {90}
    assert len(refused) == box.supervisor.measures.refusals["UserAtCapacity"] == 190
    assert other.user == "bob"


def test_of_200_sessions_as_many_are_with_the_engine_as_may_start_at_once() -> None:
    box = Box(limits=CapacityLimits(max_starting=10))
    sessions, refused = Storm(box).breaks()
    at_the_engine: list[int] = []

    while box.engine.pending:
        at_the_engine.append(len(box.engine.pending))
        box.engine.run(next(iter(box.engine.pending)))
    for session in sessions:
        box.dials.answer(address_of(session.id).host)

    assert refused == []
    assert at_the_engine == [10] * 191 + list(range(9, 0, -1))
    assert {session.status for session in sessions} == {Status.READY}
    assert box.supervisor.measures.spawns == {"ready": 200}
    for session in sessions:
        box.supervisor.hard_terminate(session.id)
    box.assert_at_rest()


def test_who_is_refused_is_told_of_the_first_end_that_a_clock_will_bring() -> None:
    box = Box(limits=CapacityLimits(max_sessions=3, max_sessions_per_user=1)).start()
    mine = box.ready("a", user="ann", max_idle_seconds=200)
    box.ready("b", lifetime_limit_seconds=100)
    use = box.supervisor.begin_use(mine, UseKind.REQUEST)
    box.clock.advance(20.5)

    with pytest.raises(errors.UserAtCapacity) as in_use:
        now(box.connect("x", user="ann"))
    box.spawn("c")
    with pytest.raises(errors.AtCapacity) as full:
        now(box.connect("x", user="bob"))
    box.supervisor.end_use(mine, use)
    box.supervisor.hard_terminate(box.supervisor.registry.holder(Key("c")).id)
    with pytest.raises(errors.UserAtCapacity) as idle:
        now(box.connect("x", user="ann"))

    told = [refused.value.retry_after_seconds for refused in (in_use, full, idle)]
    assert told == [30, 80, 200]


def test_who_tries_again_when_told_to_finds_a_place() -> None:
    box = Box(limits=CapacityLimits(max_sessions=1)).start()
    box.ready("a", max_idle_seconds=45)
    with pytest.raises(errors.AtCapacity) as refused:
        now(box.connect("b"))

    box.clock.advance(refused.value.retry_after_seconds)
    box.supervisor.reap()

    assert now(box.connect("b")).spawned


def test_sessions_over_max_starting_wait_for_their_turn() -> None:
    box = Box(limits=CapacityLimits(max_starting=2)).start()
    sessions = [box.spawn(f"key {number}") for number in range(4)]
    at_first = [session.status for session in sessions]

    box.engine.run(sessions[0].id)
    box.engine.refuse(sessions[1].id, errors.SpawnFailed("no"))

    assert at_first == [Status.LOADING] * 2 + [Status.SCHEDULED] * 2
    assert [session.status for session in sessions] == [
        Status.WAITING, Status.TERMINATED, Status.LOADING, Status.LOADING,
    ]  # fmt: skip


def test_those_that_waited_for_one_pull_take_their_turns_after_it() -> None:
    box = Box(limits=CapacityLimits(max_starting=1)).start()
    first = box.spawn("a")
    box.engine.pulling(first.id)
    second = box.spawn("b")
    box.engine.pulling(second.id)

    box.engine.creating(first.id)
    box.engine.run(second.id)
    early = first.status, second.status
    box.engine.run(first.id)

    assert early == (Status.STARTING, Status.LOADING)
    assert (first.status, second.status) == (Status.WAITING, Status.WAITING)


def test_a_session_that_ends_while_it_waits_for_its_second_turn_leaves_the_queue() -> None:
    box = Box(limits=CapacityLimits(max_starting=1)).start()
    first = box.spawn("a")
    box.engine.pulling(first.id)
    second = box.spawn("b")
    box.engine.pulling(second.id)
    box.engine.creating(first.id)
    box.engine.run(second.id)

    box.supervisor.hard_terminate(second.id)
    box.engine.run(first.id)
    box.supervisor.hard_terminate(first.id)

    assert history(second) == "scheduled loading hard-terminating terminated"
    box.assert_at_rest()


def test_a_session_that_ends_before_its_turn_gives_it_up() -> None:
    box = Box(limits=CapacityLimits(max_starting=1)).start()
    first, second, third = (box.spawn(key) for key in "abc")

    box.supervisor.soft_terminate(second.id)
    box.engine.run(first.id)

    assert history(second) == "scheduled terminating terminated"
    assert third.status is Status.LOADING
    assert box.engine.called("spawn") == [first.id, third.id]


def test_no_limit_on_starting_is_no_limit() -> None:
    box = Box(limits=CapacityLimits(max_starting=0)).start()

    sessions = [box.spawn(None) for _ in range(100)]

    assert {session.status for session in sessions} == {Status.LOADING}


# Draining.


def test_a_server_that_is_drained_makes_no_sessions_and_goes_on_with_the_others(box: Box) -> None:
    session = box.ready("a")

    changes = [box.supervisor.drain(wanted) for wanted in (True, True)]
    with pytest.raises(errors.Draining, match="it is being drained") as refused:
        now(box.connect("b"))
    joined = now(box.connect("a"))

    assert changes == [True, False]
    assert (refused.value.kind, refused.value.status) == ("NoDroneAvailable", 503)
    assert refused.value.retry_after_seconds == 30
    assert joined.backend_id == session.id
    assert box.supervisor.registry.live_count == 1


def test_a_server_that_is_drained_no_more_makes_sessions(box: Box) -> None:
    box.supervisor.drain(True)

    changes = [box.supervisor.drain(wanted) for wanted in (False, False)]

    assert changes == [True, False]
    assert now(box.connect("key")).spawned


def test_who_waits_for_a_key_while_the_server_is_drained_gets_no_session(box: Box) -> None:
    box.engine.obeys = False
    old = box.ready("key")
    box.supervisor.soft_terminate(old.id)
    waiting = box.connect("key")
    box.supervisor.drain(True)

    box.engine.exit(old.id)

    with pytest.raises(errors.Draining):
        now(waiting)
    box.assert_at_rest()


# Tokens.


def test_a_revocation_takes_the_tokens_of_one_user_of_one_session(box: Box) -> None:
    session, other = box.ready("a"), box.ready("b")
    mine = [now(box.connect("a", user="ann")).token for _ in range(2)]
    theirs = [now(box.connect(key, user=user)).token for key, user in (("a", "bob"), ("b", "ann"))]
    theirs += [now(box.connect("a")).token, session.own_token.value, other.own_token.value]
    cut: list[str] = []
    for value in [*mine, *theirs]:
        use = functools.partial(cut.append, value)
        box.supervisor.begin_use(session, UseKind.REQUEST, Visit(token=value), use)

    revoked = [box.supervisor.revoke(session.id, "ann") for _ in range(2)]
    later = now(box.connect("a", user="ann")).token

    grants = box.supervisor.registry.grants
    assert revoked == [2, 0]
    assert sorted(cut) == sorted(mine)
    assert [grants.get(value) for value in mine] == [None, None]
    assert all(grants.get(value) for value in [*theirs, later])


def test_a_revocation_cuts_passive_uses_too(box: Box) -> None:
    session, cut = box.ready("a"), []
    visit = Visit(token=now(box.connect("a", user="ann")).token)
    box.supervisor.begin_use(
        session, UseKind.WEBSOCKET, visit, lambda: cut.append("cut"), passive=True
    )

    box.supervisor.revoke(session.id, "ann")

    assert cut == ["cut"]


def test_a_revocation_that_meets_nobody_is_nothing(box: Box) -> None:
    session = box.ready("a")

    assert box.supervisor.revoke(session.id, "nobody") == 0
    assert box.supervisor.revoke("x", "ann") == 0


def test_a_use_that_cannot_be_cut_keeps_no_other_open(
    box: Box, logged_failures: LoggedFailures
) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    session, cut = box.ready("a"), []
    visit = Visit(token=now(box.connect("a", user="ann")).token)
    for end in (fail, lambda: cut.append("ended"), fail):
        box.supervisor.begin_use(session, UseKind.REQUEST, visit, end)

    box.supervisor.revoke(session.id, "ann")

    assert cut == ["ended"]
    assert len(logged_failures.claim(ZeroDivisionError)) == 2


def test_the_reaper_forgets_the_tokens_that_nobody_used(box: Box) -> None:
    session = box.ready("key", token_ttl_seconds=60, max_idle_seconds=1000)
    unused = now(box.connect("key")).token
    used = now(box.connect("key")).token
    grants = box.supervisor.registry.grants
    box.clock.advance(50)
    use = box.supervisor.begin_use(session, UseKind.REQUEST, Visit(token=used))
    box.supervisor.end_use(session, use)

    box.clock.advance(10)
    reaped = box.supervisor.reap()
    after = [grants.get(value) is not None for value in (unused, used)]
    box.clock.advance(50)
    box.supervisor.reap()

    assert reaped == 0
    assert after == [False, True]
    assert set(grants._tokens) == {session.own_token.value}
    assert (len(grants._terms), len(grants._expiry)) == (0, 0)


def test_a_lease_is_no_use_of_a_token(box: Box) -> None:
    session = box.ready("key", token_ttl_seconds=60)
    token = now(box.connect("key")).token
    box.supervisor.keep_alive(session.id, 600, "")

    box.clock.advance(60)
    box.supervisor.reap()

    assert box.supervisor.registry.grants.get(token) is None


# What is counted.


def test_joins_and_refusals_are_counted_once_and_by_their_kind(box: Box) -> None:
    box.spawn("key", tag="a")
    now(box.connect("key", tag="a"))
    for values in ({"tag": "b"}, {"tag": "b"}, {"spawn": False, "key": "none"}):
        with pytest.raises(errors.PlaneError):
            now(box.connect(**{"key": "key", **values}))

    measures = box.supervisor.measures
    assert measures.joins == 1
    assert measures.refusals == {"KeyHeld": 2, "KeyUnheldNoSpawnConfig": 1}


def test_who_asked_for_an_end_is_told_where_it_was_asked_for(box: Box) -> None:
    box.engine.obeys = False
    session = box.ready()

    box.supervisor.soft_terminate(session.id, "ann")
    box.supervisor.soft_terminate(session.id, "bob")
    box.supervisor.hard_terminate(session.id, "eve")

    *_, soft, hard, ended = (entry.state for entry in session.history)
    assert (soft.by, hard.by, ended.status) == ("ann", "eve", Status.TERMINATED)


# Holds and uses.


def test_a_hold_is_let_in_when_the_session_is_ready(box: Box) -> None:
    session = box.spawn()
    holds = [box.supervisor.hold(session) for _ in range(3)]
    early = box.supervisor.address_of(session)

    box.engine.run(session.id)
    box.dials.answer(address_of(session.id).host)

    assert early is None
    assert [now(hold) for hold in holds] == [address_of(session.id)] * 3
    assert box.supervisor.address_of(session) == address_of(session.id)
    assert "Holds: 0" in repr(box.supervisor)


def test_a_hold_is_refused_with_the_reason_when_the_session_ends_first(box: Box) -> None:
    session = box.spawn()
    hold = box.supervisor.hold(session)

    box.engine.refuse(session.id, errors.SpawnFailed("the disk is full"))

    with pytest.raises(errors.SessionEnded, match="has ended: the disk is full"):
        now(hold)
    with pytest.raises(errors.SessionEnded, match="has ended: the disk is full"):
        box.supervisor.address_of(session)


def test_a_hold_runs_out(box: Box) -> None:
    session = box.spawn()
    hold = box.supervisor.hold(session)

    box.clock.advance(30)

    with pytest.raises(errors.SessionNotReady, match=r"still loading \(its image is looked up\)"):
        now(hold)
    assert "Holds: 0" in repr(box.supervisor)


def test_a_hold_that_runs_out_during_a_pull_says_how_far_that_is(box: Box) -> None:
    session = box.spawn()
    hold = box.supervisor.hold(session)
    box.engine.pulling(session.id, "registry.example/app:1", 12 << 20, 40 << 20)

    box.clock.advance(30)

    with pytest.raises(errors.SessionNotReady, match=r"\(pulling app: 12 of 40 MiB\): try again"):
        now(hold)


def test_a_pull_takes_nothing_of_the_time_to_start(box: Box) -> None:
    session = box.spawn(lifetime_limit_seconds=100_000)
    box.engine.pulling(session.id)
    box.clock.advance(3600)
    box.supervisor.reap()
    pulling = session.status
    box.engine.creating(session.id)

    deadlines = box.supervisor.deadlines(session)

    assert pulling is Status.LOADING
    assert deadlines["startup"] == EPOCH + 3600 + session.spec.limits.startup_timeout_seconds


def test_a_hold_that_is_given_up_leaves_the_others(box: Box) -> None:
    session = box.spawn()
    leaving, staying = box.supervisor.hold(session), box.supervisor.hold(session)

    leaving.cancel()
    box.engine.run(session.id)
    box.dials.answer(address_of(session.id).host)

    with pytest.raises(CancelledError):
        now(leaving)
    assert now(staying) == address_of(session.id)


def test_the_news_that_a_session_ended_is_waited_for_a_moment(box: Box) -> None:
    session, other = box.ready("a"), box.ready("b")
    soon, never = box.supervisor.ended_soon(session), box.supervisor.ended_soon(other)

    box.engine.exit(session.id, 1)
    box.clock.advance(CONFIRM_SECONDS)

    assert now(soon) is True
    assert now(never) is False
    assert now(box.supervisor.ended_soon(session)) is True
    assert len(box.supervisor._conductor.releases) == 0


def test_a_session_in_use_is_idle_from_the_end_of_its_last_use(box: Box) -> None:
    session = box.ready()
    first = box.supervisor.begin_use(session, UseKind.REQUEST, Visit("1.2.3.4"))
    second = box.supervisor.begin_use(session, UseKind.WEBSOCKET)
    during = box.supervisor.deadlines(session)
    box.clock.advance(100)

    box.supervisor.end_use(session, first)
    box.supervisor.end_use(session, second)
    box.clock.advance(50)
    box.supervisor.end_use(session, second)

    assert during == {}
    assert box.supervisor.deadlines(session) == {"idle": EPOCH + 100 + 300}


def test_what_passes_over_a_passive_use_moves_the_idle_deadline(box: Box) -> None:
    session = box.ready()
    socket = box.supervisor.begin_use(session, UseKind.WEBSOCKET, passive=True)
    opened = box.supervisor.deadlines(session)
    box.clock.advance(100)

    box.supervisor.touch(session, socket)

    assert opened == {"idle": EPOCH + 300}
    assert box.supervisor.deadlines(session) == {"idle": EPOCH + 100 + 300}


def test_a_passive_use_keeps_its_token_alive(box: Box) -> None:
    session = box.ready("key", token_ttl_seconds=60, max_idle_seconds=1000)
    token = now(box.connect("key")).token
    socket = box.supervisor.begin_use(session, UseKind.WEBSOCKET, Visit(token=token), passive=True)
    grants, known = box.supervisor.registry.grants, []

    for end in (lambda: None, lambda: box.supervisor.end_use(session, socket)):
        box.clock.advance(120)
        box.supervisor.reap()
        known.append(grants.get(token) is not None)
        end()
    box.clock.advance(60)
    box.supervisor.reap()

    assert known == [True, True]
    assert grants.get(token) is None


def test_an_unknown_session_is_not_found(box: Box) -> None:
    for ask in (box.supervisor.get, box.supervisor.soft_terminate, box.supervisor.hard_terminate):
        with pytest.raises(errors.NotFound, match="there is no backend 'x'"):
            ask("x")


def test_ending_a_session_that_has_ended_changes_nothing(box: Box) -> None:
    session = box.ready()
    box.supervisor.soft_terminate(session.id)
    before = list(session.history)

    box.supervisor.soft_terminate(session.id)
    box.supervisor.hard_terminate(session.id, "ann")

    assert session.history == before


def test_whoever_watches_is_told_of_every_state_until_they_have_enough(box: Box) -> None:
    told: list[str] = []
    forget = box.supervisor.watch(lambda session, entry: told.append(entry.state.status))

    session = box.spawn()
    box.engine.run(session.id)
    forget()
    box.engine.exit(session.id)

    assert told == ["loading", "starting", "waiting"]


def test_the_engines_health_is_the_servers(box: Box) -> None:
    healthy = now(box.supervisor.health())
    box.engine.lose("gone fishing")

    assert healthy.ok
    assert now(box.supervisor.health()).message == "gone fishing"


# The engine comes and goes.


def test_while_the_engine_is_lost_sessions_are_joined_and_none_are_made(box: Box) -> None:
    session = box.ready("a")
    box.engine.lose("Docker does not answer")

    with pytest.raises(errors.EngineUnavailable, match="Docker does not answer"):
        now(box.connect("b"))
    joined = now(box.connect("a"))
    box.engine.regain()

    assert joined.backend_id == session.id
    assert session.status is Status.READY
    assert now(box.connect("b")).spawned


def test_what_vanished_while_the_engine_was_lost_has_ended(box: Box) -> None:
    gone, there, starting = box.ready("a"), box.ready("b"), box.spawn("c")
    waiting = box.spawn("d")
    box.engine.run(waiting.id)
    box.engine.lose()
    del box.engine.held[gone.id], box.engine.held[waiting.id]

    box.engine.regain()

    assert (gone.status, gone.state.reason) == (Status.TERMINATED, Reason.LOST)
    assert (waiting.status, waiting.state.reason) == (Status.TERMINATED, Reason.LOST)
    assert (there.status, starting.status) == (Status.READY, Status.LOADING)


def test_a_session_made_while_the_engine_was_asked_has_not_vanished(box: Box) -> None:
    box.engine.lose()
    box.engine.waits.add("list_running")
    box.engine.regain()

    session = box.ready("key")
    box.engine.answer("list_running")

    assert session.status is Status.READY


def test_an_ending_that_failed_goes_on_when_the_engine_returns(box: Box) -> None:
    session = box.ready()
    box.engine.lose()
    box.supervisor.soft_terminate(session.id)
    meanwhile = session.status

    box.engine.regain()

    assert meanwhile is Status.TERMINATING
    assert history(session).endswith("ready terminating terminated")
    assert box.engine.called("stop") == [session.id] * 2
    box.assert_at_rest()


def test_a_spawn_that_the_engine_did_not_answer_has_failed(box: Box) -> None:
    session = box.spawn()

    box.engine.refuse(session.id, errors.EngineUnavailable("Docker does not answer"))

    assert session.state.reason is Reason.FAILED
    assert session.state.failure.message == "Docker does not answer"
    assert session.state.failure.kind == "NoDroneAvailable"


# What an earlier run has left.


def left_behind(session_id: str, key: str, **values: object) -> dict[str, Held]:
    """A container of an earlier run, as the engine holds it."""
    rule = values.pop("idle", IdleRule())
    spec = Spec(Executable(image="image"), idle=rule, subdomain=values.pop("subdomain", None))
    running = values.pop("running", True)
    session = make_session(session_id, Key(key), "tag", spec, EPOCH - 60, 1, **values)
    return {session_id: Held(to_labels(session), running)}


def test_a_session_of_an_earlier_run_is_taken_up() -> None:
    box = Box()
    box.engine.held |= left_behind("old", "key", user="me")

    box.start()
    box.dials.answer(address_of("old").host)

    joined = now(box.connect("key", tag="tag"))
    session = box.supervisor.get("old")
    assert (joined.backend_id, joined.spawned, joined.status) == ("old", False, "ready")
    assert (session.user, session.created_at) == ("me", EPOCH - 60)
    assert history(session) == "scheduled waiting ready"


def test_a_session_of_an_earlier_run_keeps_its_idle_rule() -> None:
    box, rule = Box(), IdleRule(IdleCount.MESSAGES, ("phoenix", "ping*"))
    box.engine.held |= left_behind("old", "key", idle=rule)

    box.start()

    assert box.supervisor.get("old").spec.idle == rule


def test_fencing_tokens_rise_above_those_taken_up() -> None:
    box = Box()
    spec = Spec(Executable(image="image"))
    session = make_session("old", Key("old"), "", spec, EPOCH, int(EPOCH) * 2000)
    box.engine.held["old"] = Held(to_labels(session))

    box.start()

    assert box.spawn("new").fencing_token == session.fencing_token + 1


@pytest.mark.parametrize(
    "held",
    [
        {"old": Held({})},
        {"old": Held({RECORD_LABEL: "garbage"})},
        left_behind("old", "other", running=False),
        left_behind("old", "key"),
        left_behind("old", "other", subdomain="home"),
    ],
    ids=["no labels", "garbage", "ended", "a key that is held", "a subdomain that is held"],
)
def test_what_cannot_be_taken_up_is_removed(held: dict[str, Held]) -> None:
    box = Box()
    box.engine.held |= left_behind("first", "key", subdomain="home") | held

    box.start()

    assert set(box.engine.held) == {"first"}
    assert box.engine.called("remove") == ["old"]
    assert box.supervisor.recovered


def test_a_session_that_ends_before_it_is_taken_up_holds_up_nobody() -> None:
    box = Box()
    box.engine.held |= left_behind("one", "one") | left_behind("two", "two")
    box.engine.waits.add("adopt")
    box.start()

    del box.engine.held["one"]
    box.engine.answer("adopt")
    box.engine.answer("adopt")

    states = {session.id: session.status for session in box.supervisor.registry}
    assert states == {"one": Status.TERMINATED, "two": Status.WAITING}
    assert box.supervisor.recovered


def test_a_connect_waits_until_the_earlier_sessions_are_taken_up() -> None:
    box = Box()
    box.engine.held |= left_behind("old", "key")
    box.engine.waits.add("list_running")
    box.start()

    waiting = [box.connect("key", tag="tag"), box.connect("new")]
    early = [each.called for each in waiting]
    box.engine.answer("list_running")

    assert early == [False, False]
    assert [now(each).spawned for each in waiting] == [False, True]


def test_a_connect_does_not_wait_for_ever_for_the_earlier_sessions() -> None:
    box = Box()
    box.engine.waits.add("list_running")
    waiting = box.start().connect()

    box.clock.advance(RECOVERY_SECONDS)

    with pytest.raises(errors.EngineUnavailable, match="has not told yet"):
        now(waiting)


def test_an_engine_that_is_away_at_the_start_is_taken_up_when_it_comes() -> None:
    box = Box()
    box.engine.held |= left_behind("old", "key")
    box.engine.refusal = errors.EngineUnavailable("Docker is not there")
    box.start()

    with pytest.raises(errors.EngineUnavailable, match="Docker is not there"):
        now(box.connect("key"))
    box.engine.regain()

    assert now(box.connect("key", tag="tag")).backend_id == "old"
    assert box.supervisor.recovered


@pytest.mark.parametrize("error", [errors.EngineUnavailable("hiccup"), ZeroDivisionError()])
def test_a_list_that_fails_is_asked_for_again(
    error: Exception, logged_failures: LoggedFailures
) -> None:
    box = Box()
    box.engine.held |= left_behind("old", "key")
    box.engine.waits.add("list_running")
    box.start()
    box.engine.refusal = error
    box.engine.answer("list_running")
    box.engine.refusal = None
    waiting = box.connect("key", tag="tag")

    box.clock.advance(RECOVERY_RETRY_SECONDS)
    box.engine.answer("list_running")

    assert now(waiting).backend_id == "old"
    if isinstance(error, ZeroDivisionError):
        logged_failures.claim(ZeroDivisionError)


def test_sessions_are_taken_up_once_however_often_the_engine_returns() -> None:
    box = Box()
    box.engine.held |= left_behind("one", "one") | left_behind("two", "two")
    box.engine.waits.add("adopt")
    box.start()
    box.engine.lose()
    box.engine.regain()
    box.engine.lose()
    box.engine.regain()

    while "adopt" in dict(box.engine._waiting):
        box.engine.answer("adopt")

    assert box.engine.called("adopt") == ["one", "two"]
    assert len(box.engine.called("list_running")) == 2
    assert box.engine.called("remove") == []


def test_a_return_of_the_engine_comes_before_the_retry() -> None:
    box = Box()
    box.engine.refusal = errors.EngineUnavailable("Docker is not there")
    box.start()

    box.engine.regain()

    assert box.supervisor.recovered
    assert box.clock.getDelayedCalls() == []


# The end.


def test_closing_calls_off_what_boots_and_lets_the_rest_go_on(box: Box) -> None:
    ready, loading, waiting = box.ready("a"), box.spawn("b"), box.spawn("c")
    box.engine.run(waiting.id)
    hold = box.supervisor.hold(loading)

    now(ensureDeferred(box.supervisor.close()))

    with pytest.raises(errors.SessionNotReady, match="the server is stopping"):
        now(hold)
    assert set(box.engine.held) == {ready.id, waiting.id}
    assert box.engine.pending == {}
    assert box.engine.closed
    assert ready.status is Status.READY
    assert "Flights: 0 | Endings: 0 | Holds: 0" in repr(box.supervisor)
    assert box.clock.getDelayedCalls() == []


def test_closing_gives_nobody_a_turn_to_start() -> None:
    box = Box(limits=CapacityLimits(max_starting=1)).start()
    first, *_ = [box.spawn(None) for _ in range(3)]

    now(ensureDeferred(box.supervisor.close()))

    assert box.engine.called("spawn") == [first.id]


def test_closing_waits_for_what_is_cleaned_up_and_for_what_ends(box: Box) -> None:
    box.engine.slow_to_clean, box.engine.obeys = True, False
    loading, ending = box.spawn("a"), box.ready("b")
    box.supervisor.soft_terminate(ending.id)

    closing = ensureDeferred(box.supervisor.close())
    early = closing.called
    box.engine.clean(loading.id)

    assert not early
    assert now(closing) is None
    assert "Endings: 0" in repr(box.supervisor)


def test_closing_does_not_wait_for_an_engine_that_does_not_answer(box: Box) -> None:
    box.engine.slow_to_clean = True
    loading = box.spawn("a")

    closing = ensureDeferred(box.supervisor.close())
    box.clock.advance(CLOSE_SECONDS)

    assert now(closing) is None
    box.engine.clean(loading.id)


def test_what_the_engine_holds_of_a_session_that_has_ended_is_removed(box: Box) -> None:
    session = box.ready()
    box.engine.exit(session.id)
    box.engine.held[session.id] = Held({})

    box.engine.regain()

    assert box.engine.called("remove") == [session.id]


@pytest.mark.parametrize("failed", [True, False])
def test_closing_stops_taking_up(failed: bool) -> None:
    box = Box()
    box.engine.held |= left_behind("old", "key")
    box.engine.waits.add("list_running")
    box.start()
    box.engine.regain()
    if failed:
        box.engine.refusal = errors.EngineUnavailable("hiccup")
        box.supervisor.recovery._again = False
        box.engine.answer("list_running")

    now(ensureDeferred(box.supervisor.close()))
    box.engine.answer("list_running")

    assert list(box.supervisor.registry) == []
    assert box.clock.getDelayedCalls() == []


def test_after_closing_the_engine_is_not_listened_to(box: Box) -> None:
    session = box.ready()

    now(ensureDeferred(box.supervisor.close()))
    box.engine.exit(session.id)

    assert session.status is Status.READY


def test_a_supervisor_that_never_started_can_be_closed() -> None:
    box = Box()

    assert isinstance(box.supervisor, Supervisor)
    assert now(ensureDeferred(box.supervisor.close())) is None
