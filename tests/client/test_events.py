"""Events come whole whichever way their bytes are cut, and never without bound."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plane_tx.client import events
from plane_tx.client.errors import Unreadable
from plane_tx.client.events import EventReader, ServerSent

STREAM = (
    b":\n\ndata: one\nid: 1\n\nevent: detail\r\ndata: two\r\ndata:three\r\n\r\n"
    b"data: four\rid: 4\r\r"
)
WHOLE = [
    ServerSent("message", "one", "1"),
    ServerSent("detail", "two\nthree", "1"),
    ServerSent("message", "four", "4"),
]


def read(*pieces: bytes) -> list[ServerSent]:
    reader = EventReader()
    return [event for piece in pieces for event in reader.feed(piece)]


@given(st.lists(st.integers(0, len(STREAM)), max_size=8))
def test_a_cut_anywhere_changes_nothing(cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(STREAM)]

    pieces = [STREAM[start:end] for start, end in pairwise(places)]

    assert read(*pieces) == WHOLE


@given(st.binary())
def test_no_bytes_break_the_reader(data: bytes) -> None:
    assert isinstance(read(data), list)


def test_an_event_that_is_cut_off_is_not_told() -> None:
    assert read(b"data: one\nid: 1\n") == []


def test_an_id_with_nul_is_none() -> None:
    assert read(b"id: a\0b\ndata: one\n\n") == [ServerSent("message", "one", "")]


@pytest.mark.parametrize("piece", [b"data: " + b"x" * 99, b"data: 123456789\n"])
def test_an_event_without_an_end_is_refused(piece: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "MOST_BYTES", 50)

    with pytest.raises(Unreadable):
        read(*[piece] * 10)
