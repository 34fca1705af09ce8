"""How long the phases of a boot took, as far as it has come."""

from __future__ import annotations

import pytest

from plane_tx.core.boot import BootSeconds, boot_seconds
from plane_tx.core.model import (
    Address,
    Loading,
    Ready,
    Reason,
    Scheduled,
    Starting,
    State,
    Status,
    StatusEntry,
    Terminated,
    Waiting,
)
from tests.sessions import make_session

HERE = Address("127.0.0.1", 8080)
#: Each state with the second at which it was entered; `start_began` is 7.
BOOT = ((Scheduled(), 0), (Loading(), 1), (Starting(), 4), (Waiting(HERE), 12), (Ready(HERE), 20))
GONE = Terminated(Status.STARTING, Reason.EXITED)


def phases(*entries: tuple[State, float], start_began: float | None = None) -> BootSeconds:
    history = [StatusEntry(state, float(at)) for state, at in entries]
    return boot_seconds(make_session(history=history, start_began=start_began))


@pytest.mark.parametrize(
    ("entered", "start_began", "expected"),
    [
        (1, None, BootSeconds()),
        (2, None, BootSeconds()),
        (3, None, BootSeconds(pull=3)),
        (3, 7.0, BootSeconds(pull=3, create=3)),
        (4, 7.0, BootSeconds(pull=3, create=3, start=5)),
        (5, 7.0, BootSeconds(pull=3, create=3, start=5, ready=8)),
    ],
)
def test_a_phase_has_a_length_once_it_has_ended(
    entered: int, start_began: float | None, expected: BootSeconds
) -> None:
    assert phases(*BOOT[:entered], start_began=start_began) == expected


def test_an_engine_that_does_not_tell_them_apart_has_neither_create_nor_start() -> None:
    assert phases(*BOOT) == BootSeconds(pull=3, ready=8)


def test_what_was_known_when_it_ended_stays_known() -> None:
    told = phases(*BOOT[:3], (GONE, 9), start_began=7.0)

    assert told == BootSeconds(pull=3, create=3)


def test_a_session_of_an_earlier_run_has_no_phases() -> None:
    assert phases((Scheduled(), 1), (Waiting(HERE), 1), (Ready(HERE), 2)) == BootSeconds()
