"""GET /ctrl/b/{id}/connections: what the ledger of a session has, and how it is told."""

import pytest

from plane_tx.core.ledger import CLOSED_KEPT, Connection, ConnectionKind, How
from plane_tx.core.use import Visit
from plane_tx.core.views import MOST_USES
from tests.control import client

TOKEN = "t" * 43


@pytest.fixture
def backend(spawn, make_ready):
    backend = spawn(key="a")["backend_id"]
    make_ready(backend)
    return backend


@pytest.fixture
def ledger(supervisor, backend):
    return supervisor.get(backend).connections


@pytest.fixture
def opened(ledger, reactor):
    """A WebSocket to that path, open from now on."""

    def opened(path="/ws"):
        visit = Visit("1.2.3.4", path, "ada", TOKEN)
        connection = Connection(ConnectionKind.WEBSOCKET, reactor.seconds(), visit)
        ledger.begin(connection)
        return connection

    return opened


@pytest.fixture
def close(ledger, reactor):
    def close(connection, how=How.CLIENT_CLOSE, code=1001):
        connection.closes(how, code)
        ledger.end(connection, reactor.seconds())

    return close


def paths(told):
    return [each["path"] for each in told]


def test_a_session_that_nobody_connected_to_has_none(ask, backend):
    answer = ask("GET", f"/ctrl/b/{backend}/connections")

    assert answer.json == {"backend_id": backend, "open_count": 0, "open": [], "closed": []}


def test_open_and_closed_ones_are_told_newest_first(ask, backend, opened, close):
    first, second, _, _ = (opened(path) for path in ("/1", "/2", "/3", "/4"))
    close(second)
    close(first)

    told = ask("GET", f"/ctrl/b/{backend}/connections").json

    assert paths(told["open"]) == ["/4", "/3"]
    assert paths(told["closed"]) == ["/1", "/2"]
    assert told["open_count"] == 2


def test_whoever_was_cut_off_learns_why(ask, backend, opened, close, reactor):
    connection = opened()
    reactor.advance(12.3)
    close(connection, How.SESSION_FIN, None)

    closed = ask("GET", f"/ctrl/b/{backend}/connections").json["closed"][0]

    assert (closed["how"], closed["user"]) == ("session-fin", "ada")
    said = "the session's server closed it without a Close frame after 12.3 s"
    assert closed["verdict"] == said


def test_an_open_one_tells_how_long_it_has_been(ask, backend, opened, reactor):
    opened()
    reactor.advance(12.3)

    told = ask("GET", f"/ctrl/b/{backend}/connections").json["open"][0]

    assert (told["duration_seconds"], told["closed"]) == (12.3, None)
    assert told["verdict"] == "open for 12.3 s"


def test_no_token_is_told(ask, backend, opened, close):
    close(opened())
    opened()

    answer = ask("GET", f"/ctrl/b/{backend}/connections")

    assert b"tttt" not in answer.body


def test_a_session_that_has_ended_still_tells(ask, backend, opened, close, engine):
    close(opened(), How.SESSION_ENDED)
    engine.exit(backend)

    told = ask("GET", f"/ctrl/b/{backend}/connections").json

    assert ask("GET", f"/ctrl/b/{backend}").json["status"] == "terminated"
    assert told["closed"][0]["verdict"].endswith("its session ended (see its /why)")


def test_an_unknown_session_has_no_ledger(ask):
    answer = ask("GET", "/ctrl/b/nobody/connections")

    assert (answer.status, answer.json["kind"]) == (404, "NotFound")


def test_of_very_many_open_ones_the_newest_are_told_and_all_are_counted(ask, backend, opened):
    for number in range(MOST_USES + 50):
        opened(f"/{number}")

    told = ask("GET", f"/ctrl/b/{backend}/connections").json

    assert (told["open_count"], len(told["open"])) == (MOST_USES + 50, MOST_USES)
    assert told["open"][0]["path"] == f"/{MOST_USES + 49}"


def test_a_long_ledger_gives_others_their_turns_and_tells_of_one_moment(
    site, backend, opened, close, reactor
):
    for number in range(CLOSED_KEPT):
        close(opened(f"/closed/{number}"))
    late = opened("/late")
    connection = client.Connection(site)

    connection.request("GET", f"/ctrl/b/{backend}/connections")
    at_once = connection.answered
    close(late)
    while not connection.answered:
        reactor.advance(0)

    told = connection.answer.json
    assert not at_once
    assert paths(told["open"]) == ["/late"]
    assert told["open"][0]["how"] is None
    assert paths(told["closed"]) == [f"/closed/{n}" for n in reversed(range(CLOSED_KEPT))]
