"""The faulty socket does to a call what it is told to, and nothing else."""

import contextlib
import http.client
import socket
import threading
from random import Random

import pytest

from tests.chaos.docker import Docker
from tests.chaos.faulty_docker import Fault, Requests, chosen
from tests.chaos.world import FaultySocket


@pytest.mark.parametrize("fault", list(Fault))
def test_what_is_certain_happens_each_time(fault):
    random = Random(1)

    found = {chosen(random, {fault: 1.0}) for _ in range(100)}

    assert found == {fault}


def test_faults_come_as_often_as_their_odds_say():
    random = Random(1)

    found = [chosen(random, {"error": 0.2, "lost": 0.1}) for _ in range(10_000)]

    assert {fault: round(found.count(fault) / 10_000, 1) for fault in set(found)} == {
        None: 0.7,
        Fault.ERROR: 0.2,
        Fault.LOST: 0.1,
    }


def test_a_request_is_passed_only_when_it_is_whole_and_one_by_one():
    requests = Requests()
    first = b"POST /a HTTP/1.1\r\nHost: docker\r\nContent-Length: 2\r\n\r\n{}"
    second = b"GET /b HTTP/1.1\r\nHost: docker\r\n\r\n"

    passed = [requests.feed(bytes((byte,))) for byte in first + second]

    assert list(filter(None, passed)) == [first, second]


class Engine:
    """Answers whoever connects to `path` as Docker answers a ping, and counts the calls."""

    def __init__(self, path):
        self.calls = 0
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _serve(self):
        with contextlib.suppress(OSError):
            while True:
                wire, _ = self._listener.accept()
                with wire:
                    while wire.recv(4096):
                        self.calls += 1
                        wire.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK")


@pytest.fixture
def engine(tmp_path):
    running = Engine(tmp_path / "docker.sock")
    yield running
    running.close()


@pytest.fixture
def faulty(tmp_path, engine):
    running = FaultySocket(tmp_path, str(tmp_path / "docker.sock"), seed=1)
    engine.calls = 0
    yield running
    running.close()


def test_without_odds_a_call_passes(engine, faulty):
    answer = Docker(faulty.path, "").ask("GET", "/_ping")

    assert (answer.status, answer.body, engine.calls) == (200, b"OK", 1)


def test_an_error_is_answered_without_asking_docker(engine, faulty):
    faulty.tell(odds={"error": 1})

    answer = Docker(faulty.path, "").ask("GET", "/_ping")

    assert (answer.status, engine.calls) == (500, 0)


@pytest.mark.parametrize(("fault", "calls"), [("reset", 0), ("lost", 1)])
def test_a_reset_comes_before_docker_is_asked_and_a_loss_after(engine, faulty, fault, calls):
    faulty.tell(odds={fault: 1})

    with pytest.raises((OSError, http.client.HTTPException)):
        Docker(faulty.path, "").ask("GET", "/_ping")

    assert engine.calls == calls


def test_while_docker_is_away_nothing_answers_and_then_it_does_again(faulty):
    docker = Docker(faulty.path, "")

    faulty.tell(away=True)
    gone = docker.answers()
    faulty.tell(away=False)

    assert (gone, docker.answers()) == (False, True)
