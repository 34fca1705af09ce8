"""The access log: every request has its line, and nobody waits for the disk."""

from __future__ import annotations

import json
import os
import select
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, execute
from twisted.internet.task import Clock, deferLater
from twisted.logger import LogEvent, formatEvent, globalLogPublisher

from plane_tx import accesslog
from plane_tx.accesslog import (
    BATCH_SECONDS,
    CLOSE_SECONDS,
    MOST_WAITING,
    AccessLog,
)
from plane_tx.core.access import Access, as_json
from plane_tx.core.errors import ConfigError
from plane_tx.core.measures import Measures
from plane_tx.thread import OwnThread


class Later:
    """Writes when the test says so."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.running = False

    def start(self) -> None:
        self.running = True

    def run(self, work: Any) -> Deferred[Any]:
        self.asked.append((work, Deferred()))
        return self.asked[-1][1]

    def stop(self) -> None:
        assert not self.asked, "a thread that writes cannot be stopped"
        self.running = False

    def finish(self) -> None:
        (work, done), *self.asked = self.asked
        execute(work).chainDeferred(done)


class Bench:
    """A log, its disk and its clock."""

    def __init__(self, target: str) -> None:
        self.clock = Clock()
        self.clock.advance(1_700_000_000)
        self.writer = Later()
        self.measures = Measures()
        self.log = AccessLog(self.clock, self.writer, target, as_json, self.measures)

    def end(self, path: str) -> None:
        """A request ends."""
        self.log.append(Access(self.clock.seconds(), "peer", "GET", path))

    def write(self) -> None:
        """What waits is written now."""
        self.clock.advance(BATCH_SECONDS)
        self.writer.finish()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "access.log"


@pytest.fixture
def bench(path: Path) -> Bench:
    bench = Bench(str(path))
    bench.log.startService()
    return bench


@pytest.fixture
def logged() -> Iterator[list[str]]:
    lines: list[str] = []

    def take(event: LogEvent) -> None:
        if event["log_namespace"] == "plane_tx.accesslog.AccessLog":
            lines.append(formatEvent(event))

    globalLogPublisher.addObserver(take)
    yield lines
    globalLogPublisher.removeObserver(take)


def paths(path: Path) -> list[str]:
    return [json.loads(line)["path"] for line in path.read_text().splitlines()]


def test_requests_that_end_within_a_moment_are_written_together(bench: Bench, path: Path) -> None:
    bench.end("/one")
    bench.clock.advance(BATCH_SECONDS / 2)
    bench.end("/two")
    before = list(bench.writer.asked)

    bench.clock.advance(BATCH_SECONDS / 2)
    batches = len(bench.writer.asked)
    bench.writer.finish()

    assert (before, batches) == ([], 1)
    assert paths(path) == ["/one", "/two"]
    assert bench.clock.getDelayedCalls() == []


def test_the_end_of_a_request_is_when_it_was_appended(bench: Bench, path: Path) -> None:
    access = Access(bench.clock.seconds() - 2, "peer")

    bench.log.append(access)
    bench.write()

    assert json.loads(path.read_text())["ms"] == 2000.0


def test_what_ends_while_the_disk_works_is_the_next_batch(bench: Bench, path: Path) -> None:
    bench.end("/one")
    bench.clock.advance(BATCH_SECONDS)
    bench.end("/two")
    bench.end("/three")

    bench.writer.finish()
    bench.write()

    assert paths(path) == ["/one", "/two", "/three"]
    assert bench.clock.getDelayedCalls() == []


def test_without_requests_nothing_is_done(bench: Bench) -> None:
    assert bench.clock.getDelayedCalls() == []


def test_it_is_appended_to_and_not_open_to_everyone(path: Path) -> None:
    path.write_text('{"path":"/old"}\n')
    path.chmod(0o600)
    bench = Bench(str(path))
    bench.log.startService()

    bench.end("/new")
    bench.write()

    assert paths(path) == ["/old", "/new"]
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_new_file_is_not_for_everyone_to_read(bench: Bench, path: Path) -> None:
    assert path.stat().st_mode & 0o007 == 0


@pytest.mark.parametrize(
    "away", [lambda path: path.unlink(), lambda path: path.rename(f"{path}.1")]
)
def test_a_file_that_was_moved_away_is_made_anew(bench: Bench, path: Path, away: Any) -> None:
    bench.end("/one")
    bench.write()

    away(path)
    bench.end("/two")
    bench.write()

    assert paths(path) == ["/two"]


def test_a_disk_that_fails_is_one_line_until_it_works_again(
    bench: Bench, path: Path, logged: list[str]
) -> None:
    path.unlink()
    path.mkdir()
    for name in ("/one", "/two", "/three"):
        bench.end(name)
        bench.write()
    failing = list(logged)

    path.rmdir()
    bench.end("/four")
    bench.write()

    assert len(failing) == 1
    assert "cannot be written: Is a directory" in failing[0]
    assert logged[1:] == [f"the access log {path} is written again, without 3 requests"]
    assert paths(path) == ["/four"]
    assert bench.measures.access_log_lost == 3


def test_a_line_that_the_disk_took_in_part_does_not_run_into_the_next(
    bench: Bench, path: Path, logged: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real, sizes = os.write, iter([10])

    def full(file: int, data: memoryview) -> int:
        try:
            return real(file, data[: next(sizes)])
        except StopIteration:
            raise OSError(28, "No space left on device") from None

    monkeypatch.setattr(os, "write", full)
    bench.end("/one")
    bench.write()
    monkeypatch.undo()

    bench.end("/two")
    bench.write()

    first, second = path.read_text().splitlines()
    assert len(first) == 10
    assert json.loads(second)["path"] == "/two"
    assert "No space left on device" in logged[0]
    assert bench.measures.access_log_lost == 1


def test_a_disk_that_stalls_costs_lines_and_not_memory(
    bench: Bench, path: Path, logged: list[str]
) -> None:
    bench.end("/first")
    bench.clock.advance(BATCH_SECONDS)
    for _ in range(MOST_WAITING + 9):
        bench.end("/more")
    told = list(logged)

    bench.writer.finish()
    bench.write()

    assert told == []
    assert len(paths(path)) == MOST_WAITING
    assert logged == [f"the access log {path} is written again, without 10 requests"]
    assert bench.measures.access_log_lost == 10


def test_a_fault_of_ours_is_logged_and_the_log_goes_on(
    path: Path, logged: list[str], logged_failures: Any
) -> None:
    bench = Bench(str(path))
    bench.log = AccessLog(bench.clock, bench.writer, str(path), lambda access: 1 / 0, Measures())
    bench.log.startService()

    bench.end("/one")
    bench.write()
    bench.end("/two")
    bench.write()

    assert len(logged_failures.claim(ZeroDivisionError)) == 2
    assert logged == ["the access log stumbled, and goes on"] * 2


def test_a_stop_writes_what_waits_and_what_ends_meanwhile(bench: Bench, path: Path) -> None:
    bench.end("/one")

    stopped = bench.log.stopService()
    bench.end("/two")
    bench.clock.advance(0)
    bench.end("/three")
    bench.writer.finish()
    waiting = not stopped.called
    bench.writer.finish()
    bench.end("/too late")

    assert waiting
    assert stopped.called
    assert paths(path) == ["/one", "/two", "/three"]
    assert not bench.writer.running
    assert bench.clock.getDelayedCalls() == []


def test_a_stop_waits_for_the_batch_in_hand(bench: Bench, path: Path) -> None:
    bench.end("/one")
    bench.clock.advance(BATCH_SECONDS)

    stopped = bench.log.stopService()
    bench.clock.advance(0)
    waiting = not stopped.called
    bench.writer.finish()

    assert waiting
    assert stopped.called
    assert paths(path) == ["/one"]


def test_a_stop_does_not_wait_for_ever(bench: Bench) -> None:
    bench.end("/one")
    bench.clock.advance(BATCH_SECONDS)
    bench.end("/two")

    stopped = bench.log.stopService()
    bench.clock.advance(CLOSE_SECONDS)

    assert stopped.called
    assert bench.writer.running
    bench.writer.finish()
    assert bench.clock.getDelayedCalls() == []


def test_a_stop_with_nothing_to_write_takes_a_turn(bench: Bench) -> None:
    stopped = bench.log.stopService()
    bench.clock.advance(0)

    assert stopped.called
    assert not bench.writer.running
    assert bench.clock.getDelayedCalls() == []


def test_what_was_never_started_stops_at_once(path: Path) -> None:
    bench = Bench(str(path))

    assert bench.log.stopService().called


@pytest.mark.parametrize(
    ("name", "why"),
    [("", "Is a directory"), ("none/access.log", "No such file or directory"), ("fifo", "No such")],
)
def test_a_start_that_cannot_write_says_why(tmp_path: Path, name: str, why: str) -> None:
    os.mkfifo(tmp_path / "fifo")
    bench = Bench(str(tmp_path / name))

    with pytest.raises(ConfigError) as refused:
        bench.log.startService()

    assert f"{tmp_path / name} cannot be written: {why}" in str(refused.value)
    assert "[proxy] access_log" in str(refused.value)


def test_standard_output_is_that_of_the_process(
    monkeypatch: pytest.MonkeyPatch, path: Path
) -> None:
    with path.open("wb") as output:
        monkeypatch.setattr(accesslog, "_STANDARD_OUTPUT", output.fileno())
        bench = Bench("-")
        bench.log.startService()
        bench.end("/one")
        bench.write()

    assert paths(path) == ["/one"]


def test_a_log_that_goes_nowhere_is_warned_of_and_one_that_is_meant_to_is_not(
    monkeypatch: pytest.MonkeyPatch, logged: list[str]
) -> None:
    with Path(os.devnull).open("wb") as output:
        monkeypatch.setattr(accesslog, "_STANDARD_OUTPUT", output.fileno())
        Bench("-").log.startService()
        Bench(os.devnull).log.startService()

    (line,) = logged
    assert "standard output, which is /dev/null" in line


@pytest_twisted.ensureDeferred
async def test_a_pipe_that_is_full_is_waited_for_in_the_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from twisted.internet import reactor

    count = 2000
    ours, theirs = os.pipe()
    os.set_blocking(theirs, False)
    monkeypatch.setattr(accesslog, "_STANDARD_OUTPUT", theirs)
    log = AccessLog(reactor, OwnThread(reactor, "test"), "-", as_json, Measures())
    log.startService()
    for number in range(count):
        log.append(Access(0, "peer", "GET", f"/{number}"))
    while select.select([], [theirs], [], 0)[1]:
        await deferLater(reactor, 0.01)

    read = bytearray()
    reader = threading.Thread(target=lambda: read.extend(_all(ours, count)))
    reader.start()
    await log.stopService()
    reader.join()
    os.close(ours)
    os.close(theirs)

    assert [json.loads(line)["path"] for line in read.splitlines()] == [
        f"/{number}" for number in range(count)
    ]


def _all(file: int, lines: int) -> bytes:
    read = b""
    while read.count(b"\n") < lines:
        read += os.read(file, 65536)
    return read
