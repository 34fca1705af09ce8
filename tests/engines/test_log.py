"""A session's log on this box: what is kept, who follows it, and how each leaves."""

from __future__ import annotations

import pytest
from twisted.internet.defer import CancelledError, Deferred

from plane_tx.core.model import LogLine, LogStream
from plane_tx.engines.log import MAX_LINES, Log

OUT, ERR = LogStream.STDOUT, LogStream.STDERR


def texts(lines: object) -> list[str]:
    return [line.text for line in lines]


def test_no_two_lines_have_the_same_time() -> None:
    log = Log()

    log.add(OUT, b"a\nb\n", 1.0)
    log.add(ERR, b"c\n", 1.0)

    assert log.lines(9) == (
        LogLine(1_000_000_000, OUT, "a"),
        LogLine(1_000_000_001, OUT, "b"),
        LogLine(1_000_000_002, ERR, "c"),
    )


def test_an_unfinished_line_of_each_stream_is_among_the_last() -> None:
    log = Log()

    log.add(OUT, b"one\nprompt> ", 1.0)
    log.add(ERR, b"warn", 1.0)

    assert texts(log.lines(9)) == ["one", "prompt> ", "warn"]
    assert texts(log.lines(2)) == ["prompt> ", "warn"]


def test_a_log_is_bounded() -> None:
    log = Log()

    log.add(OUT, b"\n" * (MAX_LINES + 5), 1.0)

    assert len(log.lines(10 * MAX_LINES)) == MAX_LINES


def followed(log: Log, tail: int = 9, since: int | None = None) -> tuple[list[str], Deferred[None]]:
    told: list[str] = []
    return told, log.follow(tail, since, lambda line: told.append(line.text))


def test_a_follower_is_told_the_tail_and_each_line_when_it_is_complete() -> None:
    log = Log()
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
    log = Log()
    log.add(OUT, b"one\ntwo\nthree\n", 1.0)
    _, second, _ = log.lines(9)

    told, _ = followed(log, since=second.at_ns + 1)

    assert told == ["three"]


def test_a_log_that_has_ended_is_not_followed() -> None:
    log = Log()
    log.add(OUT, b"one\n", 1.0)
    log.end()

    told, ended = followed(log)

    assert (told, ended.called) == ([], True)


def test_each_follower_leaves_or_fails_alone() -> None:
    log = Log()
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
    log = Log()
    before, before_ended = followed(log)
    told: list[str] = []

    def cancel(line: LogLine) -> None:
        told.append(line.text)
        {"himself": ended, "the next": after_ended, "the one before": before_ended}[whom].cancel()

    ended = log.follow(9, None, cancel)
    after, after_ended = followed(log)
    for each in (before_ended, ended, after_ended):
        each.addErrback(lambda failure: failure.check(CancelledError))

    log.add(OUT, b"one\ntwo\n", 1.0)
    log.end()

    both = ["one", "two"]
    assert told == (["one"] if whom == "himself" else both)
    assert after == ([] if whom == "the next" else both)
    assert before == (["one"] if whom == "the one before" else both)
