"""A page that stays open while its server is killed and started again."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.browser.dashboard import Dashboard
from tests.browser.places import Place, Start, ready
from tests.browser.watched import AWAY, Watched
from tests.live import LiveServer, ask

pytestmark = pytest.mark.chromium


def kill(server: LiveServer) -> None:
    server.process.kill()
    server.process.wait()


@pytest.fixture
def first(start: Start) -> LiveServer:
    return start()


@pytest.fixture
def dashboard(page: Page, watched: Watched, first: LiveServer) -> Dashboard:
    watched.allow(AWAY)
    return Dashboard(page, first.control)


def test_an_open_table_finds_the_server_again_and_shows_what_it_took_up(
    dashboard: Dashboard, first: LiveServer, start: Start, engine: Place
) -> None:
    ready(first, "survivor")
    dashboard.open()
    expect(dashboard.row("survivor")).to_contain_text("ready")
    dashboard.page.evaluate("window.stays = true")

    kill(first)
    expect(dashboard.connection).to_have_text("Reconnecting")
    expect(dashboard.row("survivor")).to_have_count(1)
    start()

    dashboard.expect_live()
    if not engine.adopts:
        dashboard.ended.check()
    wanted = "ready" if engine.adopts else "terminated"
    expect(dashboard.row("survivor")).to_contain_text(wanted)
    assert dashboard.page.evaluate("window.stays") is True


def test_an_open_session_page_goes_on_with_its_log(
    dashboard: Dashboard, first: LiveServer, start: Start, engine: Place
) -> None:
    made = ready(first, "spoken")
    session = dashboard.open().session(made["backend_id"])
    ask("GET", f"{made['url']}say?text=before+the+end")
    expect(session.log).to_contain_text("before the end")

    kill(first)
    expect(dashboard.connection).to_have_text("Reconnecting")
    start()

    dashboard.expect_live()
    if engine.adopts:
        expect(session.status).to_have_text("ready")
        ask("GET", f"{made['url']}say?text=after+the+start")
        expect(session.log).to_contain_text("after the start")
        expect(session.log.get_by_text("before the end")).to_have_count(1)
    else:
        expect(session.status).to_have_text("terminated")
        expect(session.why).to_contain_text("end with the server")
