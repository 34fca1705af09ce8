"""When clocks run out: the due ones are found, never late, and for the price of what is due."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plane_tx.core.idle import (
    MOST_ASKED,
    Cause,
    Deadline,
    DeadlineHeap,
    event_at,
    next_deadlines,
    soonest_if_idle,
)
from plane_tx.core.lifecycle import HardTerminate, SoftTerminate
from plane_tx.core.model import (
    Address,
    Executable,
    HardTerminating,
    Key,
    Limits,
    Loading,
    Ready,
    Reason,
    Scheduled,
    Session,
    Spec,
    Starting,
    State,
    Status,
    StatusEntry,
    Terminated,
    Terminating,
    Waiting,
)
from tests.sessions import make_session

HERE = Address("127.0.0.1", 8080)
EVERY = Limits(
    max_idle_seconds=10,
    lifetime_limit_seconds=1000,
    claim_within_seconds=5,
    startup_timeout_seconds=60,
    stop_grace_seconds=7,
)


def a_session(*states: State, limits: Limits = EVERY, idle_since: float | None = None) -> Session:
    """A session that entered each state 1 s after the one before, the first at 0."""
    history = [StatusEntry(state, float(at)) for at, state in enumerate(states)]
    spec = Spec(Executable(port=9000), limits)
    return make_session("id", Key(""), "", spec, 0.0, 1, history=history, idle_since=idle_since)


TO_STARTING = (Scheduled(), Loading(), Starting())
TO_READY = (*TO_STARTING, Waiting(HERE), Ready(HERE))


@pytest.mark.parametrize(
    ("session", "deadlines"),
    [
        (a_session(Scheduled()), {Cause.LIFETIME: 1000}),
        (a_session(Scheduled(), Loading()), {Cause.LIFETIME: 1000}),
        (a_session(*TO_STARTING), {Cause.STARTUP: 62, Cause.LIFETIME: 1000}),
        (a_session(*TO_STARTING, Waiting(HERE)), {Cause.STARTUP: 62, Cause.LIFETIME: 1000}),
        # Adopted: it was started by an earlier run.
        (a_session(Scheduled(), Waiting(HERE)), {Cause.STARTUP: 61, Cause.LIFETIME: 1000}),
        (a_session(*TO_READY), {Cause.LIFETIME: 1000}),
        (
            a_session(*TO_READY, idle_since=4.0),
            {Cause.UNCLAIMED: 9, Cause.IDLE: 14, Cause.LIFETIME: 1000},
        ),
        (a_session(*TO_READY, limits=Limits(), idle_since=4.0), {}),
        (a_session(Scheduled(), Terminating(Status.SCHEDULED, Reason.IDLE)), {Cause.GRACE: 8}),
        (a_session(HardTerminating(Status.READY, Reason.IDLE)), {}),
        (a_session(Terminated(Status.READY, Reason.IDLE)), {}),
    ],
)
def test_each_status_has_its_clocks_soonest_first(
    session: Session, deadlines: dict[Cause, float]
) -> None:
    running = next_deadlines(session)

    assert [(each.cause, each.at) for each in running] == list(deadlines.items())


@pytest.mark.parametrize(
    ("limits", "soonest"),
    [
        (Limits(), math.inf),
        (Limits(max_idle_seconds=10.0), 110.0),
        (Limits(max_idle_seconds=10.0, claim_within_seconds=5.0), 105.0),
    ],
)
def test_what_falls_idle_ends_no_sooner_than_its_first_clock(
    limits: Limits, soonest: float
) -> None:
    heap = DeadlineHeap()
    heap.put("a", soonest)

    assert soonest_if_idle(limits, 100.0) == soonest
    assert heap.covers("a", soonest)
    assert not heap.covers("a", 104.0)
    assert not heap.covers("b", soonest)


def test_a_session_that_was_claimed_is_not_asked_for_it_again() -> None:
    session = a_session(*TO_READY, idle_since=4.0)
    session.claimed = True

    assert Cause.UNCLAIMED not in {deadline.cause for deadline in next_deadlines(session)}


@pytest.mark.parametrize(
    ("cause", "event"),
    [
        (Cause.IDLE, SoftTerminate(Reason.IDLE)),
        (Cause.UNCLAIMED, SoftTerminate(Reason.UNCLAIMED)),
        (Cause.LIFETIME, SoftTerminate(Reason.LIFETIME)),
        (Cause.GRACE, HardTerminate()),
    ],
)
def test_a_clock_that_runs_out_ends_the_session(cause: Cause, event: object) -> None:
    assert event_at(Deadline(1.0, cause), a_session(*TO_READY)) == event


@pytest.mark.parametrize(
    ("session", "message"),
    [
        (
            a_session(*TO_STARTING, Waiting(HERE)),
            (
                "its server did not answer HTTP within 60 s of its start: it must listen on the"
                " port that is named in its environment as PORT"
            ),
        ),
        (
            a_session(*TO_STARTING),
            (
                "the engine did not start it within 60 s: see to the engine, or allow it more"
                " (readiness.timeout_seconds)"
            ),
        ),
    ],
)
def test_a_startup_that_takes_too_long_ends_by_force_and_says_how_far_it_came(
    session: Session, message: str
) -> None:
    event = event_at(Deadline(62.0, Cause.STARTUP), session)

    assert event.reason is Reason.STARTUP_TIMEOUT
    assert event.failure.message == message


def test_a_startup_that_takes_too_long_says_why_its_server_did_not_answer_if_that_is_known() -> (
    None
):
    session = a_session(*TO_STARTING, Waiting(HERE))

    event = event_at(Deadline(62.0, Cause.STARTUP), session, "port 80 is not open")

    assert event.failure.message == (
        "its server did not answer HTTP within 60 s of its start: port 80 is not open"
    )


names = st.sampled_from("abcde")
steps = st.lists(
    st.tuples(st.just("put"), names, st.integers(0, 50))
    | st.tuples(st.just("discard"), names, st.just(0))
    | st.tuples(st.just("take"), st.just(""), st.integers(0, 50)),
    max_size=60,
)


@given(steps)
def test_the_heap_gives_what_a_search_through_everything_would(
    steps: list[tuple[str, str, int]],
) -> None:
    heap, naive = DeadlineHeap(), {}
    for step, name, at in steps:
        if step == "put":
            heap.put(name, at)
            naive[name] = min(at, naive.get(name, at))
        elif step == "discard":
            heap.discard(name)
            naive.pop(name, None)
        else:
            due = {each for each, moment in naive.items() if moment <= at}
            assert sorted(heap.take_due(at)) == sorted(due)
            naive = {each: moment for each, moment in naive.items() if each not in due}
        assert len(heap) == len(naive)


@given(st.lists(st.tuples(names, st.integers(0, 50)), min_size=1))
def test_an_entry_is_never_late(puts: list[tuple[str, int]]) -> None:
    heap = DeadlineHeap()
    for name, at in puts:
        heap.put(name, at)

    for name, at in puts:
        heap.take_due(at)
        assert name not in heap._queued


@given(st.lists(st.tuples(names, st.integers(0, 50), st.none() | st.integers(0, 20)), max_size=9))
def test_the_soonest_is_the_first_true_moment_and_no_session_is_lost(
    puts: list[tuple[str, int, int | None]],
) -> None:
    heap, true = DeadlineHeap(), {}
    for name, at, later in puts:
        heap.put(name, at)
        true[name] = None if later is None else at + later
    moments = {name: at for name, at in true.items() if at is not None}

    asked = [heap.soonest(true.get) for _ in range(2)]

    first = min(moments.values(), default=None)
    assert asked == [first, first]
    assert set(moments) <= set(heap._queued) <= set(true)
    assert all(heap._queued[name] <= at for name, at in moments.items())
    due = heap.take_due(100 if first is None else first)
    assert {name for name, at in moments.items() if at == first} <= set(due)


def test_one_question_about_the_soonest_asks_about_so_many_and_goes_on_next_time() -> None:
    heap, asked = DeadlineHeap(), []
    for number in range(2 * MOST_ASKED):
        heap.put(str(number), number)

    def true_moment(name: str) -> int:
        asked.append(name)
        return 1000 + int(name)

    soonest = [heap.soonest(true_moment) for _ in range(3)]

    assert soonest == [MOST_ASKED, 1000, 1000]
    assert len(asked) == 2 * MOST_ASKED + 1


def test_the_due_come_soonest_first() -> None:
    heap = DeadlineHeap()
    for at in (3, 1, 2):
        heap.put(f"session {at}", at)

    assert heap.take_due(2) == ["session 1", "session 2"]
    assert heap.take_due(3) == ["session 3"]


def test_the_heap_keeps_its_order_when_it_sheds_what_has_left() -> None:
    heap = DeadlineHeap()
    moments = [(number * 37) % 400 for number in range(400)]
    for at in moments:
        heap.put(str(at), at)

    for at in moments:
        if at % 40:
            heap.discard(str(at))

    assert len(heap._heap) <= 64
    assert heap.take_due(400) == [str(at) for at in range(0, 400, 40)]


@pytest.mark.parametrize("leaves", [True, False])
def test_the_heap_does_not_grow_with_what_has_been(leaves: bool) -> None:
    heap = DeadlineHeap()

    for turn in range(5000):
        heap.put(f"session {turn % 10}", 10_000 - turn)
        if leaves:
            heap.discard(f"session {turn % 10}")

    assert len(heap) == (0 if leaves else 10)
    assert len(heap._heap) <= 65
    assert len(heap.take_due(10_000)) == len(set(range(10))) * (not leaves)
