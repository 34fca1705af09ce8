"""A real Chromium, pages in it that are watched, and servers on both engines to look at."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.browser.dashboard import Dashboard
from tests.browser.places import Place, Start, end_all, place
from tests.browser.watched import Watched
from tests.live import PATIENCE_SECONDS, LiveServer, live_server

CHROMIUM = "/usr/bin/chromium"
LAUNCH = Path(__file__).with_name("launch.py")

#: Wide enough for every column of the table.
VIEWPORT = {"width": 1400, "height": 900}

expect.set_options(timeout=PATIENCE_SECONDS * 1000)


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = tmp_path_factory.mktemp("program") / "chromium"
    words = (sys.executable, LAUNCH, CHROMIUM)
    program.write_text(f'#!/bin/sh\nexec {shlex.join(map(str, words))} "$@"\n')
    program.chmod(0o755)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        yield browser
        browser.close()


@pytest.fixture
def new_context(chromium: Browser) -> Iterator[Callable[..., BrowserContext]]:
    """Make contexts, whose `watched` fails the test in the end if it has complaints."""
    contexts: list[BrowserContext] = []
    watched: list[Watched] = []

    def make(**options: Any) -> BrowserContext:
        context = chromium.new_context(viewport=VIEWPORT, **options)
        context.set_default_timeout(PATIENCE_SECONDS * 1000)
        contexts.append(context)
        watched.append(Watched(context))
        context.watched = watched[-1]
        return context

    yield make
    for context in contexts:
        context.close()
    assert [told for each in watched for told in each.complaints()] == []


@pytest.fixture
def context(new_context: Callable[..., BrowserContext]) -> BrowserContext:
    return new_context()


@pytest.fixture
def watched(context: BrowserContext) -> Watched:
    """What is watched of `page`."""
    return context.watched


@pytest.fixture
def page(context: BrowserContext) -> Page:
    return context.new_page()


@pytest.fixture(
    scope="module", params=["process", pytest.param("docker", marks=pytest.mark.docker)]
)
def engine(request: pytest.FixtureRequest) -> Iterator[Place]:
    """Where sessions run; a test of it runs once for each engine."""
    with place(request.param) as its:
        yield its


@pytest.fixture(scope="module")
def server(engine: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """One that the tests of a module share: each has keys of its own."""
    with live_server(tmp_path_factory.mktemp("server"), engine.conf) as running:
        yield running
        end_all(running)


@pytest.fixture
def start(engine: Place, tmp_path: Path) -> Iterator[Start]:
    """Start a server of one's own, each time at the same addresses and with the same state."""
    started: list[LiveServer] = []
    with place(engine.kind) as its:

        def start() -> LiveServer:
            ports = (started[0].control_port, started[0].proxy_port) if started else None
            started.append(LiveServer(tmp_path, its.conf, ports=ports))
            started[-1].wait_until_ready()
            return started[-1]

        yield start
        if started[-1].process.poll() is None:
            end_all(started[-1])
        for server in started:
            server.interrupt()


@pytest.fixture(scope="module")
def on_processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """The same on the process engine alone, for what does not depend on the engine."""
    with place("process") as its, live_server(tmp_path_factory.mktemp("server"), its.conf) as run:
        yield run
        end_all(run)


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """One that shows no waiting page and holds nobody for long."""
    with place("process") as its:
        conf = f"hold_seconds = 1.0\n[pages]\nwaiting = false\n{its.conf}"
        with live_server(tmp_path_factory.mktemp("server"), conf) as running:
            yield running


@pytest.fixture
def dashboard(page: Page, server: LiveServer) -> Dashboard:
    return Dashboard(page, server.control)


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where screenshots go: PLANE_TX_PICTURES, so that a usual run changes nothing here."""
    asked = os.environ.get("PLANE_TX_PICTURES")
    return Path(asked) if asked else tmp_path_factory.mktemp("pictures")
