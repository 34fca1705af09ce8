"""Which versions of the Docker Engine API the server speaks, and which it shares with a Docker."""

from __future__ import annotations

import re

Version = tuple[int, int]

#: Docker 19.03 has the oldest; what is in use of the newer ones is the same in all of them.
OLDEST, NEWEST = (1, 40), (1, 47)

_VERSION = re.compile(r"([0-9]{1,4})\.([0-9]{1,4})", re.ASCII)


def parse(text: object) -> Version:
    """A version as `GET /version` tells it, like "1.47". Raises `ValueError`."""
    found = _VERSION.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise ValueError(f"expected a version like 1.47, got {str(text)[:32]!r}")
    return int(found[1]), int(found[2])


def dotted(version: Version) -> str:
    """A version as it is written."""
    return f"{version[0]}.{version[1]}"


def agreed(oldest: Version, newest: Version) -> Version | None:
    """The newest version that we share with a Docker that speaks `oldest` to `newest`, if any."""
    shared = min(newest, NEWEST)
    return shared if shared >= max(oldest, OLDEST) else None
