"""Why a session is gone, for each way to go."""

from __future__ import annotations

import pytest

from plane_tx.core.explain import close_reason, phase, why_ended
from plane_tx.core.model import (
    Address,
    Executable,
    Failure,
    HardTerminating,
    Key,
    Limits,
    Loading,
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
from tests.sessions import make_session

LIMITS = Limits(max_idle_seconds=300, lifetime_limit_seconds=3600.0, claim_within_seconds=0.5)


def booting(state: State, pulling: Pulling | None = None) -> str | None:
    return phase(make_session(history=[StatusEntry(state, 0.0)], pulling=pulling))


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (Scheduled(), "it waits for its turn to start"),
        (Loading(), "its image is looked up"),
        (Starting(), "it is being started"),
        (Waiting(Address("a", 1)), "its server does not answer HTTP yet"),
        (Ready(Address("a", 1)), None),
        (Terminated(Status.READY, Reason.EXITED), None),
    ],
)
def test_a_session_that_boots_says_what_it_does(state: State, said: str | None) -> None:
    assert booting(state) == said


def test_a_pull_says_how_far_it_is_until_it_is_over() -> None:
    pulling = Pulling("registry.example/app:1", 12 << 20, 40 << 20)

    assert booting(Loading(), pulling) == "pulling app: 12 of 40 MiB"
    assert booting(Starting(), pulling) == "it is being started"


def in_state(state: State) -> Session:
    history = [StatusEntry(state, 0.0)]
    return make_session("id", Key(""), "", Spec(Executable(), LIMITS), 0.0, 1, history=history)


@pytest.mark.parametrize(
    ("reason", "cause"),
    [
        (Reason.IDLE, "nobody used it for 300 s"),
        (Reason.UNCLAIMED, "nobody came within 0.5 s"),
        (Reason.LIFETIME, "its lifetime of 3600 s is over"),
        (Reason.EXTERNAL, "it was stopped by request"),
        (Reason.EXITED, "its process ended by itself"),
        (Reason.STARTUP_TIMEOUT, "its server did not answer HTTP within 300 s of its start"),
        (Reason.LOST, "the engine no longer knew it"),
        (Reason.OOM, "it used more memory than its limit"),
        (Reason.FAILED, "it could not be made"),
    ],
)
def test_each_reason_is_a_sentence(reason: Reason, cause: str) -> None:
    ended, ending = Terminated(Status.READY, reason), Terminating(Status.READY, reason)

    assert why_ended(in_state(ended)) == f"this session has ended: {cause}"
    assert why_ended(in_state(ending)) == f"this session is ending: {cause}"


def test_a_failure_speaks_for_itself() -> None:
    state = HardTerminating(Status.READY, Reason.FAILED, Failure("kind", "the disk is full"))

    assert why_ended(in_state(state)) == "this session is ending: the disk is full"


def test_a_live_session_lives() -> None:
    session = in_state(Ready(Address("::1", 1)))

    assert why_ended(session) == "the session is ready"
    assert close_reason(session) == "upstream lost"


@pytest.mark.parametrize(
    ("reason", "word"),
    [
        (Reason.EXTERNAL, "terminated"),
        (Reason.IDLE, "idle"),
        (Reason.LIFETIME, "lifetime"),
        (Reason.EXITED, "exited"),
    ],
)
def test_a_websocket_is_closed_with_one_word(reason: Reason, word: str) -> None:
    assert close_reason(in_state(Terminated(Status.READY, reason))) == word
