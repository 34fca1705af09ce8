"""Sessions that would break the page: what they say stays text, and the page stays in bounds."""

from __future__ import annotations

import re
from urllib.parse import quote

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.browser.dashboard import Dashboard, SessionPage
from tests.browser.places import ready
from tests.live import LiveServer, ask

pytestmark = pytest.mark.chromium

#: Markup that would run a script in any of the ways that text becomes markup by mistake.
SCRIPT = "<script>window.broken = 1</script>"
IMAGE = "<img src=x onerror='window.broken = 1'>"
LEAVES = "\"'><svg onload=window.broken=1>{{constructor.constructor('window.broken=1')()}}"
TURNS = "\u202e\u2066\x1b[2J\x1b]0;title\x07"
LINK = "javascript:window.broken=1"

#: The bounds of what the page may keep.
MOST_NODES = 6_000
MOST_CHARACTERS = 11_000


def is_unbroken(page: Page) -> bool:
    """Whether no script of theirs ran, and none of their markup became elements."""
    return bool(
        page.evaluate("window.broken === undefined && !document.querySelector('img, main script')")
    )


def nodes(page: Page) -> int:
    return int(page.evaluate("document.querySelectorAll('*').length"))


@pytest.fixture
def hostile(server: LiveServer, request: pytest.FixtureRequest) -> dict[str, str]:
    """A session all of whose names are markup."""
    asked = {
        "key": {"name": f"{SCRIPT[:60]}{abs(hash(request.node.name))}", "namespace": IMAGE},
        "user": LEAVES,
        "spawn_config": {
            "executable": {"app": "program", "env": {"SAYS": f"{SCRIPT}{IMAGE}{TURNS}{LEAVES}"}},
            "labels": {"script": SCRIPT, "image": IMAGE, "link": LINK, "turns": LEAVES},
        },
    }
    made = server.ask_connect(asked)
    server.wait_for(made["backend_id"], "ready")
    return made


def test_markup_in_names_labels_logs_and_paths_stays_text(
    dashboard: Dashboard, hostile: dict[str, str], context: BrowserContext
) -> None:
    dashboard.open()
    expect(dashboard.row(hostile["backend_id"])).to_contain_text("ready")
    assert is_unbroken(dashboard.page)
    visitor = context.new_page()
    visitor.goto(hostile["url"])
    path = f"{quote(SCRIPT + IMAGE, safe='')}/socket"
    visitor.evaluate(
        "(path) => new Promise((opened) => (window.socket = new WebSocket("
        "new URL(path, location).href.replace('http', 'ws'))).onopen = opened)",
        path,
    )

    session = dashboard.session(hostile["backend_id"])

    expect(session.facts).to_contain_text(f"script={SCRIPT}")
    expect(session.facts).to_contain_text(IMAGE)
    expect(session.log).to_contain_text(SCRIPT)
    expect(session.connections).to_contain_text("%3Cscript%3E")
    assert session.page.locator("a[href^='javascript']").count() == 0
    session.log_section.get_by_role("searchbox", name="Search the log").fill("<img")
    expect(session.log.locator("mark").first).to_have_text("<img")
    assert is_unbroken(session.page)
    visitor.evaluate("window.socket.close()")
    visitor.close()


def test_a_log_line_of_ten_megabytes_is_cut(dashboard: Dashboard, server: LiveServer) -> None:
    made = ready(server, "long")
    session = dashboard.open().session(made["backend_id"])
    expect(session.log).to_contain_text("listening on")

    ask("GET", f"{made['url']}long?bytes=10000000")
    ask("GET", f"{made['url']}say?text=after+it")

    expect(session.log).to_contain_text("after it")
    longest = (
        "Math.max(...[...document.querySelectorAll('.log-text')].map((e) => e.textContent.length))"
    )
    assert session.page.evaluate(longest) < MOST_CHARACTERS
    assert nodes(session.page) < MOST_NODES
    assert_takes_input(session)


def test_a_thousand_lines_a_second_leave_the_page_in_bounds_and_at_hand(
    dashboard: Dashboard, server: LiveServer
) -> None:
    made = ready(server, "flood")
    session = dashboard.open().session(made["backend_id"])
    expect(session.log).to_contain_text("listening on")

    ask("GET", f"{made['url']}flood?lines=9000&a_second=1000")
    expect(session.log).to_contain_text(re.compile(r"flood \d"))
    assert_takes_input(session)
    expect(session.log).not_to_contain_text("the flood is over")
    expect(session.log).to_contain_text("the flood is over")

    assert nodes(session.page) < MOST_NODES
    expect(session.log_section).to_contain_text("older ones dropped")
    assert is_unbroken(session.page)
    assert_takes_input(session)


def assert_takes_input(session: SessionPage) -> None:
    """Whether what is typed and clicked is heeded."""
    box = session.log_section.get_by_role("searchbox", name="Search the log")
    box.fill("")
    box.press_sequentially("onerror")
    expect(box).to_have_value("onerror")
    wrap = session.log_section.get_by_role("button", name="Wrap")
    was = wrap.get_attribute("aria-pressed")
    wrap.click()
    expect(wrap).not_to_have_attribute("aria-pressed", was or "")
    box.fill("")
