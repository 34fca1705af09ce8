"""The same request twice: what makes it the same, and the answers kept for the second one."""

from __future__ import annotations

import hashlib
import json
import re
from collections import OrderedDict
from collections.abc import Iterator

import attrs

from plane_tx.core.errors import IdempotencyConflict, InvalidRequest

#: How long an answer is kept.
KEPT_SECONDS = 24 * 3600.0

#: How many answers are kept at most; the oldest go first. A caller that sends a new key more than
#: once a second, all day, would fill memory otherwise: with an answer of a kilobyte this is 135 MB,
#: and close to a second that the server needs to read them when it starts.
MOST_KEPT = 100_000

#: What an Idempotency-Key is made of.
_KEY = re.compile(rb"[\x21-\x7e]{1,255}")


def parse_key(value: bytes) -> str:
    """The value of an Idempotency-Key header. Raises `InvalidRequest`."""
    if not _KEY.fullmatch(value):
        raise InvalidRequest("Idempotency-Key: expected 1 to 255 visible ASCII characters")
    return value.decode("ascii")


def body_digest(body: bytes) -> bytes:
    """The same 32 bytes for all spellings of one JSON value: white space and order do not count.

    Numbers count as they are spelt: 1 is not 1.0. `body` is JSON that has been parsed before;
    raises `ValueError` when it is none.
    """
    canonical = json.dumps(json.loads(body), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode("ascii")).digest()


@attrs.frozen
class Answer:
    """What one caller got for one key; `at` is in seconds since epoch."""

    caller: str
    key: str
    digest: bytes
    body: bytes = attrs.field(repr=False)  # it holds the secrets of a session
    at: float


class Answers:
    """The answers of the last 24 hours by caller and key, 100 000 at most.

    Whoever holds this calls `forget_old` from time to time; `find` gives out nothing older.
    """

    def __init__(self, most_kept: int = MOST_KEPT) -> None:
        self._most_kept = most_kept
        self._answers: OrderedDict[tuple[str, str], Answer] = OrderedDict()

    def __len__(self) -> int:
        return len(self._answers)

    def __iter__(self) -> Iterator[Answer]:
        return iter(self._answers.values())

    def find(self, caller: str, key: str, digest: bytes, now: float) -> bytes | None:
        """What `caller` was answered under `key`; None when that was never or too long ago.

        Raises `IdempotencyConflict` when it was for another body.
        """
        answer = self._answers.get((caller, key))
        if answer is None or _is_old(answer, now):
            return None
        check_same(answer.digest, digest)
        return answer.body

    def keep(self, answer: Answer) -> list[Answer]:
        """Keep this as the newest; return those that made room for it."""
        scope = (answer.caller, answer.key)
        self._answers.pop(scope, None)
        self._answers[scope] = answer
        excess = len(self._answers) - self._most_kept
        return [self._answers.popitem(last=False)[1] for _ in range(excess)]

    def forget_old(self, now: float) -> list[Answer]:
        """Forget what is older than 24 hours, and return it. Costs what is forgotten."""
        old = []
        while self._answers and _is_old(next(iter(self._answers.values())), now):
            old.append(self._answers.popitem(last=False)[1])
        return old


def check_same(digest: bytes, other: bytes) -> None:
    """Raise `IdempotencyConflict` when these are the digests of two bodies."""
    if digest != other:
        raise IdempotencyConflict(
            "this Idempotency-Key was sent with another body within the last 24 hours: send the"
            " same body for the same answer, or a new key"
        )


def _is_old(answer: Answer, now: float) -> bool:
    # A clock that was set back far is no reason to keep an answer for years.
    return abs(now - answer.at) >= KEPT_SECONDS
