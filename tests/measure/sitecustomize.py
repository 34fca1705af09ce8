"""Keep the coverage of a twistd child.

Python imports a module of this name at the start of every process that has this directory on
PYTHONPATH; `make test` sees to that. A twistd that is stopped by a signal ends by sending itself
the same signal again, and coverage's own hooks do not live to see that.
"""

import os
import signal
import sys

_kill = os.kill


def _save_and_kill(pid: int, signum: int) -> None:
    if pid == os.getpid() and signum in {signal.SIGINT, signal.SIGTERM}:
        measuring = sys.modules.get("coverage")
        current = measuring and measuring.Coverage.current()
        if current:
            current.stop()
            current.save()
    _kill(pid, signum)


if "COVERAGE_PROCESS_CONFIG" in os.environ:
    os.kill = _save_and_kill
