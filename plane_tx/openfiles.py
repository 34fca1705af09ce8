"""How many files this process may have open, each connection being one."""

from __future__ import annotations

import resource
from contextlib import suppress


def allow_many() -> tuple[int, int]:
    """Allow as many as may be had without asking; what was allowed before, soft and hard."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Where the kernel's own bound (fs.nr_open) has been lowered since, we go on as we are.
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return soft, hard
