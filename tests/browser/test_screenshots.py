"""Pictures for the README and docs/dashboard.md, of a server with something to see.

`make screenshots` writes them to docs/images; any other run takes them where nobody looks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.browser.dashboard import Dashboard
from tests.browser.places import place
from tests.live import LiveServer, ask, live_server

pytestmark = pytest.mark.chromium

#: Apps that are all the same program, under names that people give theirs.
NAMES = ("notebook", "canvas", "solver")
APP = """
[apps.{name}]
command = ["{{python}}", "tests/browser/program.py"]
workdir = "."
request_env = ["START_DELAY", "LISTEN_ON", "EXIT", "SAYS"]
"""

PEOPLE = ("ada", "grace", "edsger", "barbara", "donald", "radia", "ken")
VIEWPORT = {"width": 1440, "height": 860}


@pytest.fixture(scope="module")
def lively(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server with sessions of many kinds."""
    with place("process") as its:
        conf = its.conf + "".join(APP.format(name=name) for name in NAMES)
        with live_server(tmp_path_factory.mktemp("server"), conf) as running:
            for number in range(18):
                _spawn(running, number)
            yield running


def _spawn(server: LiveServer, number: int) -> None:
    env = {1: {"EXIT": "3", "SAYS": "no licence found"}, 2: {"START_DELAY": "90"}}.get(number, {})
    wanted = {
        "key": {"name": f"doc-{4200 + number * 37}"},
        "user": PEOPLE[number % len(PEOPLE)],
        "spawn_config": {
            "executable": {"app": NAMES[number % len(NAMES)], "env": env},
            "labels": {"team": ("blue", "red")[number % 2]},
            "max_idle_seconds": 600 + 60 * number,
        },
    }
    made = server.ask_connect(wanted)
    if not env:
        server.wait_for(made["backend_id"], "ready")
    if number % 3 == 0:
        for line in ("opened the document", "2 people here", "saved in 41 ms"):
            ask("GET", f"{made['url']}say?text={line.replace(' ', '+')}")
    if number in (5, 11):
        ask("POST", f"{server.control}/ctrl/b/{made['backend_id']}/soft-terminate?wait=20")


@pytest.fixture(params=["light", "dark"])
def scheme(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def page(scheme: str, new_context: Callable[..., BrowserContext]) -> Page:
    context = new_context(color_scheme=scheme, reduced_motion="reduce", device_scale_factor=1.25)
    context.watched.allow("status of 503")
    page = context.new_page()
    page.set_viewport_size(VIEWPORT)
    return page


@pytest.fixture
def take(page: Page, scheme: str, pictures: Path) -> Callable[[str], Path]:
    """Take a picture of what the page shows."""

    def take(name: str) -> Path:
        pictures.mkdir(parents=True, exist_ok=True)
        path = pictures / (f"{name}.png" if scheme == "light" else f"{name}-{scheme}.png")
        page.screenshot(path=path)
        return path

    return take


def test_the_dashboard(page: Page, lively: LiveServer, take: Callable[[str], Path]) -> None:
    dashboard = Dashboard(page, lively.control).open()
    dashboard.ended.check()
    expect(dashboard.row("doc-4200").locator(".col-cpu")).to_contain_text("%")
    # A line of a few samples is more to look at than one of two.
    line = dashboard.row("doc-4200").locator(".col-memory .spark-line")
    expect(line).to_have_attribute("points", re.compile(r"^(\S+ ){3}"))

    assert take("dashboard").stat().st_size > 10_000


def test_a_session(page: Page, lively: LiveServer, take: Callable[[str], Path]) -> None:
    dashboard = Dashboard(page, lively.control).open()
    session = dashboard.visit("doc-4311")
    expect(session.log).to_contain_text("saved in 41 ms")
    expect(session.charts).to_contain_text("in use")

    assert take("session").stat().st_size > 10_000


def test_waiting(page: Page, lively: LiveServer, take: Callable[[str], Path]) -> None:
    page.set_viewport_size({"width": 900, "height": 560})
    # One slow boot makes room: on a busy box a page takes longer to open than the others took.
    slow = lively.connect("notebook", executable={"env": {"START_DELAY": "8"}})
    lively.wait_for(slow["backend_id"], "ready")
    made = lively.connect("notebook", executable={"env": {"START_DELAY": "60"}})

    page.goto(made["url"])
    expect(page.locator("#estimate")).to_contain_text("usually")

    assert take("waiting").stat().st_size > 5_000
