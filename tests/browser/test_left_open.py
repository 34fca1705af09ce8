"""Pages that are left open: they hold no session alive, and leave nothing behind in the end."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import pytest
from playwright.sync_api import BrowserContext, CDPSession, Page, Route, expect

from tests.browser.dashboard import Dashboard
from tests.browser.places import ready, spawn
from tests.live import LiveServer, ask, until

pytestmark = pytest.mark.chromium

#: What may differ when all that was opened is closed again: what is made when it is first used.
MORE_NODES, MORE_LISTENERS, MORE_BYTES = 200, 40, 4_000_000

#: A night's worth of news, faster: so many events, in so many streams that the server ended.
EVENTS, STREAMS = 6_000, 3


@attrs.frozen
class Held:
    """What a page holds once its garbage is collected."""

    nodes: int
    listeners: int
    heap: int

    def is_hardly_more_than(self, before: Held) -> bool:
        return (
            self.nodes <= before.nodes + MORE_NODES
            and self.listeners <= before.listeners + MORE_LISTENERS
            and self.heap <= before.heap + MORE_BYTES
        )


@pytest.fixture
def held(page: Page) -> Iterator[Callable[[], Held]]:
    """Tells what `page` holds now."""
    devtools: CDPSession = page.context.new_cdp_session(page)
    devtools.send("Performance.enable")

    def held() -> Held:
        # What the first finds to be finalised the second finds gone.
        devtools.send("HeapProfiler.collectGarbage")
        devtools.send("HeapProfiler.collectGarbage")
        told = {
            each["name"]: each["value"]
            for each in devtools.send("Performance.getMetrics")["metrics"]
        }
        return Held(int(told["Nodes"]), int(told["JSEventListeners"]), int(told["JSHeapUsedSize"]))

    yield held
    devtools.detach()


def test_open_pages_keep_no_session_alive(
    dashboard: Dashboard, server: LiveServer, context: BrowserContext
) -> None:
    context.watched.allow("status of 503")
    made = spawn(server, "idle", max_idle_seconds=3)
    visitor = context.new_page()
    visitor.goto(made["url"])
    expect(visitor.get_by_role("heading", name="Visit 1", exact=True)).to_be_visible()
    visitor.evaluate(
        "window.socket = new WebSocket(location.href.replace('http', 'ws') + 'socket')"
    )
    dashboard.open()
    expect(dashboard.row("idle")).to_contain_text("ready")
    session = Dashboard(context.new_page(), server.control).session(made["backend_id"])
    expect(session.log).to_contain_text("listening on")
    expect(session.charts).to_contain_text("in use")

    visitor.close()

    expect(session.status).to_have_text("terminated")

    expect(session.why).to_contain_text("nobody used it for 3 s")
    expect(dashboard.row("idle")).to_have_count(0)
    assert server.session(made["backend_id"])["status_history"][-1]["termination_reason"] == "idle"


def test_pages_that_come_and_go_leave_nothing_in_the_server(
    server: LiveServer, new_context: Callable[..., BrowserContext]
) -> None:
    made = ready(server, "visited")
    _visit_all(new_context, server, made["backend_id"])
    ask("GET", f"{server.control}/pub/health")
    files = server.open_files()

    for _ in range(5):
        _visit_all(new_context, server, made["backend_id"])

    # What the closed tabs had open ends when the server hears of it.
    until(lambda: server.open_files() <= files)
    assert server.open_files() <= files


def _visit_all(
    new_context: Callable[..., BrowserContext], server: LiveServer, session_id: str
) -> None:
    """Look at everything there is in tabs of their own, and close them all at once."""
    context = new_context()
    pages = [Dashboard(context.new_page(), server.control).open() for _ in range(2)]
    session = pages[1].session(session_id)
    expect(session.log).to_contain_text("listening on")
    expect(session.charts).to_contain_text("in use")
    expect(pages[0].row("visited").locator(".col-memory")).to_contain_text("iB")
    context.close()


def test_session_pages_that_were_left_leave_nothing_in_the_browser(
    page: Page, on_processes: LiveServer, held: Callable[[], Held]
) -> None:
    dashboard = Dashboard(page, on_processes.control)
    made = ready(on_processes, "looked-at")
    dashboard.open()

    def look() -> None:
        session = dashboard.visit("looked-at")
        expect(session.log).to_contain_text("listening on")
        expect(session.charts.locator("canvas").first).to_be_visible()
        session.page.get_by_role("link", name="All sessions").click()
        expect(dashboard.row(made["backend_id"])).to_be_visible()

    for _ in range(3):
        look()
    before = held()

    for _ in range(12):
        look()

    assert held().is_hardly_more_than(before), (before, held())


def _row(number: int, turn: int, now: int) -> dict[str, Any]:
    """A row of the board, as the server tells it."""
    return {
        "id": f"night-{number}", "status": "ready", "reason": None, "detail": None,
        "key": {"name": f"key-{number}", "namespace": ""}, "user": f"user-{turn % 7}",
        "app": "program", "image": None, "labels": {"turn": str(turn)}, "connections": turn % 5,
        "leases": 0, "idle_since": None, "ends": {"cause": "idle", "at": now + 60_000},
        "created_at": now - 60_000, "ready_at": now - 59_000, "ended_at": None,
        "exit_code": None, "failure": None, "adopted": False,
    }  # fmt: skip


def _night(hello: dict[str, Any]) -> str:
    """A stream of many changes: 300 sessions, of which one ends and one begins at every tenth."""
    now = int(time.time() * 1000)
    events = [("hello", hello), ("sessions", {"rows": [_row(n, 0, now) for n in range(300)]})]
    events.append(("complete", {}))
    oldest, newest = 0, 300
    for turn in range(EVENTS):
        gone = []
        if turn % 10 == 0:
            gone, oldest, newest = [f"night-{oldest}"], oldest + 1, newest + 1
        span = newest - oldest
        rows = [_row(oldest + (turn * step) % span, turn, now) for step in (1, 7)]
        events.append(
            ("changed", {"time": now, "rows": [*rows, _row(newest - 1, turn, now)], "gone": gone})
        )
    return "".join(f"event: {name}\ndata: {json.dumps(data)}\n\n" for name, data in events)


def test_a_night_of_changes_leaves_nothing_in_the_browser(
    page: Page, on_processes: LiveServer, held: Callable[[], Held]
) -> None:
    dashboard = Dashboard(page, on_processes.control)
    ready(on_processes, "morning")
    dashboard.open()
    hello = dashboard.page.evaluate("import('/web/board.js').then(({board}) => board.hello)")
    streams = deque([_night(hello)])

    def tell(route: Route) -> None:
        if streams:
            route.fulfill(body=streams.popleft(), content_type="text/event-stream")
        else:
            route.continue_()

    def pass_the_night() -> Held:
        dashboard.page.reload()
        expect(dashboard.row("morning")).to_be_visible()
        expect(dashboard.row("night-")).to_have_count(0)
        assert not streams
        return held()

    dashboard.page.route("**/ctrl/board", tell)
    before = pass_the_night()
    streams += [_night(hello)] * STREAMS
    after = pass_the_night()

    assert after.is_hardly_more_than(before), (before, after)
