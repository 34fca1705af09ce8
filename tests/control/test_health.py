import pytest
from twisted.internet.defer import Deferred

from plane_tx.supervisor import Supervisor
from tests.control.client import Connection
from tests.recording_engine import unwritten


def test_a_well_server_says_so_and_how_its_engine_is(ask):
    answer = ask("GET", "/pub/health")

    assert answer.status == 200
    assert answer.json == {
        "status": "ok",
        "engine": {"ok": True, "message": "answers", "version": ""},
    }


def test_an_engine_that_does_not_answer_is_a_degraded_server(ask, engine):
    engine.lose("the socket is gone")
    answer = ask("GET", "/pub/health")

    assert answer.status == 503
    assert answer.json == {
        "status": "degraded",
        "reason": "the socket is gone",
        "engine": {"ok": False, "message": "the socket is gone", "version": ""},
    }


@pytest.mark.parametrize("path", ["/pub/health", "/pub/ready"])
def test_an_engine_that_thinks_for_too_long_does_not_answer(site, engine, reactor, path):
    asked = Deferred()
    engine.health = lambda: asked
    connection = Connection(site)
    connection.request("GET", path)
    assert not connection.answered

    reactor.advance(5.1)
    assert connection.answer.status == 503
    assert connection.answer.json["reason"] == "the engine did not answer within 5 s"
    assert asked.called


def test_a_probe_that_gives_up_takes_its_question_along(site, engine):
    cancelled = []
    engine.health = lambda: Deferred(cancelled.append)
    connection = Connection(site)
    connection.request("GET", "/pub/health")
    connection.hang_up()

    assert len(cancelled) == 1


def test_a_server_is_ready_once_its_engine_answers(ask, engine):
    assert ask("GET", "/pub/ready").json == {"status": "ready"}

    engine.lose("the socket is gone")
    answer = ask("GET", "/pub/ready")
    assert answer.status == 503
    assert answer.json == {"status": "not ready", "reason": "the socket is gone"}

    engine.regain()
    assert ask("GET", "/pub/ready").status == 200


class TestBeforeRecovery:
    @pytest.fixture
    def supervisor(self, supervisor, reactor, engine):
        engine.waits.add("list_running")
        fresh = Supervisor(reactor, engine, supervisor.policy, unwritten())
        fresh.start()
        return fresh

    def test_a_server_is_not_ready_and_says_why(self, ask, engine):
        answer = ask("GET", "/pub/ready")

        assert answer.status == 503
        assert answer.json["status"] == "not ready"
        assert "earlier run" in answer.json["reason"]

        engine.answer("list_running")
        assert ask("GET", "/pub/ready").status == 200
