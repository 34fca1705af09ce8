"""JupyterLab in containers: a notebook that runs for all who have a link, until it is forgotten."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
import pytest_twisted
from playwright.sync_api import Page, expect

from plane_tx.client import Session
from tests.browser.watched import Watched
from tests.examples.example import BOOTS, Example
from tests.examples.talk import Talk, open_talk
from tests.live import Answer, ask

pytestmark = [pytest.mark.chromium, pytest.mark.docker]

#: What Chromium says where JupyterLab gives up a connection to a new kernel for another one.
GIVEN_UP = r"WebSocket is closed before the connection is established"


def test_a_cell_of_a_new_notebook_runs_in_the_kernel_that_a_second_tab_joins(
    example: Example, page: Page, watched: Watched
) -> None:
    watched.allow(BOOTS, GIVEN_UP)
    page.goto(example.demo)
    page.get_by_title("Python 3 (ipykernel)").first.click()
    page.get_by_text("Python 3 (ipykernel) | Idle").wait_for()

    run(page, "shared = 6 * 7; print('the', 'answer', shared)")
    expect(page.locator(".jp-OutputArea-output").first).to_have_text("the answer 42")
    second = page.context.new_page()
    second.goto(example.demo)
    second.locator(".jp-DirListing-item", has_text="Untitled.ipynb").dblclick()
    second.get_by_text("Python 3 (ipykernel) | Idle").wait_for()
    run(second, "print(shared, 'is', 'shared')")

    expect(second.get_by_text("42 is shared")).to_be_visible()
    assert watched.hosts() - {urlsplit(example.control).netloc} == {
        urlsplit(each.url).netloc for each in (page, second)
    }


def run(tab: Page, code: str) -> None:
    tab.locator(".jp-Notebook .jp-CodeCell .cm-content").last.click()
    tab.keyboard.type(code)
    tab.keyboard.press("Shift+Enter")


@pytest.fixture
def session(example: Example) -> Session:
    """One that nobody uses any more after 3 s."""
    made = example.client.connect("jupyterlab", limits={"max_idle_seconds": 3})
    example.client.wait_ready(made.id)
    return made


class Visitor:
    """What a page of JupyterLab asks its server, from whatever origin."""

    def __init__(self, session: Session) -> None:
        self.origin = session.url.removesuffix("/")
        self._host = urlsplit(session.url).netloc
        self._port = urlsplit(session.url).port
        page = self.ask("GET", "/lab", self.origin)
        self._cookies = "; ".join(
            cookie.partition(";")[0] for cookie in page.headers.get_all("Set-Cookie")
        )
        self._xsrf = self._cookies.partition("_xsrf=")[2]

    def ask(self, method: str, path: str, origin: str, **headers: str) -> Answer:
        # The name is this box to a browser, but not to every resolver.
        said = {"Host": self._host, "Origin": origin, **headers}
        return ask(method, f"http://127.0.0.1:{self._port}{path}", headers=said)

    def start_kernel(self, origin: str) -> Answer:
        return self.ask(
            "POST", "/api/kernels", origin, **{"Cookie": self._cookies, "X-XSRFToken": self._xsrf}
        )

    async def talk(self, kernel: str, origin: str) -> Talk:
        return await open_talk(f"ws://{self._host}/api/kernels/{kernel}/channels", origin)


@pytest_twisted.ensureDeferred
async def test_a_page_of_another_origin_starts_no_kernel_and_talks_to_none(
    session: Session,
) -> None:
    visitor = Visitor(session)
    other = "http://example.com"

    kernel = visitor.start_kernel(visitor.origin).json["id"]
    started = visitor.start_kernel(other).status
    unproven = visitor.ask("POST", "/api/kernels", visitor.origin).status
    with pytest.raises(ConnectionRefusedError, match="403"):
        await visitor.talk(kernel, other)

    assert (started, unproven) == (404, 403)


@pytest_twisted.ensureDeferred
async def test_an_open_websocket_of_a_kernel_that_does_nothing_keeps_no_session(
    session: Session, example: Example
) -> None:
    visitor = Visitor(session)
    kernel = visitor.start_kernel(visitor.origin).json["id"]

    talk = await visitor.talk(kernel, visitor.origin)
    closed = await talk.closed

    assert closed == (1001, "idle")
    assert "nobody used it for 3 s" in example.client.why(session.id).summary
