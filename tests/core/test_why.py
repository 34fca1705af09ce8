"""Why a session runs and what ends it next; why it does not, as a chain of causes."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from plane_tx.core.ledger import CLOSED_KEPT, Connection, ConnectionKind
from plane_tx.core.model import (
    Address,
    Executable,
    Failure,
    HardTerminating,
    IdleCount,
    IdleRule,
    Limits,
    Loading,
    Ready,
    Reason,
    Scheduled,
    Session,
    Spec,
    State,
    Status,
    StatusEntry,
    Terminated,
    Terminating,
    TerminationKind,
    Waiting,
)
from plane_tx.core.use import Use, UseKind, Visit
from plane_tx.core.why import why
from tests.sessions import make_session

READY = Ready(Address("127.0.0.1", 1))
SOFT, HARD = TerminationKind.SOFT, TerminationKind.HARD
MESSAGES = IdleRule(IdleCount.MESSAGES)
ADA = Visit("1.2.3.4", "/ws", "ada", "t" * 43)


def a_session(*states: State, limits: Limits = Limits(60.0), **values: Any) -> Session:  # noqa: B008  # frozen
    history = [StatusEntry(state, 10.0 * at) for at, state in enumerate(states, 1)]
    return make_session(spec=Spec(Executable(), limits), history=history, **values)


def test_a_session_in_use_tells_each_hold_and_that_its_idle_clock_does_not_run() -> None:
    socket = Use(UseKind.WEBSOCKET, 100.0, ADA, last_data=117.5)
    lease = Use(UseKind.LEASE, 90.0, until=150.0, reason="a backup")

    told = why(a_session(Scheduled(), READY, uses={socket, lease}), 120.0)

    assert told["alive"] is True
    assert told["summary"] == (
        "It is in use: 1 lease, 1 WebSocket. Its idle clock starts when the last of these has gone."
    )
    assert [hold["kind"] for hold in told["holds"]] == ["lease", "websocket"]
    assert told["holds"][1] == {
        "kind": "websocket",
        "since": 100_000,
        "age_seconds": 20.0,
        "peer": "1.2.3.4",
        "path": "/ws",
        "user": "ada",
        "last_data": 117_500,
        "silent_seconds": 2.5,
        "until": None,
        "reason": "",
    }
    assert told["next"] == [
        {
            "cause": "idle",
            "at": None,
            "in_seconds": None,
            "message": "it ends when nobody uses it for 60 s after the last of its holds has gone",
        }
    ]
    assert told["causes"] == []


def test_no_token_is_told() -> None:
    use = Use(UseKind.REQUEST, 1.0, ADA)

    told = why(a_session(Scheduled(), READY, uses={use}), 2.0)

    assert "ttt" not in str(told)


def test_an_idle_session_tells_when_it_ends() -> None:
    limits = Limits(60.0, lifetime_limit_seconds=1000.0, claim_within_seconds=500.0)

    told = why(a_session(Scheduled(), READY, idle_since=100.0, limits=limits), 130.0)

    assert told["summary"] == (
        "Nobody has used it for 30.0 s. Unless somebody uses it, it ends in 30.0 s."
    )
    assert [(each["cause"], each["in_seconds"]) for each in told["next"]] == [
        ("idle", 30.0),
        ("unclaimed", 470.0),
        ("lifetime", 870.0),
    ]
    assert told["next"][0]["message"] == "nobody uses it, and it ends after 60 s of that"


def test_a_booting_session_tells_its_phase_and_who_waits() -> None:
    held = {Use(UseKind.HOLD, 11.0, ADA), Use(UseKind.HOLD, 12.0, ADA)}

    told = why(a_session(Scheduled(), Loading(), uses=held), 25.0)

    assert told["summary"] == (
        "It boots: loading for 5.0 s (its image is looked up), with 2 held requests."
        " Its idle clock starts when it is ready."
    )


def test_a_session_without_a_limit_says_that_nothing_ends_it() -> None:
    told = why(a_session(Scheduled(), READY, limits=Limits(), idle_since=20.0), 30.0)

    assert told["next"] == []
    assert "No clock will end it" in told["summary"]


def passive_since(since: float, **values: Any) -> Use:
    return Use(UseKind.WEBSOCKET, since, ADA, passive=True, **values)


def with_passives(rule: IdleRule, *passives: Use, **values: Any) -> Session:
    uses = {*passives, *values.pop("holds", ())}
    session = a_session(Scheduled(), READY, uses=uses, passives=len(passives), **values)
    session.spec = attrs.evolve(session.spec, idle=rule)
    return session


def test_passive_connections_are_told_apart_and_do_not_stop_the_idle_clock() -> None:
    sockets = passive_since(21.0), passive_since(20.0, last_data=39.0)

    told = why(with_passives(MESSAGES, *sockets, idle_since=30.0), 42.0)

    assert told["summary"] == (
        "2 WebSockets are open, of which only messages count; the last use was 12.0 s ago."
        " Unless somebody uses it, it ends in 48.0 s."
    )
    assert (told["hold_count"], told["holds"]) == (0, [])
    assert told["passive_count"] == 2
    assert [(use["since"], use["silent_seconds"]) for use in told["passive"]] == [
        (20_000, 3.0), (21_000, None),
    ]  # fmt: skip
    assert [(each["cause"], each["at"]) for each in told["next"]] == [("idle", 90_000)]
    assert told["next"][0]["message"] == (
        "nothing that counts has passed over what is open, and it ends after 60 s of that"
    )


@pytest.mark.parametrize(
    ("rule", "what"),
    [
        (MESSAGES, "only messages count"),
        (IdleRule(IdleCount.MESSAGES, ("ping",)), "only messages that are not ignored count"),
        (IdleRule(IdleCount.BYTES), "only bytes count"),
    ],
)
def test_what_counts_of_a_passive_connection_is_told(rule: IdleRule, what: str) -> None:
    told = why(with_passives(rule, passive_since(20.0), idle_since=30.0), 42.0)

    assert told["summary"].startswith(f"1 WebSocket is open, of which {what}; the last use was ")


def test_passive_connections_beside_a_hold_are_told_after_it() -> None:
    hold = Use(UseKind.REQUEST, 25.0, ADA)

    told = why(with_passives(MESSAGES, passive_since(20.0), holds=[hold]), 42.0)

    assert told["summary"] == (
        "It is in use: 1 request. Its idle clock starts when the last of these has gone."
        " Of 1 WebSocket beside them only messages count."
    )
    assert (told["hold_count"], told["passive_count"]) == (1, 1)
    assert [use["kind"] for use in told["holds"]] == ["request"]
    assert [use["kind"] for use in told["passive"]] == ["websocket"]


def test_the_death_beside_a_silent_connection_is_told_from_what_passed_last() -> None:
    socket = passive_since(12.0)
    session = a_session(
        Scheduled(), READY, Terminating(Status.READY, Reason.IDLE),
        uses={socket}, passives=1, last_use=socket, last_used=15.5,
    )  # fmt: skip

    told = why(session, 99.0)

    assert (told["passive_count"], told["passive"]) == (0, [])
    assert told["causes"][0]["message"] == (
        "a WebSocket of user 'ada' from 1.2.3.4 to /ws, open for 3.5 s by then, was the last use"
    )


def reaped(rule: IdleRule, *connections: Connection) -> Session:
    """A session that was asked to end for idleness at 30.0, and was gone at 40.0."""
    ended = Terminated(Status.READY, Reason.IDLE, SOFT, 0)
    session = a_session(Scheduled(), READY, Terminating(Status.READY, Reason.IDLE), ended)
    session.spec = attrs.evolve(session.spec, idle=rule)
    for connection in connections:
        session.connections.begin(connection)
        if connection.closed_at is not None:
            session.connections.end(connection, connection.closed_at)
    return session


def connected(
    opened: float, closed: float | None = 30.5, kind: ConnectionKind = ConnectionKind.WEBSOCKET
) -> Connection:
    return Connection(kind, opened, closed_at=closed)


NOT_IGNORED = IdleRule(IdleCount.MESSAGES, ("ping",))


@pytest.mark.parametrize(
    ("rule", "connections", "beside"),
    [
        (NOT_IGNORED, [connected(21.0), connected(22.0, None)],
         "2 WebSockets were open, of which only messages that are not ignored count"),
        (MESSAGES, [connected(21.0), connected(22.0, 29.9), connected(30.1)],
         "1 WebSocket was open, of which only messages count"),
        (IdleRule(IdleCount.BYTES), [connected(21.0, kind=ConnectionKind.TUNNEL)],
         "1 tunnel was open, of which only bytes count"),
        (MESSAGES, [connected(21.0), connected(21.0, kind=ConnectionKind.TUNNEL)],
         ("1 tunnel, 1 WebSocket were open, of which only messages count"
          " (over a tunnel every byte)")),
        (MESSAGES, [connected(21.0) for _ in range(CLOSED_KEPT + 1)],
         "at least 200 WebSockets were open, of which only messages count"),
        (MESSAGES, [connected(21.0) for _ in range(CLOSED_KEPT - 1)],
         "199 WebSockets were open, of which only messages count"),
    ],
)  # fmt: skip
def test_whoever_had_a_tab_open_learns_why_the_session_was_reaped_all_the_same(
    rule: IdleRule, connections: list[Connection], beside: str
) -> None:
    told = why(reaped(rule, *connections), 99.0)

    assert told["summary"] == f"This session has ended: nobody used it for 60 s; {beside}."
    assert [cause["message"] for cause in told["causes"]] == [
        "nobody came after it was ready",
        f"it was asked to end: nobody used it for 60 s; {beside}",
        "its process ended with exit code 0",
    ]


@pytest.mark.parametrize(
    ("rule", "connections"),
    [(MESSAGES, []), (MESSAGES, [connected(20.0, 25.0)]), (IdleRule(), [connected(20.0, 30.0)])],
    ids=["none", "closed before", "it held"],
)
def test_of_what_was_not_open_beside_the_idleness_nothing_is_said(
    rule: IdleRule, connections: list[Connection]
) -> None:
    told = why(reaped(rule, *connections), 99.0)

    assert told["summary"] == "This session has ended: nobody used it for 60 s."


def test_a_failure_after_idleness_is_told_without_what_was_open() -> None:
    session = reaped(MESSAGES, connected(21.0))
    failed = Terminated(Status.READY, Reason.IDLE, failure=Failure("x", "the engine lost it"))
    session.history[-1] = StatusEntry(failed, 40.0)

    told = why(session, 99.0)

    assert told["summary"] == "This session has ended: the engine lost it."


def test_another_cause_is_told_without_what_was_open() -> None:
    ending = Terminating(Status.READY, Reason.LIFETIME)
    session = reaped(MESSAGES, connected(21.0))
    session.history[2:] = [StatusEntry(ending, 30.0)]
    session.spec = attrs.evolve(session.spec, limits=Limits(60.0, lifetime_limit_seconds=20.0))

    told = why(session, 31.0)

    assert told["summary"] == "This session is ending: its lifetime of 20 s is over."


def test_the_death_of_an_idle_session_is_told_from_its_last_use_on() -> None:
    session = a_session(
        Scheduled(),
        READY,
        Terminating(Status.READY, Reason.IDLE),
        HardTerminating(Status.READY, Reason.IDLE),
        Terminated(Status.READY, Reason.IDLE, HARD, 137),
        last_use=Use(UseKind.WEBSOCKET, 12.0, ADA),
        last_used=15.5,
    )

    told = why(session, 99.0)

    assert (told["alive"], told["holds"], told["next"]) == (False, [], [])
    assert told["summary"] == "This session has ended: nobody used it for 60 s."
    assert told["causes"] == [
        {
            "at": 15_500,
            "what": "last use ended",
            "message": "a WebSocket of user 'ada' from 1.2.3.4 to /ws, of 3.5 s, was the last use",
        },
        {
            "at": 30_000,
            "what": "terminating",
            "message": "it was asked to end: nobody used it for 60 s",
        },
        {
            "at": 40_000,
            "what": "hard-terminating",
            "message": "it had not ended within its grace of 10 s, so it was ended by force",
        },
        {
            "at": 50_000,
            "what": "terminated",
            "message": "its process was ended by signal 9 (exit code 137)",
        },
    ]


def test_a_session_that_nobody_ever_used_says_so() -> None:
    limits = Limits(None, claim_within_seconds=5.0)
    session = a_session(
        Scheduled(), READY, Terminating(Status.READY, Reason.UNCLAIMED), limits=limits
    )

    told = why(session, 31.0)

    assert [cause["what"] for cause in told["causes"]] == ["never used", "terminating"]
    assert told["causes"][1]["message"] == "it was asked to end: nobody came within 5 s"
    assert [each["cause"] for each in told["next"]] == ["grace"]


@pytest.mark.parametrize(
    ("states", "messages"),
    [
        (
            [Terminating(Status.READY, Reason.EXTERNAL, by="the API key 'ops' from ::1"),
             Terminated(Status.READY, Reason.EXTERNAL, SOFT, 0)],
            ["it was asked to end: it was stopped by request, by the API key 'ops' from ::1",
             "its process ended with exit code 0"],
        ),
        (
            [HardTerminating(Status.READY, Reason.EXTERNAL, by="me"),
             Terminated(Status.READY, Reason.EXTERNAL, HARD, 137)],
            ["it was ended by force: it was stopped by request, by me",
             "its process was ended by signal 9 (exit code 137)"],
        ),
        (
            [Terminating(Status.READY, Reason.EXTERNAL),
             HardTerminating(Status.READY, Reason.EXTERNAL, by="me")],
            ["it was asked to end: it was stopped by request",
             "it had not ended yet, and was ended by force, by me"],
        ),
        (
            [Terminated(Status.READY, Reason.OOM, None, 137, True, Failure("oom", "too much"))],
            ["too much; the kernel ended it for want of memory"],
        ),
        (
            [Terminated(Status.LOADING, Reason.FAILED, failure=Failure("x", "no such image"))],
            ["no such image"],
        ),
        (
            [Terminated(Status.READY, Reason.EXITED, exit_code=None)],
            ["its process ended by itself"],
        ),
    ],
)  # fmt: skip
def test_every_end_is_told_as_a_chain_of_causes(states: list[State], messages: list[str]) -> None:
    told = why(a_session(Scheduled(), READY, *states), 99.0)

    assert [cause["message"] for cause in told["causes"]] == messages
    assert told["summary"].endswith(".")


def test_what_ends_a_session_whatever_happens_is_told_so() -> None:
    limits = Limits(60.0, lifetime_limit_seconds=100.0)
    use = Use(UseKind.WEBSOCKET, 15.0, ADA)

    told = why(a_session(Scheduled(), READY, limits=limits, uses={use}), 40.0)

    assert told["summary"] == (
        "It is in use: 1 WebSocket. Its idle clock starts when the last of these has gone."
        " Whatever happens, for its lifetime is over then, it ends in 60.0 s."
    )


def test_a_session_taken_up_from_an_earlier_run_is_not_said_to_be_unused_before() -> None:
    session = a_session(
        Scheduled(), Waiting(READY.address), READY, Terminating(Status.READY, Reason.IDLE)
    )
    session.adopted = True

    told = why(session, 99.0)
    session.last_used = 50.0
    used = why(session, 99.0)

    assert told["causes"][0]["message"] == "nobody came since this run of the server began"
    seen = "an earlier run of the server saw its last use end"
    assert (used["causes"][0]["at"], used["causes"][0]["message"]) == (50_000, seen)


def test_a_startup_timeout_is_told_once_and_the_exit_after_it() -> None:
    failure = Failure("startup-timeout", "its server did not answer")
    session = a_session(
        Scheduled(),
        HardTerminating(Status.WAITING, Reason.STARTUP_TIMEOUT, failure),
        Terminated(Status.WAITING, Reason.STARTUP_TIMEOUT, HARD, 137, failure=failure),
    )

    told = why(session, 99.0)

    assert [cause["message"] for cause in told["causes"]] == [
        "it was ended by force: its server did not answer",
        "its process was ended by signal 9 (exit code 137)",
    ]
