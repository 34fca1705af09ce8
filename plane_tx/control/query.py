"""A URL's query, read strictly: a parameter that is unknown or does not fit is refused by name."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl

from plane_tx.core.errors import InvalidRequest, MalformedRequest
from plane_tx.core.strict import nearest

#: The last moment that a JSON number tells exactly (RFC 8259 section 6).
MOST_MILLISECONDS = 2**53 - 1

#: More parameters than this in one query are nobody's honest question.
MOST_PARAMETERS = 100

#: A number as JSON writes it (RFC 8259 section 6), zero or more; leading zeros do no harm.
_NUMBER = re.compile(r"[0-9]{1,30}(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,3})?")


class Query:
    """The parameters of one request; one with an empty value counts as not given."""

    def __init__(self, uri: bytes, *known: str) -> None:
        """Read the query of `uri`. Raises `InvalidRequest` for a parameter not `known`."""
        self._values: dict[str, list[str]] = {}
        for name, value in _pairs(uri):
            if name not in known:
                near = nearest(name, known)
                hint = f"did you mean {near!r}?" if near else f"known: {', '.join(known)}"
                raise InvalidRequest(f"{name[:64]!r}: unknown parameter; {hint}")
            if value:
                self._values.setdefault(name, []).append(value)

    def all(self, name: str) -> list[str]:
        """Every value of a parameter that may be given more than once."""
        return self._values.get(name, [])

    def one(self, name: str) -> str | None:
        """The value of a parameter, None when it is not given. Raises `InvalidRequest`."""
        values = self.all(name)
        if len(values) > 1:
            raise InvalidRequest(f"{name}: expected once, got {len(values)} times")
        return values[0] if values else None

    def count(self, name: str, default: int, most: int, least: int = 1) -> int:
        """A whole number from `least` to `most`. Raises `InvalidRequest`."""
        value = self.one(name)
        return default if value is None else _whole(name, value, least, most)

    def milliseconds(self, name: str) -> int | None:
        """A moment in milliseconds since epoch, None when not given. Raises `InvalidRequest`."""
        value = self.one(name)
        return None if value is None else _whole(name, value, 0, MOST_MILLISECONDS)

    def flag(self, name: str) -> bool:
        """`true` or `false`, which is the default. Raises `InvalidRequest`."""
        value = self.one(name) or "false"
        if value not in ("true", "false"):
            raise InvalidRequest(f"{name}: expected true or false, got {value[:64]!r}")
        return value == "true"

    def seconds(self, name: str, most: float) -> float:
        """A number of seconds from 0, which is the default, to `most`. Raises `InvalidRequest`."""
        value = self.one(name) or "0"
        if not _NUMBER.fullmatch(value) or float(value) > most:
            raise InvalidRequest(f"{name}: expected seconds from 0 to {most:g}, got {value[:64]!r}")
        return float(value)


def _whole(name: str, value: str, least: int, most: int) -> int:
    # Its length first: a number of a million digits takes long to read.
    digits = value.isascii() and value.isdigit() and len(value) <= len(str(most))
    if not digits or not least <= int(value) <= most:
        raise InvalidRequest(
            f"{name}: expected a number from {least} to {most}, got {value[:64]!r}"
        )
    return int(value)


def _pairs(uri: bytes) -> list[tuple[str, str]]:
    text = uri.partition(b"?")[2].decode("latin-1")
    try:
        return parse_qsl(
            text, keep_blank_values=True, errors="strict", max_num_fields=MOST_PARAMETERS
        )
    except ValueError as error:
        raise MalformedRequest(f"the query cannot be read: {error}") from None
