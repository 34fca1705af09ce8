"""A session's log on this box: what is kept, who follows it, and how each leaves."""

from __future__ import annotations

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from plane_tx.core.model import LogLine, LogStream
from plane_tx.engines.lines import MAX_LINE_BYTES
from plane_tx.engines.log import MAX_BYTES, MAX_LINES, MAX_PIECES, MOST_LINES_A_TURN, Log

OUT, ERR = LogStream.STDOUT, LogStream.STDERR


def texts(lines: object) -> list[str]:
    return [line.text for line in lines]


def test_no_two_lines_have_the_same_time() -> None:
    log = Log(Clock())

    log.add(OUT, b"a\nb\n", 1.0)
    log.add(ERR, b"c\n", 1.0)

    assert log.lines(9) == (
        LogLine(1_000_000_000, OUT, "a"),
        LogLine(1_000_000_001, OUT, "b"),
        LogLine(1_000_000_002, ERR, "c"),
    )


def test_an_unfinished_line_of_each_stream_is_among_the_last() -> None:
    log = Log(Clock())

    log.add(OUT, b"one\nprompt> ", 1.0)
    log.add(ERR, b"warn", 1.0)

    assert texts(log.lines(9)) == ["one", "prompt> ", "warn"]
    assert texts(log.lines(2)) == ["prompt> ", "warn"]


def test_a_log_is_bounded() -> None:
    log = Log(Clock())

    log.add(OUT, b"\n" * (MAX_LINES + 5), 1.0)

    assert len(log.lines(10 * MAX_LINES)) == MAX_LINES


def followed(log: Log, tail: int = 9, since: int | None = None) -> tuple[list[str], Deferred[None]]:
    told: list[str] = []
    return told, log.follow(tail, since, lambda line: told.append(line.text))


def test_a_follower_is_told_the_tail_and_each_line_when_it_is_complete() -> None:
    log = Log(Clock())
    log.add(OUT, b"one\ntwo\nthr", 1.0)

    told, ended = followed(log, tail=1)
    assert told == ["two"]
    log.add(OUT, b"ee\nfour", 2.0)
    assert told == ["two", "three"]
    log.end()

    assert told == ["two", "three", "four"]
    assert ended.called
    assert texts(log.lines(9)) == ["one", "two", "three", "four"]


def test_a_follower_may_begin_where_he_left_off() -> None:
    log = Log(Clock())
    log.add(OUT, b"one\ntwo\nthree\n", 1.0)
    _, second, _ = log.lines(9)

    told, _ = followed(log, since=second.at_ns + 1)

    assert told == ["three"]


def test_a_log_that_has_ended_is_not_followed() -> None:
    log = Log(Clock())
    log.add(OUT, b"one\n", 1.0)
    log.end()

    told, ended = followed(log)

    assert (told, ended.called) == ([], True)


def test_each_follower_leaves_or_fails_alone() -> None:
    log = Log(Clock())
    stays, _ = followed(log)
    left, leaving = followed(log)
    leaving.addErrback(lambda failure: failure.check(CancelledError))
    failing = log.follow(9, None, lambda _: 1 / 0)
    failing.addErrback(lambda failure: failure.check(ZeroDivisionError))

    log.add(OUT, b"one\n", 1.0)
    leaving.cancel()
    log.add(OUT, b"two\n", 1.0)
    log.end()

    assert (stays, left) == (["one", "two"], ["one"])
    assert (leaving.result, failing.result) == (CancelledError, ZeroDivisionError)


@pytest.mark.parametrize("whom", ["himself", "the next", "the one before"])
def test_a_follower_may_be_cancelled_by_what_a_line_sets_off(whom: str) -> None:
    log = Log(Clock())
    before, before_ended = followed(log)
    told: list[str] = []

    def cancel(line: LogLine) -> None:
        told.append(line.text)
        {"himself": ended, "the next": after_ended, "the one before": before_ended}[whom].cancel()

    ended = log.follow(9, None, cancel)
    after, after_ended = followed(log)
    for each in (before_ended, ended, after_ended):
        each.addErrback(lambda failure: failure.check(CancelledError))

    log.add(OUT, b"one\n", 1.0)
    log.add(OUT, b"two\n", 1.0)
    log.end()

    both = ["one", "two"]
    assert told == (["one"] if whom == "himself" else both)
    assert after == ([] if whom == "the next" else both)
    assert before == (["one"] if whom == "the one before" else both)


def test_what_nobody_asks_for_is_not_cut_into_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[bytes] = []
    monkeypatch.setattr("plane_tx.engines.lines.line_of", lambda *line: made.append(line[2]))
    log = Log(Clock())

    log.add(OUT, b"\n" * 8192, 1.0)

    assert made == []
    log.lines(3)
    assert len(made) == 3 + len(LogStream)


def test_the_bytes_and_the_reads_that_are_kept_are_bounded_too() -> None:
    wide, narrow = Log(Clock()), Log(Clock())

    for _ in range(100):
        wide.add(OUT, b"x" * MAX_LINE_BYTES + b"\n", 1.0)
    for _ in range(MAX_PIECES + 1):
        narrow.add(OUT, b"x", 1.0)
        narrow.add(OUT, b"\n", 1.0)

    assert sum(len(line.text) for line in wide.lines(MAX_LINES)) <= MAX_BYTES
    assert len(wide.lines(MAX_LINES)) == MAX_BYTES // (MAX_LINE_BYTES + 1)
    assert texts(narrow.lines(MAX_LINES)) == ["x"] * MAX_LINES


def test_a_line_that_lost_its_beginning_is_not_told() -> None:
    log = Log(Clock())
    log.add(ERR, b"begins ", 1.0)

    for _ in range(MAX_PIECES):
        log.add(OUT, b"\n", 1.0)
    log.add(ERR, b"and ends\nnext\n", 2.0)

    assert texts(log.lines(2)) == ["", "next"]


def test_a_follower_is_told_only_so_many_lines_in_one_turn() -> None:
    clock = Clock()
    log = Log(clock)
    told, ended = followed(log, tail=MAX_LINES)

    log.add(OUT, b"\n" * (2 * MOST_LINES_A_TURN + 1), 1.0)
    turns = [len(told)]
    while clock.getDelayedCalls():
        (turn,) = clock.getDelayedCalls()
        go_on = turn.func
        turn.cancel()
        go_on()
        turns.append(len(told))

    most = MOST_LINES_A_TURN
    assert turns == [most, 2 * most, 2 * most + 1]
    log.end()
    assert ended.called


def test_a_follower_who_can_take_no_more_is_told_no_more_until_he_can() -> None:
    log = Log(Clock())
    told: list[str] = []
    waiting: list[Deferred[None]] = []

    def tell(line: LogLine) -> Deferred[None]:
        told.append(line.text)
        waiting.append(Deferred())
        return waiting[-1]

    ended = log.follow(9, None, tell)
    fast, _ = followed(log)

    log.add(OUT, b"one\ntwo\n", 1.0)
    log.end()
    before = list(told)
    for _ in range(2):
        assert not ended.called
        waiting[-1].callback(None)

    assert (before, fast) == (["one"], ["one", "two"])
    assert told == ["one", "two"]
    assert ended.called


def test_a_follower_who_falls_behind_is_told_how_many_lines_he_missed() -> None:
    clock = Clock()
    log = Log(clock)
    told: list[LogLine] = []
    room: Deferred[None] = Deferred()

    def tell(line: LogLine) -> Deferred[None] | None:
        told.append(line)
        return room if len(told) == 1 else None

    log.follow(9, None, tell)
    for number in range(MAX_LINES + 7):
        log.add(OUT, b"%d\n" % number, 1.0)
    room.callback(None)
    while clock.getDelayedCalls():
        clock.advance(0)

    first, missed, second, *_ = told
    lost = int(second.text) - 1
    assert first.text == "0"
    assert missed.text == f"[{lost} lines are missing here: they came faster than they were read]"
    assert first.at_ns < missed.at_ns < second.at_ns
    assert 0 < lost <= 7
    assert len(told) == 1 + 1 + MAX_LINES + 6 - lost


def test_a_follower_who_leaves_while_he_has_a_turn_coming_has_none() -> None:
    clock = Clock()
    log = Log(clock)
    told, ended = followed(log)
    log.add(OUT, b"\n" * (MOST_LINES_A_TURN + 1), 1.0)

    ended.addErrback(lambda failure: failure.check(CancelledError))
    ended.cancel()

    assert clock.getDelayedCalls() == []
    assert len(told) == MOST_LINES_A_TURN
