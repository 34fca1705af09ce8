"""What a browser is shown of a session that is not ready, until it is, or why it will not be."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Page, Response, Route, expect

from tests.browser.places import Place, Start, end_all, ready, spawn
from tests.browser.watched import AWAY, Watched
from tests.live import LiveServer, ask, live_server, until

pytestmark = pytest.mark.chromium

STARTING = "Your session is starting"
#: What Chromium itself says of each page that is no success.
STATUS = r"status of (410|502|503)"


@pytest.fixture(scope="module")
def server(engine: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """One that shows the last lines of logs."""
    conf = f"{engine.conf}[pages]\nlogs = true\n"
    with live_server(tmp_path_factory.mktemp("server"), conf) as running:
        yield running
        end_all(running)


@pytest.fixture(autouse=True)
def expected(watched: Watched) -> None:
    watched.allow(STATUS)


def visits(page: Page, made: dict[str, Any]) -> int:
    """How often the browser went to a session's link."""
    return page.context.watched.navigations.count(made["url"])


def expect_handed_over(page: Page, made: dict[str, Any], after: int = 1) -> None:
    """Expect that the session's own page is there, which was asked for just once."""
    expect(page.get_by_role("heading", name="Visit 1", exact=True)).to_be_visible()
    # A page that goes on to reload itself would be seen to by the time that this is answered.
    assert ask("GET", f"{made['url']}say?text=visited").status == 200
    expect(page.get_by_role("heading", name="Visit 1", exact=True)).to_be_visible()
    assert visits(page, made) == after + 1


def test_a_session_that_boots_is_waited_for_and_then_there(page: Page, server: LiveServer) -> None:
    made = spawn(server, "waited-for", env={"START_DELAY": 2})

    shown = page.goto(made["url"], wait_until="commit")

    assert isinstance(shown, Response)
    assert (shown.status, shown.headers["cache-control"]) == (503, "no-store")
    assert int(shown.headers["retry-after"]) > 0
    expect(page.get_by_role("heading", name=STARTING)).to_be_visible()
    expect(page.locator("#phase")).to_have_text("Its server does not answer HTTP yet.")
    expect(page.locator("#elapsed")).to_have_text(re.compile(r"^\d+ s so far$"))
    expect_handed_over(page, made)


def test_what_stands_behind_the_link_is_kept(page: Page, server: LiveServer) -> None:
    made = spawn(server, "path", env={"START_DELAY": 1})

    page.goto(f"{made['url']}some/where?a=1&b=%3Cb%3E#there")

    expect(page.get_by_text("/some/where?a=1&b=%3Cb%3E", exact=True)).to_be_visible()
    assert page.url.endswith("/some/where?a=1&b=%3Cb%3E#there")


def test_the_last_lines_it_wrote_are_shown_as_text(page: Page, server: LiveServer) -> None:
    said = "<script>window.broken = 1</script><img src=x onerror='window.broken = 1'>"
    made = spawn(server, "says", env={"START_DELAY": 4, "SAYS": said})

    page.goto(made["url"])

    expect(page.get_by_role("region", name="The last lines")).to_have_text(said)
    assert page.evaluate("window.broken === undefined && !document.querySelector('img')")
    expect_handed_over(page, made)


def test_a_port_that_is_not_open_is_told_with_the_one_that_is(
    page: Page, server: LiveServer
) -> None:
    wrong = {"LISTEN_ON": 31_234}
    made = spawn(server, "wrong", env=wrong, readiness={"timeout_seconds": 7})
    told = re.compile(r"[Pp]ort \d+ is not open.* listens on .*\b31234\b")

    page.goto(made["url"])

    expect(page.locator("#phase")).to_have_text(told)
    expect(page.get_by_role("heading", name=STARTING)).to_be_visible()
    expect(page.get_by_role("heading", name="ended before it was ready")).to_be_visible()
    expect(page.locator("#phase")).to_have_text(told)
    assert told.search(server.session(made["backend_id"])["failure"]["message"])
    gone = page.reload()
    assert gone is not None
    assert gone.status == 410
    expect(page.locator("#message")).to_have_text(told)


def test_a_session_that_exits_is_told_with_its_exit_code(page: Page, server: LiveServer) -> None:
    made = spawn(server, "exits", env={"EXIT": 3, "SAYS": "no licence found"})

    page.goto(made["url"])

    expect(page.locator("main")).to_contain_text("exit code 3")
    assert visits(page, made) == 1


def test_other_callers_are_held_until_it_is_ready(page: Page, server: LiveServer) -> None:
    """By curl, and by a page's own fetch, whatever either says it accepts."""
    beside = ready(server, "beside")
    page.goto(beside["url"])
    plain = spawn(server, "plain", env={"START_DELAY": 1})
    fetched = spawn(server, "fetched", env={"START_DELAY": 1})

    by_curl = ask("GET", plain["url"], headers={"Accept": "*/*"})
    by_fetch = page.evaluate(
        "(url) => fetch(url, {headers: {accept: 'text/html'}})"
        ".then(async (answer) => [answer.status, await answer.text()])",
        fetched["url"],
    )

    assert by_curl.status == 200
    assert by_fetch[0] == 200
    assert all("<h1>Visit 0</h1>" in text for text in (by_curl.body.decode(), by_fetch[1]))


def test_other_callers_are_told_in_json_why_it_failed(page: Page, server: LiveServer) -> None:
    made = spawn(server, "exits-too", env={"EXIT": 4, "START_DELAY": 0})

    answer = ask("GET", made["url"])

    assert (answer.status, answer.headers["content-type"]) == (410, "application/json")
    assert "exit code 4" in answer.json["message"]


def test_a_page_that_embeds_a_session_shows_it_waiting_and_then_ready(
    page: Page, server: LiveServer
) -> None:
    made = spawn(server, "embedded", env={"START_DELAY": 2})

    page.set_content(f'<iframe title=it src="{made["url"]}" width=800 height=600></iframe>')

    frame = page.frame_locator("iframe")
    expect(frame.get_by_role("heading", name=STARTING)).to_be_visible()
    expect(frame.get_by_role("heading", name="Visit 1", exact=True)).to_be_visible()


def test_without_scripts_the_page_loads_itself_anew(
    new_context: Callable[..., BrowserContext], server: LiveServer
) -> None:
    context = new_context(java_script_enabled=False)
    context.watched.allow(STATUS)
    made = spawn(server, "scriptless", env={"START_DELAY": 2})
    page = context.new_page()

    page.goto(made["url"])

    expect(page.get_by_role("heading", name=STARTING)).to_be_visible()
    expect(page.locator("#phase")).not_to_be_empty()
    expect(page.get_by_role("heading", name="Visit 1", exact=True)).to_be_visible()


def test_a_hand_over_that_leads_back_is_no_loop(page: Page, server: LiveServer) -> None:
    made = spawn(server, "flaps", env={"START_DELAY": 60})

    def claim_ready(route: Route) -> None:
        if "x-plane-tx-waiting" not in route.request.headers:
            route.continue_()
            return
        told = {"version": "v", "state": "ready", "status": "ready", "phase": "ready", "time": 0}
        route.fulfill(json=told)

    page.route(made["url"], claim_ready)
    page.goto(made["url"])

    expect(page.get_by_role("button", name="Open the session")).to_be_visible()
    assert visits(page, made) == 1 + 3


def test_waiting_keeps_a_session_in_use(page: Page, server: LiveServer) -> None:
    made = spawn(server, "held", env={"START_DELAY": 3}, claim_within_seconds=1)

    page.goto(made["url"])

    until(lambda: kinds_of_holds(server, made) == ["hold"])
    expect_handed_over(page, made)


def kinds_of_holds(server: LiveServer, made: dict[str, Any]) -> list[str]:
    why = ask("GET", f"{server.control}/ctrl/b/{made['backend_id']}/why").json
    return [hold["kind"] for hold in why["holds"]]


# --- on servers of their own ---------------------------------------------------------------------


def test_a_server_that_is_killed_and_started_meanwhile(
    page: Page, watched: Watched, start: Start, engine: Place
) -> None:
    watched.allow(AWAY)
    before = start()
    made = spawn(before, "over", env={"START_DELAY": 6})
    page.goto(made["url"])
    expect(page.locator("#phase")).to_contain_text("does not answer HTTP yet")

    before.process.kill()
    before.process.wait()
    expect(page.locator("#trouble")).to_contain_text("The server does not answer.")
    start()

    if engine.adopts:
        expect_handed_over(page, made)
    else:
        expect(page.locator("#phase")).to_contain_text("end with the server")
        assert visits(page, made) == 1


def test_the_estimate_is_told_once_two_boots_were_seen(page: Page, start: Start) -> None:
    server = start()
    told = []

    for number in range(3):
        made = spawn(server, f"boot-{number}", env={"START_DELAY": 4})
        page.goto(made["url"])
        expect(page.get_by_role("heading", name=STARTING)).to_be_visible()
        told.append(page.locator("#estimate").inner_text())
        expect(page.get_by_role("heading", name="Visit 1", exact=True)).to_be_visible()

    assert told[:2] == ["", ""]
    assert re.fullmatch(r"(once it starts: )?usually (within )?\d+ s(, at most \d+ s)?", told[2])


def test_links_that_lead_nowhere_have_a_page(page: Page, impatient: LiveServer) -> None:
    made = ready(impatient, "ended")
    ask("POST", f"{impatient.control}/ctrl/b/{made['backend_id']}/hard-terminate?wait=30")

    ended = page.goto(made["url"])
    assert ended is not None
    assert ended.status == 410
    expect(page.locator("#message")).to_contain_text("it was stopped by request")
    unknown = page.goto(f"http://{impatient.cluster}/no-such-token/")

    assert unknown is not None
    assert unknown.status == 410
    expect(page.get_by_role("heading")).to_be_visible()


def test_a_session_that_does_not_answer_has_a_page(page: Page, impatient: LiveServer) -> None:
    made = ready(impatient, "deaf")
    ask("GET", f"{made['url']}deaf")

    shown = page.goto(made["url"])

    assert shown is not None
    assert shown.status == 502
    expect(page.get_by_role("link", name="Try again")).to_be_visible()


def test_where_nobody_is_shown_waiting_they_are_held_and_then_told(
    page: Page, impatient: LiveServer
) -> None:
    made = spawn(impatient, "late", env={"START_DELAY": 4})

    shown = page.goto(made["url"])

    assert shown is not None
    assert shown.status == 503
    assert int(shown.headers["retry-after"]) > 0
    expect(page.get_by_role("link", name="Try now")).to_be_visible()
    expect(page.get_by_role("heading", name=re.compile("^Visit"))).to_be_visible()
