"""The server's memory across restarts: one SQLite file, written off the reactor in batches.

A new table needs a schema step, the statements that write it, a `record_` method, and a line in
`_load` for what the next run has to know.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from plane_tx.core.errors import ConfigError, JournalError
from plane_tx.core.idempotency import KEPT_SECONDS, MOST_KEPT, Answer

#: Says in the file's head that it is ours: `PRAGMA application_id`.
APPLICATION_ID = 0x706C7478

#: Each step brings a file from the version that is its index to the next, `PRAGMA user_version`.
#: A step that has been released is never changed.
SCHEMA_STEPS = (
    """
    CREATE TABLE fencing (
        only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
        last INTEGER NOT NULL
    );
    CREATE TABLE answers (
        caller TEXT NOT NULL,
        key TEXT NOT NULL,
        digest BLOB NOT NULL,
        body BLOB NOT NULL,
        at REAL NOT NULL,
        PRIMARY KEY (caller, key)
    );
    """,
)

_RECORD_NUMBER = """
    INSERT INTO fencing VALUES (1, ?)
    ON CONFLICT DO UPDATE SET last = max(last, excluded.last)
"""
_RECORD_ANSWER = "INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?)"
_FORGET_ANSWER = "DELETE FROM answers WHERE caller = ? AND key = ?"
_FORGET_OLD_ANSWERS = "DELETE FROM answers WHERE abs(at - ?) >= ?"
# Each answer is a new row, so rows are numbered as they came, whatever the clock said.
_FORGET_EXCESS_ANSWERS = """
    DELETE FROM answers
    WHERE rowid IN (SELECT rowid FROM answers ORDER BY rowid DESC LIMIT -1 OFFSET ?)
"""
_LOAD_ANSWERS = "SELECT caller, key, digest, body, at FROM answers ORDER BY rowid"

#: What SQLite says of a file that is damaged, is no database, or is not laid out as ours.
_UNREADABLE = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR})

#: Does some work elsewhere than here, one piece after the other, and tells how it ended.
Run = Callable[[Callable[[], None]], Deferred[None]]


class _Foreign(Exception):
    """A database that another program, or a newer version of this one, has made."""


@attrs.frozen
class _Write:
    """One statement, the rows it is done with, and who waits until it is durable."""

    statement: str
    rows: tuple[tuple[Any, ...], ...]
    durable: Deferred[None] = attrs.field(factory=Deferred)


class Journal:
    """Writes down what must not be lost, and knows what earlier runs wrote.

    Every record is durable (on disk, by the word of the operating system) when its Deferred fires;
    it fails with `JournalError` when that cannot be. What is recorded while a transaction runs goes
    into the next one together. Cancelling a record's Deferred only stops the waiting.
    """

    _log = Logger()

    def __init__(self, path: Path, run: Run) -> None:
        self.last_number = 0
        self._path = path
        self._run = run
        self._connection: sqlite3.Connection | None = None
        self._answers: list[Answer] = []
        self._waiting: list[_Write] = []
        self._writing = False
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
            except (sqlite3.Error, _Foreign) as error:
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

    def record_number(self, number: int) -> Deferred[None]:
        """See to it that `last_number` of the next run is not below `number`."""
        return self._record(_RECORD_NUMBER, [(number,)])

    def record_answer(self, answer: Answer) -> Deferred[None]:
        """Keep an answer for the next run, in place of an earlier one to the same key."""
        row = (answer.caller, answer.key, answer.digest, answer.body, answer.at)
        return self._record(_RECORD_ANSWER, [row])

    def forget_answers(self, answers: Iterable[Answer]) -> Deferred[None]:
        """Do not keep these for the next run."""
        return self._record(_FORGET_ANSWER, [(answer.caller, answer.key) for answer in answers])

    def close(self) -> Deferred[None]:
        """Write what waits, then let go of the file; fires when both are done. Never fails."""
        if self._closing is None:
            self._closing = Deferred()
            if not self._writing:
                self._let_go()
        return self._closing

    def _record(self, statement: str, rows: list[tuple[Any, ...]]) -> Deferred[None]:
        if self._connection is None or self._closing is not None:
            return fail(JournalError("the server is stopping: try again when it is back"))
        if not rows:
            return succeed(None)
        write = _Write(statement, tuple(rows))
        self._waiting.append(write)
        if not self._writing:
            self._write()
        return write.durable

    def _write(self) -> None:
        self._writing = True
        batch, self._waiting = self._waiting, []
        running = self._run(lambda: self._commit(batch))
        running.addCallbacks(
            self._written, self._not_written, callbackArgs=(batch,), errbackArgs=(batch,)
        )
        running.addErrback(self._stumbled).addCallback(self._go_on)

    def _commit(self, batch: list[_Write]) -> None:
        # In the thread. Nothing else uses the connection while this runs.
        assert self._connection is not None
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            for write in batch:
                self._connection.executemany(write.statement, write.rows)
            self._connection.execute("COMMIT")
        except BaseException:
            # SQLite has rolled back itself when the disk is full.
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    def _written(self, _: None, batch: list[_Write]) -> None:
        if self._failing:
            self._failing = False
            self._log.info("{path} is written again", path=str(self._path))
        for write in batch:
            write.durable.callback(None)

    def _not_written(self, failure: Failure, batch: list[_Write]) -> None:
        if not self._failing:
            self._failing = True
            self._log.error(
                "{path} cannot be written: {error}. The server goes on, and a restart will not"
                " know what happens until this is mended: free the disk or its rights",
                path=str(self._path), error=failure.value,
            )  # fmt: skip
        for write in batch:
            write.durable.errback(JournalError(f"the journal cannot be written: {failure.value}"))

    def _go_on(self, _: None) -> None:
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
        try:
            _check_ours(connection)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            _migrate(connection)
            connection.execute(_FORGET_OLD_ANSWERS, (now, KEPT_SECONDS))
            connection.execute(_FORGET_EXCESS_ANSWERS, (MOST_KEPT,))
            (self.last_number,) = connection.execute(
                "SELECT coalesce(max(last), 0) FROM fencing"
            ).fetchone()
            self._answers = [Answer(*row) for row in connection.execute(_LOAD_ANSWERS)]
        except BaseException:
            connection.close()
            raise
        return connection


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
    # Of an extended error code the last byte is the plain one.
    code = getattr(error, "sqlite_errorcode", None)
    return isinstance(error, _Foreign) or (code is not None and code & 0xFF in _UNREADABLE)


def _set_aside(path: Path) -> Path:
    number = 1
    while (aside := path.with_name(f"{path.name}.aside-{number}")).exists():
        number += 1
    path.rename(aside)
    path.touch(mode=0o600)
    return aside
