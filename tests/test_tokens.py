"""Names that must not be guessed, or not repeat."""

from __future__ import annotations

import re

import pytest

from plane_tx.core.model import HOST_TOKEN, Routing
from plane_tx.tokens import FencingTokens, mint_id, mint_secret, mint_token


def test_an_id_can_stand_in_host_names_and_container_names() -> None:
    assert all(re.fullmatch("[a-z0-9]{14}", mint_id()) for _ in range(50))


@pytest.mark.parametrize(
    ("routing", "static", "shape"),
    [
        (Routing.PATH, False, "[A-Za-z0-9_-]{43}"),
        (Routing.PATH, True, r"s\.[A-Za-z0-9_-]{43}"),
        (Routing.HOST, False, HOST_TOKEN),
    ],
)
def test_a_token_has_the_shape_that_its_routing_needs(
    routing: Routing, static: bool, shape: str
) -> None:
    minted = {mint_token(routing, static=static) for _ in range(50)}

    assert len(minted) == 50
    assert all(re.fullmatch(shape, token) for token in minted)


def test_a_secret_is_32_bytes_for_a_url() -> None:
    assert re.fullmatch("[A-Za-z0-9_-]{43}", mint_secret())


def test_fencing_tokens_grow_within_a_millisecond_and_when_the_clock_goes_back() -> None:
    times = iter([5.0, 5.0, 5.0001, 4.0, 6.0])
    tokens = FencingTokens(lambda: next(times))

    assert [tokens.next() for _ in range(5)] == [5000, 5001, 5002, 5003, 6000]


def test_fencing_tokens_rise_above_those_of_an_earlier_run() -> None:
    tokens = FencingTokens(lambda: 5.0)

    tokens.rise_above(9000)
    tokens.rise_above(8000)

    assert tokens.next() == 9001
