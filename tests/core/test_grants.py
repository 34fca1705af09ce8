"""Grants: whatever happens, they know the tokens that a naive list of them would."""

from __future__ import annotations

import attrs
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from plane_tx.core.grants import Grants
from plane_tx.core.model import Token

SESSIONS = "st"
USERS = (None, "ada", "bob")


@attrs.define(eq=False)
class Known:
    """What the naive model keeps of a token: all there is, looked through each time."""

    token: Token
    last_used: float
    open: int = 0
    there: bool = True

    def expired(self, now: float) -> bool:
        ttl = self.token.ttl_seconds
        return ttl is not None and not self.open and self.last_used + ttl <= now


class GrantsAgainstAList(RuleBasedStateMachine):
    """Random use of tokens, known and forgotten ones, beside a plain list; time moves forward."""

    def __init__(self) -> None:
        super().__init__()
        self.grants = Grants()
        self.known: list[Known] = []
        self.now = 1.0

    @property
    def there(self) -> list[Known]:
        return [known for known in self.known if known.there]

    @rule(seconds=st.integers(0, 12))
    def time_passes(self, seconds: int) -> None:
        self.now += seconds

    @rule(
        session_id=st.sampled_from(SESSIONS),
        user=st.sampled_from(USERS),
        ttl=st.none() | st.integers(0, 10),
    )
    def grant(self, session_id: str, user: str | None, ttl: float | None) -> None:
        value = f"token {len(self.known)}"
        token = Token(value, session_id, "", user, ttl_seconds=ttl)
        self.grants.grant(token, self.now)
        self.known.append(Known(token, self.now))

    @precondition(lambda self: self.known)
    @rule(data=st.data())
    def opened(self, data: st.DataObject) -> None:
        known = data.draw(st.sampled_from(self.known))
        self.grants.opened(known.token.value)
        known.open += 1

    @precondition(lambda self: any(known.open for known in self.known))
    @rule(data=st.data())
    def closed(self, data: st.DataObject) -> None:
        known = data.draw(st.sampled_from([known for known in self.known if known.open]))
        self.grants.closed(known.token.value, self.now)
        known.open, known.last_used = known.open - 1, self.now

    @rule()
    def expire(self) -> None:
        self.grants.expire(self.now)
        for known in self.there:
            known.there = not known.expired(self.now)

    @rule(session_id=st.sampled_from(SESSIONS), user=st.sampled_from(USERS[1:]))
    def revoke(self, session_id: str, user: str) -> None:
        mine = [k for k in self.there if (k.token.session_id, k.token.user) == (session_id, user)]

        assert self.grants.revoke(session_id, user) == {known.token.value for known in mine}
        for known in mine:
            known.there = False

    @rule(session_id=st.sampled_from(SESSIONS))
    def forget(self, session_id: str) -> None:
        self.grants.forget_session(session_id)
        for known in self.there:
            known.there = known.token.session_id != session_id

    @invariant()
    def the_tokens_are_those_of_the_list(self) -> None:
        tokens = {known.token.value: known.token for known in self.there}

        assert len(self.grants) == len(tokens)
        for known in self.known:
            assert self.grants.get(known.token.value) is tokens.get(known.token.value)
        of_session: dict[str, dict[str | None, set[str]]] = {}
        for value, token in tokens.items():
            of_users = of_session.setdefault(token.session_id, {})
            of_users.setdefault(token.user, set()).add(value)
        assert self.grants._of_session == of_session

    @invariant()
    def only_tokens_with_a_time_to_live_are_timed_and_none_too_late(self) -> None:
        timed = {k.token.value: k for k in self.there if k.token.ttl_seconds is not None}
        queued = self.grants._expiry._queued

        assert set(self.grants._terms) == set(timed)
        assert set(queued) <= set(timed)
        for value, known in timed.items():
            assert known.open or queued[value] <= known.last_used + known.token.ttl_seconds

    def teardown(self) -> None:
        for known in self.known:
            for _ in range(known.open):
                self.grants.closed(known.token.value, self.now)
        for session_id in SESSIONS:
            self.grants.forget_session(session_id)
        assert_empty(self.grants)


GrantsAgainstAList.TestCase.settings = settings(max_examples=30, stateful_step_count=40)
TestGrantsAgainstAList = GrantsAgainstAList.TestCase


def assert_empty(grants: Grants) -> None:
    assert (len(grants), grants._of_session, grants._terms, len(grants._expiry)) == (0, {}, {}, 0)


def timed(value: str = "token", ttl: float = 10) -> Token:
    return Token(value, "session", "", ttl_seconds=ttl)


def test_a_token_that_nobody_uses_leads_nowhere_after_its_time() -> None:
    grants = Grants()
    grants.grant(timed(), 100.0)

    grants.expire(109.9)
    before = grants.get("token")
    grants.expire(110.0)

    assert before == timed()
    assert_empty(grants)


def test_a_token_without_a_time_to_live_stays() -> None:
    grants, token = Grants(), Token("token", "session", "")
    grants.grant(token, 0.0)
    grants.opened("token")
    grants.closed("token", 1.0)

    grants.expire(1e12)

    assert grants.get("token") is token
    assert len(grants._expiry) == 0


def test_each_use_begins_the_time_anew() -> None:
    grants = Grants()
    grants.grant(timed(), 0.0)
    for at in range(9, 90, 9):
        grants.expire(at)
        grants.opened("token")
        grants.closed("token", at)

    grants.expire(90.9)
    before = grants.get("token")
    grants.expire(91.0)

    assert before is not None
    assert_empty(grants)


def test_a_token_lives_for_as_long_as_the_last_of_its_uses() -> None:
    grants = Grants()
    grants.grant(timed(), 0.0)
    grants.opened("token")
    grants.opened("token")
    grants.closed("token", 5.0)

    grants.expire(1000.0)
    during = grants.get("token")
    grants.closed("token", 1000.0)
    grants.expire(1009.9)
    after = grants.get("token")
    grants.expire(1010.0)

    assert (during, after) == (timed(), timed())
    assert_empty(grants)


def test_what_ends_after_its_token_was_forgotten_is_nothing() -> None:
    grants = Grants()
    grants.grant(Token("token", "session", "", "ada", ttl_seconds=10), 0.0)
    grants.opened("token")

    revoked = grants.revoke("session", "ada")
    grants.closed("token", 5.0)

    assert revoked == {"token"}
    assert_empty(grants)


def test_nobody_has_the_tokens_of_no_user() -> None:
    grants = Grants()
    grants.grant(timed(), 0.0)

    assert grants.revoke("session", "") == frozenset()
    assert grants.revoke("another", "ada") == frozenset()
    assert grants.get("token")
