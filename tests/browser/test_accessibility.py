"""Nothing serious keeps anybody out, of any page in any state, be it light or dark."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.browser.axe import grave
from tests.browser.dashboard import Dashboard
from tests.browser.places import ready, spawn
from tests.browser.test_signing_in import ADMIN, KEYS
from tests.live import LiveServer, ask, live_server

pytestmark = pytest.mark.chromium


@pytest.fixture(params=["light", "dark"])
def page(request: pytest.FixtureRequest, new_context: Callable[..., BrowserContext]) -> Page:
    """A page into which axe can be put, for its policy is not heeded."""
    context = new_context(color_scheme=request.param, bypass_csp=True, reduced_motion="reduce")
    context.watched.allow("status of (4|5)")
    return context.new_page()


@pytest.fixture
def dashboard(page: Page, on_processes: LiveServer) -> Dashboard:
    return Dashboard(page, on_processes.control)


def test_the_table_in_all_its_states(dashboard: Dashboard, on_processes: LiveServer) -> None:
    ready(on_processes, "lives")
    ended = spawn(on_processes, "fails", env={"EXIT": 3})
    on_processes.wait_for(ended["backend_id"], "terminated")
    spawn(on_processes, "boots", env={"START_DELAY": 60})
    dashboard.open()
    dashboard.ended.check()
    expect(dashboard.row("lives").first).to_contain_text("iB")
    expect(dashboard.row("fails").first).to_contain_text("exited")

    full = grave(dashboard.page)
    dashboard.filter.fill("nothing like this")
    expect(dashboard.page.get_by_text("Nothing matches.")).to_be_visible()
    nothing = grave(dashboard.page)

    assert [*full, *nothing] == []


def test_the_form(dashboard: Dashboard) -> None:
    form = dashboard.open().new_session().app("program")
    form.add("variable", "NOT_ALLOWED", "1").add("label", "a", "b")

    filled = grave(dashboard.page)
    form.start()
    expect(form.form).to_contain_text("lets no request set")
    refused = grave(dashboard.page)

    assert [*filled, *refused] == []


def test_the_page_of_a_session(dashboard: Dashboard, on_processes: LiveServer) -> None:
    made = ready(on_processes, "shown")
    ended = spawn(on_processes, "failed", env={"EXIT": 3, "SAYS": "last words"})
    on_processes.wait_for(ended["backend_id"], "terminated")
    session = dashboard.open().session(made["backend_id"])
    expect(session.charts).to_contain_text("in use")
    expect(session.log).to_contain_text("listening on")

    live = grave(dashboard.page)
    session.log_section.get_by_role("searchbox").fill("listening")
    expect(session.log.locator("mark")).to_have_count(1)
    searched = grave(dashboard.page)
    session.button("Hard terminate").click()
    asked = grave(dashboard.page)
    dashboard.page.keyboard.press("Escape")
    session = dashboard.session(ended["backend_id"])
    expect(session.why).to_contain_text("last words")
    dead = grave(dashboard.page)
    expect(dashboard.session("unknown").notice).to_contain_text("There is no such session")
    unknown = grave(dashboard.page)

    assert [*live, *searched, *asked, *dead, *unknown] == []


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    conf = '[engine]\nkind = "process"\n'
    with live_server(tmp_path_factory.mktemp("guarded"), conf, control=KEYS) as running:
        yield running


def test_the_sign_in_and_what_the_server_says_of_itself(page: Page, guarded: LiveServer) -> None:
    dashboard = Dashboard(page, guarded.control)
    page.goto(f"{guarded.control}/")
    dialog = page.get_by_role("dialog", name="Sign in")
    expect(dialog).to_be_visible()

    asked = grave(page)
    dialog.get_by_label("API key").fill("a-wrong-secret-of-nobody")
    dialog.get_by_role("button", name="Sign in").click()
    expect(dialog.get_by_role("alert")).to_contain_text("no key has this secret")
    wrong = grave(page)
    dialog.get_by_label("API key").fill(ADMIN)
    dialog.get_by_role("button", name="Sign in").click()
    dashboard.expect_live()
    empty = grave(page)
    bearer = {"Authorization": f"Bearer {ADMIN}"}
    ask("POST", f"{guarded.control}/ctrl/drain", headers=bearer)
    expect(page.get_by_text("The server drains")).to_be_visible()
    drains = grave(page)
    ask("DELETE", f"{guarded.control}/ctrl/drain", headers=bearer)

    assert [*asked, *wrong, *empty, *drains] == []


def test_the_pages_of_a_session_that_is_not_there(
    page: Page, on_processes: LiveServer, impatient: LiveServer
) -> None:
    boots = spawn(on_processes, "waited-for", env={"START_DELAY": 60})
    fails = spawn(on_processes, "waited-for-in-vain", env={"EXIT": 3, "SAYS": "last words"})
    deaf = ready(impatient, "deaf")
    ask("GET", f"{deaf['url']}deaf")
    late = spawn(impatient, "late", env={"START_DELAY": 60})
    found = {}

    for made, heading in (
        (boots, "Your session is starting"),
        (fails, re.compile("session")),
        (deaf, re.compile("")),
        (late, re.compile("")),
        ({"url": f"http://{impatient.cluster}/no-such-token/"}, re.compile("")),
    ):
        page.goto(made["url"])
        expect(page.get_by_role("heading", name=heading)).to_be_visible()
        found[page.title()] = grave(page)

    assert len(found) >= 4
    assert [each for findings in found.values() for each in findings] == []
