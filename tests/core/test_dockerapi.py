"""The version that is spoken with Docker is the newest that both sides know."""

from __future__ import annotations

import pytest

from plane_tx.core import dockerapi


@pytest.mark.parametrize(
    ("oldest", "newest", "agreed"),
    [
        ((1, 12), (1, 40), (1, 40)),
        ((1, 24), (1, 45), (1, 45)),
        ((1, 44), (1, 60), (1, 47)),
        ((1, 47), (1, 47), (1, 47)),
        ((1, 12), (1, 39), None),
        ((1, 48), (1, 60), None),
        ((0, 0), (0, 0), None),
    ],
)
def test_both_sides_know_what_is_agreed_on(
    oldest: dockerapi.Version, newest: dockerapi.Version, agreed: dockerapi.Version | None
) -> None:
    assert dockerapi.agreed(oldest, newest) == agreed


def test_a_version_is_read_as_it_is_written() -> None:
    assert dockerapi.parse(dockerapi.dotted((1, 40))) == (1, 40)


@pytest.mark.parametrize("text", ["", "1", "1.2.3", "v1.40", "1.\u0664", "1." + "9" * 5, 1.4, None])
def test_what_is_no_version_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="expected a version"):
        dockerapi.parse(text)
