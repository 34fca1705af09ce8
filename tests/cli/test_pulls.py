"""A pull as `spawn` shows it, out of a real registry and held up half way."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.browser.places import place
from tests.browser.test_pulls import FIRST_BYTES, SERVES, push
from tests.browser.valve import valve
from tests.engines import registry as registries
from tests.engines.registry import LOGIN, Registry
from tests.live import PATIENCE_SECONDS, LiveServer, live_server

pytestmark = [pytest.mark.docker, pytest.mark.registry]

PROGRAM = Path(sys.executable).with_name("plane-tx")

#: The bar turns ten times a second; this is far more than half a pull takes.
MOST_SHOWN_BYTES = 100_000

#: Some of it, out of all of it.
HALF_WAY = re.compile(rb"(0\.[1-9]|[1-9][\d.]*)/\d\d\.\d MB")


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    folder = tmp_path / "registry"
    folder.mkdir()
    with registries.running(folder) as registry:
        yield registry


@pytest.fixture
def docker_server(tmp_path: Path) -> Iterator[LiveServer]:
    with place("docker") as its, live_server(tmp_path, its.conf) as running:
        yield running


def test_a_terminal_shows_how_much_of_an_image_has_come(
    registry: Registry, docker_server: LiveServer
) -> None:
    push(registry, "large/cargo")
    with valve(registry.host, FIRST_BYTES) as slow:
        image = f"{slow.host}/large/cargo"
        login = {"username": LOGIN.username, "password": LOGIN.password}
        executable = {"image": image, "command": ["sh", "-c", SERVES], "credentials": login}
        words = ["--spawn-config", json.dumps({"executable": executable, "id": "pulled"})]
        near, far = pty.openpty()
        termios.tcsetwinsize(far, (24, 160))
        with closing(os.fdopen(near, "rb", buffering=0)) as screen:
            environ = {**os.environ, "TERM": "xterm", "PLANE_TX_URL": docker_server.control}
            spawning = subprocess.Popen(
                [PROGRAM, "spawn", *words], env=environ, stdout=subprocess.PIPE, stderr=far
            )
            os.close(far)
            shown = bytearray()
            while not HALF_WAY.search(shown):
                assert select.select([screen], [], [], PATIENCE_SECONDS)[0], shown
                assert len(shown) < MOST_SHOWN_BYTES, shown[-500:]
                shown += screen.read(4096)
            slow.open()
            link, _ = spawning.communicate(timeout=PATIENCE_SECONDS)
        docker_server.wait_for("pulled", "ready")
        subprocess.run(
            [PROGRAM, "--url", docker_server.control, "stop", "--hard", "pulled"], check=True
        )
        subprocess.run(["docker", "rmi", "--force", image], check=True, capture_output=True)

    assert (spawning.returncode, link.startswith(b"http://localhost")) == (0, True)
