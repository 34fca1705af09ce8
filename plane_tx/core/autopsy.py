"""What is told of a session in its autopsy: an archive of all that is known of what happened to it.

Much of it is text by the thousand lines, so it comes in small pieces, and whoever packs it may let
others have their turn between them.
"""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import attrs

from plane_tx.core.ledger import Connection
from plane_tx.core.model import LogLine, Session
from plane_tx.core.use import Request
from plane_tx.core.views import MOST_USES, connection, milliseconds, session
from plane_tx.core.why import why
from plane_tx.core.wire import dumps

#: How many lines of its log are kept, and how many bytes of them (UTF-8) at most.
MOST_LINES = 2000
MOST_LOG_BYTES = 2 * 1024 * 1024

#: What stands for a value that is not to be shown.
HIDDEN = "…"

#: How many records, or parts of a text of JSON, make a piece: well under a millisecond of work.
_RECORDS = 25
_PARTS = 200

_PRETTY = json.JSONEncoder(indent=2, ensure_ascii=False)

#: One file of an archive: its name, and its content in pieces.
File = tuple[str, Iterator[bytes]]


@attrs.frozen
class Findings:
    """All that is known of a session at one moment, held so that it can be told in a thread.

    `account` and `log` are the engine's, `stats` what the session took of the box when that was
    last asked.
    """

    session: Mapping[str, Any]
    why: Mapping[str, Any]
    requests: Sequence[Request]
    open: Sequence[Connection]
    closed: Sequence[Connection]
    account: Mapping[str, Any] | None
    log: Sequence[LogLine]
    stats: Mapping[str, Any] | None
    at: float


def findings(
    told: Session,
    deadlines: Mapping[str, float],
    account: Mapping[str, Any] | None,
    log: Sequence[LogLine],
    stats: Mapping[str, Any] | None,
    now: float,
) -> Findings:
    """What is known of this session at `now` (seconds since epoch), of its engine and of us."""
    ledger = told.connections
    return Findings(
        session=session(told, deadlines),
        why=why(told, now),
        requests=tuple(told.requests),
        open=tuple(islice(reversed(ledger.open), MOST_USES)),
        closed=tuple(reversed(ledger.closed)),
        account=account,
        log=log,
        stats=stats,
        at=now,
    )


def files_of(found: Findings) -> Iterator[File]:
    """The files of its archive; what nobody knows is null, or empty."""
    yield "session.json", _pretty(found.session)
    yield "why.json", _pretty(found.why)
    yield "inspect.json", _pretty(found.account)
    yield "log.txt", _log(found.log)
    yield "stats.json", _pretty(found.stats)
    yield "requests.json", _listed(map(_request, reversed(found.requests)))
    yield "connections.json", _connections(found)


def packed(found: Findings, pause: Callable[[], None]) -> bytes:
    """The archive, a tar of these files by gzip; `pause` is called after each piece of work."""
    archive = io.BytesIO()
    with (
        gzip.GzipFile("", "wb", 6, archive, found.at) as compressed,
        tarfile.open(fileobj=compressed, mode="w") as tar,
    ):
        for name, pieces in files_of(found):
            content = io.BytesIO()
            for piece in pieces:
                content.write(piece)
                pause()
            member = tarfile.TarInfo(name)
            member.size, member.mtime, member.mode = content.tell(), found.at, 0o600
            content.seek(0)
            tar.addfile(member, content)
    return archive.getvalue()


def hide_values(environment: Iterable[str]) -> list[str]:
    """Variables as `NAME=value`, with their names alone."""
    return [f"{variable.partition('=')[0]}={HIDDEN}" for variable in environment]


def last_lines(lines: Sequence[LogLine]) -> list[LogLine]:
    """Those that are kept of a log, oldest first."""
    kept: list[LogLine] = []
    size = 0
    for line in reversed(lines[-MOST_LINES:]):
        size += len(line.text.encode("utf-8", "replace"))
        if size > MOST_LOG_BYTES:
            break
        kept.append(line)
    return kept[::-1]


def _pretty(value: object) -> Iterator[bytes]:
    parts = _PRETTY.iterencode(value)
    while batch := list(islice(parts, _PARTS)):
        yield "".join(batch).encode("utf-8", "replace")
    yield b"\n"


def _listed(records: Iterator[Mapping[str, Any]]) -> Iterator[bytes]:
    """A list with a record a line."""
    start = b"[\n"
    while batch := list(islice(records, _RECORDS)):
        yield start + b",\n".join(map(dumps, batch))
        start = b",\n"
    yield b"[]\n" if start == b"[\n" else b"\n]\n"


def _connections(found: Findings) -> Iterator[bytes]:
    yield b'{"open": '
    yield from _listed(connection(each, found.at) for each in found.open)
    yield b', "closed": '
    yield from _listed(connection(each, found.at) for each in found.closed)
    yield b"}\n"


def _request(told: Request) -> dict[str, Any]:
    visit = told.visit
    return {
        "began": milliseconds(told.began),
        "peer": visit.peer,
        "user": visit.user,
        "method": told.method.decode("ascii"),
        "path": visit.path,
        "status": told.status,
        "ms": max(0.0, round((told.ended - told.began) * 1000, 1)),
        "bytes_in": told.bytes_from_client,
        "bytes_out": told.bytes_to_client,
        "closed": told.closed,
        "error": told.error,
    }


def _log(lines: Sequence[LogLine]) -> Iterator[bytes]:
    remaining = iter(last_lines(lines))
    while batch := list(islice(remaining, _RECORDS)):
        yield "".join(map(_line, batch)).encode("utf-8", "replace")


def _line(line: LogLine) -> str:
    return f"{_moment(line.at_ns)} {line.stream.value} {line.text}\n"


def _moment(at_ns: int | None) -> str:
    if at_ns is None:
        return "-"
    seconds, fraction = divmod(at_ns, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{fraction:09}Z"
