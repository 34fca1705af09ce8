"""How long is waited before what failed is tried again."""

from __future__ import annotations

import pytest

from plane_tx.client.errors import AtCapacity, NotFound, PlaneClientError, Unavailable
from plane_tx.client.flows import Patience

PATIENCE = Patience(retries=3, first_seconds=0.5, longest_seconds=5.0, dice=lambda: 1.0)


@pytest.mark.parametrize(("failures", "pause"), [(1, 1.0), (2, 2.0), (3, 4.0), (4, None)])
def test_pauses_double_and_come_to_an_end(failures: int, pause: float | None) -> None:
    assert PATIENCE.pause(failures, Unavailable("gone")) == pause


@pytest.mark.parametrize("dice", [0.0, 0.5, 1.0])
def test_pauses_are_spread_by_chance(dice: float) -> None:
    patience = Patience(first_seconds=0.5, dice=lambda: dice)

    assert patience.pause(1, Unavailable("gone")) == 0.5 + dice / 2


@pytest.mark.parametrize(
    ("error", "pause"),
    [
        (NotFound("no", status=404), None),
        (AtCapacity("full", status=503, retry_after=3), 3),
        (AtCapacity("full", status=503, retry_after=30), None),
        (PlaneClientError("bad gateway", status=502), 1.0),
    ],
)
def test_what_is_worth_a_retry_waits_as_it_says(
    error: PlaneClientError, pause: float | None
) -> None:
    assert PATIENCE.pause(1, error) == pause


def test_a_stream_that_was_open_is_given_more_time() -> None:
    assert PATIENCE.pause(8, Unavailable("gone"), was_open=True) == 5.0
    assert PATIENCE.pause(9, Unavailable("gone"), was_open=True) is None
