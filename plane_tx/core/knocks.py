"""Why a session's server does not answer: how the last knock went, and where it listens."""

from __future__ import annotations

import enum
import re
from collections.abc import Sequence

import attrs

from plane_tx.core.listeners import Listener
from plane_tx.core.model import Readiness, Session, Waiting

_STATUS_LINE = re.compile(rb"HTTP/\d\.\d (\d{3})")

# A record of TLS that holds an alert or a handshake (RFC 8446, section 5.1).
_TLS = re.compile(rb"[\x15\x16]\x03")

# A sentence is no place for a path of kilobytes, nor for a list of a thousand ports.
_LONGEST_PATH = 100
_MOST_NAMED = 5

_HEED_PORT = "have it listen on the port that is named in its environment as PORT"


class Outcome(enum.Enum):
    """How a knock went."""

    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    SILENT = "silent"
    HUNG_UP = "hung up"
    ANSWERED = "answered"


@attrs.frozen
class Knock:
    """One try to have an HTTP server answer, and the first bytes of what came."""

    outcome: Outcome
    answer: bytes = b""


@attrs.frozen
class Door:
    """Where a session's server is to listen, as itself sees it, and how it is asked there."""

    port: int
    readiness: Readiness
    in_container: bool

    def lets_in(self, listener: Listener) -> bool:
        """Whether who comes from outside reaches `listener`, which is at the door's port."""
        if self.in_container:
            return not listener.is_loopback
        return listener.is_everywhere or listener.host == "127.0.0.1"


def status_of(answer: bytes) -> int | None:
    """The status that the first bytes of an answer have; None when they are not HTTP."""
    status_line = _STATUS_LINE.match(answer)
    return None if status_line is None else int(status_line[1])


def door_of(session: Session) -> Door | None:
    """Where `session` is to listen; None unless it runs and has not answered yet."""
    state, executable = session.state, session.spec.executable
    if not isinstance(state, Waiting):
        return None
    in_container = executable.image is not None
    # A container has its port to itself, wherever that is published; a process has one of the box.
    port = executable.port if in_container else state.address.port
    return Door(port, executable.readiness, in_container)


def why_unanswered(door: Door, knock: Knock, found: Sequence[Listener] | None) -> str:
    """What is wrong, as half a sentence, and what to do; `found` is where the session listens."""
    if knock.outcome is Outcome.ANSWERED:
        return f"port {door.port} is open, but {_wrong_answer(door.readiness, knock.answer)}"
    if found is None:
        return _unseen(door, knock.outcome)
    here = [listener for listener in found if listener.port == door.port]
    if not here:
        return _elsewhere(door, found)
    if knock.outcome is Outcome.REFUSED and all(":" in listener.host for listener in here):
        return _closed_to_us(door, here)
    if not any(map(door.lets_in, here)):
        return _closed_to_us(door, here)
    return _open(door, knock.outcome)


def _wrong_answer(readiness: Readiness, answer: bytes) -> str:
    status = status_of(answer)
    if status is not None:
        wanted = " or ".join(map(str, readiness.statuses))
        what = f"{_request(readiness)} is answered by {status}, not by {wanted}"
        return f"{what}: have it answer so, or ask for another path or status (readiness)"
    if _TLS.match(answer):
        return "it speaks TLS: have it speak plain HTTP there"
    return "what answers there is not HTTP: have it speak HTTP/1.1 there"


def _unseen(door: Door, outcome: Outcome) -> str:
    """The same where nobody could see where it listens."""
    if outcome is Outcome.REFUSED:
        return f"port {door.port} is not open: {_be_heard(door)}"
    if outcome is Outcome.HUNG_UP and door.in_container:
        # Who publishes a port takes every connection, whether anybody listens behind it or not.
        return f"port {door.port} is not open, or hangs up without an answer: {_be_heard(door)}"
    return _open(door, outcome)


def _open(door: Door, outcome: Outcome) -> str:
    port = f"port {door.port}"
    match outcome:
        case Outcome.HUNG_UP:
            return f"{port} is open, but hangs up on {_request(door.readiness)} without an answer"
        case Outcome.SILENT:
            return f"{port} is open, but {_request(door.readiness)} gets no answer"
        case _:
            return f"{port} cannot be reached from this box: see to its network and its firewall"


def _elsewhere(door: Door, found: Sequence[Listener]) -> str:
    closed = f"port {door.port} is not open"
    if not found:
        return f"{closed}, and {_who(door)} listens on no port: its log may say why"
    cure = _HEED_PORT + (", or name its own as executable.port" if door.in_container else "")
    return f"{closed}; {_who(door)} listens on {_named(door, found)}: {cure}"


def _closed_to_us(door: Door, here: Sequence[Listener]) -> str:
    where = " and ".join(map(str, here))
    cure = "0.0.0.0 (all addresses)" if door.in_container else "127.0.0.1"
    return f"{_who(door)} listens on {where} only: have it listen on {cure}"


def _be_heard(door: Door) -> str:
    return _HEED_PORT + (", at all addresses (0.0.0.0)" if door.in_container else "")


def _who(door: Door) -> str:
    return "the container" if door.in_container else "its process"


def _request(readiness: Readiness) -> str:
    path = readiness.path
    return f"HEAD {path if len(path) <= _LONGEST_PATH else f'{path[:_LONGEST_PATH]}…'}"


def _named(door: Door, found: Sequence[Listener]) -> str:
    """Ports that could be reached by their numbers, others with their addresses."""
    names = [str(each.port if door.lets_in(each) else each) for each in found]
    names = list(dict.fromkeys(names))
    if len(names) > _MOST_NAMED:
        names[_MOST_NAMED:] = [f"{len(names) - _MOST_NAMED} others"]
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last
