"""A session's process, seen from its pipes."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.error import ProcessDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from plane_tx.core.model import Executable, Key
from plane_tx.engines.child import MOST_AT_ONCE, PAUSE_SECONDS, Child
from plane_tx.engines.interface import SpawnOrder
from plane_tx.engines.launch import ERRORS, LOG

READ = 8192


class Pipes:
    """The transport of a process that is not there; no process has its number."""

    pid = 1 << 30

    def __init__(self) -> None:
        self.paused = False

    def writeToChild(self, _fd: int, _data: bytes) -> None:
        pass

    def closeChildFD(self, _fd: int) -> None:
        pass

    def pauseProducing(self) -> None:
        self.paused = True

    def resumeProducing(self) -> None:
        self.paused = False


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def child(clock: Clock) -> Any:
    order = SpawnOrder("s1", Executable(command=("x",)), {}, {}, Key("k"))
    child = Child(order, 29_000, clock, lambda _: None, b"")
    child.started.addErrback(lambda _: None)
    child.makeConnection(Pipes())
    return child


def flood(child: Any) -> int:
    """How much is read of a session that writes without end, before it has to wait."""
    read = 0
    while not child.transport.paused and read < 10 * MOST_AT_ONCE:
        child.childDataReceived((LOG, ERRORS)[read // READ % 2], b"\n" * READ)
        read += READ
    return read


def test_only_so_much_is_read_before_a_session_has_to_wait(child: Any, clock: Clock) -> None:
    first = flood(child)

    clock.advance(PAUSE_SECONDS)

    assert not child.transport.paused
    assert first == flood(child) == MOST_AT_ONCE


def test_an_end_while_it_waits_leaves_nothing_behind(child: Any, clock: Clock) -> None:
    flood(child)

    child.processExited(Failure(ProcessDone(0)))
    child.processEnded(Failure(ProcessDone(0)))

    assert clock.getDelayedCalls() == []
