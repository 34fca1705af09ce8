"""What is written down of WebSockets and tunnels, and the verdict on each in a line."""

from __future__ import annotations

import gc
import sys
from typing import Any

import pytest

from plane_tx.core.ledger import (
    CLOSED_KEPT,
    Connection,
    ConnectionKind,
    How,
    Ledger,
    verdict,
)
from plane_tx.core.use import Visit

OPENED = 1000.0
NOW = 1012.34


def a_connection(kind: ConnectionKind = ConnectionKind.WEBSOCKET, **values: Any) -> Connection:
    return Connection(kind, OPENED, **values)


def closed(
    how: How,
    code: int | None = None,
    reason: str = "",
    kind: ConnectionKind = ConnectionKind.WEBSOCKET,
) -> Connection:
    connection = a_connection(kind, closed_at=NOW)
    connection.closes(how, code, reason)
    return connection


# What is kept


def test_a_connection_is_open_until_it_is_ended() -> None:
    ledger, connection = Ledger(), a_connection()

    ledger.begin(connection)
    before = list(ledger.open), list(ledger.closed)
    ledger.end(connection, NOW)

    assert before == ([connection], [])
    assert (list(ledger.open), ledger.closed) == ([], [connection])
    assert connection.closed_at == NOW


def test_a_second_end_changes_nothing() -> None:
    ledger, connection = Ledger(), a_connection()
    ledger.begin(connection)

    ledger.end(connection, NOW)
    ledger.end(connection, NOW + 1)

    assert ledger.closed == [connection]
    assert connection.closed_at == NOW


def test_the_last_closed_ones_are_kept_in_the_order_in_which_they_were_closed() -> None:
    ledger = Ledger()
    connections = [a_connection() for _ in range(CLOSED_KEPT + 10)]
    for connection in connections:
        ledger.begin(connection)

    for connection in reversed(connections):
        ledger.end(connection, NOW)

    assert ledger.closed == list(reversed(connections))[10:]
    assert not ledger.open


def test_those_that_were_open_at_a_moment_are_known_after_they_are_closed() -> None:
    ledger = Ledger()
    early, ended_then, still_open, late = (
        Connection(ConnectionKind.WEBSOCKET, opened) for opened in (1.0, 2.0, 5.0, 5.1)
    )
    for connection in (early, ended_then, still_open, late):
        ledger.begin(connection)
    ledger.end(early, 4.9)
    ledger.end(ended_then, 5.0)

    found = ledger.open_at(5.0)

    assert found == [still_open, ended_then]


def test_two_connections_are_two_however_alike() -> None:
    ledger = Ledger()
    ledger.begin(a_connection())
    ledger.begin(a_connection())

    first, second = ledger.open

    assert first != second


def test_a_ledger_in_which_nothing_is_written_is_small() -> None:
    ledger = Ledger()

    size = sum(sys.getsizeof(part) for part in (ledger, ledger.open, ledger.closed))

    assert size < 256


def test_a_record_keeps_nothing_but_itself_alive() -> None:
    connection = closed(How.CLIENT_FIN)

    kept = {type(part) for part in gc.get_referents(connection)}

    assert not hasattr(connection, "__dict__")
    assert {kind.__module__ for kind in kept} <= {
        "builtins", "plane_tx.core.ledger", "plane_tx.core.use",
    }  # fmt: skip


def test_a_record_that_is_logged_gives_no_token_away() -> None:
    connection = a_connection(visit=Visit("1.2.3.4", "/ws", "ada", "t" * 43))

    assert "1.2.3.4" in repr(connection)
    assert "tt" not in repr(connection)


# What is written down of one


def test_only_the_first_who_closes_it_counts() -> None:
    connection = a_connection()

    connection.closes(How.CLIENT_CLOSE, 1000, "bye")
    connection.closes(How.SESSION_RST, 1006, "late")

    told = connection.how, connection.code, connection.reason
    assert told == (How.CLIENT_CLOSE, 1000, "bye")


@pytest.mark.parametrize(
    ("reason", "kept"),
    [
        ("r" * 123, "r" * 123),
        ("r" * 124, "r" * 123),
        ("é" * 62, "é" * 61),
        ("\ud800" * 124, "?" * 123),
    ],
    ids=["fits", "too long", "cut between characters", "cannot be encoded"],
)
def test_of_a_reason_what_fits_a_close_frame_is_kept(reason: str, kept: str) -> None:
    connection = a_connection()

    connection.closes(How.SESSION_CLOSE, 1000, reason)

    assert connection.reason == kept


def test_the_last_round_trip_and_the_best_are_kept() -> None:
    connection = a_connection()
    trips = []

    for seconds in (0.3, 0.1, 0.2):
        connection.answered(seconds)
        trips.append((connection.round_trip, connection.best_round_trip))

    assert trips == [(0.3, 0.3), (0.1, 0.1), (0.2, 0.1)]


def test_a_clock_that_is_set_back_makes_nothing_negative() -> None:
    connection = a_connection(closed_at=OPENED - 5)

    connection.answered(-1.0)

    assert connection.round_trip == connection.best_round_trip == 0.0
    assert connection.seconds(NOW) == 0.0


# The verdict

VERDICTS = {
    How.CLIENT_CLOSE: "the client closed it (1001 going away, 'why') after 12.3 s",
    How.CLIENT_FIN: (
        "the client closed it without a Close frame after 12.3 s; "
        "the other side was told 1001 going away, 'why'"
    ),
    How.CLIENT_RST: (
        "the client's connection broke without a Close frame after 12.3 s; "
        "the other side was told 1001 going away, 'why'"
    ),
    How.SESSION_CLOSE: "the session's server closed it (1001 going away, 'why') after 12.3 s",
    How.SESSION_FIN: (
        "the session's server closed it without a Close frame after 12.3 s; "
        "the other side was told 1001 going away, 'why'"
    ),
    How.SESSION_RST: (
        "the connection to the session's server broke without a Close frame after 12.3 s; "
        "the other side was told 1001 going away, 'why'"
    ),
    How.SESSION_ENDED: (
        "it was closed (1001 going away) after 12.3 s: its session ended (why; see its /why)"
    ),
    How.IDLE: (
        "it was closed (1001 going away, 'why') after 12.3 s: "
        "no byte passed over it for [proxy] idle_timeout_seconds"
    ),
    How.PING_TIMEOUT: (
        "the client vanished: pings ([proxy] ws_ping_seconds) stayed unanswered, "
        "and it was dropped after 12.3 s; the other side was told 1001 going away, 'why'"
    ),
    How.REVOKED: ("it was closed (1001 going away, 'why') after 12.3 s: its token was revoked"),
    How.DRAIN: ("it was closed (1001 going away, 'why') after 12.3 s: the server was stopping"),
    How.TOO_LONG: "it was closed (1001 going away) after 12.3 s: why",
    How.STALLED: (
        "it was closed (1001 going away, 'why') after 12.3 s: "
        "the session's server took nothing for too long"
    ),
    How.REFUSED: "it never opened: why",
}


@pytest.mark.parametrize("how", How)
def test_a_verdict_says_who_closed_it_and_how(how: How) -> None:
    assert verdict(closed(how, 1001, "why"), NOW) == VERDICTS[how]


UNSENT = " without a Close frame, in the middle of a message or to a client that did not read"

WITHOUT_WORDS = {
    How.CLIENT_CLOSE: "the client closed it (no code) after 12.3 s",
    How.CLIENT_FIN: "the client closed it without a Close frame after 12.3 s",
    How.CLIENT_RST: "the client's connection broke without a Close frame after 12.3 s",
    How.SESSION_CLOSE: "the session's server closed it (no code) after 12.3 s",
    How.SESSION_FIN: "the session's server closed it without a Close frame after 12.3 s",
    How.SESSION_RST: (
        "the connection to the session's server broke without a Close frame after 12.3 s"
    ),
    How.SESSION_ENDED: (f"it was closed after 12.3 s{UNSENT}: its session ended (see its /why)"),
    How.IDLE: (
        "it was closed after 12.3 s: no byte passed over it for [proxy] idle_timeout_seconds"
    ),
    How.PING_TIMEOUT: (
        "the client vanished: pings ([proxy] ws_ping_seconds) stayed unanswered, "
        "and it was dropped after 12.3 s"
    ),
    How.REVOKED: f"it was closed after 12.3 s{UNSENT}: its token was revoked",
    How.DRAIN: f"it was closed after 12.3 s{UNSENT}: the server was stopping",
    How.TOO_LONG: (
        f"it was closed after 12.3 s{UNSENT}: a message was longer than [proxy] max_message_bytes"
    ),
    How.STALLED: "it was closed after 12.3 s: the session's server took nothing for too long",
    How.REFUSED: "it never opened: the handshake was wrong",
}


@pytest.mark.parametrize("how", How)
def test_a_verdict_without_a_close_code_says_as_much(how: How) -> None:
    assert verdict(closed(how), NOW) == WITHOUT_WORDS[how]


@pytest.mark.parametrize(
    ("how", "said"),
    [
        (How.CLIENT_FIN, "the client closed it after 12.3 s"),
        (How.CLIENT_RST, "the client's connection broke after 12.3 s"),
        (How.SESSION_FIN, "the session's server closed it after 12.3 s"),
        (How.SESSION_RST, "the connection to the session's server broke after 12.3 s"),
        (How.REVOKED, "it was closed after 12.3 s: its token was revoked"),
        (How.DRAIN, "it was closed after 12.3 s: the server was stopping"),
    ],
)
def test_of_a_tunnel_no_close_frame_is_missed(how: How, said: str) -> None:
    assert verdict(closed(how, kind=ConnectionKind.TUNNEL), NOW) == said


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (1000, "1000 normal closure"),
        (1006, "1006 abnormal closure"),
        (1011, "1011 internal error"),
        (1014, "1014 bad gateway"),
        (3003, "3003 forbidden"),
        (4000, "4000 application code"),
        (4999, "4999 application code"),
        (1004, "1004"),
        (3999, "3999"),
        (5000, "5000"),
        (0, "0"),
    ],
)
def test_a_code_that_has_a_name_is_named(code: int, words: str) -> None:
    said = verdict(closed(How.SESSION_CLOSE, code), NOW)

    assert said == f"the session's server closed it ({words}) after 12.3 s"


def test_a_private_code_of_ours_is_not_called_the_applications() -> None:
    said = verdict(closed(How.REVOKED, 4403, "revoked"), NOW)

    assert said == "it was closed (4403, 'revoked') after 12.3 s: its token was revoked"


@pytest.mark.parametrize(
    ("how", "code", "reason", "said"),
    [
        (
            How.REFUSED, None, "the session's 101 does not answer the upgrade",
            "it never opened: CAUSE",
        ),
        (
            How.TOO_LONG, 1009, "the client's message is over 1000 bytes (max_message_bytes)",
            "it was closed (1009 message too big) after 12.3 s: CAUSE",
        ),
        (
            How.TOO_LONG, None, "the session's message is over 1000 bytes (max_message_bytes)",
            f"it was closed after 12.3 s{UNSENT}: CAUSE",
        ),
        (
            How.SESSION_ENDED, 1001, "idle",
            "it was closed (1001 going away) after 12.3 s: its session ended (CAUSE; see its /why)",
        ),
    ],
)  # fmt: skip
def test_a_reason_of_ours_that_is_the_cause_is_told_as_the_cause(
    how: How, code: int | None, reason: str, said: str
) -> None:
    assert verdict(closed(how, code, reason), NOW) == said.replace("CAUSE", reason)


@pytest.mark.parametrize("how", [How.REVOKED, How.DRAIN, How.SESSION_FIN, How.SESSION_RST])
def test_what_nobody_was_sent_is_not_told(how: How) -> None:
    assert verdict(closed(how, None, "unsent"), NOW) == WITHOUT_WORDS[how]


def test_of_a_tunnel_whose_session_ended_the_word_for_that_is_told() -> None:
    said = verdict(closed(How.SESSION_ENDED, None, "idle", ConnectionKind.TUNNEL), NOW)

    assert said == "it was closed after 12.3 s: its session ended (idle; see its /why)"


@pytest.mark.parametrize(
    ("reason", "shown"),
    [
        ("two\r\nlines", r"'two\r\nlines'"),
        ("\x1b[31mred\x00", r"'\x1b[31mred\x00'"),
        ("\u202eback\u2028", r"'\u202eback\u2028'"),
        ("{after}{0}%s", "'{after}{0}%s'"),
        ("a') after 1 s", '"a\') after 1 s"'),
        ("ça va 👋", "'ça va 👋'"),
    ],
)
def test_a_hostile_reason_can_neither_break_the_line_nor_pass_for_our_words(
    reason: str, shown: str
) -> None:
    said = verdict(closed(How.CLIENT_CLOSE, 1000, reason), NOW)

    assert said == f"the client closed it (1000 normal closure, {shown}) after 12.3 s"


def test_an_open_connection_says_how_long_it_has_been() -> None:
    assert verdict(a_connection(), NOW) == "open for 12.3 s"


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.034, "34 ms"), (0.00032, "0.3 ms"), (12.3456, "12345.6 ms")]
)
def test_an_open_connection_says_what_the_last_ping_took(seconds: float, words: str) -> None:
    connection = a_connection()
    connection.answered(seconds)

    assert verdict(connection, NOW) == f"open for 12.3 s, last round trip {words}"


def test_a_connection_that_closes_is_open_yet() -> None:
    connection = a_connection()
    connection.closes(How.CLIENT_CLOSE, 1000)

    said = verdict(connection, NOW)

    assert said == "open for 12.3 s, and closing: the client closed it (1000 normal closure)"


def test_a_connection_of_which_nobody_knows_the_end_says_so() -> None:
    connection = a_connection(closed_at=NOW)

    assert verdict(connection, NOW + 9) == "it is over after 12.3 s, and nobody saw who closed it"
