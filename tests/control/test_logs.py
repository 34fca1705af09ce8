import json

import pytest

from plane_tx.control import sse
from plane_tx.core.errors import EngineUnavailable
from plane_tx.core.model import LogStream
from tests.control.client import Connection, unchunked

NOW = 1_700_000_000


@pytest.fixture
def backend(spawn):
    return spawn(key="a")["backend_id"]


@pytest.fixture
def follow(site, backend):
    def follow(query="", last_event_id=None, method="GET"):
        connection = Connection(site)
        headers = {} if last_event_id is None else {"Last-Event-ID": last_event_id}
        connection.request(method, f"/ctrl/b/{backend}/logs?follow=true{query}", headers)
        return connection

    return follow


def told(connection):
    """Each line of the stream: its id, and its text."""
    body = unchunked(connection.received.partition(b"\r\n\r\n")[2]).decode()
    found = []
    for each in body.replace(":\n\n", "").split("\n\n")[:-1]:
        fields = dict(line.split(": ", 1) for line in each.split("\n"))
        found.append((fields["id"], json.loads(fields["data"])["text"]))
    return found


def texts(connection):
    return [text for _, text in told(connection)]


def test_the_last_lines_are_told_with_time_and_stream(ask, backend, make_ready, engine):
    make_ready(backend)
    engine.say(backend, "one", NOW + 1.5)
    engine.say(backend, "two", NOW + 2, LogStream.STDERR)

    answer = ask("GET", f"/ctrl/b/{backend}/logs")

    assert answer.json == {
        "backend_id": backend,
        "lines": [
            {"time": (NOW + 1) * 1000 + 500, "stream": "stdout", "text": "one"},
            {"time": (NOW + 2) * 1000, "stream": "stderr", "text": "two"},
        ],
    }


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("tail=1", ["c"]),
        ("tail=0", []),
        (f"since={(NOW + 2) * 1000}", ["b", "c"]),
        (f"since={(NOW + 2) * 1000}&tail=1", ["c"]),
        (f"since={(NOW + 9) * 1000}", []),
    ],
)
@pytest.mark.parametrize("ended", [False, True])
def test_fewer_lines_can_be_asked_for(  # noqa: PLR0917  # fixtures and parameters
    ask, backend, make_ready, engine, query, expected, ended
):
    make_ready(backend)
    for seconds, text in enumerate("abc", 1):
        engine.say(backend, text, NOW + seconds)
    if ended:
        engine.exit(backend, 1)

    lines = ask("GET", f"/ctrl/b/{backend}/logs?{query}").json["lines"]

    assert [line["text"] for line in lines] == expected


def test_a_session_that_has_ended_tells_what_was_kept_with_it(ask, backend, make_ready, engine):
    make_ready(backend)
    engine.exit(backend, 1, tail=("its", "last", "words"))

    lines = ask("GET", f"/ctrl/b/{backend}/logs?tail=2").json["lines"]

    assert [line["text"] for line in lines] == ["last", "words"]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("tail=-1", "tail: expected a number from 0 to 10000, got '-1'"),
        ("tail=10001", "tail: expected a number from 0 to 10000, got '10001'"),
        ("since=now", "since: expected a number from 0 to 9007199254740991, got 'now'"),
        ("follow=yes", "follow: expected true or false, got 'yes'"),
        ("lines=1", "'lines': unknown parameter; did you mean 'since'?"),
    ],
)
def test_what_cannot_be_is_refused_by_its_name(ask, backend, query, message):
    answer = ask("GET", f"/ctrl/b/{backend}/logs?{query}")

    assert (answer.status, answer.json["message"]) == (422, message)


def test_an_engine_that_does_not_answer_is_503(ask, backend, make_ready, engine):
    make_ready(backend)
    engine.refusal = EngineUnavailable("it is away")

    answer = ask("GET", f"/ctrl/b/{backend}/logs")

    assert (answer.status, answer.json["kind"]) == (503, "NoDroneAvailable")
    engine.refusal = None


def test_lines_are_told_as_they_come_until_the_session_has_ended(
    follow, backend, make_ready, engine
):
    stream = follow()
    make_ready(backend)
    engine.say(backend, "one", NOW + 1)
    engine.say(backend, "two", NOW + 2)
    during = told(stream)

    engine.exit(backend, 0)

    assert during == [(str((NOW + 1) * 10**9), "one"), (str((NOW + 2) * 10**9), "two")]
    assert stream.ended
    assert texts(stream) == ["one", "two"]


def test_a_client_that_comes_back_goes_on_after_the_last_line_it_saw(
    follow, backend, make_ready, engine
):
    make_ready(backend)
    for seconds, text in enumerate("abc", 1):
        engine.say(backend, text, NOW + seconds)
    seen, _ = told(follow("&tail=2"))[0]

    back = follow("&tail=1", f" {seen} ")

    assert texts(back) == ["c"]
    assert texts(follow("", "nonsense")) == ["a", "b", "c"]


def test_the_end_of_an_ended_session_is_told_at_once(follow, backend, make_ready, engine):
    make_ready(backend)
    engine.exit(backend, 1, tail=("last", "words"))

    stream = follow()

    assert stream.ended
    assert b"last" in stream.received


def test_an_engine_that_goes_away_ends_the_stream(follow, backend, make_ready, engine):
    make_ready(backend)
    engine.refusal = EngineUnavailable("it is away")

    stream = follow()

    assert stream.ended
    engine.refusal = None


def test_a_client_that_leaves_is_not_told_any_more(
    site, follow, backend, make_ready, engine, reactor
):
    make_ready(backend)
    stream = follow()
    waiting = len(reactor.getDelayedCalls())

    stream.hang_up()
    before = stream.received
    engine.say(backend, "too late", NOW + 1)

    assert stream.received == before
    assert "[Followed: 0]" in repr(site.resource._routes._app._instance)
    assert len(reactor.getDelayedCalls()) == waiting - 1


def test_a_client_that_does_not_read_a_flood_waits_alone(follow, backend, make_ready, engine):
    make_ready(backend)
    slow, fast = follow(), follow()
    slow.stop_reading()

    for number in range(20):
        engine.say(backend, str(number), NOW + number)
    before = texts(slow)
    slow.read_on()

    assert before == []
    assert texts(slow) == texts(fast) == [str(number) for number in range(20)]


def test_a_client_that_does_not_read_holds_the_engine_back(
    follow, backend, make_ready, engine, monkeypatch
):
    monkeypatch.setattr(sse, "MOST_WAITING", 1)
    make_ready(backend)
    for number in range(20):
        engine.say(backend, str(number), NOW + number)
    stream = follow("&tail=0")
    stream.stop_reading()

    for number in range(20, 40):
        engine.say(backend, str(number), NOW + number)
    stream.read_on()

    assert not stream.aborted
    assert len(texts(stream)) == 20


def test_a_client_that_leaves_while_it_is_waited_for_is_forgotten(
    site, follow, backend, make_ready, engine
):
    make_ready(backend)
    stream = follow()
    stream.stop_reading()
    engine.say(backend, "one", NOW + 1)

    stream.hang_up()
    engine.say(backend, "two", NOW + 2)

    assert texts(stream) == []
    assert "[Followed: 0]" in repr(site.resource._routes._app._instance)


def test_a_head_request_is_answered_and_over(follow):
    answer = follow(method="HEAD").answer

    assert (answer.status, answer.body) == (200, b"")
