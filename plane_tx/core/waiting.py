"""What those who wait for a session are told of its boot, as data and in words."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from functools import cached_property
from hashlib import blake2b

import attrs

from plane_tx.core.estimates import Estimate
from plane_tx.core.explain import cause_of, phase, pull_of, why_not_ready
from plane_tx.core.model import (
    BOOTING,
    ENDING,
    HardTerminating,
    LogLine,
    Session,
    Status,
    Terminated,
    Terminating,
)
from plane_tx.core.pulls import in_words, short_name

#: How many log lines are told at most, and how much of each.
LINES_TOLD = 5
LINE_CHARACTERS = 300

#: What a terminal would heed, and any other character that is not to be seen.
_UNSEEN = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f-\x9f]")


@attrs.frozen
class Told:
    """What is told at one moment; another `version` means that there is news.

    `state` is booting, ready or ended. `since` is when the session was asked for, None when nobody
    here knows how long it is waited for; `boot_since` is when what `estimate` is about began. Both
    are in seconds since epoch, as `at` is.
    """

    state: str
    status: str
    phase: str
    pull: Mapping[str, object] | None
    since: float | None
    boot_since: float | None
    estimate: Estimate
    lines: tuple[str, ...]
    message: str | None

    @cached_property
    def version(self) -> str:
        """Short, and the same for what says the same, also in another run of the server."""
        return blake2b(self._fields.encode(), digest_size=8).hexdigest()

    def as_json(self, now: float) -> str:
        """The JSON object of API.md part 2, told at `now`; ASCII."""
        return f'{{"version": "{self.version}", {self._fields[1:-1]}, "time": {_ms(now)}}}'

    @cached_property
    def _fields(self) -> str:
        # Written once, for as many as wait for the same.
        fields = {
            "state": self.state,
            "status": self.status,
            "phase": self.phase,
            "pull": self.pull,
            "since": _ms(self.since),
            "boot_since": _ms(self.boot_since),
            "usually_seconds": _rounded(self.estimate.usually),
            "at_most_seconds": _rounded(self.estimate.at_most),
            "boots": self.estimate.boots,
            "lines": self.lines,
            "message": self.message,
        }
        return json.dumps(fields)


def boots(session: Session) -> bool:
    """Whether it cannot be reached yet, and may be later."""
    ready = session.status is Status.READY and not session.unconfirmed
    return not ready and session.status not in ENDING


def told(
    session: Session, estimate: Estimate, lines: Iterable[LogLine] = (), hint: str | None = None
) -> Told:
    """What there is to tell of `session`; a `hint` says why its server does not answer yet.

    `lines` are the last it wrote, of which the last few are told, without what is not to be seen.
    """
    pull, booting = pull_of(session), boots(session)
    ended = session.status in ENDING
    known = session.status in BOOTING and not session.unconfirmed
    return Told(
        state="booting" if booting else "ended" if ended else "ready",
        status=session.status.value,
        phase=_words(session, hint) if booting else session.status.value,
        pull=None
        if pull is None
        else {"image": short_name(pull.image), "bytes": pull.current, "total_bytes": pull.total},
        since=session.created_at if known else None,
        boot_since=session.entered(Status.STARTING) if known else None,
        estimate=estimate if known else Estimate(),
        lines=tuple(_shown(line.text) for line in lines)[-LINES_TOLD:],
        message=_why_ended(session),
    )


def phase_in_full(session: Session) -> str:
    """What is waited for, the numbers of a pull included, for those who see it only once."""
    return why_not_ready(session) if session.unconfirmed else phase(session) or session.status


def elapsed_in_words(since: float | None, now: float) -> str:
    """`12 s so far`; nothing when nobody knows."""
    return "" if since is None else f"{_seconds(max(int(now - since), 0))} so far"


def estimate_in_words(estimate: Estimate, boot_since: float | None, now: float) -> str:
    """`usually 4 s, at most 9 s`, when that is known; beyond it, that this takes longer."""
    if estimate.usually is None or estimate.at_most is None:
        return ""
    if boot_since is None:
        return f"once it starts: {_usually(estimate.usually, estimate.at_most)}"
    if now - boot_since > estimate.at_most:
        longest = _seconds(math.ceil(estimate.at_most))
        return f"This takes longer than any boot seen so far, of which the longest took {longest}."
    return _usually(estimate.usually, estimate.at_most)


def title(begun: float | None) -> str:
    """What a page is about that is shown while a session boots, since then if that is known."""
    return "Looking for your session" if begun is None else "Your session is starting"


def _why_ended(session: Session) -> str | None:
    state = session.state
    if isinstance(state, Terminating | HardTerminating | Terminated):
        return cause_of(session, state)
    return None


def _usually(usually: float, at_most: float) -> str:
    mostly, longest = max(round(usually), 1), max(math.ceil(at_most), 1)
    if mostly >= longest:
        return f"usually within {_seconds(longest)}"
    return f"usually {_seconds(mostly)}, at most {_seconds(longest)}"


def _seconds(seconds: int) -> str:
    return f"{seconds} s" if seconds < 90 else f"{math.ceil(seconds / 60)} min"


def _words(session: Session, hint: str | None) -> str:
    if hint and session.status is Status.WAITING and not session.unconfirmed:
        return hint
    # A page reads it out when it changes, so the bytes of a pull stand apart.
    pull = None if session.unconfirmed else pull_of(session)
    return phase_in_full(session) if pull is None else in_words(attrs.evolve(pull, total=0))


def _shown(text: str) -> str:
    return _UNSEEN.sub("", text[: 4 * LINE_CHARACTERS])[:LINE_CHARACTERS]


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


def _ms(at: float | None) -> int | None:
    return None if at is None else int(at * 1000)
