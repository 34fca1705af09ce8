import json

import pytest

from plane_tx.control import events, sse
from tests.control.client import Connection, unchunked


@pytest.fixture
def listen(site):
    def listen(last_event_id=None, method="GET"):
        connection = Connection(site)
        headers = {} if last_event_id is None else {"Last-Event-ID": last_event_id}
        connection.request(method, "/ctrl/events", headers)
        return connection

    return listen


def told(connection):
    """Each event of the stream: its id, and its data."""
    body = unchunked(connection.received.partition(b"\r\n\r\n")[2]).decode()
    found = []
    for each in body.replace(":\n\n", "").split("\n\n")[:-1]:
        fields = dict(line.split(": ", 1) for line in each.split("\n"))
        found.append((fields.get("id"), {**json.loads(fields["data"]), **_name(fields)}))
    return found


def _name(fields):
    return {"event": fields["event"]} if "event" in fields else {}


def test_every_status_of_every_session_is_told_in_order(listen, ask, spawn, make_ready):
    stream = listen()

    first = spawn("a", labels={"team": "red"})["backend_id"]
    second = spawn("b")["backend_id"]
    make_ready(first)
    ask("POST", f"/ctrl/b/{first}/hard-terminate")

    lives = {first: [], second: []}
    for _, data in told(stream):
        lives[data["backend_id"]].append(data["status"])
    assert lives[first] == [
        "loading", "starting", "waiting", "ready", "hard-terminating", "terminated",
    ]  # fmt: skip
    assert lives[second] == ["loading"]
    assert told(stream)[0][1] == {
        "backend_id": first,
        "key": {"name": "a", "namespace": "", "tag": ""},
        "user": None,
        "labels": {"team": "red"},
        "status": "loading",
        "time": 1_700_000_000_000,
    }


def test_the_reasons_are_ours_and_say_who_asked(listen, ask, spawn, make_ready):
    backend = spawn("a")["backend_id"]
    make_ready(backend)
    stream = listen()

    ask("POST", f"/ctrl/b/{backend}/soft-terminate")

    (_, ending), _ = told(stream)
    assert (ending["termination_reason"], ending["by"]) == ("external", "a caller from 127.0.0.1")


def test_a_client_that_comes_back_is_told_what_it_missed_and_nothing_twice(listen, spawn):
    stream = listen()
    spawn("a")
    spawn("b")
    (first, _), (second, missed) = told(stream)
    stream.hang_up()

    back = listen(f" {first} ")
    spawn("c")

    assert told(back)[0] == (second, missed)
    assert len(told(back)) == 2


@pytest.mark.parametrize(
    "last_event_id", ["nonsense", "another-1", "{run}-999", "{run}-x", "{run}-²"]
)
def test_a_client_is_told_when_something_may_be_missing(listen, spawn, last_event_id):
    stream = listen()
    spawn("a")
    ((event_id, _),) = told(stream)
    run = event_id.partition("-")[0]

    back = listen(last_event_id.format(run=run).encode("utf-8").decode("latin-1"))

    assert [data["event"] for _, data in told(back)] == ["gap"]
    assert "/ctrl/backends" in told(back)[0][1]["message"]


def test_what_was_forgotten_is_a_gap(listen, spawn, monkeypatch, make_site):
    monkeypatch.setattr(events, "KEPT", 2)
    from plane_tx.core.sections import DemoConfig

    site = make_site(DemoConfig())
    early = Connection(site)
    early.request("GET", "/ctrl/events")
    for name in "abcd":
        spawn(name)
    ids = [event_id for event_id, _ in told(early)]

    answers = []
    for event_id in ids:
        late = Connection(site)
        late.request("GET", "/ctrl/events", {"Last-Event-ID": event_id})
        answers.append([data.get("event") for _, data in told(late)])

    assert answers == [["gap"], [None, None], [None], []]


def test_silence_is_broken_by_comments(listen, reactor):
    stream = listen()

    reactor.advance(sse.SILENCE_SECONDS)

    assert unchunked(stream.received.partition(b"\r\n\r\n")[2]) == b":\n\n"


def test_a_client_that_does_not_read_is_cut_and_others_are_unharmed(listen, spawn, monkeypatch):
    monkeypatch.setattr(sse, "MOST_WAITING", 2)
    slow, fast = listen(), listen()
    slow.stop_reading()

    for name in "abcd":
        spawn(name)

    assert slow.aborted
    assert len(told(fast)) == 4


def test_a_client_that_leaves_leaves_nothing_behind(listen, site, reactor):
    streams = [listen() for _ in range(3)]

    for stream in streams:
        stream.hang_up()

    assert "[Streams: 0]" in repr(site.resource._routes._app._instance)
    assert reactor.getDelayedCalls() == []


def test_a_head_request_is_answered_and_over(listen):
    answer = listen(method="HEAD").answer

    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["content-type"] == "text/event-stream"
