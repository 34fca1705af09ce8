"""Which token leads to which session, until it is revoked, unused for too long, or forgotten."""

from __future__ import annotations

import attrs

from plane_tx.core.idle import DeadlineHeap
from plane_tx.core.model import Token


@attrs.define
class _Term:
    """How a token with a time to live is used: what is open with it, and when it was used last."""

    ttl_seconds: float
    last_used: float
    open: int = 0

    @property
    def ends_at(self) -> float | None:
        return None if self.open else self.last_used + self.ttl_seconds


class Grants:
    """Tokens by value and by session; only those with a time to live cost more than a lookup."""

    def __init__(self) -> None:
        self._tokens: dict[str, Token] = {}
        self._of_session: dict[str, dict[str | None, set[str]]] = {}
        self._terms: dict[str, _Term] = {}
        self._expiry = DeadlineHeap()
        #: Those whose use the journal does not know yet.
        self._used: set[str] = set()

    def __len__(self) -> int:
        return len(self._tokens)

    def get(self, value: str) -> Token | None:
        """The token of this value, whose session may have ended."""
        return self._tokens.get(value)

    def of_session(self, session_id: str) -> list[tuple[Token, float | None]]:
        """Each token of this session, and when it was used last: None if that is now, or matters
        to no time to live.
        """
        values = self._of_session.get(session_id, {}).values()
        return [(self._tokens[each], self._last_used(each)) for some in values for each in some]

    def take_used(self, most: int) -> list[tuple[Token, float | None]]:
        """So many tokens at most whose use began or ended since they were taken here, as
        `of_session` has them; only such with a time to live.
        """
        values = [self._used.pop() for _ in range(min(most, len(self._used)))]
        return [(self._tokens[value], self._last_used(value)) for value in values]

    def _last_used(self, value: str) -> float | None:
        term = self._terms.get(value)
        return None if term is None or term.open else term.last_used

    def grant(self, token: Token, now: float) -> None:
        """Let `token`, which was used last at `now`, lead to its session."""
        self._tokens[token.value] = token
        of_users = self._of_session.setdefault(token.session_id, {})
        of_users.setdefault(token.user, set()).add(token.value)
        if token.ttl_seconds is not None:
            self._terms[token.value] = _Term(token.ttl_seconds, now)
            self._expiry.put(token.value, now + token.ttl_seconds)

    def opened(self, value: str) -> None:
        """Something was begun with this token: while it goes on, the token lives."""
        term = self._terms.get(value)
        if term is not None:
            term.open += 1
            self._used.add(value)

    def closed(self, value: str, now: float) -> None:
        """What was begun with this token has ended: its time to live begins anew."""
        term = self._terms.get(value)
        if term is None:
            return
        term.open -= 1
        term.last_used = now
        self._used.add(value)
        if term.ends_at is not None:
            self._expiry.put(value, term.ends_at)

    def expire(self, now: float) -> list[str]:
        """Forget the tokens that nobody used for their time to live, and return their values.

        Costs what is due.
        """
        expired = []
        for value in self._expiry.take_due(now):
            ends_at = self._terms[value].ends_at
            if ends_at is None:
                continue  # `closed` will put it back
            if ends_at > now:
                self._expiry.put(value, ends_at)
            else:
                self._drop(value)
                expired.append(value)
        return expired

    def revoke(self, session_id: str, user: str) -> frozenset[str]:
        """Forget every token of this session that was given to `user`; return their values."""
        values = frozenset(self._of_session.get(session_id, {}).get(user, ()))
        for value in values:
            self._drop(value)
        return values

    def forget_session(self, session_id: str) -> None:
        """Forget every token of this session."""
        for values in tuple(self._of_session.get(session_id, {}).values()):
            for value in tuple(values):
                self._drop(value)

    def _drop(self, value: str) -> None:
        token = self._tokens.pop(value)
        of_users = self._of_session[token.session_id]
        of_users[token.user].discard(value)
        if not of_users[token.user]:
            del of_users[token.user]
        if not of_users:
            del self._of_session[token.session_id]
        if self._terms.pop(value, None) is not None:
            self._expiry.discard(value)
            self._used.discard(value)
