"""Counts what is alive of ours; run as a program it is a twistd that does so whenever it is told.

By SIGUSR2, into the file that the environment names as CENSUS.
"""

from __future__ import annotations

import gc
import json
import os
import signal
from collections import Counter
from pathlib import Path

#: Where the classes are from of what a connection of the proxy may leave. A use is not among them:
#: a session remembers its last one, and is itself remembered when it has ended. Nor are timers, of
#: which Twisted keeps some that were cancelled.
OURS = ("plane_tx.proxy.", "autobahn.", "twisted.internet.defer.")


def census() -> Counter[str]:
    """How many objects there are of each class that a connection of the proxy may leave."""
    gc.collect()
    kinds = Counter(type(each) for each in gc.get_objects())
    ours = {kind: count for kind, count in kinds.items() if f"{kind.__module__}.".startswith(OURS)}
    return Counter({f"{kind.__module__}.{kind.__qualname__}": n for kind, n in ours.items()})


def write_census(*_: object) -> None:
    """Put it where the one who asked looks, whole or not at all."""
    place = Path(os.environ["CENSUS"])
    part = place.with_suffix(".part")
    part.write_text(json.dumps(census()))
    part.replace(place)


if __name__ == "__main__":
    from twisted.scripts.twistd import run

    signal.signal(signal.SIGUSR2, write_census)
    run()
