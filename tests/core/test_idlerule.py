"""The idle rule as it is said: what goes together, and what is refused by its name."""

from __future__ import annotations

import pytest

from plane_tx.core.errors import InvalidRequest
from plane_tx.core.idlerule import IdleRequest, check_idle
from plane_tx.core.model import IdleCount, IdleRule
from plane_tx.core.noise import PRESETS, fault_of


def test_what_is_said_is_what_a_session_keeps() -> None:
    asked = IdleRequest(IdleCount.MESSAGES, ("engine.io", "ping*"))

    assert asked.to_rule() == IdleRule(IdleCount.MESSAGES, ("engine.io", "ping*"))
    assert IdleRequest().to_rule() == IdleRule()


@pytest.mark.parametrize(
    "asked",
    [None, *(IdleRequest(count) for count in IdleCount),
     IdleRequest(IdleCount.MESSAGES, (*PRESETS, "ping"))],
)  # fmt: skip
def test_what_can_be_followed_passes(asked: IdleRequest | None) -> None:
    refused = check_idle("here", asked)

    assert refused is None


@pytest.mark.parametrize("count", [IdleCount.CONNECTIONS, IdleCount.BYTES])
def test_messages_are_ignored_only_where_messages_count(count: IdleCount) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_idle("here", IdleRequest(count, ("ping",)))

    assert str(caught.value) == (
        'here.ignore: needs count = "messages"; set that, or leave ignore out'
    )


def test_an_entry_that_cannot_be_is_named_by_its_place() -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_idle("here", IdleRequest(IdleCount.MESSAGES, ("ping", "*")))

    assert str(caught.value) == f"here.ignore[1]: {fault_of('*')}"
