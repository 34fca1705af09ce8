import json

import attrs
import pytest

from plane_tx.core.errors import EngineUnavailable
from plane_tx.core.use import UseKind
from tests.control.client import Connection, unchunked

IDLE = {
    "requests": 0,
    "bytes_from_clients": 0,
    "bytes_to_clients": 0,
    "messages_from_clients": 0,
    "messages_to_clients": 0,
}


@pytest.fixture
def backend(spawn, make_ready):
    backend = spawn(key="a")["backend_id"]
    make_ready(backend)
    return backend


@pytest.fixture
def stream(site, backend):
    def stream(method="GET"):
        connection = Connection(site)
        connection.request(method, f"/ctrl/b/{backend}/stats?stream=true")
        return connection

    return stream


def timers(reactor):
    """What still runs, but for the site's own watch over idle connections."""
    return [call for call in reactor.getDelayedCalls() if "timedOut" not in call.func.__name__]


def samples(connection):
    body = unchunked(connection.received.partition(b"\r\n\r\n")[2]).decode()
    return [json.loads(each.removeprefix("data: ")) for each in body.split("\n\n")[:-1]]


def test_a_sample_tells_what_the_session_takes_and_what_passes(ask, backend, supervisor, reactor):
    use = supervisor.begin_use(supervisor.get(backend), UseKind.WEBSOCKET)
    use.from_client(100, 2, 1.0)

    answer = ask("GET", f"/ctrl/b/{backend}/stats")

    assert answer.json == {
        "backend_id": backend,
        "time": int(reactor.seconds() * 1000),
        "cpu_seconds": 1.5,
        "cpu_percent": None,
        "memory_bytes": 4096,
        "memory_limit_bytes": None,
        "pids": 2,
        "network": {"received_bytes": 10, "sent_bytes": 20},
        "proxy": {**IDLE, "bytes_from_clients": 100, "messages_from_clients": 2},
    }


def test_a_session_that_has_ended_takes_nothing(ask, backend, engine):
    engine.exit(backend, 0)

    sample = ask("GET", f"/ctrl/b/{backend}/stats").json

    assert {name for name, value in sample.items() if value is None} == {
        "cpu_seconds", "cpu_percent", "memory_bytes", "memory_limit_bytes", "pids", "network",
    }  # fmt: skip
    assert sample["proxy"] == IDLE


def test_what_an_engine_does_not_know_is_null(ask, backend, engine):
    engine.taken = attrs.evolve(engine.taken, received_bytes=None, sent_bytes=None)

    assert ask("GET", f"/ctrl/b/{backend}/stats").json["network"] is None


def test_an_engine_that_does_not_answer_is_503(ask, backend, engine):
    engine.refusal = EngineUnavailable("it is away")

    answer = ask("GET", f"/ctrl/b/{backend}/stats")

    assert (answer.status, answer.json["kind"]) == (503, "NoDroneAvailable")
    engine.refusal = None


def test_a_stream_tells_every_second_and_how_busy_the_session_was(stream, engine, reactor):
    samples_of = stream()
    engine.taken = attrs.evolve(engine.taken, cpu_seconds=1.75)

    reactor.advance(1)
    reactor.advance(1)

    assert [each["cpu_percent"] for each in samples(samples_of)] == [None, 25.0, 0.0]
    assert not samples_of.ended


def test_a_stream_ends_with_its_session(stream, backend, engine, reactor):
    samples_of = stream()
    engine.exit(backend, 0)

    reactor.advance(1)

    assert samples_of.ended
    assert [each["pids"] for each in samples(samples_of)] == [2, None]
    assert timers(reactor) == []


def test_a_stream_ends_when_the_engine_goes_away(stream, engine, reactor):
    samples_of = stream()
    engine.refusal = EngineUnavailable("it is away")

    reactor.advance(1)

    assert samples_of.ended
    engine.refusal = None


def test_a_client_that_leaves_leaves_nothing_behind(stream, engine, reactor):
    samples_of = stream()
    asked = len(engine.calls)

    samples_of.hang_up()
    reactor.advance(5)

    assert len(engine.calls) == asked
    assert timers(reactor) == []


def watching(site):
    return repr(site.resource._routes._app._instance._stats)


def test_streams_of_one_session_share_what_the_engine_is_asked(stream, engine, reactor):
    first = stream()
    reactor.advance(0.5)
    second = stream()
    asked = len(engine.called("stats"))

    for _ in range(4):
        reactor.advance(1)

    assert len(engine.called("stats")) == asked + 4 == 5
    assert samples(first) == samples(second)
    assert len(samples(second)) == 5


def test_one_that_leaves_does_not_end_the_others_and_the_last_one_ends_the_asking(
    site, stream, engine, reactor
):
    first, second = stream(), stream()
    first.hang_up()
    reactor.advance(1)
    assert len(samples(second)) == 2

    second.hang_up()
    asked = len(engine.calls)
    reactor.advance(5)

    assert len(engine.calls) == asked
    assert timers(reactor) == []
    assert watching(site) == "<StatsFeed [Asked: 0 | Watched: 0]>"


def test_who_comes_when_the_last_has_left_during_a_call_is_told_all_the_same(
    site, stream, engine, reactor
):
    engine.waits.add("stats")
    stream().hang_up()
    late = stream()
    engine.waits.clear()
    engine.answer("stats")

    reactor.advance(1)

    assert len(samples(late)) == 2
    assert watching(site) == "<StatsFeed [Asked: 0 | Watched: 1]>"


def test_who_comes_after_the_engine_went_away_begins_anew(site, stream, engine, reactor):
    slow = stream()
    slow.stop_reading()
    engine.refusal = EngineUnavailable("it is away")
    reactor.advance(1)
    engine.refusal = None

    late = stream()
    reactor.advance(1)

    assert len(samples(late)) == 2
    assert not late.ended


def test_several_who_ask_at_once_are_one_call_and_one_that_fails_fails_them_all(
    site, backend, engine
):
    engine.waits.add("stats")
    asking = [Connection(site) for _ in range(3)]
    for each in asking:
        each.request("GET", f"/ctrl/b/{backend}/stats")
    assert len(engine.called("stats")) == 1

    engine.refusal = EngineUnavailable("it is away")
    engine.answer("stats")
    engine.refusal = None

    assert [each.answer.status for each in asking] == [503, 503, 503]
    assert watching(site) == "<StatsFeed [Asked: 0 | Watched: 0]>"


def test_a_head_request_is_answered_and_over(stream):
    answer = stream(method="HEAD").answer

    assert (answer.status, answer.body) == (200, b"")


@pytest.fixture
def several(spawn, make_ready):
    """A few sessions, one of which boots."""
    ids = [spawn(key=f"key-{number}")["backend_id"] for number in range(6)]
    for backend in ids[:-1]:
        make_ready(backend)
    return ids


@pytest.fixture
def stream_of(site):
    def stream_of(*ids, method="GET", stream="true"):
        connection = Connection(site)
        wanted = "&".join(f"id={each}" for each in ids)
        connection.request(method, f"/ctrl/stats?{wanted}&stream={stream}")
        return connection

    return stream_of


def told_of(connection):
    return [each["backend_id"] for each in samples(connection)]


def test_a_stream_of_many_tells_of_each_every_two_seconds(stream_of, several, reactor):
    viewer = stream_of(*several[:3])

    reactor.advance(1)
    first = told_of(viewer)
    reactor.advance(1)

    assert first == several[:3]
    assert told_of(viewer) == several[:3] * 2
    assert [each["cpu_percent"] for each in samples(viewer)] == [None] * 3 + [0.0] * 3


def test_no_more_than_a_few_are_asked_about_at_a_time(stream_of, several, engine):
    engine.waits.add("stats")

    viewer = stream_of(*several)
    asked = [engine.called("stats")]
    for _ in range(2):
        engine.answer("stats")
        asked.append(engine.called("stats"))

    assert [len(each) for each in asked] == [4, 6, 6]
    assert sorted(told_of(viewer)) == sorted(several)


def test_streams_that_tell_of_the_same_session_share_its_samples(
    stream_of, several, engine, reactor
):
    first, second = stream_of(*several[:2]), stream_of(*several[1:3])

    reactor.advance(2)

    assert len(engine.called("stats")) == 2 * 3
    assert told_of(first) == several[:2] * 2
    assert told_of(second) == several[1:3] * 2


def test_unknown_and_ended_sessions_are_left_out(stream_of, several, engine):
    engine.exit(several[0], 0)

    viewer = stream_of("nobody", *several[:2], "<b>")

    assert told_of(viewer) == [several[1]]


def test_where_none_of_them_lives_the_client_is_told_not_to_come_back(stream_of, several, engine):
    engine.exit(several[0], 0)

    answer = stream_of(several[0], "nobody").answer

    assert (answer.status, answer.body) == (204, b"")


def test_one_that_ends_is_told_of_once_more_and_the_others_go_on(
    site, stream_of, several, engine, reactor
):
    viewer = stream_of(*several[:2])
    engine.exit(several[0], 0)

    for _ in range(3):
        reactor.advance(2)

    assert told_of(viewer).count(several[0]) == 2
    assert told_of(viewer).count(several[1]) == 4
    assert watching(site) == "<StatsFeed [Asked: 0 | Watched: 1]>"


def test_the_stream_of_many_ends_with_the_last_of_them_which_is_told_of_too(
    site, stream_of, several, engine, reactor
):
    viewer = stream_of(*several[:2])
    engine.exit(several[0], 0)
    reactor.advance(2)
    went_on = not viewer.ended
    engine.exit(several[1], 0)

    reactor.advance(2)

    assert went_on
    assert viewer.ended
    assert sorted(told_of(viewer)) == sorted([several[0]] * 2 + [several[1]] * 3)
    assert watching(site) == "<StatsFeed [Asked: 0 | Watched: 0]>"


def test_sessions_that_end_at_once_are_each_told_of_before_the_stream_ends(
    stream_of, several, engine, reactor
):
    viewer = stream_of(*several[:2])
    for each in several[:2]:
        engine.exit(each, 0)

    reactor.advance(2)

    assert viewer.ended
    assert sorted(told_of(viewer)) == sorted(several[:2] * 2)


def test_an_engine_that_goes_away_ends_the_stream_of_many(
    stream_of, several, engine, reactor, site
):
    viewer = stream_of(*several[:2])
    engine.refusal = EngineUnavailable("it is away")

    reactor.advance(2)

    assert viewer.ended
    assert watching(site) == "<StatsFeed [Asked: 0 | Watched: 0]>"
    engine.refusal = None


def test_one_who_does_not_read_is_sent_the_next_samples_only(stream_of, several, reactor):
    viewer = stream_of(several[0])
    viewer.stop_reading()
    for _ in range(5):
        reactor.advance(2)

    viewer.read_on()
    reactor.advance(2)

    assert len(samples(viewer)) == 2


def test_a_viewer_that_leaves_leaves_nothing_and_asks_no_more(
    site, stream_of, several, engine, reactor
):
    engine.waits.add("stats")
    viewer = stream_of(*several)

    viewer.hang_up()
    engine.answer("stats")
    reactor.advance(10)

    assert len(engine.called("stats")) == 4, "those that waited for their turn were not asked about"
    assert timers(reactor) == []
    assert watching(site) == "<StatsFeed [Asked: 0 | Watched: 0]>"


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("stream=true", "id: expected from 1 to 50 of them, got 0"),
        ("id=&stream=true", "id: expected from 1 to 50 of them, got 0"),
        ("&".join(["id=a"] * 51) + "&stream=true", "id: expected from 1 to 50 of them, got 51"),
        ("id=a", "stream: expected true: these are told as a stream only"),
        ("id=a&stream=false", "stream: expected true: these are told as a stream only"),
        ("id=a&ids=b&stream=true", "'ids': unknown parameter; did you mean 'id'?"),
    ],
)
def test_what_is_asked_for_wrongly_is_named(ask, query, said):
    answer = ask("GET", f"/ctrl/stats?{query}")

    assert (answer.status, answer.json["message"]) == (422, said)


def test_the_head_of_a_stream_of_many_is_answered_and_over(stream_of, several, engine):
    answer = stream_of(several[0], method="HEAD").answer

    assert (answer.status, answer.body) == (200, b"")
    assert engine.called("stats") == []
