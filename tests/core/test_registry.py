"""The registry: whatever happens, its indexes say what a naive list of sessions would."""

from __future__ import annotations

from collections import Counter

import attrs
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from plane_tx.core.errors import FailedToAcquireKey
from plane_tx.core.model import (
    Address,
    Executable,
    Key,
    Ready,
    Reason,
    Scheduled,
    Session,
    Spec,
    Status,
    Terminated,
    Terminating,
    Token,
    Waiting,
)
from plane_tx.core.registry import Registry, place_of
from plane_tx.core.use import Use, UseKind
from tests.sessions import make_session

HERE = Address("127.0.0.1", 8080)
GONE = Terminated(Status.READY, Reason.EXTERNAL)


def a_session(session_id: str = "id", key: str = "key", **values: object) -> Session:
    subdomain = values.pop("subdomain", None)
    spec = Spec(Executable(), subdomain=subdomain)
    return make_session(session_id, Key(key), "", spec, 0.0, 1, **values)


@attrs.define
class Known:
    """What the naive model keeps of a session: all there is, looked through each time."""

    session: Session
    tokens: list[str] = attrs.field(factory=list)
    uses: list[Use] = attrs.field(factory=list)
    ended: bool = False

    @property
    def holds(self) -> list[Use]:
        return [use for use in self.uses if not use.passive]


class RegistryAgainstAList(RuleBasedStateMachine):
    """Random use of a registry that remembers two ended sessions, beside a plain list."""

    KEPT = 2

    def __init__(self) -> None:
        super().__init__()
        self.registry = Registry(self.KEPT)
        self.known: list[Known] = []
        self.forgotten: list[Known] = []
        self.now = 1.0
        self.minted = 0

    def pick(self, data: st.DataObject) -> Known:
        return data.draw(st.sampled_from(self.known))

    @rule(
        session_id=st.sampled_from("abcdef"),
        key=st.sampled_from("klm"),
        subdomain=st.none() | st.sampled_from("st"),
        user=st.none() | st.sampled_from("uv"),
    )
    def add(self, session_id: str, key: str, subdomain: str | None, user: str | None) -> None:
        session = a_session(session_id, key, subdomain=subdomain, user=user)
        live = [known.session for known in self.known if not known.ended]
        taken = (
            any(known.session.id == session_id for known in self.known)
            or any(other.key == session.key for other in live)
            or any(subdomain and other.spec.subdomain == subdomain for other in live)
        )
        if taken:
            with pytest.raises(FailedToAcquireKey):
                self.registry.add(session, Scheduled(), self.now)
        else:
            self.registry.add(session, Scheduled(), self.now)
            self.known.append(Known(session))

    @precondition(lambda self: self.known)
    @rule(data=st.data())
    def grant(self, data: st.DataObject) -> None:
        known = self.pick(data)
        self.minted += 1
        known.tokens.append(f"token {self.minted}")
        self.registry.grants.grant(Token(known.tokens[-1], known.session.id, ""), self.now)

    @precondition(lambda self: self.known)
    @rule(data=st.data(), passive=st.booleans())
    def use(self, data: st.DataObject, passive: bool) -> None:
        known = self.pick(data)
        known.uses.append(Use(UseKind.REQUEST, self.now, passive=passive))
        self.registry.begin_use(known.session, known.uses[-1])

    @property
    def used(self) -> list[Known]:
        return [known for known in (*self.known, *self.forgotten) if known.uses]

    @precondition(lambda self: self.used)
    @rule(data=st.data(), twice=st.booleans())
    def unuse(self, data: st.DataObject, twice: bool) -> None:
        known = data.draw(st.sampled_from(self.used))
        use = known.uses.pop()
        self.now += 1
        was_last = self.registry.end_use(known.session, use, self.now)
        assert was_last == (not use.passive and not known.holds)
        if twice:
            assert not self.registry.end_use(known.session, use, self.now + 1)

    @property
    def touchable(self) -> list[tuple[Session, Use]]:
        return [(known.session, use) for known in self.used for use in known.uses if use.passive]

    @precondition(lambda self: self.touchable)
    @rule(data=st.data())
    def touch(self, data: st.DataObject) -> None:
        session, use = data.draw(st.sampled_from(self.touchable))
        self.now += 1
        before = session.idle_since
        self.registry.touch(session, use, self.now)
        ended = session.status is Status.TERMINATED
        assert session.idle_since == (None if before is None or ended else self.now)

    @precondition(lambda self: any(not known.ended for known in self.known))
    @rule(data=st.data(), state=st.sampled_from([Ready(HERE), Waiting(HERE), GONE]))
    def record(self, data: st.DataObject, state: Ready | Waiting | Terminated) -> None:
        known = data.draw(st.sampled_from([known for known in self.known if not known.ended]))
        self.now += 1
        self.registry.record(known.session, state, self.now)
        if state is GONE:
            known.ended = True
            self.known.remove(known)
            self.known.append(known)
        ended = [known for known in self.known if known.ended]
        for known in ended[: max(0, len(ended) - self.KEPT)]:
            self.known.remove(known)
            self.forgotten.append(known)

    @invariant()
    def its_indexes_are_what_a_search_finds(self) -> None:
        live = [known.session for known in self.known if not known.ended]
        everyone = {known.session.id: known.session for known in self.known}
        registry = self.registry

        assert {session.id: session for session in registry} == everyone
        assert {each: registry.get(each) for each in everyone} == everyone
        assert registry.live_count == len(live)
        assert registry._by_key == {session.key: session for session in live}
        assert all(registry.holder(session.key) is session for session in live)
        homes = {each.spec.subdomain: each for each in live if each.spec.subdomain}
        assert registry._by_subdomain == homes
        assert all(registry._by_subdomain[home] is homes[home] for home in homes)

    @invariant()
    def its_counts_are_what_a_count_gives(self) -> None:
        live = [known.session for known in self.known if not known.ended]

        for user in "uv":
            assert len(self.registry.of_user(user)) == sum(each.user == user for each in live)
        assert set(self.registry._by_user) == {each.user for each in live} - {None}
        assert len(self.registry._ended) == len(self.known) - len(live)
        counted = Counter(known.session.status for known in self.known)
        assert +self.registry.statuses == counted
        everyone = [*self.known, *self.forgotten]
        assert self.registry.uses.total() == sum(len(known.uses) for known in everyone)

    @invariant()
    def its_order_is_that_of_a_sort(self) -> None:
        places = sorted((place_of(known.session) for known in self.known), reverse=True)

        found = self.registry.before(None, len(places))
        assert [place_of(session) for session in found] == places
        for number, place in enumerate(places):
            assert [place_of(each) for each in self.registry.before(place, 2)] == (
                places[number + 1 : number + 3]
            )

    @invariant()
    def tokens_live_as_long_as_their_session_is_known(self) -> None:
        tokens = {value for known in self.known for value in known.tokens}

        assert set(self.registry.grants._tokens) == tokens
        assert set(self.registry.grants._of_session) == {
            k.session.id for k in self.known if k.tokens
        }
        for known in self.known:
            of_users = self.registry.grants._of_session.get(known.session.id, {})
            values = set().union(*of_users.values())
            found = [self.registry.grants.get(value) for value in values]
            assert {token.value for token in found} == set(known.tokens)

    @invariant()
    def idle_is_who_is_ready_and_not_held(self) -> None:
        for known in self.known:
            session = known.session
            assert session.uses == set(known.uses)
            assert session.holds == len(known.holds)
            if session.status is Status.READY:
                assert (session.idle_since is None) == bool(known.holds)
            elif known.ended:
                assert session.idle_since is None

    def teardown(self) -> None:
        for known in [known for known in self.known if not known.ended]:
            self.registry.record(known.session, GONE, self.now)
        assert repr(self.registry).startswith("<Registry [Sessions: 0 live,")


RegistryAgainstAList.TestCase.settings = settings(max_examples=30, stateful_step_count=30)
TestRegistryAgainstAList = RegistryAgainstAList.TestCase


def test_a_refused_session_leaves_nothing_behind() -> None:
    registry = Registry()
    registry.add(a_session("one", "key", subdomain="home"), Scheduled(), 1.0)

    for session in (a_session("one", "x"), a_session("x"), a_session("x", "x", subdomain="home")):
        with pytest.raises(FailedToAcquireKey, match=r"taken|held"):
            registry.add(session, Scheduled(), 1.0)

    assert repr(registry) == "<Registry [Sessions: 1 live, 0 ended | Tokens: 0]>"


def test_a_session_on_its_way_out_still_holds_its_key() -> None:
    registry, session = Registry(), a_session()
    registry.add(session, Scheduled(), 1.0)

    registry.record(session, Terminating(Status.SCHEDULED, Reason.EXTERNAL), 2.0)

    assert registry.holder(session.key) is session


def test_an_ended_session_is_remembered_with_its_links_and_then_forgotten() -> None:
    registry, session = Registry(ended_kept=1), a_session()
    registry.add(session, Scheduled(), 1.0)
    registry.grants.grant(Token("token", "id", ""), 1.0)
    registry.record(session, GONE, 2.0)
    remembered = registry.get("id"), registry.grants.get("token")

    other = a_session("other")
    registry.add(other, Scheduled(), 3.0)
    registry.record(other, GONE, 4.0)

    assert remembered == (session, Token("token", "id", ""))
    assert (registry.get("id"), registry.grants.get("token"), len(registry.grants)) == (
        None,
        None,
        0,
    )


def test_a_use_while_it_boots_starts_no_idle_clock() -> None:
    registry, session, use = Registry(), a_session(), Use(UseKind.HOLD, 1.0)
    registry.add(session, Scheduled(), 1.0)

    registry.begin_use(session, use)
    registry.end_use(session, use, 2.0)

    assert session.idle_since is None
    assert session.claimed


def test_the_idle_clock_starts_at_ready_or_at_the_last_end() -> None:
    registry, session = Registry(), a_session()
    first, second = Use(UseKind.REQUEST, 1.0), Use(UseKind.REQUEST, 1.0)
    registry.add(session, Scheduled(), 1.0)
    registry.record(session, Ready(HERE), 5.0)
    at_ready = session.idle_since

    registry.begin_use(session, first)
    registry.begin_use(session, second)
    ends = [registry.end_use(session, first, 6.0), registry.end_use(session, second, 7.0)]

    assert at_ready == 5.0
    assert ends == [False, True]
    assert session.idle_since == 7.0


def test_a_lease_keeps_a_session_in_use_and_claims_nothing() -> None:
    registry, session, lease = Registry(), a_session(), Use(UseKind.LEASE, 1.0)
    registry.add(session, Scheduled(), 1.0)
    registry.record(session, Ready(HERE), 2.0)

    registry.begin_use(session, lease)
    during = session.idle_since
    registry.end_use(session, lease, 9.0)

    assert (during, session.idle_since, session.claimed) == (None, 9.0, False)


def test_leases_are_counted_and_nothing_else_with_them() -> None:
    registry, session = Registry(), a_session()
    request, lease = Use(UseKind.REQUEST, 1.0), Use(UseKind.LEASE, 1.0)
    registry.add(session, Scheduled(), 1.0)

    counts = []
    for use in (request, lease):
        registry.begin_use(session, use)
        counts.append(session.leases)
    for use in (lease, lease, request):
        registry.end_use(session, use, 2.0)
        counts.append(session.leases)

    assert counts == [0, 1, 0, 0, 0]


def passive_use(since: float) -> Use:
    return Use(UseKind.WEBSOCKET, since, passive=True)


def ready_at(registry: Registry, at: float) -> Session:
    session = a_session()
    registry.add(session, Scheduled(), 0.0)
    registry.record(session, Ready(HERE), at)
    return session


def test_the_last_hold_that_ends_starts_the_idle_clock_whatever_is_passive() -> None:
    registry, hold, socket = Registry(), Use(UseKind.REQUEST, 2.0), passive_use(3.0)
    session = ready_at(registry, 1.0)

    registry.begin_use(session, hold)
    registry.begin_use(session, socket)
    during = session.idle_since
    began = registry.end_use(session, hold, 4.0)

    assert (during, began, session.idle_since) == (None, True, 4.0)


def test_a_passive_use_that_begins_is_a_claim_and_moves_no_clock() -> None:
    registry = Registry()
    session = ready_at(registry, 1.0)
    socket = passive_use(3.0)

    registry.begin_use(session, socket)

    assert (session.claimed, session.idle_since) == (True, 1.0)
    assert (session.last_use, session.last_used) == (None, None)


def test_what_passes_over_a_passive_use_starts_the_idle_clock_anew() -> None:
    registry, first, second = Registry(), passive_use(2.0), passive_use(3.0)
    session = ready_at(registry, 1.0)
    registry.begin_use(session, first)
    registry.begin_use(session, second)

    registry.touch(session, first, 9.0)

    assert session.idle_since == 9.0
    assert (session.last_use, session.last_used) == (first, 9.0)


def test_the_end_of_a_passive_use_is_no_use() -> None:
    registry, socket = Registry(), passive_use(2.0)
    session = ready_at(registry, 1.0)
    registry.begin_use(session, socket)

    began = registry.end_use(session, socket, 9.0)

    assert (began, session.idle_since, session.last_used) == (False, 1.0, None)
    assert (session.uses, session.holds, registry.uses.total()) == (set(), 0, 0)


def test_nothing_touches_a_session_that_is_held_or_ends() -> None:
    registry, hold, socket = Registry(), Use(UseKind.LEASE, 2.0), passive_use(2.0)
    session = ready_at(registry, 1.0)
    registry.begin_use(session, socket)
    registry.begin_use(session, hold)
    registry.touch(session, socket, 3.0)
    held = session.idle_since
    registry.end_use(session, hold, 4.0)
    registry.record(session, Terminating(Status.READY, Reason.IDLE), 5.0)

    registry.touch(session, socket, 6.0)

    assert (held, session.idle_since, session.last_used) == (None, 4.0, 4.0)


def test_a_session_that_boots_with_a_passive_use_is_idle_from_ready_on() -> None:
    registry, session, socket = Registry(), a_session(), passive_use(1.0)
    registry.add(session, Scheduled(), 0.0)
    registry.begin_use(session, socket)
    registry.touch(session, socket, 2.0)
    booting = session.idle_since

    registry.record(session, Ready(HERE), 3.0)

    assert (booting, session.idle_since) == (None, 3.0)


def test_what_a_use_counts_is_the_sessions_and_everyones_at_once() -> None:
    registry, session = Registry(), a_session()
    uses = [Use(UseKind.REQUEST, 1.0), Use(UseKind.WEBSOCKET, 2.0)]
    registry.add(session, Scheduled(), 1.0)
    for use in uses:
        registry.begin_use(session, use)
        use.from_client(10, 1, 3.0)
    before = attrs.astuple(session.traffic)

    for use in uses * 2:
        registry.end_use(session, use, 4.0)

    assert before == (0, 20, 0, 2, 0)
    assert attrs.astuple(session.traffic) == attrs.astuple(registry.traffic) == (0, 20, 0, 2, 0)
    assert (session.last_use, session.last_used) == (uses[1], 4.0)


def test_traffic_of_sessions_that_are_forgotten_still_counts() -> None:
    registry, session, use = Registry(ended_kept=0), a_session(), Use(UseKind.REQUEST, 1.0)
    registry.add(session, Scheduled(), 1.0)
    registry.begin_use(session, use)

    registry.record(session, GONE, 2.0)
    use.to_client(10, 0, 3.0)
    registry.end_use(session, use, 3.0)

    assert registry.get("id") is None
    assert registry.traffic.bytes_to_clients == 10
    assert registry.uses.total() == 0
    assert +registry.statuses == {}


def test_a_use_that_is_over_keeps_nobodys_connection() -> None:
    registry, session = Registry(), make_session("a", Key("a"), "", Spec(Executable()), 0.0, 1)
    registry.add(session, Scheduled(), 0.0)
    use = Use(UseKind.REQUEST, 0.0, cut=lambda: None)
    registry.begin_use(session, use)

    registry.end_use(session, use, 1.0)

    assert session.last_use is use
    assert use.cut is None
