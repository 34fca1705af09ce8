"""A server with API keys: the page asks for one, keeps it for its tab, and may do what it may."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.dashboard import Dashboard
from tests.browser.places import place
from tests.browser.watched import Watched
from tests.live import LiveServer, ask, live_server

pytestmark = pytest.mark.chromium

ADMIN, READER = "the-secret-of-the-admin", "the-secret-of-the-reader"
KEYS = f'api_keys = ["boss:admin:{ADMIN}", "viewer:read:{READER}"]'


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    folder = tmp_path_factory.mktemp("server")
    with place("process") as its, live_server(folder, its.conf, control=KEYS) as running:
        wanted = {"key": {"name": "kept"}, "spawn_config": {"executable": {"app": "program"}}}
        bearer = {"Authorization": f"Bearer {ADMIN}"}
        assert ask("POST", f"{running.control}/ctrl/connect", wanted, bearer).status == 200
        yield running


@pytest.fixture
def dialog(page: Page, guarded: LiveServer, watched: Watched) -> Locator:
    """What asks for the key on the page."""
    watched.allow("status of 401", "status of 403")
    page.goto(f"{guarded.control}/")
    return page.get_by_role("dialog", name="Sign in")


def sign_in(dialog: Locator, secret: str) -> None:
    dialog.get_by_label("API key").fill(secret)
    dialog.get_by_role("button", name="Sign in").click()


def test_a_wrong_key_is_refused_and_the_right_one_opens(
    dialog: Locator, page: Page, guarded: LiveServer
) -> None:
    dashboard = Dashboard(page, guarded.control)
    expect(dashboard.table.get_by_text("kept")).to_have_count(0)

    sign_in(dialog, "some-other-secret")
    expect(dialog.get_by_role("alert")).to_contain_text("no key has this secret")
    sign_in(dialog, ADMIN)

    dashboard.expect_live()
    expect(dialog).to_be_hidden()
    expect(dashboard.row("kept")).to_have_count(1)


def test_the_key_is_kept_for_the_tab_and_forgotten_on_request(
    dialog: Locator, page: Page, guarded: LiveServer
) -> None:
    sign_in(dialog, ADMIN)
    Dashboard(page, guarded.control).expect_live()

    page.reload()
    Dashboard(page, guarded.control).expect_live()
    another = page.context.new_page()
    another.goto(f"{guarded.control}/")
    expect(another.get_by_role("dialog", name="Sign in")).to_be_visible()
    page.get_by_role("button", name="Sign out").click()

    expect(dialog).to_be_visible()
    assert page.evaluate("Object.keys(localStorage)") in ([], ["plane-tx-theme"])
    assert page.evaluate("Object.keys(sessionStorage)") == []


def test_a_reader_sees_all_and_is_told_what_it_may_not(
    dialog: Locator, page: Page, guarded: LiveServer
) -> None:
    sign_in(dialog, READER)
    dashboard = Dashboard(page, guarded.control)
    dashboard.expect_live()

    session = dashboard.visit("kept")
    expect(session.log).to_contain_text("listening on")
    session.confirm("Hard terminate")

    expect(session.told).to_contain_text("this needs a key with the scope admin")
    expect(session.status).to_have_text("ready")


def test_an_administrator_follows_logs_and_ends_sessions(
    dialog: Locator, page: Page, guarded: LiveServer
) -> None:
    sign_in(dialog, ADMIN)
    dashboard = Dashboard(page, guarded.control)
    dashboard.expect_live()

    form = dashboard.new_session().app("program").fill(Key="short")
    session = form.start()
    expect(session.status).to_have_text("ready")
    expect(session.log).to_contain_text("listening on")
    session.confirm("Hard terminate")

    expect(session.status).to_have_text("terminated")
    expect(session.why).to_contain_text("boss")
