"""Keeps of every session that has ended what tells why, and shows the same of one that lives."""

from __future__ import annotations

import re
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Protocol, TypeVar

import attrs
from twisted.application.service import Service
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from plane_tx.core.autopsy import Findings, findings, packed
from plane_tx.core.errors import EngineUnavailable
from plane_tx.core.model import LogLine, Session, Status, StatusEntry, Terminated
from plane_tx.core.views import milliseconds
from plane_tx.engines.interface import EngineEvent, IEngine, LeftBehind, Remains
from plane_tx.keptfiles import MOST_FILES, KeptFiles
from plane_tx.supervisor import Supervisor

T = TypeVar("T")

#: How long after the end of a session its autopsy is made: its last connections are closed by then,
#: and what it left behind is read. What comes later is put in as well.
SETTLE_SECONDS = 1.0

#: How many autopsies may wait for the disk, and how much of logs for them, in characters. The
#: oldest go first, as they do on the disk.
MOST_WAITING = MOST_FILES
MOST_WAITING_CHARACTERS = 32 * 1024 * 1024

#: How long a stopping server waits for the disk.
CLOSE_SECONDS = 5.0

#: How long the thread leaves the interpreter to the reactor between pieces of its work.
YIELD_SECONDS = 0.0001

#: A name that an archive may have: no other leads out of the directory.
_NAME = re.compile(r"[a-z0-9-]{1,255}")


class Worker(Protocol):
    """Where archives are packed, written and read, one after the other."""

    def start(self) -> None:
        """Be ready for work."""

    def run(self, work: Callable[[], T]) -> Deferred[T]:
        """Fires with what `work` returns."""

    def stop(self) -> None:
        """There is no more work, and none under way."""


@attrs.define
class _Case:
    """A session that is ending or has ended, whose autopsy is still to be made."""

    session: Session
    remains: Remains | None = None
    stats: dict[str, Any] | None = None
    settling: IDelayedCall | None = None
    #: How much of its log waits for the disk.
    characters: int = 0


class Autopsies(Service):
    """Makes the autopsy of each session when it has ended, and of any one when asked.

    A disk that fails costs the autopsies, and nothing else.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        engine: IEngine,
        supervisor: Supervisor,
        files: KeptFiles,
        worker: Worker,
    ) -> None:
        self._reactor = reactor
        self._engine = engine
        self._supervisor = supervisor
        self._files = files
        self._worker = worker
        self._cases: dict[str, _Case] = {}
        #: Those whose time has come, in order, and how much of logs they hold.
        self._due: OrderedDict[str, _Case] = OrderedDict()
        self._characters = 0
        self._making: Deferred[None] | None = None
        self._done: Deferred[None] | None = None
        self._failing = False
        self._leave: list[Callable[[], None]] = []

    def __repr__(self) -> str:
        making = "idle" if self._making is None else "at work"
        return f"<Autopsies [Cases: {len(self._cases)} | Due: {len(self._due)} | {making}]>"

    def startService(self) -> None:
        """Begin to listen."""
        super().startService()  # type: ignore[no-untyped-call]  # Twisted's Service is untyped
        self._worker.start()
        self._leave = [self._engine.events(self._heard), self._supervisor.watch(self._moved)]

    def stopService(self) -> Deferred[None]:
        """Make what is still to be made; let go when the disk does not take it in 5 s."""
        super().stopService()  # type: ignore[no-untyped-call]  # as above
        return ensureDeferred(self._stop())

    async def archive(self, session_id: str) -> bytes:
        """The autopsy of a session, as `core.autopsy.packed` has it.

        Of one that has ended it is the one that was kept, or when that is gone what is remembered.
        Raises `NotFound` for a session that nothing is known of.
        """
        session = self._supervisor.registry.get(session_id)
        case = self._cases.get(session_id) or self._due.get(session_id)
        if session is None or (_is_over(session) and case is None):
            kept = await self._kept(session_id)
            if kept is not None:
                return kept
            session = self._supervisor.get(session_id)
        if case is None:
            case = _Case(session)
        if not _is_over(session):
            case = await self._of_engine(session)
        found = self._findings(case)
        return await self._worker.run(lambda: packed(found, _pause))

    async def _kept(self, session_id: str) -> bytes | None:
        if not _NAME.fullmatch(session_id):
            return None
        try:
            return await self._worker.run(partial(self._files.get, _name(session_id)))
        except OSError as error:
            self._log.warn("an autopsy cannot be read: {why}", why=error.strerror)
            return None

    async def _of_engine(self, session: Session) -> _Case:
        try:
            remains = await self._engine.remains(session.id)
            return _Case(session, remains, await self._stats(session))
        except EngineUnavailable as error:
            self._log.warn("{session}: without its engine: {why}", session=session.id, why=error)
            return _Case(session)

    async def _stats(self, session: Session) -> dict[str, Any] | None:
        now = self._supervisor.now()
        stats = await self._engine.stats(session.id)
        return None if stats is None else {"at": milliseconds(now), **attrs.asdict(stats)}

    def _heard(self, event: EngineEvent) -> None:
        if not isinstance(event, LeftBehind):
            return
        session = self._supervisor.registry.get(event.session_id)
        if session is not None:
            self._case(session).remains = event.remains
            if _is_over(session):
                self._settle(session)

    def _moved(self, session: Session, entry: StatusEntry) -> None:
        if entry.state.status is Status.TERMINATED:
            self._settle(session)
        elif entry.state.status is Status.TERMINATING:
            # The last moment at which it can be asked.
            asked = ensureDeferred(self._take_stats(self._case(session)))
            asked.addErrback(lambda failure: self._log.failure("stats failed", failure))

    async def _take_stats(self, case: _Case) -> None:
        with suppress(EngineUnavailable):
            case.stats = await self._stats(case.session)

    def _case(self, session: Session) -> _Case:
        return self._cases.setdefault(session.id, _Case(session))

    def _settle(self, session: Session) -> None:
        case = self._case(session)
        if case.settling is None:
            case.settling = self._reactor.callLater(SETTLE_SECONDS, self._settled, case)

    def _settled(self, case: _Case) -> None:
        session_id = case.session.id
        del self._cases[session_id]
        self._take(session_id)
        log = () if case.remains is None else case.remains.log
        case.characters = sum(len(line.text) for line in log)
        self._due[session_id] = case
        self._characters += case.characters
        while len(self._due) > MOST_WAITING or self._characters > MOST_WAITING_CHARACTERS:
            self._take(next(iter(self._due)))
            self._failed("the disk does not keep up")
        self._next()

    def _take(self, session_id: str) -> _Case | None:
        case = self._due.pop(session_id, None)
        if case is not None:
            self._characters -= case.characters
        return case

    def _next(self) -> None:
        if self._making is not None:
            return
        case = self._take(next(iter(self._due), ""))
        if case is not None:
            found, name = self._findings(case), _name(case.session.id)
            self._making = self._worker.run(lambda: self._files.put(name, packed(found, _pause)))
            self._making.addBoth(self._made)
        elif self._done is not None:
            done, self._done = self._done, None
            done.callback(None)

    def _made(self, result: Failure | None) -> None:
        self._making = None
        if result is None:
            self._failing = False
        elif isinstance(result.value, OSError):
            self._failed(result.value.strerror or str(result.value))
        else:
            self._log.failure("an autopsy failed", result)
        self._next()

    def _failed(self, why: str) -> None:
        if not self._failing:
            self._failing = True
            self._log.error(
                "autopsies cannot be kept in {directory}: {why}. The server goes on without them"
                " until this is mended: free the disk or its rights",
                directory=str(self._files.directory), why=why,
            )  # fmt: skip

    def _findings(self, case: _Case) -> Findings:
        session, remains = case.session, case.remains
        return findings(
            session,
            self._supervisor.deadlines(session),
            None if remains is None else remains.account,
            _kept_log(session) if remains is None else remains.log,
            {"engine": case.stats, "proxy": attrs.asdict(session.traffic)},
            self._supervisor.now(),
        )

    async def _stop(self) -> None:
        for leave in self._leave:
            leave()
        for case in tuple(self._cases.values()):
            if case.settling is not None:
                case.settling.cancel()
                self._settled(case)
        done = self._done = Deferred()
        self._next()
        await done.addTimeout(CLOSE_SECONDS, self._reactor, lambda *_: self._due.clear())
        if self._making is None:
            self._worker.stop()


def _is_over(session: Session) -> bool:
    return session.status is Status.TERMINATED


def _name(session_id: str) -> str:
    return f"{session_id}.tar.gz"


def _kept_log(session: Session) -> tuple[LogLine, ...]:
    """Its last lines, which are kept with it."""
    return session.state.log_tail if isinstance(session.state, Terminated) else ()


def _pause() -> None:
    time.sleep(YIELD_SECONDS)
