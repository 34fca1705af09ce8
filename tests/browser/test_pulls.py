"""An image that is being pulled, as its session's page and the waiting page show it."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.browser.dashboard import Dashboard
from tests.browser.places import place
from tests.browser.valve import valve
from tests.browser.watched import Watched
from tests.engines import registry as registries
from tests.engines.registry import LOGIN, Registry
from tests.live import LiveServer, live_server

pytestmark = [pytest.mark.chromium, pytest.mark.docker, pytest.mark.registry]

SHELL = Path("/bin/busybox")

#: How much there is to pull, and how much of it comes before the valve is opened.
CARGO_BYTES, FIRST_BYTES = 24 << 20, 12 << 20

# Docker tells of it ten times a second at most, and what came within a tenth of the first only with
# what comes next: that may be much less than went through the valve.
SOME_BYTES = re.compile(r"^(0\.[1-9]|[1-9][\d.]*) of \d\d MiB$")

SERVES = "mkdir -p /www; echo '<h1>It is here</h1>' > /www/index.html; httpd -f -p 8080 -h /www"


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


def push(registry: Registry, name: str) -> None:
    """Put an image there that nobody has yet."""
    applets = ("sh", "mkdir", "echo", "httpd")
    programs = {f"bin/{applet}": SHELL.read_bytes() for applet in applets}
    registry.push(name, "latest", {**programs, "cargo": os.urandom(CARGO_BYTES)})


def test_both_pages_tell_how_much_has_come(
    registry: Registry,
    docker_server: LiveServer,
    page: Page,
    context: BrowserContext,
    watched: Watched,
) -> None:
    watched.allow("status of 503")
    push(registry, "large/cargo")
    with valve(registry.host, FIRST_BYTES) as slow:
        image = f"{slow.host}/large/cargo"
        login = {"username": LOGIN.username, "password": LOGIN.password}
        executable = {"image": image, "command": ["sh", "-c", SERVES], "credentials": login}
        made = docker_server.ask_connect({"spawn_config": {"executable": executable}})
        dashboard = Dashboard(context.new_page(), docker_server.control).open()

        page.goto(made["url"])

        expect(page.locator("#phase")).to_have_text("Pulling cargo.")
        expect(page.locator("#bytes")).to_have_text(SOME_BYTES)
        assert 0 < page.locator("#progress").evaluate("(bar) => bar.position") < 1
        expect(dashboard.row(made["backend_id"])).to_contain_text(re.compile(r"MB|MiB"))
        session = dashboard.session(made["backend_id"])
        expect(session.detail).to_contain_text("pulling cargo")
        expect(session.status).to_have_text("loading")
        slow.open()
        expect(page.get_by_role("heading", name="It is here")).to_be_visible()
        expect(session.status).to_have_text("ready")
        session.confirm("Hard terminate")
        expect(session.status).to_have_text("terminated")
        subprocess.run(["docker", "rmi", "--force", image], check=True, capture_output=True)
