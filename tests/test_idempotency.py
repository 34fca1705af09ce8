"""One Idempotency-Key, one piece of work: joined while it runs, replayed afterwards."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred, execute
from twisted.internet.task import Clock

from plane_tx.core.errors import EngineUnavailable, IdempotencyConflict
from plane_tx.core.idempotency import KEPT_SECONDS
from plane_tx.idempotency import FORGET_SECONDS, Idempotency
from plane_tx.journal import Journal
from tests.conftest import LoggedFailures
from tests.recording_engine import now

START = 1_000_000.0


class Work:
    """Work that ends when the test says so, and is decided then."""

    def __init__(self) -> None:
        self.done: list[Deferred[bytes]] = []

    def __call__(self, decide: Callable[[bytes], None]) -> Deferred[None]:
        self.done.append(Deferred())
        return self.done[-1].addCallback(decide)


class Box:
    """Idempotency on a clock, above a journal at `path`."""

    def __init__(self, path: Path | str = ":memory:", run: Any = execute) -> None:
        self.clock = Clock()
        self.clock.advance(START)
        self.journal = Journal(Path(path), run)
        self.journal.open(START)
        self.idempotency = Idempotency(self.clock, self.journal)
        self.idempotency.startService()
        self.work = Work()

    def ask(
        self, key: str = "key", digest: bytes = b"1", caller: str = "app"
    ) -> Deferred[tuple[bytes, bool]]:
        return self.idempotency.once(caller, key, digest, self.work)

    def close(self) -> None:
        """Stop; nothing may be in flight."""
        self.idempotency.stopService()
        now(self.journal.close())
        assert "[In flight: 0 |" in repr(self.idempotency)
        assert self.clock.getDelayedCalls() == []


@pytest.fixture
def box() -> Iterator[Box]:
    box = Box()
    yield box
    box.close()


def test_the_first_answer_is_given_again_and_says_so(box: Box) -> None:
    first = box.ask()
    box.work.done[0].callback(b"made")

    again = box.ask()

    assert now(first) == (b"made", False)
    assert now(again) == (b"made", True)
    assert len(box.work.done) == 1


def test_those_who_come_meanwhile_join(box: Box) -> None:
    asked = [box.ask() for _ in range(50)]

    box.work.done[0].callback(b"made")

    assert [now(each) for each in asked] == [(b"made", False), *[(b"made", True)] * 49]
    assert len(box.work.done) == 1


def test_the_key_is_taken_before_the_work_begins(box: Box) -> None:
    inner: list[Deferred[tuple[bytes, bool]]] = []

    async def make(decide: Callable[[bytes], None]) -> None:
        inner.append(box.ask())
        decide(b"made")

    outer = box.idempotency.once("app", "key", b"1", make)

    assert now(outer) == (b"made", False)
    assert now(inner[0]) == (b"made", True)
    assert box.work.done == []


@pytest.mark.parametrize("landed", [False, True])
def test_another_body_is_a_conflict_in_flight_and_afterwards(box: Box, landed: bool) -> None:
    first = box.ask(digest=b"1")
    if landed:
        box.work.done[0].callback(b"made")

    with pytest.raises(IdempotencyConflict):
        box.ask(digest=b"2")

    if not landed:
        box.work.done[0].callback(b"made")
    assert now(first) == (b"made", False)


def test_callers_and_keys_are_apart(box: Box) -> None:
    asked = [box.ask("a"), box.ask("b"), box.ask("a", caller="other")]

    for number, done in enumerate(box.work.done):
        done.callback(str(number).encode())

    assert [now(each) for each in asked] == [(b"0", False), (b"1", False), (b"2", False)]


def test_an_error_goes_to_all_who_wait_and_is_not_kept(box: Box) -> None:
    asked = [box.ask(), box.ask()]

    box.work.done[0].errback(EngineUnavailable("down"))

    for each in asked:
        with pytest.raises(EngineUnavailable):
            now(each)
    again = box.ask(digest=b"other")
    box.work.done[1].callback(b"made")
    assert now(again) == (b"made", False)


@pytest.mark.parametrize("leaving", [[0], [1], [0, 1]])
def test_whoever_is_cancelled_leaves_alone(box: Box, leaving: list[int]) -> None:
    asked = [box.ask(), box.ask()]

    for each in leaving:
        asked[each].cancel()

    for each in leaving:
        with pytest.raises(CancelledError):
            now(asked[each])
    late = box.ask()
    box.work.done[0].callback(b"made")
    staying = [each for number, each in enumerate(asked) if number not in leaving]
    assert {now(each)[0] for each in [*staying, late]} == {b"made"}


def test_what_fails_when_all_have_left_is_logged_unless_it_is_a_refusal(
    box: Box, logged_failures: LoggedFailures
) -> None:
    for number, error in enumerate([EngineUnavailable("down"), ZeroDivisionError()]):
        asked = box.ask()
        asked.addErrback(lambda failure: failure.trap(CancelledError))
        asked.cancel()
        box.work.done[number].errback(error)

    assert len(logged_failures.claim(ZeroDivisionError)) == 1


def test_an_answer_is_known_to_the_next_run_from_when_it_is_decided(tmp_path: Path) -> None:
    path, going_on = tmp_path / "journal", Deferred()
    box = Box(path)

    def make(decide: Callable[[bytes], None]) -> Deferred[None]:
        decide(b"made")
        return going_on

    first = box.idempotency.once("app", "key", b"1", make)
    now(box.journal.close())
    again = Box(path)

    assert not first.called
    assert now(again.ask()) == (b"made", True)
    again.close()
    going_on.callback(None)
    box.close()


def test_what_fails_after_it_was_decided_leaves_no_answer(tmp_path: Path) -> None:
    box, failing = Box(tmp_path / "journal"), Deferred()

    def make(decide: Callable[[bytes], None]) -> Deferred[None]:
        decide(b"made")
        return failing

    first = box.idempotency.once("app", "key", b"1", make)
    failing.errback(EngineUnavailable("down"))
    box.close()

    again = Box(tmp_path / "journal")
    with pytest.raises(EngineUnavailable):
        now(first)
    assert not again.ask().called
    again.work.done[0].callback(b"other")
    again.close()


def test_an_answer_that_cannot_be_written_is_given_all_the_same(box: Box) -> None:
    box.journal._connection.execute("PRAGMA query_only = ON")
    first = box.ask()

    box.work.done[0].callback(b"made")

    assert now(first) == (b"made", False)
    assert now(box.ask()) == (b"made", True)


def test_an_answer_of_an_earlier_run_is_given_and_its_key_is_taken(tmp_path: Path) -> None:
    earlier = Box(tmp_path / "journal")
    asked = earlier.ask()
    earlier.work.done[0].callback(b"made")
    earlier.close()

    box = Box(tmp_path / "journal")

    assert now(asked) == (b"made", False)
    assert now(box.ask()) == (b"made", True)
    with pytest.raises(IdempotencyConflict):
        box.ask(digest=b"2")
    box.close()


def test_after_24_hours_nothing_is_left_of_an_answer(tmp_path: Path) -> None:
    box = Box(tmp_path / "journal")
    box.ask()
    box.work.done[0].callback(b"made")

    box.clock.pump([FORGET_SECONDS] * int(KEPT_SECONDS / FORGET_SECONDS))

    box.close()
    assert repr(box.idempotency) == "<Idempotency [In flight: 0 | Answers: 0]>"
    connection = sqlite3.connect(tmp_path / "journal")
    assert connection.execute("SELECT * FROM answers").fetchall() == []
    connection.close()


def test_a_storm_leaves_nothing_in_flight(box: Box) -> None:
    asked = [box.ask(f"key-{number % 20}") for number in range(400)]

    for number, each in enumerate(asked):
        each.addErrback(lambda _: None)
        if number % 3 == 0:
            each.cancel()
    for number, done in enumerate(box.work.done):
        if number % 4:
            done.callback(b"made")
        else:
            done.errback(EngineUnavailable("down"))

    assert len(box.work.done) == 20
    assert repr(box.idempotency) == "<Idempotency [In flight: 0 | Answers: 15]>"
    assert all(each.called for each in asked)


class Naive:
    """What should come of the same steps, told in lists."""

    def __init__(self) -> None:
        self.flights: list[tuple[str, bytes, int]] = []
        self.waiting: list[tuple[int, str]] = []
        self.answers: dict[str, tuple[bytes, bytes, float]] = {}
        self.outcomes: dict[int, object] = {}
        self.asked = 0

    def ask(self, key: str, digest: bytes, at: float) -> None:
        number, self.asked = self.asked, self.asked + 1
        held = next((flight for flight in self.flights if flight[0] == key), None)
        kept = self.answers.get(key)
        if kept is not None and at - kept[2] < KEPT_SECONDS:
            self.outcomes[number] = (kept[1], True) if kept[0] == digest else IdempotencyConflict
        elif held is not None and held[1] != digest:
            self.outcomes[number] = IdempotencyConflict
        else:
            self.waiting.append((number, key))
            self.flights += [] if held else [(key, digest, number)]

    def cancel(self, number: int) -> None:
        self.waiting = [each for each in self.waiting if each[0] != number]
        self.outcomes.setdefault(number, CancelledError)

    def land(self, body: bytes | None, at: float) -> None:
        key, digest, first = self.flights.pop(0)
        if body is not None:
            self.answers[key] = (digest, body, at)
        for number, _ in [each for each in self.waiting if each[1] == key]:
            self.outcomes[number] = EngineUnavailable if body is None else (body, number != first)
        self.waiting = [each for each in self.waiting if each[1] != key]


STEPS = st.lists(
    st.tuples(st.just("ask"), st.sampled_from("ab"), st.sampled_from([b"1", b"2"]))
    | st.tuples(st.just("cancel"), st.integers(0, 9))
    | st.tuples(st.just("land"), st.booleans())
    | st.tuples(st.just("wait"), st.sampled_from([1.0, KEPT_SECONDS / 2])),
    max_size=40,
)


class Real:
    """The same steps done to `Idempotency`."""

    def __init__(self) -> None:
        self.box = Box()
        self.outcomes: dict[int, object] = {}
        self.asked: list[Deferred[Any]] = []
        self.landed = 0

    def ask(self, key: str, digest: bytes) -> None:
        number = len(self.asked)
        try:
            asked = self.box.ask(key, digest)
        except IdempotencyConflict:
            self.asked.append(Deferred())
            self.outcomes[number] = IdempotencyConflict
            return
        self.asked.append(asked)
        asked.addCallbacks(
            lambda answer: self.outcomes.__setitem__(number, answer),
            lambda failure: self.outcomes.__setitem__(number, failure.type),
        )

    def land(self, body: bytes | None) -> None:
        done = self.box.work.done[self.landed]
        self.landed += 1
        done.errback(EngineUnavailable("down")) if body is None else done.callback(body)


@given(STEPS)
def test_once_equals_a_naive_model(steps: list[tuple[Any, ...]]) -> None:
    real, model = Real(), Naive()
    for step, (what, *values) in enumerate(steps):
        if what == "ask":
            real.ask(*values)
            model.ask(*values, real.box.clock.seconds())
        elif what == "cancel" and values[0] < len(real.asked):
            if values[0] not in real.outcomes:
                real.asked[values[0]].cancel()
            model.cancel(values[0])
        elif what == "land" and model.flights:
            body = str(step).encode() if values[0] else None
            real.land(body)
            model.land(body, real.box.clock.seconds())
        elif what == "wait":
            real.box.clock.advance(values[0])
        assert real.outcomes == model.outcomes
    while model.flights:
        model.land(b"end", 0.0)
        real.land(b"end")
    real.box.close()
    assert len(real.outcomes) == model.asked
