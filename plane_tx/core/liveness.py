"""Whether a WebSocket's client is still there, by what it says and by pings that it answers."""

from __future__ import annotations

import enum

import attrs

#: How many pings may stay without a byte from the client before it counts as dead.
UNANSWERED_PINGS = 2


class Next(enum.Enum):
    """What is to be done when an interval is over."""

    WAIT = "wait"
    PING = "ping"
    GIVE_UP = "give up"


@attrs.define
class Liveness:
    """What is known of one client; `heard` is set whenever a byte of it comes.

    `pings` counts those that were sent, which gives each a number.
    """

    heard: bool = True
    pings: int = 0
    _unanswered: int = 0
    _pinged: float = 0.0

    def due(self, now: float, *, deaf: bool, full: bool, can_ping: bool) -> Next:
        """Judge an interval that ends `now` (seconds); a PING is then sent, and counted here.

        Nothing is proved while we do not read from the client (`deaf`), nor where no ping can
        stand, unless the client is `full`: it does not read, and would not answer one either.
        """
        if self.heard or deaf:
            self.heard, self._unanswered = False, 0
            return Next.WAIT
        if self._unanswered >= UNANSWERED_PINGS:
            return Next.GIVE_UP
        if can_ping or full:
            self._unanswered += 1
        if not can_ping:
            return Next.WAIT
        self.pings += 1
        self._pinged = now
        return Next.PING

    def round_trip(self, now: float) -> float:
        """How long the last ping took, whose pong has come (seconds)."""
        return now - self._pinged
