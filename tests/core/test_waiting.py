"""What those who wait are told."""

from __future__ import annotations

import json

import pytest

from plane_tx.core.estimates import Estimate
from plane_tx.core.model import (
    Address,
    Executable,
    Failure,
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
    Waiting,
)
from plane_tx.core.pulls import Pulling
from plane_tx.core.waiting import (
    LINE_CHARACTERS,
    LINES_TOLD,
    boots,
    elapsed_in_words,
    estimate_in_words,
    phase_in_full,
    told,
)
from tests.sessions import make_session

ADDRESS = Address("10.0.0.2", 8080)
ESTIMATE = Estimate(4.2, 8.1, 5)


def in_state(*states: State, **values) -> Session:
    """A session that entered each of these states, 10 s apart."""
    session = make_session(spec=Spec(Executable(image="r.example/app:1")), **values)
    session.history += [StatusEntry(state, 10.0 * at) for at, state in enumerate(states)]
    return session


def pulling(**values) -> Session:
    session = in_state(Scheduled(), Loading(), **values)
    session.pulling = Pulling("r.example/app:1", 12 << 20, 40 << 20)
    return session


def ended(failure: Failure | None = None) -> Session:
    last = Terminated(Status.WAITING, Reason.EXITED, failure=failure)
    return in_state(Scheduled(), Loading(), Starting(), last)


def line(text: str) -> LogLine:
    return LogLine(None, LogStream.STDOUT, text)


@pytest.mark.parametrize(
    ("session", "state"),
    [
        (in_state(Scheduled()), "booting"),
        (pulling(), "booting"),
        (in_state(Scheduled(), Loading(), Starting()), "booting"),
        (in_state(Waiting(ADDRESS)), "booting"),
        (in_state(Waiting(ADDRESS), unconfirmed=True), "booting"),
        (in_state(Ready(ADDRESS)), "ready"),
        (in_state(Ready(ADDRESS), unconfirmed=True), "booting"),
        (in_state(Terminating(Status.READY, Reason.EXTERNAL)), "ended"),
        (in_state(Terminating(Status.READY, Reason.EXTERNAL), unconfirmed=True), "ended"),
        (ended(), "ended"),
    ],
)
def test_it_boots_until_it_can_be_reached_or_ends(session: Session, state: str) -> None:
    now = told(session, ESTIMATE)

    assert now.state == state
    assert boots(session) is (state == "booting")
    assert (now.message is None) is (state != "ended")


def test_all_of_it_is_json() -> None:
    session = in_state(Scheduled(), Loading(), Starting(), created_at=1.5)
    now = told(session, ESTIMATE, [line("hello")])

    assert json.loads(now.as_json(25.0009)) == {
        "version": now.version,
        "state": "booting",
        "status": "starting",
        "phase": "it is being started",
        "pull": None,
        "since": 1500,
        "boot_since": 20000,
        "usually_seconds": 4.2,
        "at_most_seconds": 8.1,
        "boots": 5,
        "lines": ["hello"],
        "message": None,
        "time": 25000,
    }


def test_a_pull_is_told_in_bytes_beside_a_phase_that_stays_as_it_is() -> None:
    now = told(pulling(), ESTIMATE)

    assert now.phase == "pulling app"
    assert now.pull == {"image": "app", "bytes": 12 << 20, "total_bytes": 40 << 20}
    assert phase_in_full(pulling()) == "pulling app: 12 of 40 MiB"


@pytest.mark.parametrize(
    ("session", "phase"),
    [
        (in_state(Waiting(ADDRESS)), "port 8080 is not open"),
        (in_state(Starting()), "it is being started"),
        (in_state(Ready(ADDRESS)), "ready"),
    ],
)
def test_a_hint_goes_before_the_phase_that_it_is_about(session: Session, phase: str) -> None:
    now = told(session, ESTIMATE, hint="port 8080 is not open")

    assert now.phase == phase


def test_of_a_session_that_the_engine_has_not_confirmed_no_time_is_known() -> None:
    session = in_state(Starting(), Ready(ADDRESS), unconfirmed=True, adopted=True)

    now = told(session, ESTIMATE)

    assert now.phase.startswith("the server was restarted")
    assert (now.since, now.boot_since, now.estimate) == (None, None, Estimate())


def test_the_true_reason_of_a_failure_is_told() -> None:
    failure = Failure("StartupTimeout", "port 8080 is not open; the container listens on 3000")

    now = told(ended(failure), ESTIMATE)

    assert now.message == "port 8080 is not open; the container listens on 3000"


def test_a_version_is_that_of_what_is_told() -> None:
    same = [told(pulling(), ESTIMATE).version for _ in range(2)]
    further = pulling()
    further.pulling = Pulling("r.example/app:1", 13 << 20, 40 << 20)

    assert same[0] == same[1] != told(further, ESTIMATE).version


def test_of_the_lines_the_last_few_are_told_each_as_far_as_it_can_be_seen() -> None:
    lines = [line(f"{n}") for n in range(9)]
    lines += [line("\x1b[31mred\x1b[0m\x07\ttab"), line("x" * 5000)]

    now = told(in_state(Starting()), ESTIMATE, lines)

    assert now.lines == ("6", "7", "8", "red\ttab", "x" * LINE_CHARACTERS)
    assert len(now.lines) == LINES_TOLD


@pytest.mark.parametrize(
    ("estimate", "boot_since", "now", "words"),
    [
        (Estimate(boots=1), 0.0, 3.0, ""),
        (ESTIMATE, 0.0, 3.0, "usually 4 s, at most 9 s"),
        (ESTIMATE, None, 3.0, "once it starts: usually 4 s, at most 9 s"),
        (Estimate(0.1, 0.3, 5), 0.0, 0.2, "usually within 1 s"),
        (Estimate(95.0, 125.0, 5), 0.0, 0.2, "usually 2 min, at most 3 min"),
        (
            ESTIMATE, 0.0, 8.2,
            "This takes longer than any boot seen so far, of which the longest took 9 s.",
        ),
    ],
)  # fmt: skip
def test_an_estimate_in_words(estimate, boot_since, now, words) -> None:
    assert estimate_in_words(estimate, boot_since, now) == words


@pytest.mark.parametrize(
    ("since", "words"),
    [(None, ""), (10.0, "2 s so far"), (13.0, "0 s so far"), (-190.0, "4 min so far")],
)
def test_how_long_it_takes_already(since, words) -> None:
    assert elapsed_in_words(since, 12.9) == words
