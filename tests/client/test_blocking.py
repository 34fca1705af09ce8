"""The blocking client against a real server."""

from __future__ import annotations

import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from plane_tx.client import (
    Client,
    InvalidRequest,
    KeyHeld,
    KeyUnheld,
    NotFound,
    Session,
    SessionEnded,
    SessionFailed,
    TimedOut,
    Unavailable,
)
from plane_tx.client.calls import ConnectOptions
from tests.live import LiveServer, free_ports
from tests.process_server import SERVER


@pytest.fixture
def client(server: LiveServer) -> Iterator[Client]:
    with Client(server.control) as client:
        yield client


@pytest.fixture
def session(client: Client) -> Iterator[Session]:
    session = client.connect("echo", labels={"made": "by a test"}, user="ada")
    client.wait_ready(session.id, 20)
    yield session
    client.hard_terminate(session.id, wait=10)


def spawn_until(client: Client, seen: threading.Event) -> None:
    # Again and again, as nothing tells when a stream is open.
    while not seen.wait(0.2):
        client.hard_terminate(client.connect("echo").id)


def test_a_connect_gives_a_session_and_a_link(session: Session) -> None:
    assert session.spawned
    assert session.url.startswith("http://localhost:")
    assert session.token in session.url


def test_who_asks_for_a_held_key_joins_its_session(client: Client) -> None:
    first = client.connect("echo", key="one", namespace="room")

    second = client.connect(key="one", namespace="room")

    assert (second.id, second.spawned) == (first.id, False)
    client.hard_terminate(first.id)


def test_the_same_idempotency_key_makes_one_session(client: Client) -> None:
    first = client.connect("echo", idempotency_key="test-once")

    second = client.connect("echo", idempotency_key="test-once")

    assert second == first
    client.hard_terminate(first.id)


def test_all_of_a_spawn_config_may_be_said_as_the_api_has_it(client: Client) -> None:
    spawn_config = {"executable": {"app": "echo"}, "id": "chosen-by-hand"}

    session = client.connect(options=ConnectOptions(spawn_config=spawn_config))

    assert session.id == "chosen-by-hand"
    client.hard_terminate(session.id)


def test_waiting_tells_each_status_on_the_way(client: Client) -> None:
    told: list[str] = []
    session = client.connect("echo")

    update = client.wait_ready(session.id, 20, lambda update: told.append(update.status))

    assert update.status == "ready"
    assert (told[0], told[-1]) == ("scheduled", "ready")
    client.hard_terminate(session.id)


def test_waiting_for_a_session_that_fails_says_why(client: Client) -> None:
    session = client.connect("echo", env={"ECHO_EXIT_AT_ONCE": "3"})

    with pytest.raises(SessionFailed, match="has ended"):
        client.wait_ready(session.id, 20)


def test_waiting_for_what_was_ready_and_has_ended_fails(client: Client, session: Session) -> None:
    client.soft_terminate(session.id, wait=10)

    with pytest.raises(SessionFailed, match="stopped by request"):
        client.wait_ready(session.id, 20)


def test_waiting_has_an_end(client: Client) -> None:
    session = client.connect("echo", env={"ECHO_NEVER_LISTEN": "1"})

    with pytest.raises(TimedOut):
        client.wait_ready(session.id, 0.2)

    assert client.get(session.id).status != "terminated"
    client.hard_terminate(session.id)


def test_a_session_is_told_in_full(client: Client, session: Session) -> None:
    details = client.get(session.id)

    assert (details.app, details.user, details.status) == ("echo", "ada", "ready")
    assert details.told["routing"] == "path"


def test_a_list_goes_on_over_pages_and_heeds_its_filters(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("plane_tx.client.calls.PAGE", 1)
    made = [client.connect("echo", labels={"run": "listed"}).id for _ in range(3)]

    found = [each.id for each in client.list(labels={"run": "listed"})]

    assert found == made[::-1]
    for each in made:
        client.hard_terminate(each)


def test_why_says_what_keeps_a_session_and_what_ends_it(client: Client, session: Session) -> None:
    client.keep_alive(session.id, 30, "a render")

    why = client.why(session.id)

    assert why.alive
    assert [hold["reason"] for hold in why.holds] == ["a render"]


def test_logs_are_followed_until_the_session_has_ended(client: Client) -> None:
    session = client.connect("echo")
    client.wait_ready(session.id, 20)
    lines = client.logs(session.id, follow=True)
    first = next(lines)

    client.soft_terminate(session.id)

    assert "listening" in first.text
    assert all(line.stream in ("stdout", "stderr") for line in lines)


def test_logs_of_one_that_runs_are_those_so_far(client: Client, session: Session) -> None:
    assert ["listening" in line.text for line in client.logs(session.id)] == [True]


def test_stats_come_once_or_as_a_stream(client: Client, session: Session) -> None:
    stream = client.stats_stream(session.id)

    first, second = client.stats(session.id), next(stream)

    assert first.memory_bytes
    assert second.id == session.id
    stream.close()  # type: ignore[attr-defined]


def test_events_tell_of_every_session(server: LiveServer, client: Client) -> None:
    seen = threading.Event()
    thread = threading.Thread(target=spawn_until, args=(client, seen))
    thread.start()

    event = next(client.events())
    seen.set()
    thread.join()

    assert event.id
    assert event.status


def test_the_status_stream_ends_with_the_session(client: Client) -> None:
    session = client.connect("echo")
    client.hard_terminate(session.id, wait=10)

    statuses = [update.status for update in client.status_stream(session.id)]

    assert (statuses[0], statuses[-1]) == ("scheduled", "terminated")


def test_what_is_stopped_can_be_kept_alive_no_more(client: Client, session: Session) -> None:
    client.soft_terminate(session.id, wait=10)

    with pytest.raises(SessionEnded):
        client.keep_alive(session.id, 10)


def test_links_are_made_and_taken_back(client: Client, session: Session) -> None:
    link = client.link(session.id, "bob")

    assert link.url != session.url
    assert client.revoke(session.id, "bob") == "Revoked 1 token."


def test_a_link_to_a_tagged_session_needs_its_tag(client: Client) -> None:
    session = client.connect("echo", key="tagged", tag="blue")

    link = client.link(session.id, tag="blue")

    assert link.url != session.url
    with pytest.raises(KeyHeld, match="another tag"):
        client.link(session.id)


def test_draining_is_told_begun_and_ended(client: Client) -> None:
    was, during, after = client.drain_status(), client.drain(), client.undrain()

    assert [was.draining, during.draining, after.draining] == [False, True, False]


def test_an_autopsy_is_an_archive(client: Client, session: Session, tmp_path: Path) -> None:
    client.autopsy(session.id, tmp_path / "autopsy.tar.gz")

    assert tarfile.is_tarfile(tmp_path / "autopsy.tar.gz")


def test_health_and_version_are_told(client: Client) -> None:
    assert client.health().engine.ok
    assert client.server_status()["status"] == "ok"


def test_each_refusal_is_an_error_of_its_kind(client: Client) -> None:
    held = client.connect("echo", key="refusals", tag="v1")

    with pytest.raises(NotFound, match="nobody") as not_found:
        client.get("nobody")
    with pytest.raises(KeyUnheld):
        client.connect(key="free")
    with pytest.raises(KeyHeld):
        client.connect("echo", key="refusals", tag="v2")
    with pytest.raises(InvalidRequest, match="max_idle_seconds") as invalid:
        client.connect("echo", limits={"max_idle_seconds": "ten"})

    assert (not_found.value.status, invalid.value.status) == (404, 422)
    assert not_found.value.error_id
    client.hard_terminate(held.id)


def test_nothing_that_listens_is_unavailable() -> None:
    (port,) = free_ports(1)

    with Client(f"http://127.0.0.1:{port}") as client, pytest.raises(Unavailable, match="reached"):
        client.drain()


def test_the_url_may_come_from_the_environment(
    server: LiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLANE_TX_URL", server.control)

    with Client() as client:
        assert client.health().status == "ok"


def test_events_go_on_when_the_server_was_restarted(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    ports = (free_ports(1)[0], free_ports(1)[0])
    first = LiveServer(tmp_path, SERVER, ports=ports)
    request.addfinalizer(first.interrupt)
    first.wait_until_ready()
    with Client(first.control) as client:
        events = client.events()
        seen = threading.Event()
        thread = threading.Thread(target=spawn_until, args=(client, seen))
        thread.start()
        before = next(events)
        seen.set()
        thread.join()
        first.interrupt()
        second = LiveServer(tmp_path, SERVER, ports=ports)
        request.addfinalizer(second.interrupt)
        # It reads what the first one sent last, and then comes back.
        after = next(event for event in events if event.status == "gap")

    assert before.id
    assert after.told["message"].startswith("events were missed")
