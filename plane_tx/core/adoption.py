"""What becomes of each session when what we know is compared with what the engine holds.

The comparison is a table, `TABLE`, by where a session is in its life and by what the engine holds
of it. What the engine holds and nobody knows is judged by its labels.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

import attrs

from plane_tx.core.lifecycle import Exited, SpawnFailed, Vanished
from plane_tx.core.model import BOOTING, ENDING, Failure, Key, Session, Status
from plane_tx.core.record import from_labels
from plane_tx.core.registry import Registry


class Found(enum.Enum):
    """What the engine holds of a session; `MADE` has never been started."""

    MADE = "made"
    RUNS = "runs"
    ENDED = "ended"
    NOTHING = "nothing"


@attrs.frozen
class Holding:
    """A session as the engine holds it, with the labels it was made with."""

    session_id: str
    labels: Mapping[str, str]
    found: Found


@attrs.frozen
class Adopt:
    """It runs: take it up. One that was to end goes on ending, now that it can."""

    session: Session


@attrs.frozen
class Finish:
    """It was caught between being made and being started: start it, and take it up."""

    session: Session


@attrs.frozen
class Conclude:
    """It has ended and nobody was told: have the engine say how, and clear it away."""

    session: Session


@attrs.frozen
class End:
    """Nothing is left of it: this event says why."""

    session: Session
    event: Exited | SpawnFailed | Vanished


@attrs.frozen
class EndAgain:
    """It is to end and still runs: whatever was to end it has failed."""

    session: Session


@attrs.frozen
class Sweep:
    """No session has what the engine holds under this id: remove it."""

    session_id: str


Verdict = Adopt | Finish | Conclude | End | EndAgain | Sweep


class Stage(enum.Enum):
    """Where a session is in its life, as far as that makes a difference here."""

    #: Of an earlier run: it was being made, it was made, it was to end.
    WAS_BOOTING = "was booting"
    WAS_MADE = "was made"
    WAS_ENDING = "was ending"
    #: Of this run, or taken up by it.
    BEING_MADE = "being made"
    LIVES = "lives"
    IS_ENDING = "is ending"
    HAS_ENDED = "has ended"


def _sweep(session: Session) -> Verdict:
    return Sweep(session.id)


def _never_made(session: Session) -> Verdict:
    what = "the server was restarted before the session was made: ask for it again"
    return End(session, SpawnFailed(Failure("restarted", what)))


def _lost(session: Session) -> Verdict:
    return End(session, Vanished())


def _lost_meanwhile(session: Session) -> Verdict:
    if session.spec.executable.image is None:
        what = "sessions of the process engine end with the server, and it was restarted"
    else:
        what = "it was gone when the server came back, and nobody saw how it ended"
    return End(session, Vanished(what))


def _has_ended(session: Session) -> Verdict:
    return End(session, Exited())


def _nothing(_session: Session) -> None:
    return None


_MADE, _RUNS, _ENDED, _NOTHING = Found
TABLE: Mapping[Stage, Mapping[Found, Callable[[Session], Verdict | None]]] = {
    Stage.WAS_BOOTING: {_MADE: Finish, _RUNS: Adopt, _ENDED: Conclude, _NOTHING: _never_made},
    Stage.WAS_MADE: {_MADE: Conclude, _RUNS: Adopt, _ENDED: Conclude, _NOTHING: _lost_meanwhile},
    Stage.WAS_ENDING: {_MADE: Conclude, _RUNS: Adopt, _ENDED: Conclude, _NOTHING: _has_ended},
    Stage.BEING_MADE: dict.fromkeys(Found, _nothing),
    Stage.LIVES: {_MADE: _nothing, _RUNS: _nothing, _ENDED: Conclude, _NOTHING: _lost},
    Stage.IS_ENDING: {_MADE: EndAgain, _RUNS: EndAgain, _ENDED: EndAgain, _NOTHING: _lost},
    Stage.HAS_ENDED: {_MADE: _sweep, _RUNS: _sweep, _ENDED: _sweep, _NOTHING: _nothing},
}

#: The statuses in which the engine may not hold a session yet.
UNMADE = BOOTING - {Status.WAITING}


def stage_of(session: Session, made: Collection[str]) -> Stage:
    """Where a session is; `made` names those that the engine held when it was asked."""
    status = session.status
    if status is Status.TERMINATED:
        return Stage.HAS_ENDED
    if session.unconfirmed:
        if status in ENDING:
            return Stage.WAS_ENDING
        return Stage.WAS_BOOTING if status in UNMADE else Stage.WAS_MADE
    if session.id not in made:
        return Stage.BEING_MADE
    return Stage.IS_ENDING if status in ENDING else Stage.LIVES


def verdicts(
    registry: Registry, held: Collection[Holding], made: Collection[str]
) -> Iterator[Verdict | None]:
    """What is to be done, one at a time; None for each that nothing is to be done about.

    `made` names the sessions of this run that the engine held before it was asked what it holds.
    """
    holdings = {holding.session_id: holding for holding in held}
    for session in registry:
        yield _of_known(session, holdings, made)
    yield from _of_strangers(registry, held)


def in_order(told: Iterable[Verdict | None]) -> list[Verdict]:
    """In which order all is to be done: what ends may free a key for what is taken up, and nobody
    waits for what is cleared away.
    """
    places = {End: 0, Sweep: 2}
    found = [verdict for verdict in told if verdict is not None]
    return sorted(found, key=lambda verdict: places.get(type(verdict), 1))


def _of_known(
    session: Session, holdings: Mapping[str, Holding], made: Collection[str]
) -> Verdict | None:
    holding = holdings.get(session.id)
    found = Found.NOTHING if holding is None else holding.found
    return TABLE[stage_of(session, made)][found](session)


def _of_strangers(registry: Registry, held: Iterable[Holding]) -> Iterator[Verdict | None]:
    """Of those that run under one key, the one made last has it, unless this run made another."""
    newest: dict[Key, Session] = {}
    for holding in held:
        yield None
        if registry.get(holding.session_id) is not None:
            continue
        session = from_labels(holding.session_id, holding.labels)
        if session is None or holding.found is not Found.RUNS:
            yield Sweep(holding.session_id)
            continue
        older = newest.get(session.key)
        if older is not None and older.fencing_token >= session.fencing_token:
            older, session = session, older
        newest[session.key] = session
        if older is not None:
            yield Sweep(older.id)
    for session in newest.values():
        yield from _of_stranger(session, registry.holder(session.key))


def _of_stranger(session: Session, holder: Session | None) -> Iterator[Verdict]:
    if holder is None:
        yield Adopt(session)
    elif holder.unconfirmed and holder.fencing_token < session.fencing_token:
        yield End(holder, Vanished("a session that was made later has its key"))
        yield Adopt(session)
    else:
        yield Sweep(session.id)
