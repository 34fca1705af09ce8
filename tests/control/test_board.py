"""GET /ctrl/board: what is told at first, what of it later, and what is left when nobody looks."""

import json

import pytest
from twisted.internet.defer import ensureDeferred

from plane_tx.admission import Policy
from plane_tx.control import board, sse
from plane_tx.core.spec import App
from plane_tx.core.use import UseKind
from plane_tx.core.wire import ExecutableRequest
from tests.control import contract
from tests.control.client import Connection, unchunked


@pytest.fixture(autouse=True)
def called_off(supervisor):
    """Let those that wait for their turn to start not be collected in an order of its own."""
    yield
    ensureDeferred(supervisor.close())


@pytest.fixture
def look(site, reactor):
    """Open the dashboard, and let it be told what there is."""

    def look(method="GET"):
        connection = Connection(site)
        connection.request(method, "/ctrl/board")
        settle(reactor)
        return connection

    return look


def settle(reactor, turns=20):
    reactor.pump([board.GAP_SECONDS] * turns)


def a_tenth_later(reactor):
    reactor.pump([board.TELL_SECONDS, *[0.005] * 10])


def a_second_later(reactor):
    reactor.advance(board.SCAN_SECONDS)
    settle(reactor)
    a_tenth_later(reactor)


def events(connection):
    """The name and data of each event so far, all of which openapi.json allows."""
    body = unchunked(connection.received.partition(b"\r\n\r\n")[2]).decode()
    schema = contract.closed()["paths"]["/ctrl/board"]["get"]["responses"]["200"]["content"]
    told = schema["text/event-stream"]["schema"]["properties"]["data"]["contentSchema"]
    found = []
    for block in body.replace(":\n\n", "").split("\n\n")[:-1]:
        name, data = block.split("\n")
        found.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
        assert not contract.misfits(told, found[-1][1]), found[-1]
    return found


def named(connection, name):
    return [data for found, data in events(connection) if found == name]


def known(connection):
    """The rows that whoever heard all of this has."""
    rows = {}
    for name, data in events(connection):
        if name in ("sessions", "changed"):
            rows.update({row["id"]: row for row in data["rows"]})
            for session_id in data.get("gone", ()):
                rows.pop(session_id, None)
    return rows


def resting(site):
    return "<Board [Viewers: 0 | Told: 0]>" in repr(site.resource._routes._app._instance)


def test_all_there_is_is_told_first_and_once(look, spawn, make_ready):
    first, second = spawn("a")["backend_id"], spawn()["backend_id"]
    make_ready(first)

    viewer = look()

    names = [name for name, _ in events(viewer)]
    assert names == ["hello", "overview", "sessions", "complete"]
    rows = named(viewer, "sessions")[0]["rows"]
    assert [row["id"] for row in rows] == [second, first]
    assert [row["key"] for row in rows] == [None, {"name": "a", "namespace": ""}]


def test_an_empty_server_is_complete_at_once(look):
    assert [name for name, _ in events(look())] == ["hello", "overview", "complete"]


@pytest.fixture
def policy():
    return Policy(
        cluster="localhost:9090",
        control_url="http://127.0.0.1:8080",
        apps={
            "b": App(ExecutableRequest(command=("run", "it"))),
            "a": App(ExecutableRequest(image="counter", port=80)),
        },
        engine_kind="process",
        request_images=False,
        request_commands=True,
    )


def test_the_first_word_is_what_the_server_is(look, reactor):
    began = reactor.seconds()

    (hello,) = named(look(), "hello")

    assert hello.pop("run")
    assert hello.pop("version")
    assert hello == {
        "time": int(began * 1000),
        "cluster": "localhost:9090",
        "engine": {"kind": "process", "ok": True, "message": ""},
        "draining": False,
        "apps": [
            {"name": "a", "image": "counter", "command": None, "port": 80},
            {"name": "b", "image": None, "command": ["run", "it"], "port": None},
        ],
        "images": False,
        "commands": True,
        "defaults": {
            "max_idle_seconds": 300.0,
            "lifetime_limit_seconds": None,
            "claim_within_seconds": None,
            "startup_timeout_seconds": 300.0,
            "stop_grace_seconds": 10.0,
            "token_ttl_seconds": None,
        },
    }


def test_new_statuses_are_told_together_within_a_tenth_of_a_second(
    look, spawn, make_ready, reactor
):
    viewer = look()

    backend = spawn("a")["backend_id"]
    make_ready(backend)
    a_tenth_later(reactor)

    (changed,) = named(viewer, "changed")
    assert [(row["id"], row["status"]) for row in changed["rows"]] == [(backend, "ready")]
    assert changed["gone"] == []


def test_what_no_event_tells_is_found_within_about_a_second(
    look, spawn, make_ready, supervisor, reactor
):
    backend = spawn("a")["backend_id"]
    make_ready(backend)
    viewer = look()
    use = supervisor.begin_use(supervisor.get(backend), UseKind.WEBSOCKET)

    a_second_later(reactor)
    used = known(viewer)[backend]
    supervisor.end_use(supervisor.get(backend), use)
    a_second_later(reactor)
    left = known(viewer)[backend]

    assert (used["connections"], used["ends"]) == (1, None)
    assert left["connections"] == 0
    assert left["ends"] == {"cause": "idle", "at": left["idle_since"] + 300_000}


def test_where_nothing_changes_nothing_is_told(look, spawn, reactor):
    spawn("a")
    viewer = look()
    told = len(events(viewer))

    for _ in range(5):
        a_second_later(reactor)

    assert len(events(viewer)) == told


def test_a_session_that_waits_for_its_turn_is_found(look, supervisor, spawn, reactor):
    viewer = look()
    ids = [spawn(f"key-{number}")["backend_id"] for number in range(9)]

    a_second_later(reactor)

    rows = known(viewer)
    assert set(rows) == set(ids)
    assert rows[ids[8]]["status"] == "scheduled", "eight start at a time"


def test_one_that_is_forgotten_is_gone(look, spawn, ask, supervisor, reactor):
    backend = spawn("a")["backend_id"]
    viewer = look()
    ask("POST", f"/ctrl/b/{backend}/hard-terminate")
    a_tenth_later(reactor)

    reactor.rightNow += 8 * 24 * 3600
    supervisor.registry.forget_old(reactor.seconds(), 10)
    a_second_later(reactor)

    assert named(viewer, "changed")[-1]["gone"] == [backend]
    assert known(viewer) == {}


def test_the_overview_comes_again_when_it_differs(look, spawn, reactor):
    viewer = look()

    spawn("a")
    a_second_later(reactor)

    first, second = named(viewer, "overview")
    assert (first["statuses"]["loading"], second["statuses"]["loading"]) == (0, 1)
    assert second["time"] > first["time"]


def test_what_one_is_told_who_comes_late_has_the_time_of_now(look, reactor):
    look()
    reactor.advance(3600)

    late = look()

    (hello,), (overview,) = named(late, "hello"), named(late, "overview")
    assert overview["time"] == hello["time"]


def test_a_lost_engine_and_a_drain_are_told(look, engine, ask, reactor):
    viewer = look()

    engine.lose("it is away")
    ask("POST", "/ctrl/drain")
    a_second_later(reactor)

    (state,) = named(viewer, "state")
    assert state["engine"] == {"kind": "process", "ok": False, "message": "it is away"}
    assert state["draining"] is True
    engine.regain()


def spawn_many(spawn, count):
    return [
        spawn(f"key-{number}", lifetime_limit_seconds=1000)["backend_id"] for number in range(count)
    ]


def test_many_sessions_are_told_in_several_events(look, spawn):
    ids = spawn_many(spawn, 2 * board.ROWS + 1)

    viewer = look()

    sizes = [len(data["rows"]) for data in named(viewer, "sessions")]
    assert sizes == [board.ROWS, board.ROWS, 1]
    assert set(known(viewer)) == set(ids)


def test_long_rows_make_short_events(look, spawn, monkeypatch):
    monkeypatch.setattr(board, "MOST_BYTES", 1000)
    spawn_many(spawn, 6)

    viewer = look()

    assert len(named(viewer, "sessions")) > 1
    assert len(known(viewer)) == 6


def test_a_second_viewer_is_told_all_and_the_first_nothing_again(look, spawn, make_ready, reactor):
    backend = spawn("a")["backend_id"]
    first = look()
    told = len(events(first))

    second = look()
    make_ready(backend)
    a_tenth_later(reactor)

    assert known(second) == known(first)
    assert known(second)[backend]["status"] == "ready"
    assert len(events(first)) == told + 1


def test_what_one_viewer_was_told_at_first_the_others_are_told_too(
    look, spawn, supervisor, reactor
):
    first = look()
    ids = spawn_many(spawn, 9)  # the last one waits for its turn, of which no event tells

    second = look()
    a_tenth_later(reactor)

    assert set(known(first)) == set(known(second)) == set(ids)


def test_a_viewer_that_does_not_read_is_told_each_row_once_when_it_does(
    look, spawn, make_ready, ask, reactor
):
    slow, fast = look(), look()
    before = len(events(slow))
    slow.stop_reading()

    backend, other = spawn("a")["backend_id"], spawn("b")["backend_id"]
    for _ in range(3):
        a_second_later(reactor)
    make_ready(backend)
    a_second_later(reactor)
    assert len(events(slow)) == before
    slow.read_on()
    settle(reactor)

    assert known(slow) == known(fast)
    caught_up = events(slow)[before:]
    assert sorted(name for name, _ in caught_up) == ["changed", "overview"]
    assert sorted(row["id"] for row in caught_up[-1][1]["rows"]) == sorted([backend, other])


def test_one_that_does_not_read_hears_of_who_is_gone_when_it_does(
    look, spawn, ask, supervisor, reactor
):
    backend = spawn("a")["backend_id"]
    viewer = look()
    viewer.stop_reading()
    ask("POST", f"/ctrl/b/{backend}/hard-terminate")
    reactor.rightNow += 8 * 24 * 3600
    supervisor.registry.forget_old(reactor.seconds(), 10)

    a_second_later(reactor)
    viewer.read_on()
    settle(reactor)

    assert known(viewer) == {}


def test_one_that_does_not_read_for_too_long_is_cut_off(
    look, spawn, ask, supervisor, reactor, monkeypatch
):
    monkeypatch.setattr(board, "MOST_GONE", 1)
    ids = spawn_many(spawn, 2)
    viewer = look()
    viewer.stop_reading()
    for backend in ids:
        ask("POST", f"/ctrl/b/{backend}/hard-terminate")
    reactor.rightNow += 8 * 24 * 3600
    supervisor.registry.forget_old(reactor.seconds(), 10)

    a_second_later(reactor)

    assert viewer.aborted


def test_a_row_that_changes_while_all_are_told_is_told_as_it_is_last(
    site, spawn, make_ready, ask, reactor
):
    ids = spawn_many(spawn, 8 * board.ROWS)
    viewer = Connection(site)
    viewer.request("GET", "/ctrl/board")
    settle(reactor, turns=2)

    make_ready(ids[0])
    ask("POST", f"/ctrl/b/{ids[-1]}/hard-terminate")
    a_tenth_later(reactor)

    rows = known(viewer)
    assert set(rows) == set(ids)
    assert (rows[ids[0]]["status"], rows[ids[-1]]["status"]) == ("ready", "terminated")
    names = [name for name, _ in events(viewer)]
    assert "changed" not in names[: names.index("complete")]


def test_nothing_runs_while_nobody_looks(look, site, supervisor, reactor):
    watchers = len(supervisor._conductor._watchers)
    viewers = [look() for _ in range(3)]
    assert len(supervisor._conductor._watchers) == watchers + 1

    for viewer in viewers:
        viewer.hang_up()

    assert resting(site)
    assert len(supervisor._conductor._watchers) == watchers
    assert reactor.getDelayedCalls() == []


@pytest.mark.parametrize("seconds", [0, 0.002, 0.04, 1.0, 1.003])
def test_a_viewer_that_leaves_at_any_moment_leaves_nothing(
    site, spawn, make_ready, reactor, seconds
):
    ids = spawn_many(spawn, 3 * board.ROWS)
    others = set(reactor.getDelayedCalls())
    viewer = Connection(site)
    viewer.request("GET", "/ctrl/board")
    make_ready(ids[0])
    others |= {call for call in reactor.getDelayedCalls() if "probe" in repr(call)}
    reactor.advance(seconds)

    viewer.hang_up()

    assert resting(site)
    assert set(reactor.getDelayedCalls()) <= others


def test_one_who_comes_after_the_last_has_left_is_told_all(look, spawn, make_ready, reactor):
    backend = spawn("a")["backend_id"]
    look().hang_up()
    make_ready(backend)

    viewer = look()
    a_second_later(reactor)

    assert known(viewer)[backend]["status"] == "ready"
    assert [name for name, _ in events(viewer)].count("sessions") == 1


def test_a_night_of_looking_keeps_no_more_than_an_hour_and_holds_no_session_alive(
    look, spawn, make_ready, supervisor, reactor, site
):
    backend = spawn("a", max_idle_seconds=60)["backend_id"]
    make_ready(backend)
    viewer = look()

    for _ in range(70):
        a_second_later(reactor)
    supervisor.reap()
    reactor.advance(1)

    assert supervisor.get(backend).state.reason == "idle"
    assert "<Board [Viewers: 1 | Told: 1]>" in repr(site.resource._routes._app._instance)
    assert viewer.answered


def test_silence_is_broken_by_comments(look, reactor):
    viewer = look()
    before = len(viewer.received)

    for _ in range(20):
        a_second_later(reactor)

    assert b":\n\n" in viewer.received[before:]


def test_a_failure_ends_the_streams_for_their_clients_to_come_back(
    look, site, supervisor, reactor, monkeypatch, logged_failures
):
    viewer = look()
    monkeypatch.setattr(board, "overview", lambda *_: 1 / 0)

    reactor.advance(board.SCAN_SECONDS)

    assert viewer.ended
    assert resting(site)
    logged_failures.claim(ZeroDivisionError)


def test_a_head_request_is_answered_and_over(look):
    answer = look("HEAD").answer

    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["content-type"] == "text/event-stream"
    assert sse.SILENCE_SECONDS > board.SCAN_SECONDS
