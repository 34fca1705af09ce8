"""How sessions are told in JSON."""

from __future__ import annotations

from typing import Any

import pytest

from plane_tx.core import views, wire
from plane_tx.core.ledger import Connection, ConnectionKind, How
from plane_tx.core.model import (
    Address,
    Executable,
    Failure,
    HardTerminating,
    IdleCount,
    IdleRule,
    Key,
    Limits,
    Loading,
    LogLine,
    LogStream,
    Ready,
    Reason,
    Scheduled,
    Session,
    Spec,
    Starting,
    State,
    Status,
    StatusEntry,
    Terminated,
    Terminating,
    TerminationKind,
    Waiting,
)
from plane_tx.core.use import Traffic, Use, UseKind, Visit
from plane_tx.core.views import status_entry
from tests.sessions import make_session

HERE = Address("127.0.0.1", 8080)


@pytest.mark.parametrize(
    ("state", "line"),
    [
        (Scheduled(), '{"status":"scheduled","time":1706545678123}'),
        (Waiting(HERE), '{"status":"waiting","time":1706545678123}'),
        (Ready(HERE), '{"status":"ready","time":1706545678123}'),
        (
            Terminating(Status.READY, Reason.IDLE),
            (
                '{"status":"terminating","termination_reason":"swept","termination_kind":"soft",'
                '"time":1706545678123}'
            ),
        ),
        (
            HardTerminating(Status.READY, Reason.STARTUP_TIMEOUT, Failure("a", "b")),
            (
                '{"status":"hard-terminating","termination_reason":"startuptimeout",'
                '"termination_kind":"hard","time":1706545678123}'
            ),
        ),
        (
            Terminated(Status.READY, Reason.IDLE, TerminationKind.SOFT, 143),
            (
                '{"status":"terminated","termination_reason":"swept","termination_kind":"soft",'
                '"exit_error":true,"time":1706545678123}'
            ),
        ),
        (
            Terminated(Status.READY, Reason.EXITED, None, 0),
            '{"status":"terminated","exit_error":false,"time":1706545678123}',
        ),
    ],
)
def test_a_line_of_history_is_planes_to_the_letter(state: State, line: str) -> None:
    assert wire.dumps(status_entry(StatusEntry(state, 1706545678.1234))).decode() == line


@pytest.mark.parametrize("reason", Reason)
def test_the_public_sees_planes_reasons_and_ctrl_sees_ours(reason: Reason) -> None:
    entry = StatusEntry(Terminated(Status.READY, reason), 1.0)
    planes = {"swept", "external", "keyexpired", "lost", "startuptimeout", "internalerror", None}

    assert status_entry(entry).get("termination_reason") in planes
    assert status_entry(entry, public=False)["termination_reason"] == reason.value


def a_session(*states: State, **values: Any) -> Session:
    history = [StatusEntry(state, float(at)) for at, state in enumerate(states, 1)]
    executable = Executable(image="i", env={"SECRET": "hidden"}, app="app")
    rule = IdleRule(IdleCount.MESSAGES, ("ping", "phoenix"))
    spec = Spec(executable, Limits(max_idle_seconds=5), rule, subdomain="sub", labels={"a": "b"})
    return make_session("id", Key("k", "n"), "t", spec, 1.0, 7, "me", history=history, **values)


def test_a_session_is_told_in_full_but_for_its_environment() -> None:
    uses = {
        Use(
            UseKind.WEBSOCKET, 3.0, Visit("1.2.3.4", "/ws", "ada", "t" * 43),
            last_data=3.5, passive=True,
        ),
        Use(UseKind.REQUEST, 2.0, Visit("::1")),
        Use(UseKind.LEASE, 1.0, until=9.0, reason="a backup"),
    }  # fmt: skip
    told = views.session(a_session(Scheduled(), Ready(HERE), uses=uses), {"lifetime": 9.5})

    assert told["backend_id"] == "id"
    assert told["key"] == {"name": "k", "namespace": "n", "tag": "t"}
    assert told["limits"]["max_idle_seconds"] == 5
    assert told["idle"] == {"count": "messages", "ignore": ["ping", "phoenix"]}
    assert [line["status"] for line in told["status_history"]] == ["scheduled", "ready"]
    assert told["connections"] == [
        {
            "kind": "request",
            "since": 2000,
            "peer": "::1",
            "path": "",
            "user": None,
            "last_data": None,
            "passive": False,
        },
        {
            "kind": "websocket",
            "since": 3000,
            "peer": "1.2.3.4",
            "path": "/ws",
            "user": "ada",
            "last_data": 3500,
            "passive": True,
        },
    ]
    assert told["leases"] == [{"since": 1000, "until": 9000, "reason": "a backup"}]
    assert told["deadlines"] == {"lifetime": 9500}
    assert (told["idle_since"], told["exit_code"], told["oom"], told["failure"]) == (
        None, None, False, None,
    )  # fmt: skip
    assert b"hidden" not in wire.dumps(told)


def test_an_ended_session_tells_how_it_ended() -> None:
    failure = Failure("oom", "too much")
    lines = (LogLine(None, LogStream.STDERR, "x"), LogLine(1, LogStream.STDOUT, "y"))
    ended = Terminated(Status.READY, Reason.OOM, None, 137, True, failure, lines)

    told = views.session(a_session(ended, idle_since=None), {})

    assert (told["exit_code"], told["oom"]) == (137, True)
    assert told["failure"] == {"kind": "oom", "message": "too much", "log_tail": ["x", "y"]}
    assert views.failure_of(a_session(ended)) is failure
    assert views.session(a_session(Ready(HERE), idle_since=2.5), {})["idle_since"] == 2500


@pytest.mark.parametrize("kind", [Terminating, HardTerminating])
def test_who_asked_for_the_end_is_told_to_ctrl_only(
    kind: type[Terminating | HardTerminating],
) -> None:
    asked = StatusEntry(kind(Status.READY, Reason.EXTERNAL, by="ann"), 1.0)
    of_itself = StatusEntry(kind(Status.READY, Reason.IDLE), 1.0)

    assert status_entry(asked, public=False)["by"] == "ann"
    assert "by" not in status_entry(asked)
    assert "by" not in status_entry(of_itself, public=False)


def test_the_phases_of_a_boot_are_told_as_far_as_it_has_come() -> None:
    told = views.session(a_session(Scheduled(), Loading(), Starting(), start_began=3.5), {})

    phases = {"pull": 1.0, "create": 0.5, "start": None, "ready": None}
    assert told["boot_seconds"] == phases


def test_the_time_to_live_of_its_tokens_is_among_the_limits() -> None:
    assert views.session(a_session(Ready(HERE)), {})["limits"]["token_ttl_seconds"] is None


def test_a_closed_connection_tells_all_that_is_written_down_of_it() -> None:
    visit = Visit("1.2.3.4", "/ws", "ada", "t" * 43)
    connection = Connection(ConnectionKind.WEBSOCKET, 1000.0, visit, Traffic(0, 10, 20, 3, 4))
    connection.answered(0.03)
    connection.answered(0.0341234567)
    connection.backlog_to_client, connection.backlog_to_session = 500, 600
    connection.closes(How.CLIENT_CLOSE, 1001, "bye")
    connection.closed_at = 1012.3456

    assert views.connection(connection, 2000.0) == {
        "kind": "websocket",
        "opened": 1_000_000,
        "closed": 1_012_345,
        "duration_seconds": 12.346,
        "peer": "1.2.3.4",
        "path": "/ws",
        "user": "ada",
        "how": "client-close",
        "code": 1001,
        "reason": "bye",
        "bytes_from_client": 10,
        "bytes_to_client": 20,
        "messages_from_client": 3,
        "messages_to_client": 4,
        "backlog_to_client_bytes": 500,
        "backlog_to_session_bytes": 600,
        "round_trip_seconds": 0.034123,
        "best_round_trip_seconds": 0.03,
        "verdict": "the client closed it (1001 going away, 'bye') after 12.3 s",
    }


def test_of_an_open_connection_what_is_not_known_yet_is_null() -> None:
    told = views.connection(Connection(ConnectionKind.TUNNEL, 1000.0), 1001.5)

    assert {name for name, value in told.items() if value is None} == {
        "closed", "user", "how", "code", "round_trip_seconds", "best_round_trip_seconds",
    }  # fmt: skip
    assert (told["kind"], told["duration_seconds"]) == ("tunnel", 1.5)
