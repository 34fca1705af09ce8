"""Where names that must not be guessed, or not repeat, come from."""

from __future__ import annotations

import base64
import secrets
import string
from collections.abc import Callable

from plane_tx.core.model import Routing

_ALPHABET = string.ascii_lowercase + string.digits


def mint_id() -> str:
    """A name of 14 lower-case letters and digits, as Plane's ids are."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(14))


def mint_secret() -> str:
    """32 random bytes as 43 characters that can stand in a URL."""
    return secrets.token_urlsafe(32)


def mint_token(routing: Routing, *, static: bool) -> str:
    """32 random bytes in the shape that `routing` needs; a static token begins with `s.`."""
    if routing is Routing.HOST:
        return base64.b32encode(secrets.token_bytes(32)).decode("ascii").rstrip("=").lower()
    return f"s.{mint_secret()}" if static else mint_secret()


class FencingTokens:
    """Numbers that only grow: the milliseconds of the clock, or one more than the last."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._last = 0

    def rise_above(self, number: int) -> None:
        """See to it that the next one is larger than `number`, which an earlier run gave out."""
        self._last = max(self._last, number)

    def next(self) -> int:
        """A number larger than every one before it."""
        self._last = max(int(self._now() * 1000), self._last + 1)
        return self._last
