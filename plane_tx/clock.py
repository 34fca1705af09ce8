"""Lets a reactor tell the time by a clock that nobody can set.

Twisted asks the system's clock whether its calls are due. Where a person or NTP sets that back, all
that is to be called waits so much longer.
"""

from __future__ import annotations

import time
from typing import Any

#: One that goes on while the machine sleeps, where there is such (clock_gettime(2)).
STEADY = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def keep_time(reactor: Any) -> None:
    """Let `reactor.seconds` begin with what the system's clock tells now, and go on steadily.

    It is to be done before anything is made that asks for the time. What the system's clock is set
    to later is not followed.
    """
    clock, clock_gettime = STEADY, time.clock_gettime
    began = time.time() - clock_gettime(clock)

    def seconds() -> float:
        return began + clock_gettime(clock)

    reactor.seconds = seconds
