"""The table of sessions: what is looked for is found, in the order that is asked for."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.browser.dashboard import Dashboard, SessionPage
from tests.browser.places import ready
from tests.live import LiveServer, ask

pytestmark = pytest.mark.chromium

SESSIONS = [("beta", "ada", "red"), ("alpha", "bob", "red"), ("gamma", "ada", "blue")]


@pytest.fixture(scope="module")
def sessions(on_processes: LiveServer) -> LiveServer:
    """A server with three sessions."""
    for key, user, team in SESSIONS:
        made = on_processes.ask_connect(
            {
                "key": {"name": key},
                "user": user,
                "spawn_config": {"executable": {"app": "program"}, "labels": {"team": team}},
            }
        )
        on_processes.wait_for(made["backend_id"], "ready")
    return on_processes


@pytest.fixture
def dashboard(page: Page, sessions: LiveServer) -> Dashboard:
    return Dashboard(page, sessions.control).open()


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("alpha", {"alpha"}),
        ("user:ada", {"beta", "gamma"}),
        ("label:team=red -user:bob", {"beta"}),
        ("status:ready team=blue", {"gamma"}),
        ("<script>", set()),
    ],
)
def test_the_filter_leaves_what_matches(dashboard: Dashboard, words: str, found: set[str]) -> None:
    dashboard.filter.fill(words)

    expect(dashboard.table.locator("td.col-key")).to_have_count(len(found))
    assert set(dashboard.keys()) == found


def test_a_filter_that_matches_nothing_says_so_and_is_cleared(dashboard: Dashboard) -> None:
    dashboard.filter.fill("no such session")

    dashboard.page.get_by_role("button", name="Clear the filter").click()

    expect(dashboard.table.locator("td.col-key")).to_have_count(3)
    expect(dashboard.filter).to_have_value("")


def test_a_column_sorts_both_ways_and_says_so(dashboard: Dashboard) -> None:
    head = dashboard.table.get_by_role("columnheader", name="Key")

    dashboard.sort_by("Key")
    expect(head).to_have_attribute("aria-sort", "ascending")
    expect(dashboard.table.locator("td.col-key")).to_have_text(["alpha", "beta", "gamma"])
    dashboard.sort_by("Key")

    expect(head).to_have_attribute("aria-sort", "descending")
    expect(dashboard.table.locator("td.col-key")).to_have_text(["gamma", "beta", "alpha"])


def test_what_ends_a_session_next_is_counted_down_and_not_while_it_is_used(
    dashboard: Dashboard, sessions: LiveServer, context: BrowserContext
) -> None:
    made = ready(sessions, "counts-down", max_idle_seconds=600)
    ends = dashboard.row("counts-down").locator(".col-ends")
    visitor = context.new_page()
    visitor.goto(made["url"])

    expect(ends).to_have_text(re.compile(r"^(10 m|9 m \d+ s) idle$"))
    expect(ends).not_to_have_text(ends.inner_text())
    visitor.evaluate(
        "new Promise((opened) => (window.socket = new WebSocket("
        "new URL('socket', location).href.replace('http', 'ws'))).onopen = opened)"
    )

    expect(ends).to_have_text("in use")
    visitor.close()
    expect(ends).to_have_text(re.compile(r"^(10 m|9 m \d+ s) idle$"))
    ask("POST", f"{sessions.control}/ctrl/b/{made['backend_id']}/hard-terminate?wait=30")


def test_a_new_session_appears_by_itself_and_one_that_ends_goes(
    dashboard: Dashboard, sessions: LiveServer
) -> None:
    expect(dashboard.row("alpha")).to_have_count(1)
    asked = len(dashboard.page.context.watched.asked)

    made = ready(sessions, "newcomer")

    expect(dashboard.row("newcomer")).to_contain_text("ready")
    dashboard.page.evaluate(
        "(path) => fetch(path, {method: 'POST', headers: {'content-type': 'application/json'}})",
        f"/ctrl/b/{made['backend_id']}/hard-terminate",
    )
    expect(dashboard.row("newcomer")).to_have_count(0)
    news = dashboard.page.context.watched.asked[asked:]
    assert [url for url in news if "/ctrl/stats" not in url and "terminate" not in url] == []


def tab_to(page: Page, where: str) -> None:
    """Press Tab until the focus is at what the selector names; from there it is one step on."""
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("(where) => document.activeElement.matches(where)", where):
            return
    raise AssertionError(f"Tab does not lead to {where}")


def test_all_of_it_is_reached_with_the_keyboard_alone(dashboard: Dashboard) -> None:
    page, keyboard = dashboard.page, dashboard.page.keyboard

    tab_to(page, "#filter")
    keyboard.type("user:ada")
    expect(dashboard.table.locator("td.col-key")).to_have_count(2)
    tab_to(page, "th.col-key button")
    keyboard.press("Enter")
    expect(dashboard.table.locator("td.col-key")).to_have_text(["beta", "gamma"])
    tab_to(page, "tbody a")
    keyboard.press("ArrowDown")
    keyboard.press("Enter")

    session = SessionPage(page)
    expect(session.facts).to_contain_text("gamma")
    expect(session.heading).to_be_focused()
    tab_to(page, ".actions button")
    assert page.evaluate("document.activeElement.textContent") == "Open"
    tab_to(page, "[role=log]")


def test_the_focus_is_always_to_be_seen(dashboard: Dashboard) -> None:
    keyboard = dashboard.page.keyboard
    unseen = []

    for _ in range(30):
        keyboard.press("Tab")
        style = dashboard.page.evaluate(
            "() => { const {outlineStyle, outlineWidth, boxShadow} ="
            " getComputedStyle(document.activeElement);"
            " return [document.activeElement.outerHTML.slice(0, 80),"
            " outlineStyle !== 'none' && outlineWidth !== '0px' || boxShadow !== 'none'] }"
        )
        if not style[1] and not style[0].startswith("<body"):
            unseen.append(style[0])

    assert unseen == []


def test_the_theme_is_chosen_and_kept(
    dashboard: Dashboard, new_context: Callable[..., BrowserContext], sessions: LiveServer
) -> None:
    page = dashboard.page
    theme = page.get_by_role("button", name="theme")
    background = "getComputedStyle(document.documentElement).backgroundColor"
    expect(theme).to_contain_text("Auto")
    light = page.evaluate(background)

    theme.click(), theme.click()
    expect(theme).to_contain_text("Dark")
    dark = page.evaluate(background)
    page.reload()

    expect(theme).to_contain_text("Dark")
    assert page.evaluate(background) == dark != light
    by_the_system = new_context(color_scheme="dark").new_page()
    Dashboard(by_the_system, sessions.control).open()
    assert by_the_system.evaluate(background) == dark


def test_a_narrow_screen_is_not_wider_than_it_is(
    new_context: Callable[..., BrowserContext], sessions: LiveServer
) -> None:
    page = new_context().new_page()
    page.set_viewport_size({"width": 360, "height": 740})

    Dashboard(page, sessions.control).open()

    expect(page.get_by_text("alpha").first).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
