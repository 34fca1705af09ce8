import pytest

from plane_tx import __version__
from plane_tx.core.errors import ImageUnavailable
from plane_tx.core.use import UseKind
from tests.control.client import Connection


@pytest.fixture
def backend(spawn):
    return spawn(key="a")["backend_id"]


def test_a_session_is_told_in_full(ask, backend, make_ready):
    make_ready(backend)
    answer = ask("GET", f"/ctrl/b/{backend}")

    assert answer.status == 200
    assert answer.json["backend_id"] == backend
    assert answer.json["status"] == "ready"
    assert answer.json["key"] == {"name": "a", "namespace": "", "tag": ""}
    assert list(answer.json["deadlines"]) == ["idle"]


def test_a_status_is_told_to_anyone(ask, backend, reactor):
    answer = ask("GET", f"/pub/b/{backend}/status")

    assert answer.json == {
        "status": "loading",
        "time": int(reactor.seconds() * 1000),
        "detail": "its image is looked up",
    }


def test_a_pull_is_told_to_anyone_without_the_registry_and_in_full_to_whom_may_know(
    ask, backend, engine
):
    engine.pulling(backend, "registry.example:5000/team/app:1", 3 << 20, 5 << 20)

    public = ask("GET", f"/pub/b/{backend}/status").json
    private = ask("GET", f"/ctrl/b/{backend}").json

    assert public["detail"] == private["detail"] == "pulling app: 3.0 of 5.0 MiB"
    assert public["pull"] == {"image": "app", "bytes": 3 << 20, "total_bytes": 5 << 20}


def test_a_pull_is_not_told_once_it_is_over(ask, backend, engine, make_ready):
    engine.pulling(backend, "app", 1, 2)
    make_ready(backend)

    assert set(ask("GET", f"/pub/b/{backend}/status").json) == {"status", "time"}
    assert ask("GET", f"/ctrl/b/{backend}").json["detail"] is None


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/ctrl/b/nobody"),
        ("GET", "/pub/b/nobody/status"),
        ("POST", "/ctrl/b/nobody/soft-terminate"),
        ("POST", "/ctrl/b/nobody/hard-terminate?wait=1"),
    ],
)
def test_an_unknown_backend_is_404(ask, method, path):
    answer = ask(method, path)

    assert (answer.status, answer.json["kind"]) == (404, "NotFound")
    assert "nobody" in answer.json["message"]


@pytest.mark.parametrize(("how", "kind"), [("soft", "soft"), ("hard", "hard")])
def test_a_session_is_terminated_and_says_how(ask, backend, make_ready, how, kind):
    make_ready(backend)
    answer = ask("POST", f"/ctrl/b/{backend}/{how}-terminate")

    assert (answer.status, answer.body) == (200, b"null")
    assert answer.headers["content-type"] == "application/json"
    status = ask("GET", f"/pub/b/{backend}/status").json
    assert (status["status"], status["termination_reason"], status["termination_kind"]) == (
        "terminated", "external", kind,
    )  # fmt: skip
    assert status["exit_error"] is True


def test_terminating_again_changes_nothing(ask, backend, make_ready, engine):
    make_ready(backend)
    for _ in range(2):
        for how in ("soft", "hard"):
            answer = ask("POST", f"/ctrl/b/{backend}/{how}-terminate", body={})
            assert (answer.status, answer.body) == (200, b"null")

    assert engine.called("stop") == [backend]
    assert engine.called("kill") == []


def test_an_idle_session_is_swept_for_plane_and_idle_for_us(
    ask, backend, make_ready, supervisor, reactor
):
    make_ready(backend)
    reactor.advance(301)
    supervisor.reap()

    assert ask("GET", f"/pub/b/{backend}/status").json["termination_reason"] == "swept"
    history = ask("GET", f"/ctrl/b/{backend}").json["status_history"]
    assert history[-1]["termination_reason"] == "idle"


def test_a_session_that_cannot_be_made_says_why_to_us_alone(ask, backend, engine):
    engine.refuse(backend, ImageUnavailable("there is no such image"))

    public = ask("GET", f"/pub/b/{backend}/status").json
    assert (public["status"], public["exit_error"]) == ("terminated", False)
    assert "termination_reason" not in public
    assert "image" not in repr(public)
    failure = ask("GET", f"/ctrl/b/{backend}").json["failure"]
    assert failure["message"] == "there is no such image"


def waiting_for(site, backend, how="soft", seconds="10"):
    connection = Connection(site)
    connection.request("POST", f"/ctrl/b/{backend}/{how}-terminate?wait={seconds}")
    return connection


def test_who_waits_hears_when_it_has_ended(site, backend, engine, make_ready):
    make_ready(backend)
    engine.obeys = False
    connection = waiting_for(site, backend)
    assert not connection.answered

    engine.exit(backend)
    assert (connection.answer.status, connection.answer.body) == (200, b"null")


def test_who_waits_hears_when_the_time_is_over(site, backend, engine, reactor, make_ready):
    make_ready(backend)
    engine.obeys = False
    connection = waiting_for(site, backend, seconds="2.5")
    reactor.advance(2.4)
    assert not connection.answered

    reactor.advance(0.2)
    assert (connection.answer.status, connection.answer.body) == (200, b"null")


def test_who_waits_for_what_is_over_does_not_wait(site, backend, ask, make_ready):
    make_ready(backend)
    ask("POST", f"/ctrl/b/{backend}/hard-terminate")

    assert waiting_for(site, backend).answered


def test_who_hangs_up_waits_no_more_and_the_session_ends_all_the_same(
    site, backend, engine, supervisor, make_ready
):
    make_ready(backend)
    engine.obeys = False
    connection = waiting_for(site, backend)
    connection.hang_up()

    assert "TERMINATING" in repr(supervisor.get(backend).status)
    engine.exit(backend)
    assert connection.received == b""


@pytest.mark.parametrize("seconds", ["0.1", "1e1", "3.6E3", "1e-7", "3382.538303250272"])
def test_a_wait_is_any_number_that_json_knows(site, backend, ask, seconds):
    ask("POST", f"/ctrl/b/{backend}/hard-terminate")

    assert waiting_for(site, backend, seconds=seconds).answer.status == 200


@pytest.mark.parametrize("seconds", ["-1", "nan", "inf", "ten", "3601", "1e9", "1_0", ".", "1."])
def test_a_wait_that_cannot_be_is_422_and_ends_nothing(site, backend, ask, seconds):
    answer = waiting_for(site, backend, seconds=seconds).answer

    assert (answer.status, answer.json["kind"]) == (422, "InvalidRequest")
    assert answer.json["message"].startswith("wait: ")
    assert ask("GET", f"/pub/b/{backend}/status").json["status"] == "loading"


def test_a_parameter_with_a_slip_of_the_pen_is_422(ask, backend):
    answer = ask("POST", f"/ctrl/b/{backend}/soft-terminate?wiat=1")

    assert answer.status == 422
    assert "'wiat': unknown parameter; did you mean 'wait'?" in answer.json["message"]


# Listing


@pytest.fixture
def listed(ask):
    def listed(query=""):
        answer = ask("GET", f"/ctrl/backends{query}")
        assert answer.status == 200, answer
        return [told["backend_id"] for told in answer.json["backends"]], answer.json["next"]

    return listed


def test_nothing_is_listed_where_nothing_is(listed):
    assert listed() == ([], None)


def test_sessions_are_listed_newest_first_each_in_full(ask, spawn, listed, reactor):
    ids = []
    for _ in range(3):
        ids.append(spawn()["backend_id"])
        reactor.advance(1)

    assert listed() == (ids[::-1], None)
    assert ask("GET", "/ctrl/backends").json["backends"][0] == ask("GET", f"/ctrl/b/{ids[-1]}").json


def test_a_listing_goes_page_by_page_whatever_comes_and_goes(spawn, listed, reactor):
    ids = []
    for number in range(5):
        ids.append(spawn(id=f"s{number}")["backend_id"])
        reactor.advance(number % 2)  # two of one moment now and then
    newest_first = ids[::-1]

    first, after = listed("?limit=2")
    spawn(id="newcomer")
    second, after = listed(f"?limit=2&after={after}")
    third, end = listed(f"?limit=2&after={after}")

    assert first + second + third == newest_first
    assert end is None


def test_a_page_that_is_just_full_is_the_last(spawn, listed):
    for _ in range(2):
        spawn()

    assert listed("?limit=2")[1] is None


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("?key=a", ["one"]),
        ("?user=alice", ["two"]),
        ("?namespace=n", ["three"]),
        ("?status=ready", ["one"]),
        ("?status=ready&status=loading", ["three", "two", "one"]),
        ("?status=terminated", []),
        ("?label=tier=x", ["three", "two"]),
        ("?label=tier=x&label=zone=1%3d", ["three"]),
        ("?label=zone=1=", ["three"]),
        ("?label=tier=", []),
        ("?label=tier=x&label=tier=y", []),
        ("?user=&key=&status=&limit=&after=&label=&namespace=", ["three", "two", "one"]),
    ],
)
def test_a_listing_shows_what_was_asked_for(three_sessions, listed, query, found):
    assert listed(query)[0] == found


@pytest.fixture
def three_sessions(ask, spawn, make_ready, reactor):
    spawn(key="a", id="one")
    make_ready("one")
    reactor.advance(1)
    image = {"image": "counter"}
    config = {"executable": image, "id": "two", "labels": {"tier": "x"}}
    ask("POST", "/ctrl/connect", body={"user": "alice", "spawn_config": config})
    reactor.advance(1)
    config = {"executable": image, "id": "three", "labels": {"tier": "x", "zone": "1="}}
    key = {"name": "c", "namespace": "n"}
    ask("POST", "/ctrl/connect", body={"key": key, "spawn_config": config})


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("?status=redy", "status"),
        ("?limit=0", "limit"),
        ("?limit=1001", "limit"),
        ("?limit=-1", "limit"),
        ("?limit=1.5", "limit"),
        ("?limit=%D9%A1", "limit"),
        ("?limit=" + "9" * 5000, "limit"),
        ("?limit=1&limit=2", "limit"),
        ("?user=a&user=b", "user"),
        ("?after=x", "after"),
        ("?after=nan_x", "after"),
        ("?label=x", "label"),
        ("?stats=ready", "'stats'"),
        ("?xyzzy=1", "'xyzzy'"),
    ],
)
def test_a_parameter_that_does_not_fit_is_422_and_named(ask, query, named):
    answer = ask("GET", f"/ctrl/backends{query}")

    assert (answer.status, answer.json["kind"]) == (422, "InvalidRequest")
    assert answer.json["message"].startswith(f"{named}: ")


@pytest.mark.parametrize("query", ["?user=%ff", "?" + "a&" * 101])
def test_a_query_that_cannot_be_read_is_400(ask, query):
    answer = ask("GET", f"/ctrl/backends{query}")

    assert (answer.status, answer.json["kind"]) == (400, "InvalidRequest")


# How the server is


def test_the_status_has_planes_fields(ask):
    answer = ask("GET", "/ctrl/status")

    assert answer.json == {"status": "ok", "version": __version__, "hash": ""}


def test_why_tells_what_holds_a_session(ask, backend, make_ready):
    make_ready(backend)
    ask("POST", f"/ctrl/b/{backend}/keepalive", body={"seconds": 60, "reason": "a backup"})

    told = ask("GET", f"/ctrl/b/{backend}/why").json

    assert (told["backend_id"], told["status"], told["alive"]) == (backend, "ready", True)
    assert [(hold["kind"], hold["reason"]) for hold in told["holds"]] == [("lease", "a backup")]


def test_why_tells_who_ended_a_session(ask, backend, make_ready):
    make_ready(backend)
    ask("POST", f"/ctrl/b/{backend}/soft-terminate")

    told = ask("GET", f"/ctrl/b/{backend}/why").json

    assert told["alive"] is False
    assert told["causes"][0]["message"].endswith("by a caller from 127.0.0.1")


def test_a_lease_keeps_a_session_alive_and_is_listed(ask, backend, make_ready, reactor):
    make_ready(backend)

    answer = ask("POST", f"/ctrl/b/{backend}/keepalive", body={"seconds": 2.5, "reason": "r"})

    now = int(reactor.seconds() * 1000)
    assert answer.json == {"backend_id": backend, "reason": "r", "until": now + 2500}
    session = ask("GET", f"/ctrl/b/{backend}").json
    assert session["leases"] == [{"since": now, "until": now + 2500, "reason": "r"}]
    assert (session["idle_since"], session["connections"]) == (None, [])


def test_a_lease_of_no_time_ends_the_one_before(ask, backend, make_ready, reactor):
    make_ready(backend)
    ask("POST", f"/ctrl/b/{backend}/keepalive", body={"seconds": 60})

    answer = ask("POST", f"/ctrl/b/{backend}/keepalive", body={"seconds": 0})

    assert answer.json["until"] is None
    session = ask("GET", f"/ctrl/b/{backend}").json
    assert (session["leases"], session["idle_since"]) == ([], int(reactor.seconds() * 1000))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "seconds: is required"),
        ({"seconds": -1}, "seconds: expected a number >= 0, got -1"),
        ({"seconds": "1"}, 'seconds: expected a number >= 0, got "1"'),
        ({"seconds": 1, "reason": "x" * 256}, "reason: expected at most 255 printable characters"),
        ({"seconds": 1, "raeson": ""}, "raeson: unknown field; did you mean 'reason'?"),
    ],
)
def test_a_lease_that_cannot_be_is_refused_by_its_field(ask, backend, body, message):
    answer = ask("POST", f"/ctrl/b/{backend}/keepalive", body=body)

    assert (answer.status, answer.json["message"]) == (422, message)


def test_what_has_ended_is_not_kept_alive(ask, backend, make_ready):
    make_ready(backend)
    ask("POST", f"/ctrl/b/{backend}/soft-terminate")

    answer = ask("POST", f"/ctrl/b/{backend}/keepalive", body={"seconds": 60})

    assert (answer.status, answer.json["kind"]) == (410, "SessionEnded")


def test_a_users_links_are_revoked_and_counted(ask, backend, supervisor):
    for user in ("ada", "ada", "grace"):
        ask("POST", "/ctrl/connect", body={"key": {"name": "a"}, "user": user})

    answers = [
        ask("POST", "/ctrl/b/revoke", body={"backend_id": backend, "user": user})
        for user in ("ada", "ada", "nobody")
    ]

    assert [answer.status for answer in answers] == [200] * 3
    assert [answer.json for answer in answers] == [
        "Revoked 2 tokens.",
        "Revoked 0 tokens.",
        "Revoked 0 tokens.",
    ]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"user": "ada"}, "backend_id: is required"),
        ({"backend_id": "x", "user": None}, "user: expected a string, got null"),
    ],
)
def test_a_revoke_says_whose_and_of_what(ask, body, message):
    answer = ask("POST", "/ctrl/b/revoke", body=body)

    assert (answer.status, answer.json["message"]) == (422, message)


def test_a_long_listing_gives_others_their_turns(spawn, site, reactor):
    for number in range(8):
        spawn(str(number))
    connection = Connection(site)

    connection.request("GET", "/ctrl/backends")
    at_once = connection.answered
    reactor.advance(0)

    assert not at_once
    assert len(connection.answer.json["backends"]) == 8


def test_a_search_that_finds_nothing_ends(spawn, listed, monkeypatch):
    monkeypatch.setattr("plane_tx.control.listing.LOOKED_AT", 2)
    for number in range(5):
        spawn(str(number))

    assert len(listed("?key=0")[0]) == 1
    assert listed("?key=none") == ([], None)


def test_of_very_many_connections_the_oldest_are_told_and_all_are_counted(
    ask, backend, make_ready, supervisor
):
    make_ready(backend)
    for _ in range(250):
        supervisor.begin_use(supervisor.get(backend), UseKind.REQUEST)

    session = ask("GET", f"/ctrl/b/{backend}").json
    why = ask("GET", f"/ctrl/b/{backend}/why").json

    assert (session["connection_count"], len(session["connections"])) == (250, 200)
    assert (why["hold_count"], len(why["holds"])) == (250, 200)


def test_a_websocket_that_counts_by_its_messages_is_told_as_passive_and_holds_nothing(
    ask, spawn, make_ready, supervisor
):
    rule = {"count": "messages", "ignore": ["ping*"]}
    backend = spawn(idle=rule, max_idle_seconds=60)["backend_id"]
    make_ready(backend)
    supervisor.begin_use(supervisor.get(backend), UseKind.WEBSOCKET, passive=True)

    session = ask("GET", f"/ctrl/b/{backend}").json
    why = ask("GET", f"/ctrl/b/{backend}/why").json

    assert session["idle"] == rule
    assert [each["passive"] for each in session["connections"]] == [True]
    assert session["connection_count"] == 1
    assert session["idle_since"] is not None
    assert (why["hold_count"], why["passive_count"]) == (0, 1)
    assert [each["cause"] for each in why["next"]] == ["idle"]
    assert why["next"][0]["in_seconds"] == 60


def test_an_idle_rule_that_cannot_be_followed_is_422(ask):
    idle = {"count": "bytes", "ignore": ["ping"]}
    config = {"executable": {"image": "counter"}, "idle": idle}

    answer = ask("POST", "/ctrl/connect", body={"spawn_config": config})

    assert (answer.status, answer.json["kind"]) == (422, "InvalidRequest")
    assert answer.json["message"].startswith("spawn_config.idle.ignore: ")
