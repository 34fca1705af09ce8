"""The journal's tables: their schema, what is written into them, and what is read back.

A new table needs a schema step, makers of what is written, and a line in `READ` for what the next
run has to know.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import attrs

from plane_tx.core.history import history_from_text, history_to_text
from plane_tx.core.idempotency import KEPT_SECONDS, MOST_KEPT, Answer
from plane_tx.core.model import Session, Status, Token
from plane_tx.core.record import from_text, to_text
from plane_tx.core.registry import ENDED_KEPT, ENDED_KEPT_SECONDS

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
    """
    CREATE TABLE sessions (
        id TEXT PRIMARY KEY,
        record TEXT NOT NULL,
        history TEXT NOT NULL,
        claimed INTEGER NOT NULL,
        last_used REAL,
        ended_at REAL
    );
    CREATE TABLE tokens (
        value TEXT PRIMARY KEY,
        session_id TEXT NOT NULL,
        user TEXT,
        secret TEXT NOT NULL,
        claims TEXT NOT NULL,
        ttl_seconds REAL,
        last_used REAL
    );
    CREATE INDEX tokens_of_session ON tokens (session_id);
    CREATE TABLE leases (
        session_id TEXT NOT NULL,
        reason TEXT NOT NULL,
        until REAL NOT NULL,
        PRIMARY KEY (session_id, reason)
    );
    """,
)

_OF_SESSION = {table: f"DELETE FROM {table} WHERE session_id = ?" for table in ("tokens", "leases")}

# Each answer is a new row, so rows are numbered as they came, whatever the clock said.
_EXCESS_ANSWERS = """
    DELETE FROM answers
    WHERE rowid IN (SELECT rowid FROM answers ORDER BY rowid DESC LIMIT -1 OFFSET ?)
"""
_EXCESS_SESSIONS = """
    DELETE FROM sessions WHERE id IN (
        SELECT id FROM sessions WHERE ended_at IS NOT NULL
        ORDER BY ended_at DESC LIMIT -1 OFFSET ?
    )
"""

#: What is read at the start, by what it is called; one statement each.
READ = {
    "number": "SELECT coalesce(max(CAST(last AS INTEGER)), 0) FROM fencing",
    "answers": "SELECT caller, key, digest, body, at FROM answers ORDER BY rowid",
    "sessions": "SELECT * FROM sessions ORDER BY ended_at",
    "tokens": "SELECT * FROM tokens ORDER BY rowid",
    "leases": "SELECT * FROM leases",
}


@attrs.frozen
class Write:
    """One statement, and the rows it is done with.

    A `lasting` one is to survive a power loss too; any other survives the end of this process.
    """

    statement: str
    rows: tuple[tuple[Any, ...], ...]
    lasting: bool = False


def too_old(now: float) -> list[Write]:
    """What is cleared away at the start: more than is kept, and older."""
    return [
        Write("DELETE FROM answers WHERE abs(at - ?) >= ?", ((now, KEPT_SECONDS),)),
        Write(_EXCESS_ANSWERS, ((MOST_KEPT,),)),
        Write("DELETE FROM leases WHERE until <= ?", ((now,),)),
        Write("DELETE FROM sessions WHERE ended_at < ?", ((now - ENDED_KEPT_SECONDS,),)),
        Write(_EXCESS_SESSIONS, ((ENDED_KEPT,),)),
        *(
            Write(f"DELETE FROM {table} WHERE session_id NOT IN (SELECT id FROM sessions)", ((),))
            for table in _OF_SESSION
        ),
    ]


def number(last: int) -> Write:
    """No fencing number up to this one is to be given out again."""
    return Write(
        "INSERT INTO fencing VALUES (1, ?)"
        " ON CONFLICT DO UPDATE SET last = max(last, excluded.last)",
        ((last,),),
        lasting=True,
    )


def answer(given: Answer) -> Write:
    """An answer, in place of an earlier one to the same key."""
    row = (given.caller, given.key, given.digest, given.body, given.at)
    return Write("INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?)", (row,))


def answers_gone(answers: Iterable[Answer]) -> Write:
    """These answers are not to be given again."""
    keys = tuple((answer.caller, answer.key) for answer in answers)
    return Write("DELETE FROM answers WHERE caller = ? AND key = ?", keys)


def session(known: Session) -> Write:
    """A session as it is now, without its tokens and leases."""
    row = (known.id, to_text(known), *_state(known))
    return Write("INSERT OR REPLACE INTO sessions VALUES (?, ?, ?, ?, ?, ?)", (row,))


def state(known: Session) -> Write:
    """What has changed of a session that is there."""
    return Write(
        "UPDATE sessions SET history = ?, claimed = ?, last_used = ?, ended_at = ? WHERE id = ?",
        ((*_state(known), known.id),),
    )


def _state(known: Session) -> tuple[object, ...]:
    ended_at = known.history[-1].at if known.status is Status.TERMINATED else None
    return history_to_text(known.history), known.claimed, known.last_used, ended_at


def uses(sessions: Iterable[Session]) -> Write:
    """When these sessions were used last."""
    rows = tuple((known.claimed, known.last_used, known.id) for known in sessions)
    return Write("UPDATE sessions SET claimed = ?, last_used = ? WHERE id = ?", rows)


def tokens(granted: Iterable[tuple[Token, float | None]]) -> Write:
    """Tokens, each with when it was used last; None while something is open with it."""
    rows = tuple(
        (
            token.value,
            token.session_id,
            token.user,
            token.secret,
            json.dumps(token.claims),
            token.ttl_seconds,
            last_used,
        )
        for token, last_used in granted
    )
    return Write("INSERT OR REPLACE INTO tokens VALUES (?, ?, ?, ?, ?, ?, ?)", rows)


def token_uses(used: Iterable[tuple[Token, float | None]]) -> Write:
    """When these tokens were used last, as `tokens` has it."""
    rows = tuple((last_used, token.value) for token, last_used in used)
    return Write("UPDATE tokens SET last_used = ? WHERE value = ?", rows)


def tokens_gone(values: Iterable[str]) -> Write:
    """The tokens of these values lead nowhere any more."""
    return Write("DELETE FROM tokens WHERE value = ?", tuple((value,) for value in values))


def lease(session_id: str, reason: str, until: float) -> Write:
    """A lease, in place of the one that had the same reason."""
    row = (session_id, reason, until)
    return Write("INSERT OR REPLACE INTO leases VALUES (?, ?, ?)", (row,))


def lease_gone(session_id: str, reason: str) -> Write:
    """A lease that was ended."""
    statement = "DELETE FROM leases WHERE session_id = ? AND reason = ?"
    return Write(statement, ((session_id, reason),))


def leases_gone(session_id: str, now: float) -> Write:
    """The leases of a session that have run out."""
    return Write("DELETE FROM leases WHERE session_id = ? AND until <= ?", ((session_id, now),))


def belongings_gone(session_id: str, *tables: str) -> list[Write]:
    """Nothing in these tables, `tokens` and `leases`, is this session's any more."""
    return [Write(_OF_SESSION[table], ((session_id,),)) for table in tables]


def forgotten(session_id: str) -> list[Write]:
    """Nothing of this session is kept any more."""
    gone = Write("DELETE FROM sessions WHERE id = ?", ((session_id,),))
    return [gone, *belongings_gone(session_id, "tokens", "leases")]


def session_of(row: Sequence[Any]) -> Session | None:
    """The session of a row; None for one that cannot be understood."""
    session_id, record, history, claimed, last_used, _ = row
    texts = all(isinstance(text, str) for text in (session_id, record, history))
    known = from_text(session_id, record) if texts and _is_moment(last_used) else None
    if known is None:
        return None
    try:
        known.history = history_from_text(history)
    except ValueError:
        return None
    known.claimed, known.last_used = bool(claimed), last_used
    return known


def token_of(row: Sequence[Any]) -> tuple[Token, float | None] | None:
    """The token of a row, and when it was used last; None for one that cannot be understood."""
    value, session_id, user, secret, claims, ttl_seconds, last_used = row
    try:
        claims = json.loads(claims)
    except (ValueError, TypeError, RecursionError):
        return None
    texts = all(isinstance(text, str) for text in (value, session_id, user or "", secret))
    if not texts or not isinstance(claims, dict) or not _is_moment(ttl_seconds, last_used):
        return None
    return Token(value, session_id, secret, user, claims, ttl_seconds=ttl_seconds), last_used


def lease_of(row: Sequence[Any]) -> tuple[str, str, float] | None:
    """The session, reason and end of a lease; None for one that cannot be understood."""
    session_id, reason, until = row
    understood = isinstance(reason, str) and isinstance(until, float)
    return (session_id, reason, until) if understood else None


def answer_of(row: Sequence[Any]) -> Answer | None:
    """The answer of a row; None for one that cannot be understood."""
    given = Answer(*row)
    return given if isinstance(given.body, bytes) and isinstance(given.at, float) else None


def _is_moment(*values: object) -> bool:
    # SQLite keeps what is no number where a number belongs.
    return all(value is None or isinstance(value, float) for value in values)
