"""What the access log says of one request, and how it says it: a line of JSON or of text."""

from __future__ import annotations

import enum
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

import attrs

from plane_tx.core.routes import MOST_SHOWN, hide_tokens
from plane_tx.core.use import Traffic, Visit


class End(enum.StrEnum):
    """Whoever ended a request or a stream before it was complete."""

    NOBODY = ""
    CLIENT = "client"
    SESSION = "session"
    PROXY = "proxy"


@attrs.define(eq=False)
class Access:
    """One request, from its head to its end; for a WebSocket or a tunnel to the end of that.

    Moments are seconds since epoch. `path` may be shown: there is no token in it. `first` is when
    the reply began, `status` what it said, and `error` the kind of a refusal of ours.
    """

    began: float
    peer: str
    method: str = ""
    path: str = ""
    session: str = ""
    user: str = ""
    status: int | None = None
    traffic: Traffic = attrs.field(factory=Traffic)
    first: float | None = None
    ended: float = 0.0
    closed: End = End.NOBODY
    error: str = ""

    def reaches(self, session_id: str, visit: Visit) -> None:
        """It is for this session."""
        self.session, self.path, self.user = session_id, visit.path, visit.user or ""

    def replied(self, status: int, now: float) -> None:
        """The head of its reply is sent."""
        self.status, self.first = status, now

    def answered(self, answer: bytes, error: str, now: float) -> None:
        """We answered it ourselves, for the reason `error` if it is a refusal."""
        self.replied(int(answer[9:12]), now)
        self.traffic.bytes_to_clients += len(answer) - answer.index(b"\r\n\r\n") - 4
        self.error = error

    def ended_by(self, end: End) -> None:
        """It is cut short; only the first who does so is remembered, and no one afterwards."""
        if not self.ended:
            self.closed = self.closed or end


def shown_path(target: bytes) -> str:
    """The path of a request that names no session, without whatever could be a token."""
    path = target.partition(b"?")[0].decode("latin-1")
    return hide_tokens(path)[:MOST_SHOWN]


def as_json(access: Access) -> str:
    """A JSON object with every field, null where there is nothing; ASCII without a line break."""
    return _ENCODER.encode(_fields(access))


def as_text(access: Access) -> str:
    """The same values in the same order, parted by single spaces; `-` where there is nothing.

    What is not a printable ASCII character, a quote or a backslash is escaped as in Python; so is
    a space but in the path.
    """
    said = _fields(access)
    request = f'"{_word(said.pop("method"))} {_escaped(said.pop("path")) or "-"}"'
    values = [_word(value) for value in said.values()]
    return " ".join([*values[:4], request, *values[4:]])


#: The formats by their names in the configuration.
FORMATS: Mapping[str, Callable[[Access], str]] = {"json": as_json, "text": as_text}

_ENCODER = json.JSONEncoder(separators=(",", ":"))


def _fields(access: Access) -> dict[str, str | int | float | None]:
    traffic = access.traffic
    return {
        "time": _time(access.began),
        "session": access.session,
        "peer": access.peer,
        "user": access.user,
        "method": access.method,
        "path": access.path,
        "status": access.status,
        "bytes_in": traffic.bytes_from_clients,
        "bytes_out": traffic.bytes_to_clients,
        "ms_first": None if access.first is None else _ms(access.began, access.first),
        "ms": _ms(access.began, access.ended),
        "closed": access.closed,
        "error": access.error,
    }


def _time(at: float) -> str:
    # Cut and not rounded, as every clock is read.
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")[:23] + "Z"


def _ms(start: float, end: float) -> float:
    # A clock may be set back.
    return max(0.0, round((end - start) * 1000, 1))


def _word(value: str | float | None) -> str:
    if value is None or value == "":
        return "-"
    return _escaped(value).replace(" ", "\\x20") if isinstance(value, str) else str(value)


def _escaped(text: object) -> str:
    return str(text).encode("unicode_escape").decode("ascii").replace('"', '\\"')
