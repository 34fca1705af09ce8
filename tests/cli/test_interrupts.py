"""What a Ctrl-C that gets lost comes to; the real programs are in test_help and test_output."""

from __future__ import annotations

import contextlib
import os
import signal
import threading

import pytest

from plane_tx.cli.interrupts import insistent_interrupts


def ctrl_c() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_one_that_got_lost_comes_again() -> None:
    @insistent_interrupts()
    def drops_one() -> None:
        with contextlib.suppress(KeyboardInterrupt):
            ctrl_c()
        threading.Event().wait()

    with pytest.raises(KeyboardInterrupt):
        drops_one()


def test_it_comes_until_no_lock_is_waited_for() -> None:
    waited_for = []

    def wait_for_what_is_never_let_go() -> None:
        lock = threading.Lock()
        lock.acquire()
        waited_for.append(lock)
        lock.acquire()

    @insistent_interrupts()
    def leaves_two() -> None:
        with contextlib.ExitStack() as leaving:
            leaving.callback(wait_for_what_is_never_let_go)
            leaving.callback(wait_for_what_is_never_let_go)
            ctrl_c()

    with pytest.raises(KeyboardInterrupt):
        leaves_two()

    assert len(waited_for) == 2


def test_nothing_comes_after_it_was_left() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGALRM)

    with pytest.raises(KeyboardInterrupt), insistent_interrupts():
        ctrl_c()

    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGALRM)) == before


def test_what_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with insistent_interrupts():
            ctrl_c()
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
