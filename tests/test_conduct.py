"""A session's way through its life: what each event sets going, and that all of it comes home."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from twisted.internet.defer import Deferred, execute

from plane_tx.chronicle import PROMISE_SECONDS
from plane_tx.conduct import ENDING_RETRY_SECONDS
from plane_tx.core import errors
from plane_tx.core.connect import CapacityLimits
from plane_tx.core.model import (
    Address,
    LogLine,
    LogStream,
    Reason,
    Session,
    Status,
    TerminationKind,
)
from plane_tx.core.wire import ExecutableRequest, ReadinessRequest
from plane_tx.engines.interface import SessionExited
from plane_tx.journal import Journal
from tests.conftest import LoggedFailures
from tests.recording_engine import EPOCH, Box, address_of, now


@pytest.fixture
def box() -> Box:
    return Box().start()


def history(session: Session) -> str:
    return " ".join(entry.state.status for entry in session.history)


def grown_to(box: Box, status: str, **values: object) -> Session:
    """A session that has come as far as `status`."""
    session = box.spawn("key", **values)
    if status == "starting":
        box.engine.creating(session.id)
    if status in ("waiting", "ready"):
        box.engine.run(session.id)
    if status == "ready":
        box.dials.answer(address_of(session.id).host)
    return session


def scheduled(box: Box) -> Session:
    """A session that waits for its turn to start."""
    box.spawn("other")
    return box.spawn("key")


def test_a_session_grows_from_scheduled_to_ready(box: Box) -> None:
    session = box.spawn()
    box.engine.pulling(session.id)
    box.engine.creating(session.id)
    box.engine.run(session.id)
    box.dials.answer(address_of(session.id).host)

    assert history(session) == "scheduled loading starting waiting ready"
    assert session.state.address == address_of(session.id)
    assert "Flights: 0" in repr(box.supervisor)


def test_a_session_that_was_created_is_still_starting(box: Box) -> None:
    session = grown_to(box, "starting")

    box.engine.created(session.id)

    assert history(session) == "scheduled loading starting"


def test_an_engine_need_not_say_that_it_is_creating(box: Box) -> None:
    session = box.spawn()

    box.engine.pending[session.id].report = lambda _: None
    box.engine.run(session.id)

    assert history(session) == "scheduled loading waiting"


def test_a_session_is_probed_as_its_readiness_says(box: Box) -> None:
    readiness = ReadinessRequest("/up", (204,))
    session = box.spawn(executable=ExecutableRequest(image="image", readiness=readiness))
    box.engine.run(session.id)

    transport = box.dials.answer(address_of(session.id).host, b"HTTP/1.1 200 OK")

    assert transport.value().startswith(b"HEAD /up HTTP/1.1\r\n")
    assert session.status is Status.WAITING


# Asked to end.


@pytest.mark.parametrize("status", ["loading", "starting", "waiting", "ready"])
def test_soft_asks_once_and_it_ends(box: Box, status: str) -> None:
    session = grown_to(box, status)

    box.supervisor.soft_terminate(session.id)
    box.supervisor.soft_terminate(session.id)

    assert history(session).endswith(f"{status} terminating terminated")
    assert (session.state.reason, session.state.kind) == (Reason.EXTERNAL, TerminationKind.SOFT)
    assert session.state.last_status == status
    assert box.engine.called("stop") == [session.id]
    box.assert_at_rest()


@pytest.mark.parametrize("status", ["loading", "starting", "waiting", "ready"])
def test_hard_kills_at_once(box: Box, status: str) -> None:
    session = grown_to(box, status)

    box.supervisor.hard_terminate(session.id)

    assert history(session).endswith(f"{status} hard-terminating terminated")
    assert session.state.kind is TerminationKind.HARD
    assert session.state.exit_code == (137 if status in ("waiting", "ready") else None)
    assert (box.engine.called("stop"), box.engine.called("kill")) == ([], [session.id])
    box.assert_at_rest()


@pytest.mark.parametrize("kind", ["soft", "hard"])
def test_a_session_whose_turn_has_not_come_just_ends(kind: str) -> None:
    box = Box(limits=CapacityLimits(max_starting=1)).start()
    session = scheduled(box)

    getattr(box.supervisor, f"{kind}_terminate")(session.id)

    assert history(session).startswith("scheduled ")
    assert session.status is Status.TERMINATED
    assert session.id not in box.engine.called("spawn")


def test_soft_has_its_grace_and_then_comes_hard(box: Box) -> None:
    box.engine.obeys = False
    session = grown_to(box, "ready", stop_grace_seconds=7)
    box.supervisor.soft_terminate(session.id)

    box.clock.advance(6.999)
    early = box.supervisor.reap(), session.status
    box.clock.advance(0.001)
    late = box.supervisor.reap()

    assert early == (0, Status.TERMINATING)
    assert late == 1
    assert history(session).endswith("terminating hard-terminating terminated")
    assert (session.state.reason, session.state.kind) == (Reason.EXTERNAL, TerminationKind.HARD)
    assert (box.engine.called("stop"), box.engine.called("kill")) == ([session.id], [session.id])
    box.assert_at_rest()


def test_hard_does_not_wait_for_the_grace(box: Box) -> None:
    box.engine.obeys = False
    session = grown_to(box, "ready")
    box.supervisor.soft_terminate(session.id)

    box.supervisor.hard_terminate(session.id)
    box.supervisor.soft_terminate(session.id)

    assert history(session).endswith("ready terminating hard-terminating terminated")
    box.assert_at_rest()


def test_a_spawn_that_is_called_off_is_cleaned_up_before_its_key_is_free(box: Box) -> None:
    box.engine.slow_to_clean = True
    session = grown_to(box, "starting")
    box.supervisor.soft_terminate(session.id)
    box.supervisor.hard_terminate(session.id)
    waiting = box.connect("key")
    meanwhile = session.status, waiting.called, box.engine.called("kill")

    box.engine.clean(session.id)

    assert meanwhile == (Status.HARD_TERMINATING, False, [])
    assert session.status is Status.TERMINATED
    assert now(waiting).spawned


def test_a_session_that_is_made_all_the_same_is_ended(box: Box) -> None:
    box.engine.slow_to_clean = True
    session = grown_to(box, "starting")
    box.supervisor.soft_terminate(session.id)

    box.engine.clean(session.id, made=True)

    assert history(session) == "scheduled loading starting terminating terminated"
    assert (session.state.reason, session.state.exit_code) == (Reason.EXTERNAL, 143)
    assert box.engine.called("stop") == [session.id]
    box.assert_at_rest()


def test_a_spawn_that_fails_while_it_is_called_off_ended_on_request(box: Box) -> None:
    box.engine.slow_to_clean = True
    session = grown_to(box, "starting")
    box.supervisor.soft_terminate(session.id)

    box.engine.clean(session.id, errors.SpawnFailed("too late"))

    assert history(session) == "scheduled loading starting terminating terminated"
    assert (session.state.reason, session.state.failure) == (Reason.EXTERNAL, None)
    box.assert_at_rest()


# Ended by itself.


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        ("waiting", 0, "before it answered HTTP, the session's process ended by itself with"),
        ("waiting", 1, "before it answered HTTP, the session's process ended by itself with"),
        ("ready", 1, "the session's process ended by itself with exit code 1"),
    ],
)
def test_an_exit_is_told_with_its_code_and_last_lines(
    box: Box, status: str, code: int, message: str
) -> None:
    session = grown_to(box, status)

    box.engine.exit(session.id, code, tail=("Traceback", "Error"))

    assert history(session).endswith(f"{status} terminated")
    assert (session.state.reason, session.state.exit_code) == (Reason.EXITED, code)
    assert session.state.failure.message.startswith(message)
    assert [line.text for line in session.state.log_tail] == ["Traceback", "Error"]
    box.assert_at_rest()


def test_out_of_memory_is_told(box: Box) -> None:
    session = grown_to(box, "ready")

    box.engine.exit(session.id, 137, oom=True)

    assert (session.state.reason, session.state.oom) == (Reason.OOM, True)


def test_an_exit_during_a_stop_keeps_its_code(box: Box) -> None:
    box.engine.obeys = False
    session = grown_to(box, "ready")
    box.supervisor.soft_terminate(session.id)

    box.engine.exit(session.id, 3)

    assert (session.state.exit_code, session.state.kind) == (3, TerminationKind.SOFT)
    box.assert_at_rest()


def test_an_exit_that_is_heard_before_the_spawn_is_answered_ends_it(box: Box) -> None:
    session = grown_to(box, "starting")

    box.engine._listeners.tell(SessionExited(session.id, 1))

    assert history(session) == "scheduled loading starting terminated"
    box.assert_at_rest()


def test_a_session_that_ended_at_once_has_exited(box: Box) -> None:
    session = grown_to(box, "starting")
    last = (LogLine(1, LogStream.STDERR, "last"),)

    box.engine.refuse(session.id, errors.EndedAtOnce("at once", 2, last))

    assert (session.state.reason, session.state.exit_code) == (Reason.EXITED, 2)
    assert session.state.log_tail == last
    box.assert_at_rest()


def test_the_exit_of_a_stranger_is_nothing(box: Box) -> None:
    before = repr(box.supervisor)

    box.engine._listeners.tell(SessionExited("stranger", 1))

    assert repr(box.supervisor) == before


# What engines and watchers do wrong.


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (errors.SpawnFailed("no space left"), "SpawnFailed"),
        (errors.ImageUnavailable("no such image"), "ImageUnavailable"),
    ],
)
def test_a_spawn_that_fails_says_why(box: Box, error: errors.PlaneError, kind: str) -> None:
    session = grown_to(box, "starting")

    box.engine.refuse(session.id, error)

    assert (session.state.reason, session.state.exit_code) == (Reason.FAILED, None)
    assert (session.state.failure.kind, session.state.failure.message) == (kind, str(error))
    box.assert_at_rest()


def test_a_spawn_that_breaks_ends_the_session_all_the_same(
    box: Box, logged_failures: LoggedFailures
) -> None:
    session = box.spawn()

    box.engine.refuse(session.id, ZeroDivisionError())

    logged_failures.claim(ZeroDivisionError)
    assert session.state.reason is Reason.FAILED
    assert session.state.failure.message.startswith("the server failed to make this session: ")
    box.assert_at_rest()


@pytest.mark.parametrize("error", [errors.EngineUnavailable("hiccup"), ZeroDivisionError()])
@pytest.mark.parametrize("kind", ["soft", "hard"])
def test_an_ending_that_fails_is_tried_again(
    box: Box, error: Exception, kind: str, logged_failures: LoggedFailures
) -> None:
    session = grown_to(box, "ready")
    box.engine.refusal = error
    getattr(box.supervisor, f"{kind}_terminate")(session.id)
    box.engine.refusal = None

    box.clock.advance(ENDING_RETRY_SECONDS - 0.001)
    box.supervisor.reap()
    meanwhile = session.status
    box.clock.advance(0.001)
    reaped = box.supervisor.reap()

    assert meanwhile is not Status.TERMINATED
    assert reaped == 0
    assert session.status is Status.TERMINATED
    box.assert_at_rest()
    if isinstance(error, ZeroDivisionError):
        logged_failures.claim(ZeroDivisionError)


@pytest.mark.parametrize("kind", ["soft", "hard"])
def test_asking_when_a_place_comes_free_calls_off_no_retry(box: Box, kind: str) -> None:
    session = grown_to(box, "ready")
    box.engine.refusal = errors.EngineUnavailable("hiccup")
    getattr(box.supervisor, f"{kind}_terminate")(session.id)
    box.engine.refusal = None

    soonest = box.supervisor._conductor.soonest_deadline()
    box.clock.advance(ENDING_RETRY_SECONDS)
    box.supervisor.reap()

    assert soonest == EPOCH + ENDING_RETRY_SECONDS
    assert session.status is Status.TERMINATED
    box.assert_at_rest()


def test_a_stop_that_goes_on_failing_is_followed_by_a_kill(box: Box) -> None:
    session = grown_to(box, "ready", stop_grace_seconds=12)
    box.engine.refusal = errors.EngineUnavailable("hiccup")
    box.supervisor.soft_terminate(session.id)

    for _ in range(5):
        box.clock.advance(ENDING_RETRY_SECONDS)
        box.supervisor.reap()

    assert len(box.engine.called("stop")) >= 3
    assert len(box.engine.called("kill")) >= 2
    assert session.status is Status.HARD_TERMINATING


def test_a_stop_that_fails_after_the_exit_is_nothing(box: Box) -> None:
    box.engine.waits.add("stop")
    session = grown_to(box, "ready")
    box.supervisor.soft_terminate(session.id)
    box.engine.exit(session.id, 0)
    box.engine.refusal = errors.EngineUnavailable("hiccup")

    box.engine.answer("stop")

    assert session.state.exit_code == 0
    box.assert_at_rest()


def test_a_stop_that_takes_long_is_not_asked_for_twice(box: Box) -> None:
    box.engine.obeys = False
    session = grown_to(box, "ready", stop_grace_seconds=3600)
    box.supervisor.soft_terminate(session.id)
    box.engine.lose()
    box.engine.regain()
    box.clock.advance(1800)

    box.supervisor.reap()

    assert box.engine.called("stop") == [session.id]


def test_a_probe_that_breaks_leaves_the_startup_limit(
    box: Box, logged_failures: LoggedFailures
) -> None:
    session = grown_to(box, "waiting")
    box.dials.refuse(address_of(session.id).host, ZeroDivisionError())
    meanwhile = session.status

    box.clock.advance(300)
    box.supervisor.reap()

    logged_failures.claim(ZeroDivisionError)
    assert meanwhile is Status.WAITING
    assert session.state.reason is Reason.STARTUP_TIMEOUT
    box.assert_at_rest()


def test_a_watcher_that_breaks_is_in_nobodys_way(box: Box, logged_failures: LoggedFailures) -> None:
    told: list[str] = []
    box.supervisor.watch(lambda *_: 1 / 0)
    box.supervisor.watch(lambda _, entry: told.append(entry.state.status))

    grown_to(box, "ready")

    assert told == ["loading", "starting", "waiting", "ready"]
    assert len(logged_failures.claim(ZeroDivisionError)) == 4


def test_whoever_is_let_in_may_end_the_session_at_once(box: Box) -> None:
    session = box.spawn()
    hold = box.supervisor.hold(session)
    hold.addCallback(lambda _: box.supervisor.soft_terminate(session.id))

    box.engine.run(session.id)
    box.dials.answer(address_of(session.id).host)

    assert now(hold) is None
    assert history(session).endswith("ready terminating terminated")
    box.assert_at_rest()


class SlowDisk:
    """A journal's thread that does nothing until the test says so."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Callable[[], None], Deferred[None]]] = []
        self.journal = Journal(Path(":memory:"), self.run)
        self.journal.open(EPOCH)

    def run(self, work: Callable[[], None]) -> Deferred[None]:
        self.waiting.append((work, Deferred()))
        return self.waiting[-1][1]

    def write(self) -> None:
        while self.waiting:
            work, done = self.waiting.pop(0)
            execute(work).chainDeferred(done)


def test_a_session_is_not_made_nor_told_of_before_the_journal_knows_it() -> None:
    disk = SlowDisk()
    box = Box(disk.journal).start()
    connecting = box.connect()
    before = (connecting.called, dict(box.engine.orders))

    disk.write()

    assert before == (False, {})
    assert list(box.engine.orders) == [now(connecting).backend_id]


def test_a_journal_that_hangs_holds_up_a_connect_for_a_second_only() -> None:
    disk = SlowDisk()
    box = Box(disk.journal).start()
    connecting = box.connect()

    box.clock.advance(PROMISE_SECONDS)

    assert list(box.engine.orders) == [now(connecting).backend_id]
    disk.write()


def test_a_journal_that_fails_is_no_reason_to_make_no_sessions() -> None:
    box = Box().start()
    box.journal._connection.execute("PRAGMA query_only = ON")

    session = box.ready()

    assert session.status is Status.READY


# Out of sight.


ELSEWHERE = Address("elsewhere.invalid", 8080)


def test_nobody_is_led_to_the_address_of_one_that_may_be_gone(box: Box) -> None:
    session = grown_to(box, "ready")

    box.engine.lose_sight(session.id)
    address, held = box.supervisor.address_of(session), box.supervisor.hold(session)
    box.engine.exit(session.id, 1)

    assert address is None
    with pytest.raises(errors.SessionEnded):
        now(held)
    box.assert_at_rest()


def test_one_that_is_found_again_is_reached_where_it_is_now(box: Box) -> None:
    session = grown_to(box, "ready")
    box.engine.lose_sight(session.id)
    held = box.supervisor.hold(session)

    box.engine.find_again(session.id, ELSEWHERE)

    assert now(held) == ELSEWHERE
    assert box.supervisor.address_of(session) == ELSEWHERE
    assert history(session).endswith("waiting ready")


def test_the_probe_of_one_that_may_be_gone_is_called_off_and_begins_anew(box: Box) -> None:
    session = grown_to(box, "waiting")
    box.engine.lose_sight(session.id)
    dials = len(box.dials.reactor.tcpClients)
    box.clock.advance(5)
    meanwhile = len(box.dials.reactor.tcpClients)

    box.engine.find_again(session.id, ELSEWHERE)
    box.dials.answer(ELSEWHERE.host)

    assert meanwhile == dials
    assert (session.status, session.state.address) == (Status.READY, ELSEWHERE)


def test_one_that_is_gone_before_its_address_is_known_is_not_probed(box: Box) -> None:
    session = grown_to(box, "starting")
    box.engine.lose_sight(session.id)

    box.engine.run(session.id)
    dials = box.dials.of(address_of(session.id).host)
    box.engine.exit(session.id, 1)

    assert dials == []
    assert history(session).endswith("waiting terminated")
    box.assert_at_rest()


def test_one_that_is_ending_goes_on_ending_out_of_sight(box: Box) -> None:
    box.engine.obeys = False
    session = grown_to(box, "ready")
    box.supervisor.soft_terminate(session.id)

    box.engine.lose_sight(session.id)
    box.supervisor.hard_terminate(session.id)

    assert session.status is Status.TERMINATED


@pytest.mark.parametrize("tell", ["lose_sight", "find_again"])
def test_news_of_one_that_nobody_knows_is_no_news(box: Box, tell: str) -> None:
    where = (ELSEWHERE,) if tell == "find_again" else ()

    getattr(box.engine, tell)("nobody", *where)

    assert box.supervisor.registry.get("nobody") is None
