import json
import socket

import pytest
import pytest_twisted
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from plane_tx.control import sse
from plane_tx.core.pulls import Pulling
from tests.control.client import Connection, unchunked


@pytest.fixture
def backend(spawn):
    return spawn(key="a")["backend_id"]


@pytest.fixture
def stream(site, backend):
    def stream(query="", **headers):
        connection = Connection(site)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request("GET", f"/pub/b/{backend}/status-stream{query}", named)
        return connection

    return stream


def body(connection):
    return unchunked(connection.received.partition(b"\r\n\r\n")[2])


def statuses(connection):
    """The status of each event, each checked to have the form that Plane gives it."""
    found = []
    for each in body(connection).decode().replace(":\n\n", "").split("\n\n")[:-1]:
        data, event_id = each.split("\n")
        status = json.loads(data.removeprefix("data: "))["status"]
        assert event_id == f"id: {status}"
        found.append(status)
    return found


def listeners_left(site):
    return repr(site.resource._routes._app._instance._feed)


LIFE = ["scheduled", "loading", "starting", "waiting", "ready", "terminating", "terminated"]


def test_a_session_tells_its_whole_life_and_the_stream_ends_with_it(
    ask, stream, backend, make_ready
):
    connection = stream()
    assert connection.answer.status == 200
    assert connection.answer.headers["content-type"] == "text/event-stream"
    assert connection.answer.headers["cache-control"] == "no-cache"
    assert connection.answer.headers["access-control-allow-origin"] == "*"
    assert statuses(connection) == ["scheduled", "loading"]

    make_ready(backend)
    assert statuses(connection) == LIFE[:5]
    assert not connection.ended

    ask("POST", f"/ctrl/b/{backend}/soft-terminate")
    assert statuses(connection) == LIFE
    assert connection.ended


def test_an_event_is_two_lines_and_a_blank_one(stream, reactor):
    now = int(reactor.seconds() * 1000)
    first = f'data: {{"status":"scheduled","time":{now}}}\nid: scheduled\n\n'
    second = f'data: {{"status":"loading","time":{now}}}\nid: loading\n\n'

    assert body(stream()).decode() == first + second


def details(connection):
    """What the events named `detail` said, each checked to be none that moves Last-Event-ID."""
    told = [each for each in body(connection).decode().split("\n\n") if "event: detail" in each]
    lines = [each.split("\n") for each in told]
    assert all(first == "event: detail" for first, _ in lines)
    return [json.loads(data.removeprefix("data: ")) for _, data in lines]


def test_a_pull_is_told_as_it_comes_on(stream, backend, engine, make_ready, reactor):
    connection = stream("?detail=true")

    engine.pulling(backend, "registry.example/app:1", 0, 0)
    engine.pulling(backend, "registry.example/app:1", 12 << 20, 40 << 20)
    make_ready(backend)

    assert connection.answer.status == 200
    at = {"status": "loading", "time": int(reactor.seconds() * 1000)}
    first = {"detail": "pulling app", "pull": {"image": "app", "bytes": 0, "total_bytes": None}}
    pull = {"image": "app", "bytes": 12 << 20, "total_bytes": 40 << 20}
    assert details(connection) == [
        {**at, **first},
        {**at, "detail": "pulling app: 12 of 40 MiB", "pull": pull},
    ]


def test_who_comes_during_a_pull_is_told_at_once_how_far_it_is(stream, backend, engine):
    engine.pulling(backend, "app", 1, 2)

    (told,) = details(stream("?detail=true"))

    assert told["detail"] == "pulling app: 1 of 2 bytes"


def test_who_does_not_keep_up_is_spared_the_details(stream, backend, engine, make_ready):
    connection = stream("?detail=true")
    connection.stop_reading()

    for current in range(10 * sse.MOST_WAITING):
        engine.pulling(backend, "app", current, 1 << 20)
    make_ready(backend)
    connection.read_on()

    assert details(connection) == []
    assert statuses(connection) == LIFE[:5]


def test_a_pull_of_a_session_that_was_given_up_is_no_news(stream, backend, engine, supervisor):
    connection = stream("?detail=true")
    engine.slow_to_clean = True
    report = engine.pending[backend].report
    supervisor.soft_terminate(backend)

    report(Pulling("app", 1, 2))
    engine.clean(backend)

    assert details(connection) == []


def test_who_does_not_ask_for_details_is_told_none(stream, backend, engine, make_ready):
    engine.pulling(backend, "app", 1, 2)
    connections = [stream(query) for query in ("", "?detail=false", "?detail=&lastEventId=1")]

    engine.pulling(backend, "app", 2, 2)
    make_ready(backend)

    assert [details(connection) for connection in connections] == [[], [], []]
    assert [statuses(connection) for connection in connections] == [LIFE[:5]] * 3


@pytest.mark.parametrize("query", ["?detail=yes", "?detail=true&detail=true"])
def test_a_wish_for_details_that_makes_no_sense_is_refused(stream, query):
    assert stream(query).answer.status == 422


def test_who_comes_late_gets_the_history_oldest_first(stream, backend, make_ready):
    make_ready(backend)

    assert statuses(stream()) == LIFE[:5]


def test_who_comes_after_the_end_gets_all_and_the_end(stream, backend, make_ready, supervisor):
    make_ready(backend)
    supervisor.soft_terminate(backend)
    connection = stream()

    assert statuses(connection) == LIFE
    assert connection.ended


@pytest.mark.parametrize("last", ["waiting", " waiting", "waiting  "])
def test_what_was_seen_is_not_told_again(stream, backend, make_ready, last):
    make_ready(backend)

    assert statuses(stream(Last_Event_ID=last)) == ["ready"]


def test_what_comes_live_is_measured_by_what_was_seen_too(stream, backend, make_ready):
    connection = stream(Last_Event_ID="waiting")
    assert connection.answered
    assert statuses(connection) == []

    make_ready(backend)
    assert statuses(connection) == ["ready"]


@pytest.mark.parametrize("last", ["", "READY", "nonsense", "5", "\xff"])
def test_a_last_event_that_is_none_of_ours_replays_all(stream, last):
    assert statuses(stream(Last_Event_ID=last)) == ["scheduled", "loading"]


def test_who_has_seen_the_end_is_told_not_to_come_back(stream, backend, supervisor):
    supervisor.hard_terminate(backend)
    answer = stream(Last_Event_ID="terminated").answer

    assert (answer.status, answer.body) == (204, b"")


def test_who_claims_to_have_seen_the_end_of_a_live_session_hears_it_end(
    stream, backend, supervisor
):
    connection = stream(Last_Event_ID="terminated")
    assert connection.answer.status == 200

    supervisor.hard_terminate(backend)
    assert (statuses(connection), connection.ended) == ([], True)


def test_an_unknown_backend_is_404(ask):
    answer = ask("GET", "/pub/b/nobody/status-stream")

    assert (answer.status, answer.json["kind"]) == (404, "NotFound")


def test_soft_then_hard_is_told_as_both(stream, backend, engine, supervisor, make_ready):
    make_ready(backend)
    engine.obeys = False
    supervisor.soft_terminate(backend)
    supervisor.hard_terminate(backend)
    connection = stream()

    assert statuses(connection) == [*LIFE[:6], "hard-terminating", "terminated"]
    last = json.loads(body(connection).splitlines()[-3].removeprefix(b"data: "))
    assert (last["termination_reason"], last["termination_kind"]) == ("external", "hard")


def test_head_says_what_get_would_and_ends(ask, backend):
    answer = ask("HEAD", f"/pub/b/{backend}/status-stream")

    assert (answer.status, answer.headers["content-type"], answer.body) == (
        200, "text/event-stream", b"",
    )  # fmt: skip


def test_an_old_client_reads_until_the_connection_closes(site, backend, supervisor):
    connection = Connection(site)
    connection.send(f"GET /pub/b/{backend}/status-stream HTTP/1.0\r\n\r\n".encode())
    supervisor.hard_terminate(backend)

    assert connection.answer.body.endswith(b"\nid: terminated\n\n")
    assert connection.transport.disconnecting


def test_silence_is_broken_by_a_comment_every_15_seconds(stream, reactor, backend, make_ready):
    connection = stream()
    before = body(connection)
    reactor.advance(10)
    make_ready(backend)
    reactor.advance(14.9)
    assert b":\n\n" not in body(connection)[len(before) :]

    reactor.advance(0.2)
    assert body(connection).endswith(b"\nid: ready\n\n:\n\n")
    reactor.advance(15)
    assert body(connection).endswith(b"\nid: ready\n\n:\n\n:\n\n")


def timers(reactor):
    return [call for call in reactor.getDelayedCalls() if call.func.__name__ == "_break_silence"]


def test_a_client_that_goes_away_leaves_nothing_behind(site, stream, reactor, backend, make_ready):
    leaving, staying = stream(), stream()
    assert listeners_left(site) == "<StatusFeed [Followed: 1]>"

    leaving.hang_up()
    before = leaving.received
    make_ready(backend)
    assert leaving.received == before
    assert statuses(staying) == LIFE[:5]
    assert len(timers(reactor)) == 1

    staying.hang_up()
    assert listeners_left(site) == "<StatusFeed [Followed: 0]>"
    assert timers(reactor) == []


def test_a_stream_that_ended_leaves_nothing_behind(site, stream, reactor, backend, supervisor):
    connection = stream()
    supervisor.hard_terminate(backend)

    assert connection.ended
    assert listeners_left(site) == "<StatusFeed [Followed: 0]>"
    assert timers(reactor) == []
    connection.transport.clear()
    connection.request("GET", "/pub/ready")
    assert connection.answer.status == 200


def test_who_does_not_read_is_told_when_it_does(stream, reactor, backend, make_ready, supervisor):
    connection = stream()
    connection.stop_reading()
    make_ready(backend)
    supervisor.soft_terminate(backend)
    reactor.advance(60)
    assert statuses(connection) == LIFE[:2]
    assert b":\n\n" not in body(connection)

    connection.read_on()
    assert statuses(connection) == LIFE
    assert connection.ended


def test_who_never_reads_is_cut_and_others_are_not(
    monkeypatch, site, stream, reactor, backend, make_ready
):
    monkeypatch.setattr(sse, "MOST_WAITING", 1)
    stuck, reading = stream(), stream()
    stuck.stop_reading()
    make_ready(backend)

    assert stuck.aborted
    assert statuses(stuck) == LIFE[:2]
    assert not reading.aborted
    assert statuses(reading) == LIFE[:5]
    assert len(timers(reactor)) == 1


def test_a_client_that_stops_reading_again_at_once_is_not_overrun(stream, backend, make_ready):
    connection = stream()
    connection.stop_reading()
    make_ready(backend)
    # One write is all that fits: the transport pauses us within it.
    write, transport = connection.transport.writeSequence, connection.transport

    def write_and_pause(data):
        write(data)
        connection.stop_reading()

    transport.writeSequence = write_and_pause
    connection.read_on()
    assert statuses(connection) == LIFE[:3]

    connection.read_on()
    assert statuses(connection) == LIFE[:4]


def test_between_the_end_of_a_connection_and_the_word_of_it_nothing_is_written(
    stream, backend, make_ready
):
    connection = stream()
    connection.transport.producer.stopProducing()
    before = connection.received
    make_ready(backend)

    assert connection.received == before
    connection.hang_up()


def test_one_failing_follower_does_not_harm_the_rest(
    site, stream, backend, make_ready, logged_failures
):
    def fail(entry):
        raise ZeroDivisionError

    feed = site.resource._routes._app._instance._feed
    leave = feed.follow(backend, fail)
    connection = stream()
    make_ready(backend)
    leave()

    assert statuses(connection) == LIFE[:5]
    logged_failures.claim(ZeroDivisionError)


@pytest.mark.reactor
@pytest_twisted.ensureDeferred
async def test_on_a_real_socket_a_hang_up_is_noticed(site, backend):
    from twisted.internet import reactor

    port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(site)
    number = port.getHost().port

    def talk():
        with socket.create_connection(("127.0.0.1", number), timeout=10) as client:
            path = f"/pub/b/{backend}/status-stream"
            client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            received = b""
            while b"id: loading" not in received:
                received += client.recv(4096)

    await deferToThread(talk)
    for _ in range(100):
        if listeners_left(site).endswith("[Followed: 0]>"):
            break
        await deferLater(reactor, 0.01)
    await port.stopListening()

    assert listeners_left(site) == "<StatusFeed [Followed: 0]>"
