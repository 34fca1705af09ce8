"""The life of a session as a table: which event leads from which status to which.

`advance` is the only maker of a new state, and `effects` says what entering one asks of the
world. A pair that the table does not hold is a fault of ours and raises. An event that comes
late (a probe that succeeds after the end was asked for) is in the table too, leading nowhere.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from plane_tx.core.model import (
    BOOTING,
    ENDING,
    Address,
    Failure,
    HardTerminating,
    Loading,
    LogLine,
    Ready,
    Reason,
    Scheduled,
    Starting,
    State,
    Status,
    Terminated,
    Terminating,
    TerminationKind,
    Waiting,
)


class IllegalTransition(Exception):
    """An event reached a state in which it cannot happen; the table has no such pair."""


@attrs.frozen
class LoadingBegan:
    """The engine took the session and looks for its image."""


@attrs.frozen
class StartBegan:
    """The image is there; the engine makes the container or process."""


@attrs.frozen
class Launched:
    """It runs, and its server is expected at `address`."""

    address: Address


@attrs.frozen
class Answered:
    """Its server answered the probe at `address`."""

    address: Address


@attrs.frozen
class SoftTerminate:
    """Someone wants it to end, and to have its grace; `by` says who, when it is not us."""

    reason: Reason
    failure: Failure | None = None
    by: str = ""


@attrs.frozen
class HardTerminate:
    """Someone wants it to end now; without a reason, that of the soft request stands."""

    reason: Reason | None = None
    failure: Failure | None = None
    by: str = ""


@attrs.frozen
class Exited:
    """It is gone: its process or container ended, or was never made."""

    exit_code: int | None = None
    oom: bool = False
    log_tail: tuple[LogLine, ...] = ()


@attrs.frozen
class SpawnFailed:
    """The engine could not make it; `failure` says why."""

    failure: Failure


@attrs.frozen
class Vanished:
    """The engine no longer knows it, and nobody saw it end; `message` says as much."""

    message: str = "the engine no longer knows the session"


Event = (
    LoadingBegan
    | StartBegan
    | Launched
    | Answered
    | SoftTerminate
    | HardTerminate
    | Exited
    | SpawnFailed
    | Vanished
)

_S = Status
_ENDS: dict[type[Any], Status] = {
    SoftTerminate: _S.TERMINATING,
    HardTerminate: _S.HARD_TERMINATING,
    Exited: _S.TERMINATED,
    SpawnFailed: _S.TERMINATED,
    Vanished: _S.TERMINATED,
}


def _late(status: Status) -> dict[type[Any], Status]:
    return dict.fromkeys((LoadingBegan, StartBegan, Launched, Answered), status)


TABLE: Mapping[Status, Mapping[type[Any], Status]] = {
    _S.SCHEDULED: {
        **_ENDS,
        LoadingBegan: _S.LOADING,
        StartBegan: _S.STARTING,
        Launched: _S.WAITING,
    },
    _S.LOADING: {
        **_ENDS,
        LoadingBegan: _S.LOADING,
        StartBegan: _S.STARTING,
        Launched: _S.WAITING,
    },
    _S.STARTING: {**_ENDS, StartBegan: _S.STARTING, Launched: _S.WAITING},
    _S.WAITING: {**_ENDS, Answered: _S.READY},
    _S.READY: {**_ENDS, Answered: _S.READY},
    _S.TERMINATING: {**_late(_S.TERMINATING), **_ENDS},
    _S.HARD_TERMINATING: {
        **_late(_S.HARD_TERMINATING),
        **_ENDS,
        SoftTerminate: _S.HARD_TERMINATING,
    },
    _S.TERMINATED: {**_late(_S.TERMINATED), **dict.fromkeys(_ENDS, _S.TERMINATED)},
}


def advance(state: State, event: Event) -> State:
    """Return the state that `event` leads to; the same object when it changes nothing.

    Raises `IllegalTransition` for a pair that the table does not hold.
    """
    try:
        target = TABLE[state.status][type(event)]
    except KeyError:
        raise IllegalTransition(f"{type(event).__name__} in {state.status}") from None
    if target is state.status:
        return state
    return _MAKERS[target](state, event)


def _last_status(state: State) -> Status:
    match state:
        case Terminating() | HardTerminating() | Terminated():
            return state.last_status
        case _:
            return state.status


def _terminating(state: State, event: Any) -> State:
    return Terminating(state.status, event.reason, event.failure, event.by)


def _hard_terminating(state: State, event: Any) -> State:
    earlier = state if isinstance(state, Terminating) else None
    return HardTerminating(
        last_status=_last_status(state),
        reason=event.reason or (earlier.reason if earlier else Reason.EXTERNAL),
        failure=event.failure or (earlier.failure if earlier else None),
        by=event.by,
    )


def _terminated(state: State, event: Any) -> State:
    ended = _ended_on_request(state) or _ended_by_itself(state, event)
    if isinstance(event, Exited):
        ended = attrs.evolve(
            ended, exit_code=event.exit_code, oom=event.oom, log_tail=event.log_tail
        )
    return attrs.evolve(ended, last_status=_last_status(state))


def _ended_on_request(state: State) -> Terminated | None:
    match state:
        case Terminating():
            kind = TerminationKind.SOFT
        case HardTerminating():
            kind = TerminationKind.HARD
        case _:
            return None
    return Terminated(state.last_status, state.reason, kind, failure=state.failure)


def _ended_by_itself(state: State, event: Any) -> Terminated:
    here = Status.TERMINATED
    match event:
        case SpawnFailed():
            return Terminated(here, Reason.FAILED, failure=event.failure)
        case Exited(oom=True):
            return Terminated(here, Reason.OOM, failure=Failure("oom", _OUT_OF_MEMORY))
        case Exited(exit_code=code) if state.status in BOOTING:
            what = f"before it answered HTTP, the session's process {describe_exit(code)}"
            cure = _CURES.get(code, "its last log lines may say why")
            return Terminated(here, Reason.EXITED, failure=Failure("exited", f"{what}: {cure}"))
        case Exited(exit_code=code) if code:
            failure = Failure("exited", f"the session's process {describe_exit(code)}")
            return Terminated(here, Reason.EXITED, failure=failure)
        case Exited():
            return Terminated(here, Reason.EXITED)
        case _:
            failure = Failure("lost", event.message)
            return Terminated(here, Reason.LOST, failure=failure)


_OUT_OF_MEMORY = (
    "the session used more memory than its limit and was killed: have it use less, or give it more"
    " (resource_limits.memory_limit_bytes)"
)

#: What to do about a session that ends before it answers, by its exit code: two of them are what
#: shells, and the init of containers, end with for a command that they could not run.
_CURES: Mapping[int | None, str] = {
    0: "its command has to go on in the foreground, and serve HTTP",
    126: "its command may not be run; look at command and entrypoint, and at its log",
    127: "its command was not found; look at command and entrypoint, and at its log",
}


def describe_exit(code: int | None, *, asked: bool = False) -> str:
    """Say in words how a process ended, `asked` to or not.

    Codes over 128 are a shell's way to name a signal.
    """
    if code is None:
        return "ended, and its exit code is not known"
    if code > 128:
        return f"was ended by signal {code - 128} (exit code {code})"
    return f"ended {'' if asked else 'by itself '}with exit code {code}"


_MAKERS: Mapping[Status, Callable[[State, Any], State]] = {
    _S.SCHEDULED: lambda _state, _event: Scheduled(),
    _S.LOADING: lambda _state, _event: Loading(),
    _S.STARTING: lambda _state, _event: Starting(),
    _S.WAITING: lambda _state, event: Waiting(event.address),
    _S.READY: lambda _state, event: Ready(event.address),
    _S.TERMINATING: _terminating,
    _S.HARD_TERMINATING: _hard_terminating,
    _S.TERMINATED: _terminated,
}


class Effect(enum.Enum):
    """What entering a status asks of the world; the supervisor does it."""

    PROBE = "probe"
    ADMIT_HOLDS = "admit holds"
    REFUSE_HOLDS = "refuse holds"
    STOP = "stop"
    KILL = "kill"
    RELEASE = "release"


EFFECTS: Mapping[Status, tuple[Effect, ...]] = {
    _S.SCHEDULED: (),
    _S.LOADING: (),
    _S.STARTING: (),
    _S.WAITING: (Effect.PROBE,),
    _S.READY: (Effect.ADMIT_HOLDS,),
    _S.TERMINATING: (Effect.REFUSE_HOLDS, Effect.STOP),
    _S.HARD_TERMINATING: (Effect.REFUSE_HOLDS, Effect.KILL),
    _S.TERMINATED: (Effect.REFUSE_HOLDS, Effect.RELEASE),
}


def is_live(status: Status) -> bool:
    """Whether a session of this status may be joined and will serve."""
    return status not in ENDING
