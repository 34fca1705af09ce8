"""What stands in the autopsy of a session."""

from __future__ import annotations

import io
import json
import tarfile
from typing import Any

from plane_tx.core.autopsy import (
    MOST_LINES,
    MOST_LOG_BYTES,
    files_of,
    findings,
    hide_values,
    last_lines,
    packed,
)
from plane_tx.core.ledger import Connection, ConnectionKind, How
from plane_tx.core.model import LogLine, LogStream, Scheduled, Session, StatusEntry
from plane_tx.core.use import Request, Visit
from tests.sessions import make_session

NOW = 1_700_000_000.5
VISIT = Visit("1.2.3.4", "/page", "ada", "t" * 43)


def session() -> Session:
    session = make_session()
    session.history.append(StatusEntry(Scheduled(), NOW))
    return session


def line(text: str, at_ns: int | None = None) -> LogLine:
    return LogLine(at_ns, LogStream.STDOUT, text)


def told(of: Session, **known: Any) -> dict[str, str]:
    """The text of each file."""
    known = {"account": None, "log": (), "stats": None, **known}
    return {
        name: b"".join(pieces).decode()
        for name, pieces in files_of(findings(of, {}, now=NOW, **known))
    }


def test_of_a_session_nobody_knows_anything_of_it_says_so() -> None:
    files = told(session())

    assert json.loads(files["session.json"])["status"] == json.loads(files["why.json"])["status"]
    assert json.loads(files["inspect.json"]) is None
    assert json.loads(files["stats.json"]) is None
    assert json.loads(files["requests.json"]) == []
    assert json.loads(files["connections.json"]) == {"open": [], "closed": []}
    assert files["log.txt"] == ""


def test_a_line_of_the_log_has_its_time_and_stream() -> None:
    lines = (line("one", 1_700_000_000_000_000_007), LogLine(None, LogStream.STDERR, "zwölf"))

    files = told(session(), log=lines)

    assert files["log.txt"] == ("2023-11-14T22:13:20.000000007Z stdout one\n- stderr zwölf\n")


def test_only_the_last_lines_of_a_log_are_kept() -> None:
    lines = [line(str(number)) for number in range(MOST_LINES + 3)]

    kept = last_lines(lines)

    assert [kept[0].text, kept[-1].text] == ["3", str(MOST_LINES + 2)]


def test_of_a_log_of_long_lines_fewer_are_kept() -> None:
    lines = [line("ä" * 8192) for _ in range(MOST_LINES)]

    kept = last_lines(lines)

    assert len(kept) == MOST_LOG_BYTES // 16384


def test_requests_are_told_newest_first_without_their_token() -> None:
    of = session()
    for number in range(60):
        status, closed = (200, "") if number else (None, "client")
        of.requests.append(Request(VISIT, b"GET", NOW, NOW + number, status, 1, 2, closed, ""))

    files = told(of)
    first, *_, last = json.loads(files["requests.json"])

    assert "ttt" not in files["requests.json"]
    assert first["ms"] == 59_000.0
    assert last["ms"] == 10_000.0
    assert (first["method"], first["path"], first["peer"]) == ("GET", "/page", "1.2.3.4")
    assert (first["status"], first["bytes_in"], first["bytes_out"]) == (200, 1, 2)


def test_a_clock_that_is_set_back_makes_no_request_end_before_it_began() -> None:
    of = session()
    of.requests.append(Request(VISIT, b"GET", NOW, NOW - 1, 200, 0, 0, "", ""))

    (request,) = json.loads(told(of)["requests.json"])

    assert request["ms"] == 0.0


def test_connections_are_told_open_and_closed() -> None:
    of = session()
    first, second = (Connection(ConnectionKind.WEBSOCKET, NOW, VISIT) for _ in range(2))
    of.connections.begin(first)
    of.connections.begin(second)
    first.closes(How.CLIENT_CLOSE, 1001)
    of.connections.end(first, NOW)

    connections = json.loads(told(of)["connections.json"])

    assert [each["how"] for each in connections["open"]] == [None]
    assert [each["how"] for each in connections["closed"]] == ["client-close"]


def test_the_engines_words_and_its_numbers_stand_as_they_are() -> None:
    files = told(session(), account={"Id": "ä"}, stats={"engine": {"pids": 3}})

    assert '"Id": "ä"' in files["inspect.json"]
    assert json.loads(files["stats.json"]) == {"engine": {"pids": 3}}


def test_it_is_packed_with_pauses_between_its_pieces() -> None:
    log = [line(str(number)) for number in range(100)]
    pauses: list[None] = []

    found = findings(session(), {}, None, log, None, NOW)
    archive = packed(found, lambda: pauses.append(None))

    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        names = tar.getnames()
        text = tar.extractfile("log.txt").read().decode()
    assert names == [
        "session.json", "why.json", "inspect.json", "log.txt", "stats.json", "requests.json",
        "connections.json",
    ]  # fmt: skip
    assert text.count("\n") == 100
    assert len(pauses) >= 10


def test_of_a_variable_the_name_alone_is_shown() -> None:
    shown = hide_values(["PATH=/bin", "EMPTY=", "ODD", "TWO=a=b"])

    assert shown == ["PATH=…", "EMPTY=…", "ODD=…", "TWO=…"]
