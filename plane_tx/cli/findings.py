"""What `doctor` finds: each thing that is looked at, how it is, and what to do about it."""

from __future__ import annotations

import enum
from collections.abc import Iterable

import attrs


class Level(enum.StrEnum):
    """How a thing is: in order, worth a look, or what keeps the server from working."""

    OK = "ok"
    WARN = "warn"
    BAD = "bad"


@attrs.frozen
class Finding:
    """One thing that was looked at; a cure is there unless it is in order."""

    name: str
    level: Level
    sentence: str
    cure: str = ""


def ok(name: str, sentence: str) -> Finding:
    """This is in order."""
    return Finding(name, Level.OK, sentence)


def warn(name: str, sentence: str, cure: str) -> Finding:
    """This works for some."""
    return Finding(name, Level.WARN, sentence, cure)


def bad(name: str, sentence: str, cure: str) -> Finding:
    """This does not work."""
    return Finding(name, Level.BAD, sentence, cure)


def exit_code(findings: Iterable[Finding]) -> int:
    """1 where anything is bad."""
    return int(any(each.level is Level.BAD for each in findings))
