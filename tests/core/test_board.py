"""What the dashboard shows of sessions and of the server."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from plane_tx.core import wire
from plane_tx.core.board import MOST_FAILURE_CHARACTERS, mark, overview, row
from plane_tx.core.measures import Measures
from plane_tx.core.model import (
    Address,
    Executable,
    Failure,
    Key,
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
)
from plane_tx.core.pulls import Pulling
from plane_tx.core.registry import Registry
from plane_tx.core.use import Use, UseKind, Visit
from tests.sessions import SECRET, make_session

HERE = Address("127.0.0.1", 8080)
SPEC = Spec(
    Executable(image="image", env={"TOKEN": "hidden"}, app="app"),
    Limits(max_idle_seconds=5, lifetime_limit_seconds=100),
    labels={"a": "<b>"},
)


def a_session(*states: State, key: Key = Key("k", "n"), **values: Any) -> Session:  # noqa: B008  # frozen
    history = [StatusEntry(state, float(at)) for at, state in enumerate(states, 1)]
    return make_session("id", key, "t", SPEC, 1.0, 7, "me", history=history, **values)


def test_a_row_has_what_a_table_shows() -> None:
    told = row(a_session(Scheduled(), Ready(HERE), idle_since=2.5, adopted=True))

    assert told == {
        "id": "id",
        "status": "ready",
        "reason": None,
        "detail": None,
        "key": {"name": "k", "namespace": "n"},
        "user": "me",
        "app": "app",
        "image": "image",
        "labels": {"a": "<b>"},
        "connections": 0,
        "leases": 0,
        "idle_since": 2500,
        "ends": {"cause": "idle", "at": 7500},
        "created_at": 1000,
        "ready_at": 2000,
        "ended_at": None,
        "exit_code": None,
        "failure": None,
        "adopted": True,
    }


def test_a_row_lets_nobody_in_and_shows_no_variable() -> None:
    uses = {Use(UseKind.REQUEST, 1.0, Visit("1.2.3.4", "/secret-path", token="t" * 43))}

    told = wire.dumps(row(a_session(Ready(HERE), uses=uses))).decode()

    hidden = ("hidden", SECRET, "o" * 43, "t" * 43, "secret-path", "127.0.0.1")
    assert not [secret for secret in hidden if secret in told]


def test_leases_are_told_apart_from_connections() -> None:
    uses = {Use(UseKind.WEBSOCKET, 1.0), Use(UseKind.LEASE, 1.0, until=9.0)}

    told = row(a_session(Ready(HERE), uses=uses, leases=1))

    assert (told["connections"], told["leases"]) == (1, 1)


def test_an_ended_session_tells_when_how_and_why() -> None:
    failure = Failure("image", "there is no such image")
    ended = Terminated(Status.LOADING, Reason.FAILED, exit_code=3, failure=failure)

    told = row(a_session(Scheduled(), Loading(), ended))

    names = ("status", "reason", "ended_at", "exit_code", "failure", "ready_at", "ends")
    assert [told[name] for name in names] == [
        "terminated", "failed", 3000, 3, "there is no such image", None, None,
    ]  # fmt: skip


def test_one_that_is_ending_tells_why_and_by_when() -> None:
    told = row(a_session(Ready(HERE), Terminating(Status.READY, Reason.IDLE)))

    assert (told["reason"], told["ends"]) == ("idle", {"cause": "grace", "at": 12000})
    assert (told["ended_at"], told["detail"]) == (None, None)


@pytest.mark.parametrize(
    ("length", "ends"), [(MOST_FAILURE_CHARACTERS, "x"), (MOST_FAILURE_CHARACTERS + 1, "…")]
)
def test_a_long_failure_is_cut(length: int, ends: str) -> None:
    ended = Terminated(Status.LOADING, Reason.FAILED, failure=Failure("a", "x" * length))

    told = row(a_session(ended))["failure"]

    assert len(told) == MOST_FAILURE_CHARACTERS
    assert told.endswith(ends)


def test_what_a_session_does_while_it_boots_is_told_in_words() -> None:
    pulling = Pulling("registry/busybox:1", 12 * 2**20, 40 * 2**20)

    assert row(a_session(Scheduled()))["detail"] == "it waits for its turn to start"
    told = row(a_session(Loading(), pulling=pulling))["detail"]
    assert told == "pulling busybox: 12 of 40 MiB"


def test_one_of_which_nothing_is_known_yet_says_so() -> None:
    told = row(a_session(Ready(HERE), unconfirmed=True, adopted=True))["detail"]

    assert told == "the server was restarted, and does not know yet whether the session still runs"


@pytest.mark.parametrize(
    ("key", "told"),
    [
        (Key("lk-818tf4dl6hqsct"), None),
        (Key("lk-818tf4dl6hqsct", "mine"), {"name": "lk-818tf4dl6hqsct", "namespace": "mine"}),
        (Key("lk-short"), {"name": "lk-short", "namespace": ""}),
        (Key(""), {"name": "", "namespace": ""}),
    ],
)
def test_a_random_key_is_none(key: Key, told: dict[str, str] | None) -> None:
    assert row(attrs.evolve(a_session(Ready(HERE), key=key), tag=""))["key"] == told


def use(session: Session) -> None:
    session.uses.add(Use(UseKind.REQUEST, 1.0))


CHANGES = {
    "a status": lambda it: it.history.append(StatusEntry(Ready(HERE), 2.0)),
    "a use": use,
    "a lease for a request": lambda it: setattr(it, "leases", 1),
    "the idle clock": lambda it: setattr(it, "idle_since", 3.0),
    "a first visit": lambda it: setattr(it, "claimed", True),
    "a pull": lambda it: setattr(it, "pulling", Pulling("image", 1, 2)),
    "the engine's word": lambda it: setattr(it, "unconfirmed", True),
}


@pytest.mark.parametrize("what", CHANGES)
def test_whatever_changes_a_row_changes_its_mark(what: str) -> None:
    session = a_session(Loading())
    before = mark(session)

    CHANGES[what](session)

    assert mark(session) != before


def test_equal_rows_have_equal_marks() -> None:
    assert mark(a_session(Loading())) == mark(a_session(Loading()))


def test_the_overview_has_every_number_of_the_server() -> None:
    registry, measures = Registry(), Measures()
    registry.add(make_session(), Scheduled(), 1.0)
    measures.spawns["ready"] += 1
    measures.reaps["idle"] += 2
    measures.ends["idle"] += 3
    measures.refusals["AtCapacity"] += 4
    measures.joins, measures.upstream_errors = 5, 6
    measures.whole_boot.observe(0.3)
    measures.boot["pull"].observe(0.1)
    measures.connections["clients"] = lambda: 7

    told = overview(registry, measures)

    assert told["statuses"]["scheduled"] == 1
    assert (told["spawns"], told["reaps"], told["ends"]) == ({"ready": 1}, {"idle": 2}, {"idle": 3})
    assert (told["refusals"], told["joins"], told["upstream_errors"]) == ({"AtCapacity": 4}, 5, 6)
    assert (told["boot"]["count"], told["boot"]["seconds"]) == (1, 0.3)
    assert len(told["boot"]["counts"]) == len(told["boot"]["bounds"]) + 1
    assert told["phases"]["pull"] == {"count": 1, "seconds": 0.1}
    assert told["phases"]["ready"] == {"count": 0, "seconds": 0.0}
    assert told["connections"] == {"clients": 7}


def test_the_last_lag_is_the_most_of_the_last_second() -> None:
    measures = Measures()
    quiet = overview(Registry(), measures)["lag"]["last"]

    for seconds in (0.5, 0.02, 0.01):
        measures.reactor_was_late(seconds)

    assert quiet == 0.0
    assert overview(Registry(), measures)["lag"]["last"] == 0.02
