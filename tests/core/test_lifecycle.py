"""The life of a session: forwards only, by the table, losing nothing that is known."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plane_tx.core import lifecycle as life
from plane_tx.core import views
from plane_tx.core.lifecycle import EFFECTS, TABLE, Effect, IllegalTransition, advance, is_live
from plane_tx.core.model import (
    ORDINAL,
    Address,
    Failure,
    HardTerminating,
    Loading,
    LogLine,
    LogStream,
    Ready,
    Reason,
    Scheduled,
    Starting,
    State,
    Status,
    StatusEntry,
    Terminated,
    Terminating,
    TerminationKind,
    Waiting,
)

HERE = Address("127.0.0.1", 8080)
WENT_WRONG = Failure("kind", "what went wrong")

addresses = st.builds(Address, st.sampled_from(["127.0.0.1", "::1"]), st.integers(1, 65535))
failures = st.none() | st.builds(Failure, st.text(), st.text())
lines = st.builds(LogLine, st.none() | st.integers(0), st.sampled_from(LogStream), st.text())
reasons = st.sampled_from(Reason)
booting = st.sampled_from([status for status in Status if ORDINAL[status] <= ORDINAL[Status.READY]])
STATES: dict[Status, st.SearchStrategy[State]] = {
    Status.SCHEDULED: st.just(Scheduled()),
    Status.LOADING: st.just(Loading()),
    Status.STARTING: st.just(Starting()),
    Status.WAITING: st.builds(Waiting, addresses),
    Status.READY: st.builds(Ready, addresses),
    Status.TERMINATING: st.builds(Terminating, booting, reasons, failures),
    Status.HARD_TERMINATING: st.builds(HardTerminating, booting, reasons, failures),
    Status.TERMINATED: st.builds(
        Terminated,
        booting,
        reasons,
        st.none() | st.sampled_from(TerminationKind),
        st.none() | st.integers(0, 255),
        st.booleans(),
        failures,
    ),
}
states = st.one_of(*STATES.values())
exits = st.builds(
    life.Exited, st.none() | st.integers(0, 255), st.booleans(), st.lists(lines).map(tuple)
)
events = st.one_of(
    st.just(life.LoadingBegan()),
    st.just(life.StartBegan()),
    st.builds(life.Launched, addresses),
    st.builds(life.Answered, addresses),
    st.builds(life.SoftTerminate, reasons, failures),
    st.builds(life.HardTerminate, st.none() | reasons, failures),
    exits,
    st.builds(life.SpawnFailed, st.builds(Failure, st.text(), st.text())),
    st.just(life.Vanished()),
)


@given(states, events)
def test_an_event_leads_where_the_table_says_and_nowhere_else(state: State, event: Any) -> None:
    target = TABLE[state.status].get(type(event))

    if target is None:
        with pytest.raises(IllegalTransition, match=type(event).__name__):
            advance(state, event)
    else:
        assert advance(state, event).status is target


def test_the_table_only_leads_forwards() -> None:
    for status, row in TABLE.items():
        for target in row.values():
            assert ORDINAL[target] >= ORDINAL[status]


def test_every_status_has_a_row_and_its_effects() -> None:
    assert set(TABLE) == set(EFFECTS) == set(Status)


@given(states, events)
def test_an_event_that_changes_nothing_gives_the_same_state(state: State, event: Any) -> None:
    target = TABLE[state.status].get(type(event))

    if target is state.status:
        assert advance(state, event) is state


@given(STATES[Status.TERMINATED], events)
def test_terminated_stays(state: State, event: Any) -> None:
    assert advance(state, event) is state


@given(st.lists(events), exits)
def test_every_walk_ends_with_an_exit(walk: list[Any], last: life.Exited) -> None:
    state: State = Scheduled()
    for event in walk:
        if type(event) in TABLE[state.status]:
            state = advance(state, event)

    assert advance(state, last).status is Status.TERMINATED


@given(states, reasons, failures)
def test_whatever_it_is_an_end_can_be_asked_for(
    state: State, reason: Reason, failure: Failure | None
) -> None:
    for event in (life.SoftTerminate(reason, failure), life.HardTerminate(reason, failure)):
        assert ORDINAL[advance(state, event).status] >= ORDINAL[Status.TERMINATING]


@given(STATES[Status.TERMINATING], st.none() | reasons, failures)
def test_hard_after_soft_keeps_where_it_was_and_what_is_not_said_anew(
    soft: Terminating, reason: Reason | None, failure: Failure | None
) -> None:
    hard = advance(soft, life.HardTerminate(reason, failure))

    assert hard == HardTerminating(soft.last_status, reason or soft.reason, failure or soft.failure)


@given(STATES[Status.HARD_TERMINATING], reasons)
def test_soft_after_hard_changes_nothing(hard: HardTerminating, reason: Reason) -> None:
    assert advance(hard, life.SoftTerminate(reason)) is hard


def test_hard_without_a_reason_is_somebodys_wish() -> None:
    assert advance(Ready(HERE), life.HardTerminate()).reason is Reason.EXTERNAL


@given(STATES[Status.TERMINATING] | STATES[Status.HARD_TERMINATING], exits)
def test_an_exit_on_request_keeps_who_asked_and_how_it_ended(
    ending: Terminating | HardTerminating, exited: life.Exited
) -> None:
    ended = advance(ending, exited)

    assert (ended.last_status, ended.reason) == (ending.last_status, ending.reason)
    assert (ended.exit_code, ended.oom) == (exited.exit_code, exited.oom)
    assert ended.kind is (
        TerminationKind.SOFT if isinstance(ending, Terminating) else TerminationKind.HARD
    )
    assert (ended.failure, ended.log_tail) == (ending.failure, exited.log_tail)


@given(st.one_of(*(STATES[status] for status in list(Status)[:5])), exits)
def test_an_exit_of_its_own_keeps_code_oom_and_last_lines(
    state: State, exited: life.Exited
) -> None:
    ended = advance(state, exited)

    assert (ended.last_status, ended.kind) == (state.status, None)
    assert (ended.exit_code, ended.oom) == (exited.exit_code, exited.oom)
    assert ended.reason is (Reason.OOM if exited.oom else Reason.EXITED)
    assert ended.log_tail == exited.log_tail


@pytest.mark.parametrize(
    ("state", "exited", "message"),
    [
        (Ready(HERE), life.Exited(3), "the session's process ended by itself with exit code 3"),
        (
            Waiting(HERE),
            life.Exited(0),
            (
                "before it answered HTTP, the session's process ended by itself with exit code 0:"
                " its command has to go on in the foreground, and serve HTTP"
            ),
        ),
        (
            Starting(),
            life.Exited(1),
            (
                "before it answered HTTP, the session's process ended by itself with exit code 1:"
                " its last log lines may say why"
            ),
        ),
        (
            Waiting(HERE),
            life.Exited(127),
            (
                "before it answered HTTP, the session's process ended by itself with exit code 127:"
                " its command was not found; look at command and entrypoint, and at its log"
            ),
        ),
        (
            Waiting(HERE),
            life.Exited(126),
            (
                "before it answered HTTP, the session's process ended by itself with exit code 126:"
                " its command may not be run; look at command and entrypoint, and at its log"
            ),
        ),
        (
            Ready(HERE),
            life.Exited(128),
            "the session's process ended by itself with exit code 128",
        ),
        (
            Ready(HERE),
            life.Exited(139),
            "the session's process was ended by signal 11 (exit code 139)",
        ),
        (
            Waiting(HERE),
            life.Exited(),
            (
                "before it answered HTTP, the session's process ended, and its exit code is not"
                " known: its last log lines may say why"
            ),
        ),
        (
            Ready(HERE),
            life.Exited(137, oom=True),
            (
                "the session used more memory than its limit and was killed: have it use less, or"
                " give it more (resource_limits.memory_limit_bytes)"
            ),
        ),
        (Ready(HERE), life.Vanished(), "the engine no longer knows the session"),
    ],
)
def test_an_end_that_nobody_asked_for_says_why(state: State, exited: Any, message: str) -> None:
    assert advance(state, exited).failure.message == message


def test_a_ready_session_that_exits_with_0_has_not_failed() -> None:
    assert advance(Ready(HERE), life.Exited(0)).failure is None


def test_a_failed_spawn_keeps_its_failure() -> None:
    ended = advance(Loading(), life.SpawnFailed(WENT_WRONG))

    assert ended == Terminated(Status.LOADING, Reason.FAILED, failure=WENT_WRONG)


@pytest.mark.parametrize("status", Status)
def test_who_ends_refuses_holds_and_who_is_gone_lets_go(status: Status) -> None:
    effects = EFFECTS[status]

    assert (Effect.REFUSE_HOLDS in effects) == (not is_live(status))
    assert (Effect.RELEASE in effects) == (status is Status.TERMINATED)


def walked(*events: Any, state: State | None = None) -> list[State]:
    states = [state or Ready(HERE)]
    for event in events:
        states.append(advance(states[-1], event))
    return states[1:]


_SOFT = life.SoftTerminate(Reason.EXTERNAL)
_HARD = life.HardTerminate(Reason.EXTERNAL)
_LATE = life.HardTerminate(Reason.STARTUP_TIMEOUT)


@pytest.mark.parametrize(
    ("states", "path", "reason", "kind", "exit_error"),
    [
        pytest.param(walked(life.Exited(0)), "terminated", None, None, False, id="exits 0"),
        pytest.param(walked(life.Exited(1)), "terminated", None, None, True, id="exits 1"),
        pytest.param(
            walked(_SOFT, life.Exited(0)),
            "terminating terminated", "external", "soft", False, id="soft",
        ),
        pytest.param(
            walked(_SOFT, life.Exited(143)),
            "terminating terminated", "external", "soft", True, id="soft, 143",
        ),
        pytest.param(
            walked(_HARD, life.Exited(137)),
            "hard-terminating terminated", "external", "hard", True, id="hard",
        ),
        pytest.param(
            walked(_SOFT, _HARD, life.Exited(137)),
            "terminating hard-terminating terminated", "external", "hard", True, id="soft, hard",
        ),
        pytest.param(
            walked(life.SoftTerminate(Reason.IDLE), life.Exited(0)),
            "terminating terminated", "swept", "soft", False, id="idle",
        ),
        pytest.param(
            walked(life.SoftTerminate(Reason.LIFETIME), life.Exited(0)),
            "terminating terminated", "swept", "soft", False, id="lifetime",
        ),
        pytest.param(
            walked(life.SoftTerminate(Reason.UNCLAIMED), life.HardTerminate(), life.Exited(137)),
            "terminating hard-terminating terminated", "swept", "hard", True, id="unclaimed",
        ),
        pytest.param(
            walked(life.SpawnFailed(WENT_WRONG), state=Loading()),
            "terminated", None, None, False, id="pull fails",
        ),
        pytest.param(
            walked(_LATE, life.Exited(137), state=Waiting(HERE)),
            "hard-terminating terminated", "startuptimeout", "hard", True, id="never listens",
        ),
        pytest.param(
            walked(life.Vanished()), "terminated", "lost", None, False, id="unknown to the engine"
        ),
        pytest.param(
            walked(life.Exited(137, oom=True)), "terminated", None, None, True, id="out of memory"
        ),
    ],
)  # fmt: skip
def test_planes_clients_see_each_cause_as_plane_tells_it(
    states: list[State], path: str, reason: str | None, kind: str | None, exit_error: bool
) -> None:
    lines = [views.status_entry(StatusEntry(state, 1.0)) for state in states]

    assert [line["status"] for line in lines] == path.split()
    assert lines[-1].get("termination_reason") == reason
    assert lines[-1].get("termination_kind") == kind
    assert lines[-1]["exit_error"] is exit_error


def test_who_asked_is_kept_with_each_thing_they_asked_for() -> None:
    soft, hard = walked(
        life.SoftTerminate(Reason.EXTERNAL, by="ann"), life.HardTerminate(Reason.EXTERNAL, by="bob")
    )

    assert (soft.by, hard.by) == ("ann", "bob")


def test_nobody_asked_for_what_a_clock_brings_about() -> None:
    soft, hard = walked(life.SoftTerminate(Reason.EXTERNAL, by="ann"), life.HardTerminate())

    assert (soft.by, hard.by, hard.reason) == ("ann", "", Reason.EXTERNAL)
