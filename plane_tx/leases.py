"""Promises to keep a session alive for a time without a connection."""

from __future__ import annotations

from collections.abc import Callable

import attrs
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from plane_tx.core.errors import InvalidRequest
from plane_tx.core.model import Session
from plane_tx.core.use import Use, UseKind

#: How many leases one session may have at a time; each has a reason of its own.
MOST_LEASES = 64


@attrs.frozen
class _Lease:
    session: Session
    use: Use
    end: IDelayedCall
    until: float


class Leases:
    """One lease for each session and reason; it ends by its clock, or with its session."""

    def __init__(
        self,
        clock: IReactorTime,
        begin: Callable[[Session, Use], None],
        end: Callable[[Session, Use], None],
    ) -> None:
        """Let `begin` and `end` count a lease among what keeps its session in use."""
        self._clock = clock
        self._begin = begin
        self._end = end
        self._running: dict[str, dict[str, _Lease]] = {}

    def __len__(self) -> int:
        return sum(len(leases) for leases in self._running.values())

    def take(self, session: Session, seconds: float, reason: str) -> float | None:
        """Keep the session in use for `seconds`, instead of what `reason` kept it for before.

        Returns when that ends (seconds since epoch); None for 0 seconds, which end it now. Raises
        `InvalidRequest` for a reason too many.
        """
        leases = self._running.get(session.id, {})
        earlier = leases.get(reason)
        if seconds and earlier is None and len(leases) >= MOST_LEASES:
            raise InvalidRequest(
                f"reason: this session has {MOST_LEASES} leases, each for a reason of its own; end"
                " one (seconds: 0), or renew one by its reason"
            )
        until = self._new(session, seconds, reason) if seconds else None
        # The new one first: in between the session must not be idle.
        if earlier is not None:
            self._drop(earlier)
        return until

    def of(self, session_id: str) -> list[tuple[str, float]]:
        """The reason of each lease of this session, and until when it runs."""
        running = self._running.get(session_id, {})
        return [(reason, lease.until) for reason, lease in running.items()]

    def session_ended(self, session: Session) -> None:
        """End every lease of this session."""
        for lease in tuple(self._running.get(session.id, {}).values()):
            self._drop(lease)

    def close(self) -> None:
        """Let go of every timer; the sessions live on."""
        for leases in self._running.values():
            for lease in leases.values():
                lease.end.cancel()
        self._running.clear()

    def _new(self, session: Session, seconds: float, reason: str) -> float:
        now = self._clock.seconds()
        until = now + seconds
        use = Use(UseKind.LEASE, now, until=until, reason=reason)
        end = self._clock.callLater(seconds, lambda: self._drop(lease))
        lease = _Lease(session, use, end, until)
        self._running.setdefault(session.id, {})[reason] = lease
        self._begin(session, use)
        return until

    def _drop(self, lease: _Lease) -> None:
        if lease.end.active():
            lease.end.cancel()
        leases = self._running[lease.session.id]
        if leases.get(lease.use.reason) is lease:
            del leases[lease.use.reason]
            if not leases:
                del self._running[lease.session.id]
        self._end(lease.session, lease.use)
