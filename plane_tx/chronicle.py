"""Sees to it that the journal knows of every session what the next run of the server needs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any, TypeVar

import attrs
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from plane_tx.core import tables
from plane_tx.core.errors import JournalError
from plane_tx.core.model import Session, StatusEntry, Token
from plane_tx.core.registry import Registry
from plane_tx.core.tables import Write
from plane_tx.journal import Journal

T = TypeVar("T")

Row = tuple[Any, ...]

#: How long whoever is answered waits at most for what they are told to be written.
PROMISE_SECONDS = 1.0

#: How often it is written when sessions and tokens were used.
USES_SECONDS = 10.0

#: How many of them in one turn of the reactor.
_MOST_AT_ONCE = 200

#: How many ended sessions are forgotten in one turn.
_MOST_FORGOTTEN = 20

#: Names the leases of a session that go on: their reason, and until when.
LeasesOf = Callable[[str], Iterable[tuple[str, float]]]


@attrs.frozen
class Past:
    """What an earlier run has left of its sessions; the ended ones first, by age.

    A token comes with when it was used last: None when something was open with it, or it may be
    used for ever.
    """

    sessions: tuple[Session, ...]
    tokens: tuple[tuple[Token, float | None], ...]
    leases: tuple[tuple[str, str, float], ...]


class Chronicle:
    """Writes down each change as it comes; who is to rely on one awaits `settled` before.

    A journal that fails or hangs costs that promise and nothing else. What could not be written of
    a session is written, all of it, when it is next told that sessions were used.
    """

    _log = Logger()

    def __init__(
        self, clock: IReactorTime, journal: Journal, registry: Registry, leases_of: LeasesOf
    ) -> None:
        self._clock = clock
        self._journal = journal
        self._registry = registry
        self._leases_of = leases_of
        self._unwritten: set[str] = set()
        self._slow = False

    def __repr__(self) -> str:
        return f"<Chronicle [Unwritten: {len(self._unwritten)}]>"

    def take_past(self) -> Past:
        """What the journal knew when it was opened; it is handed over once.

        A row that this version cannot read is passed over, with a line in the log.
        """
        memory = self._journal.take_memory()
        return Past(
            self._understood(tables.session_of, memory.sessions),
            self._understood(tables.token_of, memory.tokens),
            self._understood(tables.lease_of, memory.leases),
        )

    def together(self) -> AbstractContextManager[None]:
        """What is written meanwhile is written as one; nothing may be awaited within."""
        return self._journal.together()

    async def settled(self) -> None:
        """Wait until all that was told until now is written; a second at most."""
        settling = self._journal.settled().addTimeout(PROMISE_SECONDS, self._clock)
        try:
            await settling
        except DeferredTimeout:
            if not self._slow:
                self._slow = True
                self._log.error(
                    "the journal takes more than {seconds:g} s to write: the server goes on, and a"
                    " restart may not know what happens meanwhile; look at the disk",
                    seconds=PROMISE_SECONDS,
                )
        else:
            self._slow = False

    def made(self, session: Session) -> None:
        """A session was accepted, with a number that no other may have; its engine knows nothing
        of it yet.
        """
        self._write(session.id, tables.number(session.fencing_token), tables.session(session))

    def taken_up(self, session: Session) -> None:
        """A session of an earlier run was found, which the journal may not know."""
        self._write(session.id, tables.number(session.fencing_token), *self._all_of(session))

    def moved(self, session: Session, _entry: StatusEntry) -> None:
        """A session has a new status; ended ones that make room for it are forgotten."""
        self._write(session.id, tables.state(session))
        self._forget()

    def granted(self, token: Token, now: float) -> None:
        """A token was given to somebody."""
        if not token.static:
            self._write(token.session_id, tables.tokens([(token, now)]))

    def revoked(self, session_id: str, values: Iterable[str]) -> None:
        """Tokens of this session were taken back."""
        self._write(session_id, tables.tokens_gone(values))

    def expired(self, values: Iterable[str]) -> None:
        """Tokens went unused for too long: the next run finds that by itself where this fails."""
        self._journal.record(tables.tokens_gone(values)).addErrback(_journal_has_said_so)

    def leased(self, session: Session, reason: str, until: float | None) -> None:
        """A session is kept in use until then (seconds since epoch); None ends that."""
        if until is None:
            self._write(session.id, tables.lease_gone(session.id, reason))
        else:
            gone = tables.leases_gone(session.id, self._clock.seconds())
            self._write(session.id, gone, tables.lease(session.id, reason, until))

    async def write_uses(self) -> None:
        """Write which sessions and tokens were used since the last time, and what failed before;
        what ended too long ago is forgotten.
        """
        self._forget()
        while self._registry.forget_old(self._clock.seconds(), _MOST_FORGOTTEN):
            self._forget()
            await deferLater(self._clock, 0)
        while self._unwritten and await self._write_anew(self._unwritten.pop()):
            pass
        while self._write_some_uses():
            await deferLater(self._clock, 0)

    def write_last(self) -> None:
        """The same at the end, at once."""
        unwritten, self._unwritten = self._unwritten, set()
        for session_id in unwritten:
            self._write(session_id, *self._anew(session_id))
        while self._write_some_uses():
            pass

    def forget(self, session_id: str) -> None:
        """Nothing of this session is to be known any more.

        Where this fails the next run counts it among those that have ended, until it is too old.
        """
        self._unwritten.discard(session_id)
        forgetting = self._journal.record(*tables.forgotten(session_id))
        forgetting.addErrback(_journal_has_said_so)

    def _write_some_uses(self) -> bool:
        registry = self._registry
        sessions = registry.take_used(_MOST_AT_ONCE)
        tokens = registry.grants.take_used(_MOST_AT_ONCE)
        writing = self._journal.record(tables.uses(sessions), tables.token_uses(tokens))
        ids = {session.id for session in sessions} | {token.session_id for token, _ in tokens}
        writing.addErrback(self._not_written, *ids)
        return bool(sessions or tokens)

    async def _write_anew(self, session_id: str) -> bool:
        """Write all there is to know of a session; whether that worked."""
        await deferLater(self._clock, 0)
        try:
            await self._journal.record(*self._anew(session_id))
        except JournalError:
            self._unwritten.add(session_id)
            return False
        return True

    def _anew(self, session_id: str) -> list[Write]:
        session = self._registry.get(session_id)
        return tables.forgotten(session_id) if session is None else self._all_of(session)

    def _all_of(self, session: Session) -> list[Write]:
        tokens = self._registry.grants.of_session(session.id)
        return [
            tables.session(session),
            *tables.belongings_gone(session.id, "tokens", "leases"),
            tables.tokens((token, used) for token, used in tokens if token != session.own_token),
            *(tables.lease(session.id, *lease) for lease in self._leases_of(session.id)),
        ]

    def _forget(self) -> None:
        for session_id in self._registry.take_forgotten():
            self.forget(session_id)

    def _write(self, session_id: str, *writes: Write) -> None:
        self._journal.record(*writes).addErrback(self._not_written, session_id)

    def _not_written(self, failure: Failure, *session_ids: str) -> None:
        failure.trap(JournalError)
        self._unwritten.update(session_ids)

    def _understood(self, read: Callable[[Row], T | None], rows: Iterable[Row]) -> tuple[T, ...]:
        found = [read(row) for row in rows]
        understood = tuple(each for each in found if each is not None)
        if len(understood) < len(found):
            self._log.warn(
                "{count} rows of the journal are not understood, and passed over: {what}",
                count=len(found) - len(understood), what=read.__name__,
            )  # fmt: skip
        return understood


def _journal_has_said_so(failure: Failure) -> None:
    failure.trap(JournalError)
