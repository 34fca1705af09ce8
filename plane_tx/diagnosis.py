"""Finds out why sessions that wait for their servers get no answer: seldom, and shortly."""

from __future__ import annotations

import attrs
from twisted.internet.defer import (
    CancelledError,
    Deferred,
    DeferredSemaphore,
    ensureDeferred,
    succeed,
)
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from plane_tx.core.errors import EngineUnavailable
from plane_tx.core.knocks import Knock, Outcome, door_of, why_unanswered
from plane_tx.core.listeners import Listener
from plane_tx.core.model import Session, Status, StatusEntry
from plane_tx.engines.interface import IEngine
from plane_tx.flights import Flight

#: How long an engine may take to say where a session listens. With a tick of the reaper, no end is
#: later than a second for it.
LOOK_SECONDS = 0.75

#: For how long what was found is not asked again.
FRESH_SECONDS = 2.0

#: How long a session may keep us waiting before it is looked at: most answer by then.
PATIENCE_SECONDS = 3.0

#: How many are looked at together: those of a bad image all time out at once.
LOOKS_AT_ONCE = 4


@attrs.define(eq=False)
class _Look:
    """A look at one session: when it began, and what it finds."""

    began: float
    flight: Flight[str | None]
    work: Deferred[str | None]


class Diagnosis:
    """Keeps the last knock at each session that waits, and what the last look at it found."""

    _log = Logger()

    def __init__(self, clock: IReactorTime, engine: IEngine) -> None:
        self._clock = clock
        self._engine = engine
        self._places = DeferredSemaphore(LOOKS_AT_ONCE)
        self._knocks: dict[str, Knock] = {}
        self._looks: dict[str, _Look] = {}
        self._found: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._knocks.keys() | self._looks.keys() | self._found.keys())

    def knocked(self, session: Session, knock: Knock) -> None:
        """Take note of a knock at a session that waits; it was in vain."""
        self._knocks[session.id] = knock

    def moved(self, session: Session, entry: StatusEntry) -> None:
        """Forget a session that waits no longer."""
        if entry.state.status is Status.WAITING:
            return
        for kept in (self._knocks, self._found):
            kept.pop(session.id, None)
        if (look := self._looks.pop(session.id, None)) is not None:
            look.work.cancel()

    def why(self, session: Session) -> Deferred[str | None]:
        """Why it does not answer, in half a sentence; None when it does, or that is not known.

        Never fails. However many ask, it is looked at once in `FRESH_SECONDS`.
        """
        waits, now = session.entered(Status.WAITING), self._clock.seconds()
        if session.status is not Status.WAITING or session.unconfirmed or waits is None:
            return succeed(None)
        if now - waits < PATIENCE_SECONDS:
            return succeed(None)
        return self._look(session, now - FRESH_SECONDS).flight.wait()

    def is_made(self, session: Session, since: float) -> bool:
        """Whether `session` has been looked at since that moment, as far as it can be.

        If not that is begun, and takes `LOOK_SECONDS` at most.
        """
        return door_of(session) is None or self._look(session, since).flight.landed

    def found(self, session: Session) -> str:
        """What the last look found; empty when that was nothing."""
        return self._found.get(session.id, "")

    def close(self) -> None:
        """Call off every look."""
        for look in tuple(self._looks.values()):
            look.work.cancel()

    def _look(self, session: Session, since: float) -> _Look:
        look = self._looks.get(session.id)
        if look is None or (look.flight.landed and look.began < since):
            work = ensureDeferred(self._look_at(session))
            look = _Look(self._clock.seconds(), Flight(work), work)
            self._looks[session.id] = look
        return look

    async def _look_at(self, session: Session) -> str | None:
        knock = self._knocks.get(session.id)
        seen = knock is not None and knock.outcome is Outcome.ANSWERED
        listeners = None if seen else await self._listeners(session)
        door, knock = door_of(session), self._knocks.get(session.id)
        if door is None or knock is None:
            return None
        why = self._found[session.id] = why_unanswered(door, knock, listeners)
        return why

    async def _listeners(self, session: Session) -> tuple[Listener, ...] | None:
        asking = ensureDeferred(self._ask(session.id))
        try:
            return await asking.addTimeout(LOOK_SECONDS, self._clock)
        except (EngineUnavailable, DeferredTimeout, CancelledError):
            return None
        except Exception:  # noqa: BLE001  # whatever an engine raises, we can do without
            self._log.failure("session {session}: the engine failed", session=session.id)
            return None

    async def _ask(self, session_id: str) -> tuple[Listener, ...] | None:
        await self._places.acquire()
        try:
            return await self._engine.listening(session_id)
        finally:
            self._places.release()
