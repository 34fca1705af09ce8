"""The whole life of a session as the dashboard shows it, on each engine."""

from __future__ import annotations

import io
import re
import tarfile
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, expect

from tests.browser.dashboard import Dashboard
from tests.browser.places import ready, spawn
from tests.browser.watched import Watched
from tests.live import LiveServer, ask

pytestmark = pytest.mark.chromium


def test_a_session_is_started_watched_read_explained_and_stopped(dashboard: Dashboard) -> None:
    form = dashboard.open().new_session().app("program")
    form.fill(Key="walk", User="ada").add("variable", "START_DELAY", "2")
    form.add("label", "team", "blue").add("label", "size", "small")

    session = form.start()

    expect(session.status).to_have_text(re.compile("scheduled|loading|starting|waiting"))
    expect(session.status).to_have_text("ready")
    assert session.statuses() == ["scheduled", "loading", "starting", "waiting", "ready"]
    expect(session.timeline.get_by_role("img", name=re.compile("^Boot, .* in all"))).to_be_visible()
    expect(session.log).to_contain_text("listening on")
    expect(session.facts).to_contain_text("team=blue")
    expect(session.why).to_contain_text("idle")

    session.confirm("Soft terminate")

    expect(session.status).to_have_text("terminated")
    expect(session.why).to_contain_text("it was stopped by request")
    expect(session.timeline).to_contain_text("soft termination")
    expect(session.log_section).to_contain_text("complete: the session has ended")
    session.page.get_by_role("link", name="All sessions").click()
    expect(dashboard.row("walk")).to_have_count(0)
    dashboard.ended.check()
    expect(dashboard.row("walk")).to_contain_text("external")


def test_a_session_that_fails_says_why(dashboard: Dashboard, server: LiveServer) -> None:
    made = spawn(server, "fails", env={"EXIT": 3, "SAYS": "these were its last words"})
    server.wait_for(made["backend_id"], "terminated")

    session = dashboard.open().session(made["backend_id"])

    expect(session.status).to_have_text("terminated")
    expect(session.detail).to_contain_text("exit code 3")
    expect(session.why).to_contain_text("these were its last words")
    expect(session.log).to_contain_text("these were its last words")
    expect(session.charts).to_contain_text("the session has ended")
    for name in ("Open", "Copy link", "Keep alive", "Soft terminate", "Hard terminate"):
        expect(session.button(name)).to_have_attribute("aria-disabled", "true")
    expect(session.button("Autopsy")).to_have_attribute("aria-disabled", "false")


def test_an_unknown_session_is_told_as_such(dashboard: Dashboard, watched: Watched) -> None:
    watched.allow("status of 404")

    session = dashboard.open().session("no-such-session")

    expect(session.notice).to_contain_text("There is no such session")
    session.notice.get_by_role("link", name="Back to all sessions").click()
    expect(dashboard.table).to_be_visible()


def test_open_leads_to_the_session_and_the_link_can_be_copied(
    dashboard: Dashboard, server: LiveServer, context: BrowserContext
) -> None:
    context.grant_permissions(["clipboard-read", "clipboard-write"], origin=server.control)
    made = ready(server, "reached")
    session = dashboard.open().session(made["backend_id"])

    with context.expect_page() as opened:
        session.button("Open").click()

    expect(opened.value.get_by_role("heading", name="Visit 1")).to_be_visible()
    assert opened.value.url.startswith(f"http://{server.cluster}/")
    assert opened.value.evaluate("window.opener") is None
    opened.value.close()
    session.button("Copy link").click()
    expect(session.told).to_contain_text("Copied a link")
    link = session.page.evaluate("navigator.clipboard.readText()")
    assert link not in (made["url"], "")
    assert ask("GET", link).status == 200


def test_a_lease_keeps_a_session_alive_and_is_told(
    dashboard: Dashboard, server: LiveServer
) -> None:
    made = ready(server, "leased")
    session = dashboard.open().session(made["backend_id"])

    session.button("Keep alive").click()
    session.page.get_by_role("dialog").get_by_label("Seconds").fill("900")
    session.page.get_by_role("dialog").get_by_role("button", name="Keep alive").click()

    expect(session.told).to_contain_text("Kept alive for 15 m")
    expect(session.why).to_contain_text("Lease for dashboard")
    assert server.session(made["backend_id"])["leases"][0]["reason"] == "dashboard"


def test_the_autopsy_is_an_archive_of_all_that_is_known(
    dashboard: Dashboard, server: LiveServer, tmp_path: Path
) -> None:
    made = ready(server, "examined")
    session = dashboard.open().session(made["backend_id"])

    with session.page.expect_download() as downloaded:
        session.button("Autopsy").click()

    assert downloaded.value.suggested_filename == f"{made['backend_id']}.tar.gz"
    downloaded.value.save_as(tmp_path / "autopsy")
    with tarfile.open(fileobj=io.BytesIO((tmp_path / "autopsy").read_bytes())) as archive:
        assert len(archive.getnames()) > 1


def test_connections_are_told_while_open_and_with_what_became_of_them(
    dashboard: Dashboard, server: LiveServer, context: BrowserContext
) -> None:
    made = ready(server, "connected")
    visitor = context.new_page()
    visitor.goto(made["url"])
    session = dashboard.open().session(made["backend_id"])

    visitor.evaluate(
        "new Promise((opened) => (window.socket = new WebSocket("
        "new URL('room-7/socket', location).href.replace('http', 'ws'))).onopen = opened)"
    )

    table = session.connections.get_by_role("region", name="Open connections")
    expect(table).to_contain_text("/room-7/socket")
    expect(session.why).to_contain_text("WebSocket")
    visitor.evaluate("socket.close(4001)")
    closed = session.connections.get_by_role("region", name="Closed connections")
    expect(closed).to_contain_text("4001")
    visitor.close()


def test_what_sessions_take_is_drawn_in_the_table_and_on_their_page(
    dashboard: Dashboard, server: LiveServer
) -> None:
    made = ready(server, "measured")
    dashboard.open()

    expect(dashboard.row("measured").locator(".col-memory")).to_contain_text(re.compile("[KM]iB"))
    expect(dashboard.row("measured").locator(".col-cpu")).to_contain_text("%")
    session = dashboard.session(made["backend_id"])
    chart = session.charts.get_by_role("figure").filter(has_text="Memory")
    expect(chart.locator("canvas")).to_be_visible()
    expect(chart).to_contain_text(re.compile(r"in use .*[KM]iB"))


def test_a_log_is_followed_searched_and_paused(dashboard: Dashboard, server: LiveServer) -> None:
    made = ready(server, "spoken")
    session = dashboard.open().session(made["backend_id"])
    expect(session.log).to_contain_text("listening on")

    for number in range(3):
        ask("GET", f"{made['url']}say?text=needle+{number}")
    expect(session.log).to_contain_text("needle 2")
    session.log_section.get_by_role("searchbox", name="Search the log").fill("needle")
    expect(session.log.locator("mark")).to_have_count(3)
    session.log_section.get_by_role("button", name="Pause").click()
    ask("GET", f"{made['url']}say?text=while+paused")
    expect(session.log_section).to_contain_text("paused: 1 line came since")
    expect(session.log).not_to_contain_text("while paused")
    session.log_section.get_by_role("button", name="Pause").click()
    expect(session.log).to_contain_text("while paused")
    session.log_section.get_by_role("button", name="Wrap").click()
    expect(session.log_section.get_by_role("button", name="Wrap")).to_have_attribute(
        "aria-pressed", "true"
    )


def test_the_overview_counts_what_happened(dashboard: Dashboard, server: LiveServer) -> None:
    made = ready(server, "counted")
    ask("POST", f"{server.control}/ctrl/b/{made['backend_id']}/hard-terminate?wait=30")
    left = ready(server, "left", max_idle_seconds=1)
    server.wait_for(left["backend_id"], "terminated")

    dashboard.open()

    expect(dashboard.card("Boot time").get_by_role("row").first).to_be_visible()
    expect(dashboard.card("Spawns by outcome")).to_contain_text("ready")
    expect(dashboard.card("Ends by reason")).to_contain_text("external")
    ends = dashboard.page.locator("section.card").filter(has=dashboard.card("Ends by reason"))
    expect(ends).to_contain_text("Reaped by a clock of the server: idle 1")
    expect(dashboard.tile("Reactor lag")).to_have_text(re.compile(r"^[\d.]+ m?s$"))


def test_a_page_asks_nobody_but_its_server(
    dashboard: Dashboard, server: LiveServer, watched: Watched
) -> None:
    made = ready(server, "alone")

    session = dashboard.open().visit("alone")

    expect(session.status).to_have_text("ready")
    expect(session.charts.locator("canvas").first).to_be_visible()
    assert watched.hosts() == {f"127.0.0.1:{server.control_port}"}
    assert made["backend_id"] == session.session_id
