"""The journal: what was recorded is there after a restart, however the last run ended."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import (
    CancelledError,
    Deferred,
    DeferredList,
    execute,
    gatherResults,
)
from twisted.internet.threads import deferToThreadPool
from twisted.logger import LogEvent, LogLevel, formatEvent, globalLogPublisher
from twisted.python.threadpool import ThreadPool

from plane_tx.core import tables
from plane_tx.core.errors import ConfigError, JournalError
from plane_tx.core.idempotency import KEPT_SECONDS, MOST_KEPT, Answer
from plane_tx.core.tables import APPLICATION_ID, SCHEMA_STEPS
from plane_tx.journal import Journal, Memory
from plane_tx.tokens import FencingTokens
from tests.recording_engine import now
from tests.tree import ROOT


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "default.sqlite3"


@pytest.fixture
def logged() -> Iterator[list[LogEvent]]:
    events: list[LogEvent] = []
    globalLogPublisher.addObserver(events.append)
    yield events
    globalLogPublisher.removeObserver(events.append)


def told(logged: list[LogEvent]) -> list[str]:
    """What was logged as an error, and that it is over."""
    ours = [event for event in logged if event["log_namespace"] == "plane_tx.journal.Journal"]
    return [formatEvent(event) for event in ours if event["log_level"] >= LogLevel.info]


def opened(path: Path, at: float = 0.0, run: Any = execute) -> Journal:
    journal = Journal(path, run)
    journal.open(at)
    return journal


def answer(key: str, at: float = 0.0, body: bytes = b"{}", caller: str = "app") -> Answer:
    return Answer(caller, key, b"digest", body, at)


class Later:
    """Runs a piece of work when the test says so."""

    def __init__(self) -> None:
        self.asked: list[tuple[Callable[[], None], Deferred[None]]] = []

    def __call__(self, work: Callable[[], None]) -> Deferred[None]:
        self.asked.append((work, Deferred()))
        return self.asked[-1][1]

    def finish(self) -> None:
        (work, done), *self.asked = self.asked
        execute(work).chainDeferred(done)


def test_what_was_recorded_is_there_after_reopening(path: Path) -> None:
    journal = opened(path)
    now(journal.record(tables.number(7)))
    now(journal.record_answer(answer("a", body=b"1")))
    now(journal.record_answer(answer("b", caller="other")))
    now(journal.close())

    again = opened(path)

    assert again.last_number == 7
    assert again.take_answers() == [answer("a", body=b"1"), answer("b", caller="other")]
    assert again.take_answers() == []
    now(again.close())


def test_a_new_journal_knows_nothing() -> None:
    journal = opened(Path(":memory:"))

    assert (journal.last_number, journal.take_answers()) == (0, [])
    now(journal.close())


def test_a_smaller_number_does_not_replace_a_larger_one(path: Path) -> None:
    journal = opened(path)
    for number in (5, 9, 3):
        now(journal.record(tables.number(number)))
    now(journal.close())

    again = opened(path)

    assert again.last_number == 9
    now(again.close())


def test_fencing_tokens_go_on_growing_after_a_restart_with_a_clock_set_back(path: Path) -> None:
    journal = opened(path)
    tokens = FencingTokens(lambda: 1000.0)
    number = tokens.next()
    now(journal.record(tables.number(number)))
    now(journal.close())

    again = opened(path)
    tokens = FencingTokens(lambda: 10.0)
    tokens.rise_above(again.last_number)

    assert tokens.next() == number + 1
    now(again.close())


def test_an_answer_replaces_the_one_before_and_counts_as_the_newest(path: Path) -> None:
    journal = opened(path)
    for each in (answer("a", body=b"1"), answer("b"), answer("a", body=b"2")):
        now(journal.record_answer(each))
    now(journal.close())

    again = opened(path)

    assert again.take_answers() == [answer("b"), answer("a", body=b"2")]
    now(again.close())


def test_what_was_forgotten_is_not_there_after_reopening(path: Path) -> None:
    journal = opened(path)
    for key in "abc":
        now(journal.record_answer(answer(key)))
    now(journal.forget_answers([answer("a"), answer("c")]))
    now(journal.forget_answers([]))
    now(journal.close())

    again = opened(path)

    assert again.take_answers() == [answer("b")]
    now(again.close())


def test_answers_over_24_hours_are_gone_from_the_file_when_it_is_opened(path: Path) -> None:
    journal = opened(path)
    now(journal.record_answer(answer("old", at=0.0)))
    now(journal.record_answer(answer("young", at=1.0)))
    now(journal.close())

    again = opened(path, at=KEPT_SECONDS)
    now(again.close())

    assert [each.key for each in again.take_answers()] == ["young"]
    assert rows(path, "SELECT key FROM answers") == [("young",)]


def test_of_too_many_answers_the_newest_are_kept(path: Path) -> None:
    now(opened(path).close())
    with sqlite3.connect(path) as connection:
        connection.executemany(
            "INSERT INTO answers VALUES ('app', ?, x'00', x'00', 0)",
            ((str(number),) for number in range(MOST_KEPT + 2)),
        )
    connection.close()

    journal = opened(path)

    answers = journal.take_answers()
    assert len(answers) == MOST_KEPT
    assert (answers[0].key, answers[-1].key) == ("2", str(MOST_KEPT + 1))
    now(journal.close())


def rows(path: Path, query: str) -> list[Any]:
    connection = sqlite3.connect(path)
    found = connection.execute(query).fetchall()
    connection.close()
    return found


def test_a_record_is_durable_when_its_transaction_has_ended_and_not_before(path: Path) -> None:
    later = Later()
    journal = opened(path, run=later)

    durable = journal.record(tables.number(1))

    assert not durable.called
    assert rows(path, "SELECT * FROM fencing") == []
    later.finish()
    assert durable.called
    assert rows(path, "SELECT * FROM fencing") == [(1, 1)]
    close(journal, later)


def close(journal: Journal, later: Later) -> None:
    closing = journal.close()
    while later.asked:
        later.finish()
    now(closing)


def test_what_is_recorded_meanwhile_is_one_transaction(path: Path) -> None:
    later = Later()
    journal = opened(path, run=later)
    first = journal.record(tables.number(1))
    others = [journal.record_answer(answer(str(number))) for number in range(50)]

    later.finish()

    assert (first.called, len(later.asked)) == (True, 1)
    assert not any(each.called for each in others)
    later.finish()
    assert all(each.called for each in others)
    assert later.asked == []
    close(journal, later)


def test_what_the_waiters_of_one_transaction_record_is_the_next_one(path: Path) -> None:
    later = Later()
    journal = opened(path, run=later)
    journal.record(tables.number(1))
    for number in (2, 3, 4):
        durable = journal.record(tables.number(number))
        durable.addCallback(lambda _, number=number: journal.record(tables.number(number + 10)))
    later.finish()

    later.finish()

    assert len(later.asked) == 1
    later.finish()
    assert rows(path, "SELECT last FROM fencing") == [(14,)]
    close(journal, later)


def test_whoever_stops_waiting_stops_nobody_elses_record(path: Path) -> None:
    later = Later()
    journal = opened(path, run=later)
    leaving, staying = journal.record(tables.number(1)), journal.record(tables.number(2))
    leaving.addErrback(lambda _: None)

    leaving.cancel()

    close(journal, later)
    assert staying.called
    assert rows(path, "SELECT last FROM fencing") == [(2,)]


def test_closing_writes_what_waits_and_takes_nothing_more(path: Path) -> None:
    later = Later()
    journal = opened(path, run=later)
    written = [journal.record(tables.number(1)), journal.record(tables.number(2))]

    closing = journal.close()

    with pytest.raises(JournalError, match="stopping"):
        now(journal.record(tables.number(3)))
    assert not closing.called
    assert journal.close() is closing
    close(journal, later)
    assert all(each.called for each in written)
    assert rows(path, "SELECT last FROM fencing") == [(2,)]
    assert not path.with_name(f"{path.name}-wal").exists()


def test_a_journal_that_was_never_opened_refuses_and_closes(path: Path) -> None:
    journal = Journal(path, execute)

    with pytest.raises(JournalError):
        now(journal.record(tables.number(1)))

    now(journal.close())
    assert not path.exists()


def fill_the_disk(journal: Journal) -> None:
    """Let the file not grow any more; SQLite says of it what it says of a full disk."""
    journal._connection.execute("PRAGMA max_page_count = 1")


def free_the_disk(journal: Journal) -> None:
    journal._connection.execute("PRAGMA max_page_count = 1000000")


BIG = b"x" * 100_000


def test_a_full_disk_is_one_line_and_fails_the_records_until_there_is_room(
    path: Path, logged: list[LogEvent]
) -> None:
    journal = opened(path)
    fill_the_disk(journal)
    for _ in range(3):
        with pytest.raises(JournalError, match="cannot be written: database or disk is full"):
            now(journal.record_answer(answer("a", body=BIG)))
    free_the_disk(journal)

    now(journal.record_answer(answer("a", body=BIG)))

    full, again = told(logged)
    assert full.startswith(f"{path} cannot be written: database or disk is full. The server goes")
    assert again == f"{path} is written again"
    now(journal.close())


def test_a_transaction_that_fails_leaves_nothing_of_its_records(path: Path) -> None:
    later = Later()
    journal = opened(path, run=later)
    journal.record(tables.number(1))
    failing = [journal.record(tables.number(2)), journal.record_answer(answer("a", body=BIG))]
    refused = DeferredList(failing, consumeErrors=True)
    later.finish()
    fill_the_disk(journal)

    later.finish()

    assert [success for success, _ in now(refused)] == [False, False]
    assert rows(path, "SELECT last FROM fencing") == [(1,)]
    close(journal, later)


def test_a_file_that_may_not_be_written_fails_the_records(
    path: Path, logged: list[LogEvent]
) -> None:
    journal = opened(path)
    journal._connection.execute("PRAGMA query_only = ON")

    with pytest.raises(JournalError, match="readonly"):
        now(journal.record(tables.number(1)))

    assert len(told(logged)) == 1
    now(journal.close())


def garbage(path: Path) -> None:
    path.write_bytes(b"this is no database\n" * 500)


def a_torn_page(path: Path) -> None:
    journal = opened(path)
    for number in range(100):
        now(journal.record_answer(answer(str(number), body=b"x" * 500)))
    now(journal.close())
    whole = path.read_bytes()
    path.write_bytes(whole[:8192] + b"\xff" * 4096 + whole[12288:])


def another_program(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE theirs (x)")
    connection.close()


def a_newer_version(path: Path) -> None:
    now(opened(path).close())
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {len(SCHEMA_STEPS) + 1}")
    connection.close()


def a_lost_table(path: Path) -> None:
    now(opened(path).close())
    connection = sqlite3.connect(path)
    connection.execute("DROP TABLE answers")
    connection.close()


def a_damaged_schema(path: Path) -> None:
    now(opened(path).close())
    path.write_bytes(
        path.read_bytes().replace(b"CREATE TABLE fencing", b"CREATE \xff\xfeBLE fencing")
    )


@pytest.mark.parametrize(
    "spoil",
    [garbage, a_torn_page, another_program, a_newer_version, a_lost_table, a_damaged_schema],
)
def test_a_file_that_cannot_be_read_is_kept_aside_with_one_line(
    path: Path, logged: list[LogEvent], spoil: Callable[[Path], None]
) -> None:
    spoil(path)
    spoilt = path.read_bytes()

    journal = opened(path)

    aside = path.with_name("default.sqlite3.aside-1")
    assert aside.read_bytes() == spoilt
    (line,) = told(logged)
    assert line.startswith(f"{path} is not a journal that this version can read: ")
    assert str(aside) in line
    assert journal.last_number == 0
    now(journal.record(tables.number(1)))
    now(journal.close())
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_row_that_is_damaged_costs_no_other_one(path: Path) -> None:
    journal = opened(path)
    for key in ("first", "second"):
        now(journal.record_answer(answer(key)))
    now(journal.record(tables.number(7)))
    journal._connection.execute(
        "UPDATE answers SET at = 'x', key = CAST(x'ff' AS TEXT) WHERE key = 'first'"
    )
    now(journal.close())

    again = opened(path)

    assert (again.last_number, again.take_answers()) == (7, [answer("second")])
    now(again.close())


def test_nothing_that_was_kept_aside_is_overwritten(path: Path) -> None:
    for _ in range(3):
        garbage(path)
        now(opened(path).close())

    assert len(list(path.parent.glob("*.aside-*"))) == 3


def test_a_place_that_cannot_be_written_is_one_line_with_the_cure(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        opened(tmp_path / "nowhere" / "default.sqlite3")

    assert str(caught.value).isprintable()
    assert "nowhere/default.sqlite3: cannot be written: unable to open" in str(caught.value)
    assert "`[state] dir`" in str(caught.value)


def test_a_file_of_version_0_is_brought_to_the_newest_version(path: Path) -> None:
    path.touch()

    now(opened(path).close())

    assert rows(path, "PRAGMA user_version") == [(len(SCHEMA_STEPS),)]
    assert rows(path, "PRAGMA journal_mode") == [("wal",)]


def test_a_commit_waits_for_the_disk_where_a_record_is_to_outlive_a_power_loss(path: Path) -> None:
    later, waits = Later(), []
    journal = opened(path, run=later)

    def commit() -> None:
        later.finish()
        waits.extend(row[0] for row in journal._connection.execute("PRAGMA synchronous"))

    journal.record_answer(answer("a"))
    commit()
    journal.record(tables.number(1))
    commit()
    with journal.together():
        journal.record_answer(answer("b"))
        journal.record(tables.number(2))
    commit()
    journal.record_answer(answer("c"))
    commit()

    normal, full = 1, 2  # https://sqlite.org/pragma.html#pragma_synchronous
    assert waits == [normal, full, full, normal]
    close(journal, later)


def test_what_is_recorded_together_is_one_transaction(path: Path) -> None:
    later = Later()
    journal = opened(path, run=later)

    with journal.together():
        recorded = [journal.record_answer(answer("a")), journal.record(tables.number(1))]
        begun = len(later.asked)

    assert (begun, len(later.asked)) == (0, 1)
    later.finish()
    assert all(each.called for each in recorded)
    close(journal, later)


def test_all_is_settled_when_what_was_recorded_before_is_written_or_has_failed(path: Path) -> None:
    later = Later()
    journal = opened(path, run=later)
    at_rest = journal.settled()
    first, second = journal.record(tables.number(1)), journal.record_answer(answer("a", body=BIG))

    settled = journal.settled()
    third = journal.record(tables.number(2))
    for each in (second, third):
        each.addErrback(lambda failure: failure.trap(JournalError))

    assert (at_rest.called, settled.called) == (True, False)
    later.finish()
    assert (first.called, settled.called) == (True, False)
    fill_the_disk(journal)
    later.finish()
    assert settled.called
    free_the_disk(journal)
    close(journal, later)


def test_who_waits_for_what_is_written_adds_no_transaction_and_may_leave(path: Path) -> None:
    later = Later()
    journal = opened(path, run=later)
    journal.record(tables.number(1))
    stays, leaves = journal.settled(), journal.settled()

    leaves.addErrback(lambda failure: failure.trap(CancelledError) and None)
    leaves.cancel()
    later.finish()

    assert stays.called
    assert later.asked == []
    close(journal, later)


def test_a_disk_that_does_not_answer_is_not_waited_for_by_more_and_more(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("plane_tx.journal.MOST_WAITING", 2)
    later = Later()
    journal = opened(path, run=later)
    waiting = [journal.record(tables.number(number)) for number in range(3)]

    with pytest.raises(JournalError, match="does not keep up"):
        now(journal.record(tables.number(3)))

    close(journal, later)
    assert all(each.called for each in waiting)


def test_what_a_killed_run_had_not_brought_into_the_file_goes_aside_with_it(path: Path) -> None:
    a_newer_version(path)
    still_there = sqlite3.connect(path)
    still_there.execute("INSERT INTO fencing VALUES (1, 7)")
    still_there.commit()

    journal = opened(path)

    assert journal.last_number == 0
    now(journal.close())
    still_there.close()
    assert rows(path.with_name("default.sqlite3.aside-1"), "SELECT last FROM fencing") == [(7,)]


def test_a_file_of_version_1_keeps_what_it_knows(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.executescript(
        f"{SCHEMA_STEPS[0]}; PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = 1;"
        " INSERT INTO fencing VALUES (1, 7)"
    )
    connection.close()

    journal = opened(path)

    assert (journal.last_number, journal.take_memory()) == (7, Memory())
    now(journal.close())


@pytest.mark.reactor
@pytest_twisted.ensureDeferred
async def test_many_records_are_few_transactions_in_one_thread(path: Path) -> None:
    from twisted.internet import reactor

    pool, threads = ThreadPool(0, 1, "journal"), []
    pool.start()

    def run(work: Callable[[], None]) -> Deferred[None]:
        def in_thread() -> None:
            threads.append(threading.get_ident())
            work()

        return deferToThreadPool(reactor, pool, in_thread)

    journal = opened(path, run=run)

    await gatherResults([journal.record_answer(answer(str(number))) for number in range(2000)])
    await journal.close()
    pool.stop()

    assert len(threads) == 3  # the first record, all that came meanwhile, and the end
    assert set(threads).isdisjoint({threading.get_ident()})
    again = opened(path)
    assert len(again.take_answers()) == 2000
    now(again.close())


RECORD_AND_WAIT = """
import sys
from pathlib import Path
from twisted.internet.defer import execute
from plane_tx.core import tables
from plane_tx.journal import Journal

journal = Journal(Path(sys.argv[1]), execute)
journal.open(0.0)
journal.record(tables.number(42)).addCallback(lambda _: print("durable", flush=True))
sys.stdin.read()
"""


def test_what_was_acknowledged_outlives_a_kill(path: Path) -> None:
    command = [sys.executable, "-c", RECORD_AND_WAIT, path]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout.readline() == "durable\n"
        process.kill()

    journal = opened(path)

    assert journal.last_number == 42
    now(journal.close())
