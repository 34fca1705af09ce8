"""Ctrl-C ends a command, also where it comes at a moment at which a library cannot do with it.

Python raises `KeyboardInterrupt` between any two steps. A library that is just leaving a lock keeps
that lock and then waits for it for ever; one that runs our code from C may drop what was raised.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

#: How long what was interrupted may take to end before it is interrupted again.
AGAIN_SECONDS = 0.5


@contextmanager
def insistent_interrupts() -> Iterator[None]:
    """Within it a Ctrl-C raises `KeyboardInterrupt` again and again, until it is left.

    For the main thread, and not where Ctrl-C is ignored, as in a shell's background.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        yield
        return
    replaced = {each: signal.signal(each, _interrupt) for each in (signal.SIGINT, signal.SIGALRM)}
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in replaced.items():
            signal.signal(number, handler)


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    signal.setitimer(signal.ITIMER_REAL, AGAIN_SECONDS)
    raise KeyboardInterrupt
