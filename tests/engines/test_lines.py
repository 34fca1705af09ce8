"""How output is cut into lines, and how much of it is kept."""

from __future__ import annotations

import pytest

from plane_tx.core.model import LogLine, LogStream
from plane_tx.engines.lines import (
    MAX_LINE_BYTES,
    TAIL_CHARACTERS,
    TAIL_LINES,
    Cutter,
    Ring,
    last_of,
    told_with_end,
)


def cut(*pieces: bytes) -> list[tuple[int | None, str]]:
    cutter = Cutter(LogStream.STDERR)
    lines = [line for at, piece in enumerate(pieces) for line in cutter.cut(piece, at)]
    lines += filter(None, [cutter.unfinished()])
    assert {line.stream for line in lines} <= {LogStream.STDERR}
    return [(line.at_ns, line.text) for line in lines]


@pytest.mark.parametrize(
    ("pieces", "lines"),
    [
        ((), []),
        ((b"",), []),
        ((b"one\ntwo\n",), [(0, "one"), (0, "two")]),
        ((b"o", b"ne\ntw", b"o", b"\n"), [(0, "one"), (1, "two")]),
        ((b"one\r\n\r\ntwo",), [(0, "one"), (0, ""), (0, "two")]),
        ((b"\n",), [(0, "")]),
        ((b"prompt> ",), [(0, "prompt> ")]),
        ((b"caf\xc3", b"\xa9 \xff\n"), [(0, "café \ufffd")]),
    ],
)
def test_lines_are_those_that_were_said_and_begin_with_their_first_byte(
    pieces: tuple[bytes, ...], lines: list[tuple[int, str]]
) -> None:
    assert cut(*pieces) == lines


@pytest.mark.parametrize("piece", [1, 1000, 5 * MAX_LINE_BYTES])
def test_a_long_line_loses_its_end(piece: int) -> None:
    text = b"x" * (2 * MAX_LINE_BYTES)

    lines = cut(*(text[at : at + piece] for at in range(0, len(text), piece)), b"\nnext\n")

    assert [text for _, text in lines] == ["x" * MAX_LINE_BYTES, "next"]


def line(number: int, text: str = "") -> LogLine:
    return LogLine(number, LogStream.STDOUT, text)


def test_the_oldest_lines_make_room() -> None:
    ring = Ring(3, 1000)

    for number in range(5):
        ring.add(line(number))

    assert ring.lines() == (line(2), line(3), line(4))


def test_the_characters_are_bounded_too() -> None:
    ring = Ring(100, 10)

    for number in range(5):
        ring.add(line(number, "xxxx"))

    assert ring.lines() == (line(3, "xxxx"), line(4, "xxxx"))


@pytest.mark.parametrize(
    ("tail", "since", "numbers"),
    [(0, None, []), (1, None, [2]), (9, None, [0, 1, 2]), (9, 1, [1, 2]), (1, 0, [2]), (9, 3, [])],
)
def test_a_tail_is_the_last_lines_from_a_moment_on(
    tail: int, since: int | None, numbers: list[int]
) -> None:
    assert last_of(map(line, range(3)), tail, since) == tuple(map(line, numbers))


def test_a_line_without_a_time_is_never_too_old() -> None:
    timeless = LogLine(None, LogStream.STDOUT, "")

    assert last_of([timeless], 1, 5) == (timeless,)


def test_what_is_told_with_an_end_is_little() -> None:
    many = told_with_end(map(line, range(100)))
    wide = told_with_end(line(number, "x" * MAX_LINE_BYTES) for number in range(100))

    assert many == tuple(map(line, range(100 - TAIL_LINES, 100)))
    assert sum(len(each.text) for each in wide) == TAIL_CHARACTERS
