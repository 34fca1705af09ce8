"""A session's history as text, and read back from it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from cattrs import Converter

from plane_tx.core import strict
from plane_tx.core.model import (
    HardTerminating,
    Loading,
    LogLine,
    LogStream,
    Ready,
    Reason,
    Scheduled,
    Starting,
    State,
    Status,
    StatusEntry,
    Terminated,
    Terminating,
    TerminationKind,
    Waiting,
)

_KINDS: Mapping[str, type[Any]] = {
    kind.status.value: kind
    for kind in (
        Scheduled,
        Loading,
        Starting,
        Waiting,
        Ready,
        Terminating,
        HardTerminating,
        Terminated,
    )
}


def _line_as_list(line: LogLine) -> list[object]:
    return [line.at_ns, line.stream.value, line.text]


def _line_of_list(told: Any, _type: object) -> LogLine:
    at_ns, stream, text = told
    return LogLine(at_ns, LogStream(stream), text)


def _converter() -> Converter:
    converter = strict.make_converter()
    for kind in (Status, Reason, TerminationKind):
        strict.one_of(converter, kind)
    # There may be fifty to a session, and a thousand sessions to read at the start.
    converter.register_unstructure_hook(LogLine, _line_as_list)
    converter.register_structure_hook(LogLine, _line_of_list)
    return converter


_CONVERTER = _converter()


def history_to_text(history: Iterable[StatusEntry]) -> str:
    """The entries in their order, as JSON."""
    told = [
        {"status": entry.state.status.value, "at": entry.at, **_CONVERTER.unstructure(entry.state)}
        for entry in history
    ]
    return json.dumps(told)


def history_from_text(text: str) -> list[StatusEntry]:
    """The entries of which `history_to_text` made `text`. Raises `ValueError` for any other."""
    try:
        entries = [_entry(dict(told)) for told in json.loads(text)]
    except (TypeError, KeyError, RecursionError, strict.Misfit) as error:
        raise ValueError(f"no history of a session: {error!r}") from None
    if not entries:
        raise ValueError("no history of a session: it is empty")
    return entries


def _entry(told: dict[str, Any]) -> StatusEntry:
    kind, at = _KINDS[told.pop("status")], told.pop("at")
    state: State = strict.structure(_CONVERTER, told, kind)
    return StatusEntry(state, float(at))
