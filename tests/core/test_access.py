"""One line for one request, whatever it asked for."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plane_tx.core.access import FORMATS, Access, End, as_json, as_text, shown_path
from plane_tx.core.use import Traffic, Visit

AT = 1_700_000_000.25

NOTHING = Access(AT, "203.0.113.9", ended=AT)

FULL = Access(
    AT,
    "203.0.113.9",
    "POST",
    "/a",
    "abc123",
    "ann",
    status=200,
    traffic=Traffic(1, 10, 20, 0, 0),
    first=AT + 0.0123,
    ended=AT + 1.5,
    closed=End.SESSION,
    error="Kind",
)

FIELDS = [
    "time", "session", "peer", "user", "method", "path", "status", "bytes_in", "bytes_out",
    "ms_first", "ms", "closed", "error",
]  # fmt: skip

WORDS = st.text(st.characters(exclude_categories=()), max_size=20)


def test_json_has_every_field_in_order():
    line = as_json(FULL)

    assert json.loads(line) == {
        "time": "2023-11-14T22:13:20.250Z",
        "session": "abc123",
        "peer": "203.0.113.9",
        "user": "ann",
        "method": "POST",
        "path": "/a",
        "status": 200,
        "bytes_in": 10,
        "bytes_out": 20,
        "ms_first": 12.3,
        "ms": 1500.0,
        "closed": "session",
        "error": "Kind",
    }
    assert list(json.loads(line)) == FIELDS


def test_json_has_every_field_also_when_there_is_nothing_to_say():
    said = json.loads(as_json(NOTHING))

    assert list(said) == FIELDS
    assert (said["status"], said["ms_first"], said["closed"], said["ms"]) == (None, None, "", 0.0)


def test_text_has_the_same_in_the_same_order():
    line = as_text(FULL)

    assert line == (
        '2023-11-14T22:13:20.250Z abc123 203.0.113.9 ann "POST /a" 200 10 20 12.3 1500.0 session'
        " Kind"
    )


def test_text_has_a_dash_for_what_is_not_there():
    line = as_text(NOTHING)

    assert line == '2023-11-14T22:13:20.250Z - 203.0.113.9 - "- -" - 0 0 - 0.0 - -'


def test_a_clock_that_was_set_back_makes_no_negative_time():
    back = Access(AT, "", first=AT - 5, ended=AT - 4)

    said = json.loads(as_json(back))

    assert (said["ms_first"], said["ms"]) == (0.0, 0.0)


@given(path=WORDS, user=WORDS, method=WORDS)
def test_nobody_can_begin_a_line_of_his_own(path, user, method):
    access = Access(AT, "", method, path, user=user, ended=AT)

    written = [line(access) for line in FORMATS.values()]

    assert all(line.isascii() and line.isprintable() for line in written)


@given(path=WORDS, user=WORDS)
def test_in_text_nobody_can_end_a_field(path, user):
    written = as_text(Access(AT, "peer", "GET", path, "id", user, ended=AT))

    head, request, rest = written.replace("\\\\", "").replace('\\"', "").split('"')
    assert len(head.split(" ")) == 5
    assert request.startswith("GET ")
    assert rest == " - 0 0 - 0.0 - -"


def test_only_the_first_who_ends_it_is_remembered_and_none_once_it_is_over():
    access, complete = Access(AT, ""), Access(AT, "", ended=AT)

    access.ended_by(End.SESSION)
    access.ended_by(End.CLIENT)
    complete.ended_by(End.CLIENT)

    assert (access.closed, complete.closed) == (End.SESSION, End.NOBODY)


def test_an_answer_of_ours_is_counted_without_its_head():
    access = Access(AT, "")

    access.answered(b"HTTP/1.1 410 Gone\r\nA: b\r\n\r\nwhy\r\n\r\n", "UnknownToken", AT + 1)

    assert (access.status, access.error, access.first) == (410, "UnknownToken", AT + 1)
    assert access.traffic.bytes_to_clients == 7


def test_it_tells_what_its_visit_may_show():
    access = Access(AT, "", "GET", "/secret")

    access.reaches("abc123", Visit("p", "/shown", None, "t" * 43))

    assert (access.session, access.path, access.user) == ("abc123", "/shown", "")


@pytest.mark.parametrize("token", ["t" * 43, "s." + "t" * 43, "t" * 52, "t" * 400])
@pytest.mark.parametrize("before", ["/", "/a/", "/" + "a/" * 90, "/" + "a/" * 98])
def test_a_path_that_names_no_session_shows_no_token(token, before):
    path = shown_path(f"{before}{token}/page?q={token}".encode())

    assert "t" * 7 not in path
    assert "?" not in path
    assert len(path) <= 200
