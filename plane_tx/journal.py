"""The server's memory across restarts: one SQLite file, written off the reactor in batches.

What its tables hold is told in core.tables.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from plane_tx.core import tables
from plane_tx.core.errors import ConfigError, JournalError
from plane_tx.core.idempotency import Answer
from plane_tx.core.tables import APPLICATION_ID, SCHEMA_STEPS, Write

#: What SQLite says of a file that is damaged, is no database, or is not laid out as ours.
_UNREADABLE = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR})

#: How many records may wait for a disk that does not answer; what is more fails at once.
MOST_WAITING = 10_000

#: Does some work elsewhere than here, one piece after the other, and tells how it ended.
Run = Callable[[Callable[[], None]], Deferred[None]]


class _Foreign(Exception):
    """A database that another program, or a newer version of this one, has made."""


@attrs.frozen
class _Record:
    """What is written together, and who waits until that is done."""

    writes: tuple[Write, ...]
    written: Deferred[None] = attrs.field(factory=Deferred)

    @property
    def lasting(self) -> bool:
        return any(write.lasting for write in self.writes)


@attrs.frozen
class Memory:
    """Rows that earlier runs wrote of sessions, as core.tables has them; the ended ones by age."""

    sessions: tuple[tuple[Any, ...], ...] = ()
    tokens: tuple[tuple[Any, ...], ...] = ()
    leases: tuple[tuple[Any, ...], ...] = ()


class Journal:
    """Writes down what must not be lost, and knows what earlier runs wrote.

    A record survives the end of this process, however that comes, when its Deferred has fired; a
    lasting one (on disk, by the word of the operating system) a loss of power too. It fails with
    `JournalError` when that cannot be. What is recorded while a transaction runs goes into the next
    one, all of it or nothing. Cancelling a record's Deferred only stops the waiting.
    """

    _log = Logger()

    def __init__(self, path: Path, run: Run) -> None:
        self.last_number = 0
        self._path = path
        self._run = run
        self._connection: sqlite3.Connection | None = None
        self._answers: list[Answer] = []
        self._memory = Memory()
        self._waiting: list[_Record] = []
        #: Who waits for the transaction that runs, and for the next one.
        self._settling: list[Deferred[None]] = []
        self._settling_next: list[Deferred[None]] = []
        self._writing = False
        self._gathering = False
        self._lasting = False
        self._failing = False
        self._closing: Deferred[None] | None = None

    def __repr__(self) -> str:
        writing = "writing" if self._writing else "at rest"
        return f"<Journal {str(self._path)!r} [{writing} | Waiting: {len(self._waiting)}]>"

    def open(self, now: float) -> None:
        """Read what earlier runs wrote, waiting for the disk; then `last_number` is theirs.

        A file that cannot be read is kept under another name, and a new one begun. Raises
        `ConfigError` when neither works.
        """
        try:
            try:
                self._connection = self._load(now)
            except (sqlite3.Error, _Foreign, UnicodeDecodeError) as error:
                if not _is_unreadable(error):
                    raise
                aside = _set_aside(self._path)
                self._log.error(
                    "{path} is not a journal that this version can read: {error}. It is kept as"
                    " {aside}, and a new one begun",
                    path=str(self._path), error=error, aside=str(aside),
                )  # fmt: skip
                self._connection = self._load(now)
        except (sqlite3.Error, OSError) as error:
            raise ConfigError(
                f"{self._path}: cannot be written: {error}; free the disk or its rights, or name"
                " another directory by `[state] dir`"
            ) from None

    def take_answers(self) -> list[Answer]:
        """The answers of earlier runs, oldest first; they are handed over once."""
        answers, self._answers = self._answers, []
        return answers

    def take_memory(self) -> Memory:
        """What earlier runs wrote of sessions; it is handed over once."""
        memory, self._memory = self._memory, Memory()
        return memory

    def record_answer(self, answer: Answer) -> Deferred[None]:
        """Keep an answer for the next run, in place of an earlier one to the same key."""
        return self.record(tables.answer(answer))

    def forget_answers(self, answers: Iterable[Answer]) -> Deferred[None]:
        """Do not keep these for the next run."""
        return self.record(tables.answers_gone(answers))

    def record(self, *writes: Write) -> Deferred[None]:
        """Do these in one transaction, in this order."""
        if self._connection is None or self._closing is not None:
            return fail(JournalError("the server is stopping: try again when it is back"))
        if not any(write.rows for write in writes):
            return succeed(None)
        if len(self._waiting) >= MOST_WAITING:
            return fail(JournalError("the journal does not keep up: look at the disk"))
        record = _Record(writes)
        self._waiting.append(record)
        self._begin()
        return record.written

    @contextmanager
    def together(self) -> Iterator[None]:
        """Whatever is recorded meanwhile goes into one transaction; nothing may be awaited."""
        self._gathering = True
        try:
            yield
        finally:
            self._gathering = False
            self._begin()

    def settled(self) -> Deferred[None]:
        """Fires when all that was recorded until now is written, or has failed. Never fails."""
        if not self._writing and not self._waiting:
            return succeed(None)
        waiters = self._settling_next if self._waiting else self._settling
        settled: Deferred[None] = Deferred(waiters.remove)
        waiters.append(settled)
        return settled

    def close(self) -> Deferred[None]:
        """Write what waits, then let go of the file; fires when both are done. Never fails."""
        if self._closing is None:
            self._closing = Deferred()
            if not self._writing:
                self._let_go()
        return self._closing

    def _begin(self) -> None:
        if self._waiting and not self._writing and not self._gathering:
            self._write()

    def _write(self) -> None:
        self._writing = True
        batch, self._waiting = self._waiting, []
        self._settling, self._settling_next = self._settling_next, []
        running = self._run(lambda: self._commit(batch))
        running.addCallbacks(
            self._written, self._not_written, callbackArgs=(batch,), errbackArgs=(batch,)
        )
        running.addErrback(self._stumbled).addCallback(self._go_on)

    def _commit(self, batch: list[_Record]) -> None:
        # In the thread. Nothing else uses the connection while this runs.
        assert self._connection is not None
        self._set_lasting(self._connection, any(record.lasting for record in batch))
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            for record in batch:
                _do(self._connection, record.writes)
            self._connection.execute("COMMIT")
        except BaseException:
            # SQLite has rolled back itself when the disk is full.
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    def _set_lasting(self, connection: sqlite3.Connection, lasting: bool) -> None:
        # Between transactions only: within one, SQLite does not heed it. With NORMAL a commit is
        # with the kernel and not yet on the disk (SQLite, "PRAGMA synchronous", in WAL mode).
        if lasting is not self._lasting:
            connection.execute(f"PRAGMA synchronous = {'FULL' if lasting else 'NORMAL'}")
            self._lasting = lasting

    def _written(self, _: None, batch: list[_Record]) -> None:
        if self._failing:
            self._failing = False
            self._log.info("{path} is written again", path=str(self._path))
        for record in batch:
            record.written.callback(None)

    def _not_written(self, failure: Failure, batch: list[_Record]) -> None:
        if not self._failing:
            self._failing = True
            self._log.error(
                "{path} cannot be written: {error}. The server goes on, and a restart will not"
                " know what happens until this is mended: free the disk or its rights",
                path=str(self._path), error=failure.value,
            )  # fmt: skip
        for record in batch:
            record.written.errback(JournalError(f"the journal cannot be written: {failure.value}"))

    def _go_on(self, _: None) -> None:
        settled = self._settling
        while settled:
            settled.pop(0).callback(None)
        # Only here: what the waiters have just recorded is one batch, not one each.
        self._writing = False
        if self._waiting:
            self._write()
        elif self._closing is not None:
            self._let_go()

    def _let_go(self) -> None:
        connection, self._connection = self._connection, None
        closed = succeed(None) if connection is None else self._run(connection.close)
        assert self._closing is not None
        closed.addErrback(self._stumbled).chainDeferred(self._closing)

    def _stumbled(self, failure: Failure) -> None:
        self._log.failure("the journal stumbled, and goes on", failure)

    def _load(self, now: float) -> sqlite3.Connection:
        # Used by one thread after the other, never by two at once.
        connection = sqlite3.connect(self._path, check_same_thread=False, isolation_level=None)
        # Of a text with a damaged character the row is judged, and not the whole file.
        connection.text_factory = partial(str, encoding="utf-8", errors="replace")
        try:
            _check_ours(connection)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            _migrate(connection)
            _do(connection, tables.too_old(now))
            read = {
                name: connection.execute(statement).fetchall()
                for name, statement in tables.READ.items()
            }
        except BaseException:
            connection.close()
            raise
        ((self.last_number,),) = read["number"]
        self._answers = list(filter(None, map(tables.answer_of, read["answers"])))
        self._memory = Memory(*(tuple(read[name]) for name in ("sessions", "tokens", "leases")))
        return connection


def _do(connection: sqlite3.Connection, writes: Iterable[Write]) -> None:
    for write in writes:
        connection.executemany(write.statement, write.rows)


def _check_ours(connection: sqlite3.Connection) -> None:
    ((damage,),) = connection.execute("PRAGMA quick_check(1)")
    if damage != "ok":
        raise _Foreign(damage)
    ((owner,),) = connection.execute("PRAGMA application_id")
    ((version,),) = connection.execute("PRAGMA user_version")
    ((tables,),) = connection.execute("SELECT count(*) FROM sqlite_master")
    if tables and owner != APPLICATION_ID:
        raise _Foreign("another program has made it")
    if version > len(SCHEMA_STEPS):
        raise _Foreign("a newer version of this server has made it")


def _migrate(connection: sqlite3.Connection) -> None:
    ((version,),) = connection.execute("PRAGMA user_version")
    for number, step in enumerate(SCHEMA_STEPS[version:], version + 1):
        connection.executescript(
            f"BEGIN; {step}; PRAGMA application_id = {APPLICATION_ID};"
            f" PRAGMA user_version = {number}; COMMIT"
        )


def _is_unreadable(error: Exception) -> bool:
    # Of an extended error code the last byte is the plain one. Without any it is Python that cannot
    # read what SQLite has found.
    code = getattr(error, "sqlite_errorcode", None)
    return code is None or code & 0xFF in _UNREADABLE


def _set_aside(path: Path) -> Path:
    number = 1
    while (aside := path.with_name(f"{path.name}.aside-{number}")).exists():
        number += 1
    path.rename(aside)
    # What a killed server had not brought into the file yet would be brought into the new one.
    for beside in ("-wal", "-shm"):
        with suppress(FileNotFoundError):
            path.with_name(path.name + beside).rename(f"{aside}{beside}")
    path.touch(mode=0o600)
    return aside
