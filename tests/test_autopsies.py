"""The autopsies of sessions: made when one has ended, kept, and shown to whoever asks."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred, ensureDeferred, execute, maybeDeferred
from twisted.logger import LogEvent, formatEvent, globalLogPublisher

from plane_tx import autopsies as module
from plane_tx.autopsies import CLOSE_SECONDS, SETTLE_SECONDS, Autopsies
from plane_tx.core.errors import EngineUnavailable, NotFound, SpawnFailed
from plane_tx.core.model import Session
from plane_tx.core.registry import ENDED_KEPT_SECONDS
from plane_tx.engines.interface import LeftBehind, Remains
from plane_tx.keptfiles import KeptFiles
from tests.recording_engine import AtOnce, Box, now


class Later(AtOnce):
    """Works when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Any] = []

    def run(self, work: Any) -> Deferred[Any]:
        self.asked.append((work, Deferred()))
        return self.asked[-1][1]

    def work(self) -> None:
        while self.asked:
            work, done = self.asked.pop(0)
            execute(work).chainDeferred(done)


class Morgue(Box):
    """A server without faces that keeps autopsies."""

    def __init__(self, directory: Path, worker: AtOnce) -> None:
        super().__init__()
        self.files = KeptFiles(directory)
        self.worker = worker
        self.autopsies = Autopsies(self.clock, self.engine, self.supervisor, self.files, worker)
        self.autopsies.startService()
        self.start()

    def kept(self, session: Session) -> dict[str, Any] | None:
        """What is on the disk of a session."""
        archive = self.files.get(f"{session.id}.tar.gz")
        return None if archive is None else opened(archive)

    def shown(self, session_id: str) -> dict[str, Any]:
        """What is answered to whoever asks."""
        return opened(now(ensureDeferred(self.autopsies.archive(session_id))))

    def ended(self, key: str = "key", *lines: str, code: int = 1) -> Session:
        """A session that was ready, wrote these lines, and has just ended."""
        session = self.ready(key)
        for line in lines:
            self.engine.say(session.id, line, self.clock.seconds())
        self.engine.exit(session.id, code)
        return session

    def tell_left(self, session_id: str, **account: Any) -> None:
        self.engine._listeners.tell(LeftBehind(session_id, Remains(account)))

    def finish(self) -> None:
        stopping = maybeDeferred(self.autopsies.stopService)
        now(stopping)
        assert repr(self.autopsies) == "<Autopsies [Cases: 0 | Due: 0 | idle]>"
        assert not self.worker.running


def opened(archive: bytes) -> dict[str, Any]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        texts = {name: tar.extractfile(name).read().decode() for name in tar.getnames()}
    return {
        name: json.loads(text) if name.endswith(".json") else text for name, text in texts.items()
    }


def texts(log: str) -> list[str]:
    return [line.split(" ", 2)[2] for line in log.splitlines()]


@pytest.fixture
def morgue(tmp_path: Path) -> Iterator[Morgue]:
    morgue = Morgue(tmp_path / "autopsies", AtOnce())
    yield morgue
    morgue.finish()


@pytest.fixture
def slow(tmp_path: Path) -> Morgue:
    """One whose disk waits for the test."""
    return Morgue(tmp_path / "autopsies", Later())


@pytest.fixture
def said() -> Iterator[list[str]]:
    """What was logged of autopsies."""
    said: list[str] = []

    def observe(event: LogEvent) -> None:
        if "autops" in (text := formatEvent(event)):
            said.append(text)

    globalLogPublisher.addObserver(observe)
    yield said
    globalLogPublisher.removeObserver(observe)


def test_a_session_that_has_ended_has_its_autopsy_when_it_has_settled(morgue: Morgue) -> None:
    session = morgue.ended("key", "one", "two", code=3)
    before = morgue.kept(session)

    morgue.clock.advance(SETTLE_SECONDS)
    kept = morgue.kept(session)

    assert before is None
    assert kept["session.json"]["exit_code"] == 3
    assert kept["why.json"]["alive"] is False
    assert kept["inspect.json"] == {"Id": session.id, "Env": ["SECRET=…"]}
    assert texts(kept["log.txt"]) == ["one", "two"]
    assert kept["stats.json"]["proxy"]["requests"] == 0


def test_whoever_asks_before_it_has_settled_is_shown_what_is_known(morgue: Morgue) -> None:
    session = morgue.ended("key", "one")

    shown = morgue.shown(session.id)

    assert shown["session.json"]["status"] == "terminated"
    assert texts(shown["log.txt"]) == ["one"]
    assert shown["inspect.json"]["Id"] == session.id


def test_of_a_living_session_it_is_made_now(morgue: Morgue) -> None:
    session = morgue.ready()
    morgue.engine.say(session.id, "up", morgue.clock.seconds())

    shown = morgue.shown(session.id)

    assert shown["session.json"]["status"] == "ready"
    assert texts(shown["log.txt"]) == ["up"]
    assert shown["stats.json"]["engine"]["memory_bytes"] == 4096
    assert morgue.kept(session) is None


def test_a_lost_engine_costs_only_what_it_alone_knows(morgue: Morgue) -> None:
    session = morgue.ready()
    morgue.engine.refusal = EngineUnavailable("Docker does not answer")

    shown = morgue.shown(session.id)

    assert shown["session.json"]["status"] == "ready"
    assert shown["inspect.json"] is None
    assert shown["stats.json"]["engine"] is None


def test_what_a_session_took_when_it_was_asked_to_end_is_kept(morgue: Morgue) -> None:
    session = morgue.ready()
    asked = int(morgue.clock.seconds() * 1000)

    morgue.supervisor.soft_terminate(session.id)
    morgue.clock.advance(SETTLE_SECONDS)

    engine = morgue.kept(session)["stats.json"]["engine"]
    assert (engine["at"], engine["pids"]) == (asked, 2)


def test_an_engine_that_cannot_say_what_a_session_took_costs_only_that(morgue: Morgue) -> None:
    session = morgue.ready()
    morgue.engine.waits.add("stop")
    morgue.engine.refusal = EngineUnavailable("Docker does not answer")

    morgue.supervisor.soft_terminate(session.id)
    morgue.engine.refusal = None
    morgue.engine.answer("stop")
    morgue.clock.advance(SETTLE_SECONDS)

    assert morgue.kept(session)["stats.json"]["engine"] is None


def test_a_spawn_that_failed_has_its_autopsy_with_what_was_left(morgue: Morgue) -> None:
    session = morgue.spawn()
    morgue.tell_left(session.id, Status="created")
    morgue.engine.refuse(session.id, SpawnFailed("no such network"))

    morgue.clock.advance(SETTLE_SECONDS)
    kept = morgue.kept(session)

    assert kept["inspect.json"] == {"Status": "created"}
    assert kept["session.json"]["failure"]["message"] == "no such network"


def test_a_spawn_that_left_nothing_has_an_autopsy_too(morgue: Morgue) -> None:
    session = morgue.spawn()
    morgue.engine.refuse(session.id, SpawnFailed("no such network"))

    morgue.clock.advance(SETTLE_SECONDS)
    kept = morgue.kept(session)

    assert kept["inspect.json"] is None
    assert kept["log.txt"] == ""


def test_what_is_read_late_is_put_in_as_well(morgue: Morgue) -> None:
    session = morgue.ended()
    morgue.clock.advance(SETTLE_SECONDS)

    morgue.tell_left(session.id, late=True)
    morgue.clock.advance(SETTLE_SECONDS)

    assert morgue.kept(session)["inspect.json"] == {"late": True}


def test_what_an_unknown_session_left_is_nothing_to_us(morgue: Morgue) -> None:
    morgue.tell_left("nobody")

    morgue.clock.advance(SETTLE_SECONDS)

    assert not morgue.files.directory.exists()


def test_what_was_kept_outlives_the_memory_of_the_session(morgue: Morgue) -> None:
    session = morgue.ended("key", "one")
    morgue.clock.advance(SETTLE_SECONDS)

    morgue.supervisor.registry.forget_old(morgue.clock.seconds() + ENDED_KEPT_SECONDS, 1)
    shown = morgue.shown(session.id)

    assert texts(shown["log.txt"]) == ["one"]


def test_when_the_kept_one_is_gone_what_is_remembered_is_shown(morgue: Morgue) -> None:
    session = morgue.ended("key", "one")
    morgue.clock.advance(SETTLE_SECONDS)

    (morgue.files.directory / f"{session.id}.tar.gz").unlink()
    shown = morgue.shown(session.id)

    assert shown["session.json"]["status"] == "terminated"
    assert texts(shown["log.txt"]) == ["one"]


@pytest.mark.parametrize("name", ["nobody", "../../etc/passwd", "a.b", "", "x" * 300])
def test_a_session_that_nobody_knows_is_not_found(morgue: Morgue, name: str) -> None:
    (morgue.files.directory.parent / "a.b.tar.gz").touch()

    with pytest.raises(NotFound):
        morgue.shown(name)


def test_a_disk_that_fails_costs_the_autopsies_alone_and_is_said_once(
    morgue: Morgue, said: list[str]
) -> None:
    morgue.files.directory.touch()
    sessions = [morgue.ended(str(number), "one") for number in range(3)]

    morgue.clock.advance(SETTLE_SECONDS)
    shown = [morgue.shown(session.id) for session in sessions]

    (failed,) = [text for text in said if "kept" in text]
    assert "File exists" in failed
    assert [texts(each["log.txt"]) for each in shown] == [["one"]] * 3


def test_one_at_a_time_is_made(slow: Morgue) -> None:
    for number in range(3):
        slow.ended(str(number))
    slow.clock.advance(SETTLE_SECONDS)
    at_once = len(slow.worker.asked)

    slow.worker.work()

    assert at_once == 1
    assert len(list(slow.files.directory.iterdir())) == 3
    slow.finish()


def test_a_disk_that_does_not_keep_up_loses_the_oldest(
    slow: Morgue, monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    monkeypatch.setattr(module, "MOST_WAITING", 2)
    sessions = [slow.ended(str(number)) for number in range(5)]
    slow.clock.advance(SETTLE_SECONDS)

    slow.worker.work()

    kept = [slow.kept(session) is not None for session in sessions]
    assert kept == [True, False, False, True, True]
    assert len(said) == 1
    slow.finish()


def test_long_logs_that_wait_for_the_disk_are_bounded(
    slow: Morgue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_WAITING_CHARACTERS", 25)
    sessions = [slow.ended(str(number), "x" * 10) for number in range(4)]
    slow.clock.advance(SETTLE_SECONDS)

    slow.worker.work()

    assert [slow.kept(session) is not None for session in sessions] == [True, False, True, True]
    slow.finish()


def test_a_server_that_stops_makes_what_is_still_to_be_made(slow: Morgue) -> None:
    session = slow.ended()
    living = slow.ready("other")
    stopping = maybeDeferred(slow.autopsies.stopService)

    slow.worker.work()

    now(stopping)
    assert slow.kept(session)["session.json"]["status"] == "terminated"
    assert slow.kept(living) is None
    assert not slow.worker.running


def test_a_server_that_stops_does_not_wait_for_a_disk_for_ever(slow: Morgue) -> None:
    slow.ended("a")
    slow.ended("b")
    stopping = maybeDeferred(slow.autopsies.stopService)

    slow.clock.advance(CLOSE_SECONDS)

    now(stopping)
    assert slow.worker.running
    slow.worker.work()
    assert len(list(slow.files.directory.iterdir())) == 1
