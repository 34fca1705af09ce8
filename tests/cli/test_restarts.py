"""What follows a server goes on when that was restarted, and says so when it is gone for good."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from plane_tx.client import Client, Unavailable, models
from tests.live import PATIENCE_SECONDS, LiveServer, free_ports, heed_interrupts
from tests.process_server import SERVER

PROGRAM = Path(sys.executable).with_name("plane-tx")


class Restarted:
    """A server that can be stopped and started again, at the same place."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        first, second = free_ports(2)
        self._ports = (first, second)
        self.server = self.start()

    def start(self) -> LiveServer:
        self.server = LiveServer(self._folder, SERVER, ports=self._ports)
        self.server.wait_until_ready()
        return self.server

    def spawn(self) -> str:
        made = self.server.connect("echo")["backend_id"]
        self.server.wait_for(made, "ready")
        return str(made)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Restarted]:
    restarted = Restarted(tmp_path)
    yield restarted
    restarted.server.interrupt()


@contextmanager
def started(server: LiveServer, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [PROGRAM, "--url", server.control, "--json", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_interrupts,  # noqa: PLW1509  # it takes no lock
    ) as process:
        try:
            yield process
        finally:
            process.terminate()


def next_line(process: subprocess.Popen[str]) -> dict[str, object]:
    assert process.stdout is not None
    told: dict[str, object] = json.loads(process.stdout.readline())
    return told


def test_logs_end_with_the_session_that_ends_with_its_server(place: Restarted) -> None:
    made = place.spawn()

    with started(place.server, "logs", "-f", made) as following:
        assert "listening" in str(next_line(following)["text"])
        place.server.interrupt()
        place.start()
        _, told = following.communicate(timeout=PATIENCE_SECONDS)

    assert (following.returncode, told) == (0, "")


def test_top_shows_what_the_next_server_has(place: Restarted) -> None:
    before = place.spawn()

    with started(place.server, "top") as following:
        assert next_line(following)["backend_id"] == before
        place.server.interrupt()
        place.start()
        after = place.spawn()
        while (sample := next_line(following))["backend_id"] == before:
            pass

    assert sample["backend_id"] == after


def test_waiting_for_a_server_that_is_gone_for_good_says_so(place: Restarted) -> None:
    url = place.server.control
    session = place.server.connect("echo", executable={"env": {"ECHO_NEVER_LISTEN": "1"}})

    with Client(url) as client:
        place.server.interrupt()
        with pytest.raises(Unavailable, match="cannot be reached"):
            client.wait_ready(session["backend_id"], 1.0)


def test_a_connect_that_a_restart_cut_off_makes_one_session(place: Restarted) -> None:
    with Client(place.server.control) as client:
        first = client.connect("echo", idempotency_key="cut-off")
        place.server.interrupt()
        place.start()
        second = client.connect("echo", idempotency_key="cut-off")
        listed: list[models.Details] = list(client.list())

    assert second == first
    assert [each.id for each in listed] == [first.id]
