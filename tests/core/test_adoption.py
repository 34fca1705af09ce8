"""What becomes of each session when the journal and the engine tell of it, or only one does."""

from __future__ import annotations

import pytest

from plane_tx.core import adoption
from plane_tx.core.adoption import (
    Adopt,
    Conclude,
    End,
    EndAgain,
    Finish,
    Found,
    Holding,
    Stage,
    Sweep,
    Verdict,
    in_order,
    verdicts,
)
from plane_tx.core.lifecycle import Exited, SpawnFailed, Vanished
from plane_tx.core.model import (
    Address,
    Executable,
    HardTerminating,
    Key,
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
from plane_tx.core.record import to_labels
from plane_tx.core.registry import Registry
from tests.sessions import make_session

HERE = Address("127.0.0.1", 8080)
ENDED = Terminated(Status.READY, Reason.EXTERNAL)
BOOTING = [Scheduled(), Loading(), Starting()]
MADE = [Waiting(HERE), Ready(HERE)]
ENDING = [
    Terminating(Status.READY, Reason.EXTERNAL),
    HardTerminating(Status.READY, Reason.EXTERNAL),
]
DOCKER = Spec(Executable(image="image"))


def name(value: object) -> str:
    return type(value).__name__ if isinstance(value, State) else str(value)


def known(state: State, *, unconfirmed: bool, **values: object) -> tuple[Registry, Session]:
    """A registry with one session that came as far as `state`."""
    registry, values = Registry(), {"spec": DOCKER, **values}
    session = make_session("id", history=[StatusEntry(state, 1.0)], **values)
    if state.status is Status.TERMINATED:
        registry.remember(session)
    else:
        registry.recall(session)
    session.unconfirmed = unconfirmed
    return registry, session


def told(
    registry: Registry, *held: Holding, made: frozenset[str] = frozenset({"id"})
) -> list[Verdict]:
    return in_order(verdicts(registry, held, made))


def holding(found: Found, session: Session | None = None, **labels: str) -> list[Holding]:
    if found is Found.NOTHING:
        return []
    if session is not None:
        labels = to_labels(session)
    return [Holding(session.id if session else "id", labels, found)]


def kind(found: list[Verdict]) -> object:
    (verdict,) = found or (None,)
    return (End, type(verdict.event)) if isinstance(verdict, End) else type(verdict)


NOTHING = type(None)
OF_EARLIER_RUNS = {
    Stage.WAS_BOOTING: (BOOTING, (Finish, Adopt, Conclude, (End, SpawnFailed))),
    Stage.WAS_MADE: (MADE, (Conclude, Adopt, Conclude, (End, Vanished))),
    Stage.WAS_ENDING: (ENDING, (Conclude, Adopt, Conclude, (End, Exited))),
    Stage.HAS_ENDED: ([ENDED], (Sweep, Sweep, Sweep, NOTHING)),
}
OF_THIS_RUN = {
    Stage.LIVES: (MADE, (NOTHING, NOTHING, Conclude, (End, Vanished))),
    Stage.IS_ENDING: (ENDING, (EndAgain, EndAgain, EndAgain, (End, Vanished))),
    Stage.HAS_ENDED: ([ENDED], (Sweep, Sweep, Sweep, NOTHING)),
}


def rows(table: dict[Stage, tuple[list[State], tuple[object, ...]]]) -> list[object]:
    return [
        pytest.param(state, found, expected, id=f"{name(state)}-{found.value}")
        for states, verdicts in table.values()
        for state in states
        for found, expected in zip(Found, verdicts, strict=True)
    ]


@pytest.mark.parametrize(("state", "found", "expected"), rows(OF_EARLIER_RUNS))
def test_a_session_of_an_earlier_run_is_judged_by_where_it_was_and_what_is_left(
    state: State, found: Found, expected: object
) -> None:
    registry, _ = known(state, unconfirmed=True)

    verdict = told(registry, *holding(found))

    assert kind(verdict) == expected


@pytest.mark.parametrize(("state", "found", "expected"), rows(OF_THIS_RUN))
def test_a_session_of_this_run_is_judged_by_what_nobody_has_told(
    state: State, found: Found, expected: object
) -> None:
    registry, _ = known(state, unconfirmed=False)

    verdict = told(registry, *holding(found))

    assert kind(verdict) == expected


@pytest.mark.parametrize("state", [*BOOTING, *MADE, *ENDING], ids=name)
@pytest.mark.parametrize("found", Found)
def test_what_is_being_made_while_the_engine_is_asked_is_let_be(state: State, found: Found) -> None:
    registry, _ = known(state, unconfirmed=False)

    assert told(registry, *holding(found), made=frozenset()) == []


def test_every_stage_and_every_finding_has_a_verdict() -> None:
    assert set(adoption.TABLE) == set(Stage)
    assert all(set(row) == set(Found) for row in adoption.TABLE.values())


@pytest.mark.parametrize(
    ("image", "said"), [("image", "nobody saw how it ended"), (None, "end with the server")]
)
def test_a_session_that_is_gone_says_why(image: str | None, said: str) -> None:
    registry, _ = known(Ready(HERE), unconfirmed=True, spec=Spec(Executable(image=image)))

    (end,) = told(registry)

    assert said in end.event.message


# What the engine holds and the journal does not know.


def stranger(session_id: str, key: str = "key", fencing_token: int = 1) -> Session:
    return make_session(session_id, Key(key), "", DOCKER, fencing_token=fencing_token)


def runs(session: Session) -> Holding:
    return Holding(session.id, to_labels(session), Found.RUNS)


def test_a_stranger_that_runs_is_adopted_by_its_labels() -> None:
    (verdict,) = told(Registry(), runs(stranger("old")))

    assert isinstance(verdict, Adopt)
    assert (verdict.session.id, verdict.session.key) == ("old", Key("key"))


@pytest.mark.parametrize("found", [Found.MADE, Found.ENDED])
def test_a_stranger_that_does_not_run_is_swept(found: Found) -> None:
    assert told(Registry(), *holding(found, stranger("old"))) == [Sweep("old")]


def test_what_has_no_labels_of_ours_is_swept() -> None:
    assert told(Registry(), *holding(Found.RUNS, colour="red")) == [Sweep("id")]


@pytest.mark.parametrize("order", [1, -1])
def test_of_two_strangers_under_one_key_the_one_made_later_stays(order: int) -> None:
    older, newer = stranger("older", fencing_token=1), stranger("newer", fencing_token=2)

    adopted, swept = told(Registry(), *[runs(older), runs(newer)][::order])

    assert swept == Sweep("older")
    assert adopted.session.id == "newer"


def test_a_stranger_made_later_ends_the_one_that_the_journal_has_under_its_key() -> None:
    registry, older = known(Ready(HERE), unconfirmed=True, key=Key("key"), fencing_token=1)

    end, *rest = told(registry, runs(stranger("newer", fencing_token=2)), *holding(Found.RUNS))

    assert (end.session, type(end.event)) == (older, Vanished)
    assert [each.session.id for each in rest] == ["id", "newer"]


@pytest.mark.parametrize(("fencing_token", "unconfirmed"), [(1, True), (3, False)])
def test_a_stranger_is_swept_whose_key_a_better_one_has(
    fencing_token: int, unconfirmed: bool
) -> None:
    registry, _ = known(Ready(HERE), unconfirmed=unconfirmed, key=Key("key"), fencing_token=2)
    other = runs(stranger("other", fencing_token=fencing_token))

    assert Sweep("other") in told(registry, other, *holding(Found.RUNS))


def test_ends_come_first_for_they_free_keys_and_sweeps_last() -> None:
    registry, _ = known(Ready(HERE), unconfirmed=True, key=Key("gone"))

    swept = Holding("swept", {}, Found.ENDED)
    found = told(registry, swept, runs(stranger("new")))

    assert list(map(type, found)) == [End, Adopt, Sweep]
