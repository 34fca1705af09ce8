"""Plane's decision table for a connect, and the caps."""

from __future__ import annotations

import attrs
import pytest

from plane_tx.core import errors
from plane_tx.core.connect import (
    AwaitRelease,
    CapacityLimits,
    Join,
    Spawn,
    check_capacity,
    check_user_capacity,
    decide,
)
from plane_tx.core.model import (
    Address,
    Executable,
    HardTerminating,
    Key,
    Ready,
    Reason,
    Scheduled,
    Session,
    Spec,
    State,
    Status,
    Terminated,
    Terminating,
)
from plane_tx.core.registry import Registry
from plane_tx.core.wire import ConnectRequest, ExecutableRequest, KeyRequest, SpawnConfig
from tests.sessions import make_session

READY = Ready(Address("127.0.0.1", 8080))
TERMINATING = Terminating(Status.READY, Reason.IDLE)
HARD = HardTerminating(Status.READY, Reason.IDLE)
GONE = Terminated(Status.READY, Reason.IDLE)
KEY = KeyRequest("key", tag="tag")
CONFIG = SpawnConfig(ExecutableRequest(image="image"))


def holding(state: State | None) -> tuple[Registry, Session]:
    """A registry in which a session of KEY is in `state`; an empty one for None."""
    registry = Registry()
    session = make_session("holder", Key("key"), "tag", Spec(Executable()), 0.0, 1, user="me")
    if state is not None:
        registry.add(session, Scheduled(), 0.0)
        registry.record(session, state, 1.0)
    return registry, session


@pytest.mark.parametrize("state", [None, READY, TERMINATING, GONE])
def test_no_key_and_a_spawn_config_spawns(state: State | None) -> None:
    registry, _ = holding(state)

    assert decide(ConnectRequest(spawn_config=CONFIG), registry) == Spawn()


@pytest.mark.parametrize("state", [None, GONE])
def test_a_free_key_and_a_spawn_config_spawns(state: State | None) -> None:
    registry, _ = holding(state)

    assert decide(ConnectRequest(KEY, CONFIG), registry) == Spawn()


@pytest.mark.parametrize("state", [Scheduled(), READY])
@pytest.mark.parametrize("config", [None, CONFIG])
def test_a_live_key_of_the_same_tag_is_joined(state: State, config: SpawnConfig | None) -> None:
    registry, session = holding(state)

    assert decide(ConnectRequest(KEY, config), registry) == Join(session)


@pytest.mark.parametrize("config", [None, CONFIG])
def test_a_live_key_of_another_tag_is_held(config: SpawnConfig | None) -> None:
    registry, _ = holding(READY)

    with pytest.raises(errors.KeyHeld, match="holder under another tag"):
        decide(ConnectRequest(KeyRequest("key", tag="other"), config), registry)


@pytest.mark.parametrize("state", [TERMINATING, HARD])
@pytest.mark.parametrize("tag", ["tag", "other"])
def test_a_key_on_its_way_out_is_waited_for_whatever_its_tag(state: State, tag: str) -> None:
    registry, session = holding(state)

    decision = decide(ConnectRequest(KeyRequest("key", tag=tag), CONFIG), registry)

    assert decision == AwaitRelease(session)


@pytest.mark.parametrize("state", [None, TERMINATING, HARD, GONE])
@pytest.mark.parametrize("key", [None, KEY])
def test_nothing_to_join_and_nothing_to_spawn_is_refused(
    state: State | None, key: KeyRequest | None
) -> None:
    registry, _ = holding(state)

    with pytest.raises(errors.KeyUnheldNoSpawnConfig, match="send a spawn_config"):
        decide(ConnectRequest(key), registry)


def test_the_namespace_is_part_of_the_key() -> None:
    registry, _ = holding(READY)

    decision = decide(ConnectRequest(KeyRequest("key", "elsewhere"), CONFIG), registry)

    assert decision == Spawn()


@pytest.mark.parametrize(
    ("limits", "user", "error"),
    [
        (CapacityLimits(), "me", None),
        (CapacityLimits(max_sessions=2), "me", None),
        (CapacityLimits(max_sessions=1), None, errors.AtCapacity),
        (CapacityLimits(max_sessions_per_user=1), "me", errors.UserAtCapacity),
        (CapacityLimits(max_sessions_per_user=2), "me", None),
        (CapacityLimits(max_sessions_per_user=1), "you", None),
        (CapacityLimits(max_sessions_per_user=1), None, None),
    ],
)
@pytest.mark.parametrize("state", [Scheduled(), READY, TERMINATING])
def test_one_more_than_the_cap_is_refused(
    state: State, limits: CapacityLimits, user: str | None, error: type[Exception] | None
) -> None:
    registry, _ = holding(state)

    if error is None:
        check_both(registry, limits, user)
    else:
        with pytest.raises(error, match="1 session"):
            check_both(registry, limits, user)


def check_both(registry: Registry, limits: CapacityLimits, user: str | None) -> None:
    check_capacity(registry, limits, 0.0, lambda: None)
    if user is not None:
        check_user_capacity(registry, limits, 0.0, user)


def test_an_ended_session_is_in_nobodys_way() -> None:
    registry, _ = holding(GONE)

    check_both(registry, CapacityLimits(1, 1), "me")

    assert registry.live_count == 0


@pytest.mark.parametrize(
    ("soonest", "seconds"), [(None, 30), (100.2, 1), (112.4, 13), (90.0, 1), (100_000.0, 300)]
)
def test_a_refusal_says_when_a_clock_will_free_a_place(soonest: float | None, seconds: int) -> None:
    registry, _ = holding(READY)

    with pytest.raises(errors.AtCapacity) as refused:
        check_capacity(registry, CapacityLimits(1), 100.0, lambda: soonest)

    assert refused.value.retry_after_seconds == seconds


def test_a_user_is_told_when_one_of_their_own_sessions_will_end() -> None:
    registry, session = holding(READY)
    limits = attrs.evolve(session.spec.limits, lifetime_limit_seconds=60.0)
    session.spec = attrs.evolve(session.spec, limits=limits)

    with pytest.raises(errors.UserAtCapacity) as refused:
        check_user_capacity(registry, CapacityLimits(0, 1), 20.5, "me")

    assert refused.value.retry_after_seconds == 40
