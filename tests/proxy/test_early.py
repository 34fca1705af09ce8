"""Links of an earlier run: whoever comes by one too early waits, and is not turned away."""

from __future__ import annotations

from pathlib import Path

import pytest
from twisted.internet.defer import ensureDeferred, execute

from plane_tx.core.model import Executable, Key, Spec
from plane_tx.core.record import to_labels
from plane_tx.journal import Journal
from tests.proxy.world import CLUSTER, OK, World, status
from tests.recording_engine import Held, RecordingEngine, now
from tests.sessions import make_session

OLD = make_session(
    "old", Key("key"), spec=Spec(Executable(image="image")), created_at=1_700_000_000.0
)
TOKEN = OLD.own_token.value


@pytest.fixture
def engine() -> RecordingEngine:
    """One that holds a session of an earlier run, and takes its time to say so."""
    engine = RecordingEngine()
    engine.held["old"] = Held(to_labels(OLD))
    engine.waits.add("list_running")
    return engine


@pytest.fixture
def world(engine: RecordingEngine) -> World:
    return World(engine=engine)


def recover(world: World) -> None:
    """Let the engine tell, and the session answer its probe."""
    world.engine.answer("list_running")
    world.accept().send(b"HTTP/1.1 200 OK\r\n\r\n")
    world.advance(0)


def test_a_link_that_only_the_engine_knows_is_held_until_it_has_told(world: World) -> None:
    client = world.client()
    client.send(world.get(TOKEN, more="Content-Length: 4\r\n", method="POST") + b"body")
    early = client.get()

    recover(world)
    upstream = world.accept()

    assert early == b""
    assert upstream.get().endswith(b"\r\n\r\nbody")
    upstream.send(OK)
    assert status(client.get()) == 200
    world.finish()


def test_a_link_that_the_engine_does_not_know_either_is_gone(world: World) -> None:
    client = world.client()
    client.send(world.get("unknown"))
    early = client.get()

    world.engine.answer("list_running")

    assert early == b""
    assert status(client.get()) == 410


def test_who_is_held_too_long_is_told_to_come_again(world: World) -> None:
    client = world.client()
    client.send(world.get("unknown"))

    world.advance(world.supervisor.policy.hold_seconds)

    answer = client.get()
    assert status(answer) == 503
    assert b"retry-after" in answer.lower()
    assert b"restarted" in answer
    client.send(world.get("unknown"))
    assert client.get() == b""


def test_requests_for_the_proxy_itself_and_broken_ones_are_answered_at_once(world: World) -> None:
    client = world.client()

    client.send(f"GET /ready HTTP/1.1\r\nHost: {CLUSTER}\r\n\r\n".encode())
    ready = client.get()
    client.send(f"GET / HTTP/1.1\r\nHost: {CLUSTER}\r\n\r\n".encode())

    assert (status(ready), status(client.get())) == (503, 400)


def test_who_leaves_while_held_leaves_nothing(world: World) -> None:
    client = world.client()
    client.send(world.get("unknown"))

    client.hang_up()

    assert len(world.supervisor.recovery._waiting) == 0
    world.engine.answer("list_running")
    assert client.get() == b""


def test_a_server_that_stops_says_so_to_who_is_held(world: World) -> None:
    client = world.client()
    client.send(world.get("unknown"))

    closing = ensureDeferred(world.factory.close())

    assert status(client.get()) == 503
    world.finish()
    assert closing.called


def test_a_link_that_the_journal_knows_is_held_until_the_engine_has_told(
    tmp_path: Path, engine: RecordingEngine
) -> None:
    journal = Journal(tmp_path / "journal", execute)
    journal.open(0.0)
    earlier = World(journal=journal)
    session, token = earlier.session()
    now(journal.close())
    again = Journal(tmp_path / "journal", execute)
    again.open(0.0)
    engine.held = {session.id: Held({})}
    world = World(engine=engine, journal=again)
    client = world.client()
    client.send(world.get(token))
    early = client.get()

    world.engine.answer("list_running")
    world.accept().send(OK)

    assert early == b""
    assert status(client.get()) == 200
    assert world.supervisor.get(session.id).status == "ready"
    world.finish()
    now(again.close())
