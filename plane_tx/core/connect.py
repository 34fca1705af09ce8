"""How a connect is answered: join what lives, wait for what is ending, or spawn anew."""

from __future__ import annotations

import math
from collections.abc import Callable

import attrs

from plane_tx.core.errors import (
    AtCapacity,
    KeyHeld,
    KeyUnheldNoSpawnConfig,
    UserAtCapacity,
)
from plane_tx.core.idle import next_deadlines
from plane_tx.core.lifecycle import is_live
from plane_tx.core.model import Session
from plane_tx.core.registry import Registry
from plane_tx.core.wire import ConnectRequest

#: What a caller is told to wait for a place when no session has an end in sight.
UNKNOWN_WAIT_SECONDS = 30

#: The longest that a caller is told to wait: places come free by request too.
MOST_WAIT_SECONDS = 300


@attrs.frozen
class CapacityLimits:
    """How many sessions there may be; 0 means no limit.

    Sessions over `max_starting` are not refused: they wait in `scheduled` for their turn.
    """

    max_sessions: int = 0
    max_sessions_per_user: int = 0
    max_starting: int = 8


@attrs.frozen
class Join:
    """Hand out a new token to a session that lives."""

    session: Session


@attrs.frozen
class AwaitRelease:
    """The key's session is on its way out: wait until it is gone, then decide again."""

    session: Session


@attrs.frozen
class Spawn:
    """Nobody holds the key, and the request says what to spawn."""


Decision = Join | AwaitRelease | Spawn


def decide(request: ConnectRequest, registry: Registry) -> Decision:
    """Answer a connect by the table of plane.md 2.5, without its dead URLs.

    Raises `KeyHeld` for another tag, `KeyUnheldNoSpawnConfig` when there is nothing to join
    and nothing to spawn.
    """
    holder = registry.holder(request.key.to_key()) if request.key is not None else None
    if holder is not None and request.key is not None and is_live(holder.status):
        if holder.tag != request.key.tag:
            raise KeyHeld(
                f"the key {request.key.name!r} is held by session {holder.id} under another tag"
            )
        return Join(holder)
    if request.spawn_config is None:
        raise KeyUnheldNoSpawnConfig(
            "no live session holds this key: send a spawn_config to have one made"
        )
    return AwaitRelease(holder) if holder is not None else Spawn()


def check_capacity(
    registry: Registry, limits: CapacityLimits, now: float, soonest: Callable[[], float | None]
) -> None:
    """Raise `AtCapacity` when one more session would be one too many for this server.

    `soonest` says when a clock will end one, for the caller who is to try again.
    """
    if limits.max_sessions and registry.live_count >= limits.max_sessions:
        raise AtCapacity(
            f"all {limits.max_sessions} sessions of this server are taken: try again later, or end"
            " one",
            retry_after(soonest(), now),
        )


def check_user_capacity(registry: Registry, limits: CapacityLimits, now: float, user: str) -> None:
    """Raise `UserAtCapacity` when one more session would be one too many for `user`."""
    if not limits.max_sessions_per_user:
        return
    mine = registry.of_user(user)
    if len(mine) >= limits.max_sessions_per_user:
        ends = [deadline.at for session in mine for deadline in next_deadlines(session)]
        raise UserAtCapacity(
            f"the user {user!r} has all {limits.max_sessions_per_user} sessions they may have: end"
            " one, or wait until one ends",
            retry_after(min(ends, default=None), now),
        )


def retry_after(at: float | None, now: float) -> int:
    """The seconds after which trying again may help, if a place may come free at `at`."""
    if at is None:
        return UNKNOWN_WAIT_SECONDS
    return min(max(math.ceil(at - now), 1), MOST_WAIT_SECONDS)
