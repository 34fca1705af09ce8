"""What is counted is counted once, and under its true name."""

from __future__ import annotations

from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plane_tx.core import lifecycle as life
from plane_tx.core.measures import BOOT_BUCKETS, REAPED, Histogram, Measures
from plane_tx.core.model import Address, Failure, Reason, Scheduled, StatusEntry
from tests.sessions import make_session

HERE = Address("127.0.0.1", 8080)
LOADING, STARTING, WAITING = life.LoadingBegan(), life.StartBegan(), life.Launched(HERE)
BOOT = (LOADING, STARTING, WAITING, life.Answered(HERE))
ADOPTED = (WAITING, life.Answered(HERE))


def measured(*events: life.Event, adopted: bool = False) -> Measures:
    """What is counted of one session to which `events` happen, a second apart."""
    measures, scheduled = Measures(), [StatusEntry(Scheduled(), 0.0)]
    session = make_session(history=scheduled, start_began=2.5, adopted=adopted)
    for at, event in enumerate(events, 1):
        state = life.advance(session.state, event)
        if state is not session.state:
            session.history.append(StatusEntry(state, float(at)))
            measures.session_moved(session, session.history[-1])
    return measures


@given(st.lists(st.floats(0, 1000)))
def test_a_bucket_holds_what_its_bound_allows_and_no_lower_one(values: list[float]) -> None:
    histogram = Histogram(BOOT_BUCKETS)

    for value in values:
        histogram.observe(value)

    below = [sum(value <= bound for value in values) for bound in BOOT_BUCKETS]
    assert list(accumulate(histogram.counts)) == [*below, len(values)]
    assert histogram.total == pytest.approx(sum(values))


def test_a_value_on_a_bound_belongs_below_it() -> None:
    histogram = Histogram((1.0, 2.0))

    for value in (1.0, 2.0, 2.1):
        histogram.observe(value)

    assert histogram.counts == [1, 1, 1]


def test_a_boot_is_one_spawn_with_its_phases() -> None:
    measures = measured(*BOOT, life.Answered(HERE), life.Exited(0))

    assert measures.spawns == {"ready": 1}
    totals = {phase: histogram.total for phase, histogram in measures.boot.items()}
    assert totals == {"pull": 1.0, "create": 0.5, "start": 0.5, "ready": 1.0}
    assert {histogram.count for histogram in measures.boot.values()} == {1}
    assert (measures.whole_boot.count, measures.whole_boot.total) == (1, 4.0)


@pytest.mark.parametrize(
    ("events", "outcome"),
    [
        ((LOADING, life.SpawnFailed(Failure("a", "b"))), "failed"),
        ((LOADING, STARTING, WAITING, life.Exited(1)), "exited"),
        ((LOADING, STARTING, WAITING, life.Exited(137, oom=True)), "oom"),
        ((LOADING, STARTING, life.Vanished()), "lost"),
        ((life.SoftTerminate(Reason.EXTERNAL), life.Exited()), "external"),
        (
            (*BOOT[:3], life.HardTerminate(Reason.STARTUP_TIMEOUT), life.Exited(137)),
            Reason.STARTUP_TIMEOUT.value,
        ),
    ],
)
def test_a_spawn_that_came_to_nothing_is_counted_by_its_reason(
    events: tuple[life.Event, ...], outcome: str
) -> None:
    measures = measured(*events)

    assert measures.spawns == {outcome: 1}
    assert not any(sum(histogram.counts) for histogram in measures.boot.values())


@pytest.mark.parametrize("reason", sorted(REAPED))
@pytest.mark.parametrize(
    "end",
    [
        (life.Exited(0),),
        (life.HardTerminate(), life.Exited(137)),
        (life.HardTerminate(Reason.EXTERNAL), life.Exited(137)),
        (life.SoftTerminate(Reason.EXTERNAL), life.Vanished()),
    ],
    ids=["obeys", "its grace runs out", "somebody is impatient", "is asked again and lost"],
)
def test_a_session_that_a_clock_ended_is_one_reap_however_it_goes(
    reason: Reason, end: tuple[life.Event, ...]
) -> None:
    measures = measured(*BOOT, life.SoftTerminate(reason), *end)

    assert measures.reaps == {reason.value: 1}
    assert measures.spawns == {"ready": 1}


def test_a_startup_that_takes_too_long_is_one_reap() -> None:
    measures = measured(*BOOT[:3], life.HardTerminate(Reason.STARTUP_TIMEOUT), life.Exited(137))

    assert measures.reaps == {Reason.STARTUP_TIMEOUT.value: 1}


@pytest.mark.parametrize(
    "end",
    [
        (life.Exited(1),),
        (life.Vanished(),),
        (life.SoftTerminate(Reason.EXTERNAL), life.HardTerminate(), life.Exited()),
        (life.HardTerminate(Reason.EXTERNAL), life.Exited()),
    ],
)
def test_an_end_that_no_clock_brought_about_is_no_reap(end: tuple[life.Event, ...]) -> None:
    assert not measured(*BOOT, *end).reaps


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        ((life.Exited(0),), "exited"),
        ((life.SoftTerminate(Reason.IDLE), life.HardTerminate(), life.Exited(137)), "idle"),
    ],
)
@pytest.mark.parametrize("adopted", [True, False])
def test_every_end_is_counted_once_by_its_reason(
    end: tuple[life.Event, ...], reason: str, adopted: bool
) -> None:
    assert measured(*BOOT, *end, adopted=adopted).ends == {reason: 1}


@pytest.mark.parametrize("events", [ADOPTED, (WAITING, life.Exited(1))])
def test_a_session_of_an_earlier_run_is_no_spawn_of_this_one(
    events: tuple[life.Event, ...],
) -> None:
    measures = measured(*events, adopted=True)

    assert not measures.spawns
    assert not any(histogram.count for histogram in measures.boot.values())
    assert not measures.whole_boot.count


def test_a_session_of_an_earlier_run_is_reaped_like_any() -> None:
    assert measured(*ADOPTED, life.SoftTerminate(Reason.IDLE), adopted=True).reaps == {"idle": 1}
