"""What a session's log keeps, and what it lets go."""

import pytest

from plane_tx.engines.ring import MAX_BYTES, MAX_LINE_BYTES, MAX_LINES, Ring


def ring_of(*pieces: bytes) -> Ring:
    ring = Ring()
    for piece in pieces:
        ring.add(piece)
    return ring


@pytest.mark.parametrize(
    ("pieces", "lines"),
    [
        ((), ()),
        ((b"one\ntwo\n",), ("one", "two")),
        ((b"o", b"ne\ntw", b"o", b"\n"), ("one", "two")),
        ((b"one\r\n\r\ntwo",), ("one", "", "two")),
        ((b"\n",), ("",)),
        ((b"prompt> ",), ("prompt> ",)),
        ((b"caf\xc3", b"\xa9 \xff\n"), ("café \ufffd",)),
    ],
)
def test_lines_are_those_that_were_said(pieces: tuple[bytes, ...], lines: tuple[str, ...]) -> None:
    assert ring_of(*pieces).lines(100) == lines


@pytest.mark.parametrize(
    ("tail", "lines"), [(-1, ()), (0, ()), (1, ("c",)), (2, ("b", "c")), (9, ("a", "b", "c"))]
)
def test_a_tail_is_the_last_lines(tail: int, lines: tuple[str, ...]) -> None:
    assert ring_of(b"a\nb\nc").lines(tail) == lines


def test_the_oldest_lines_make_room() -> None:
    ring = ring_of(b"".join(b"%d\n" % number for number in range(MAX_LINES + 3)))

    assert ring.lines(MAX_LINES + 3) == tuple(str(n) for n in range(3, MAX_LINES + 3))


def test_an_unfinished_line_counts_as_one() -> None:
    ring = ring_of(b"\n" * MAX_LINES, b"more")

    assert len(ring.lines(MAX_LINES + 3)) == MAX_LINES


def test_the_bytes_are_bounded_too() -> None:
    line = b"x" * 10_000 + b"\n"
    ring = ring_of(*[line] * 200)

    kept = sum(map(len, ring.lines(MAX_LINES)))

    assert MAX_BYTES - 10_000 < kept <= MAX_BYTES


@pytest.mark.parametrize("piece", [1, 1000, 5 * MAX_LINE_BYTES])
def test_a_long_line_loses_its_end(piece: int) -> None:
    text = b"x" * (2 * MAX_LINE_BYTES)
    ring = ring_of(*(text[at : at + piece] for at in range(0, len(text), piece)), b"\nnext\n")

    assert ring.lines(2) == ("x" * MAX_LINE_BYTES, "next")
