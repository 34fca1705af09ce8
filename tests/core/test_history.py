"""A history is read back as it was written, whatever states it has been through."""

from __future__ import annotations

import json

import pytest

from plane_tx.core.history import history_from_text, history_to_text
from plane_tx.core.model import (
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
    Status,
    StatusEntry,
    Terminated,
    Terminating,
    TerminationKind,
    Waiting,
)

HERE = Address("::1", 8080)
FAILURE = Failure("oom", "too much")
STATES = [
    Scheduled(),
    Loading(),
    Starting(),
    Waiting(HERE),
    Ready(HERE),
    Terminating(Status.READY, Reason.IDLE),
    HardTerminating(Status.READY, Reason.EXTERNAL, FAILURE, "me"),
    Terminated(
        Status.READY,
        Reason.OOM,
        TerminationKind.HARD,
        137,
        oom=True,
        failure=FAILURE,
        log_tail=(LogLine(5, LogStream.STDERR, "é\ud83d"), LogLine(None, LogStream.STDOUT, "")),
    ),
]


def test_every_state_is_read_back_as_it_was() -> None:
    history = [StatusEntry(state, float(at)) for at, state in enumerate(STATES)]

    again = history_from_text(history_to_text(history))

    assert again == history


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "7",
        "[7]",
        '[{"status": "ready"}]',
        '[{"status": "ready", "at": 1, "address": {"host": "h", "port": "8080"}}]',
        '[{"status": "asleep", "at": 1}]',
        '[{"status": "loading", "at": 1, "colour": "red"}]',
        "[" * 100_000,
    ],
)
def test_what_is_no_history_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"no history|Expecting"):
        history_from_text(text)


def test_a_field_that_an_earlier_version_did_not_write_has_its_default() -> None:
    entry = {"status": "terminated", "at": 1.0, "last_status": "ready", "reason": "exited"}

    (read,) = history_from_text(json.dumps([entry]))

    assert read == StatusEntry(Terminated(Status.READY, Reason.EXITED), 1.0)
