"""The IDE in containers: a language server behind a WebSocket, and a page that speaks with it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from typing import Any

import pytest
import pytest_twisted
from playwright.sync_api import Page, expect

from plane_tx.client import Session
from tests.browser.watched import Watched
from tests.examples.example import BOOTS, Example
from tests.examples.talk import Talk, open_talk
from tests.live import until

pytestmark = [pytest.mark.chromium, pytest.mark.docker]

#: Kills every language server of a container.
KILL = """
import os, signal
for pid in {int(name) for name in os.listdir("/proc") if name.isdigit()} - {os.getpid()}:
    if b"pylsp" in open(f"/proc/{pid}/cmdline", "rb").read():
        os.kill(pid, signal.SIGKILL)
"""

#: Holds back what the page sends until `letGo()`, as if its language server took long to start.
HOLD = """
const send = WebSocket.prototype.send;
const held = [];
WebSocket.prototype.send = function (data) {
  held.push([this, data]);
};
window.letGo = () => {
  WebSocket.prototype.send = send;
  for (const [socket, data] of held) socket.send(data);
};
"""

PLACE = {"uri": "file:///workspace/other.py"}


def is_answer(number: int) -> Callable[[Any], bool]:
    return lambda message: message.get("id") == number


def is_told(method: str) -> Callable[[Any], bool]:
    return lambda message: message.get("method") == method


async def hear(talk: Talk, wanted: Callable[[Any], bool]) -> Any:
    while not wanted(message := await talk.hear()):
        pass
    return message


async def edit(session: Session, text: str) -> Talk:
    """Open a document with this text in a language server of its own."""
    talk = await open_talk(session.url.replace("http:", "ws:") + "lsp")
    about = {"processId": None, "rootUri": None, "capabilities": {}}
    talk.say({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": about})
    await hear(talk, is_answer(1))
    talk.say({"jsonrpc": "2.0", "method": "initialized", "params": {}})
    opened = {**PLACE, "languageId": "python", "version": 1, "text": text}
    told = {"textDocument": opened}
    talk.say({"jsonrpc": "2.0", "method": "textDocument/didOpen", "params": told})
    return talk


@pytest.fixture(scope="module")
def session(example: Example) -> Session:
    made = example.client.connect("language-server", key="programs")
    example.client.wait_ready(made.id)
    return made


@pytest_twisted.ensureDeferred
async def test_a_program_is_told_of_an_error_in_its_text(session: Session) -> None:
    talk = await edit(session, "def f(:\n    pass\n")

    told = (await hear(talk, is_told("textDocument/publishDiagnostics")))["params"]
    await talk.hang_up()

    (fault,) = told["diagnostics"]
    assert told["uri"] == PLACE["uri"]
    assert "invalid syntax" in fault["message"]
    assert fault["range"]["start"]["line"] == 0


@pytest_twisted.ensureDeferred
async def test_a_program_is_offered_what_could_come_next(session: Session) -> None:
    talk = await edit(session, "import os\nos.pa")

    asked = {"textDocument": PLACE, "position": {"line": 1, "character": 5}}
    talk.say({"jsonrpc": "2.0", "id": 2, "method": "textDocument/completion", "params": asked})
    offered = (await hear(talk, is_answer(2)))["result"]["items"]
    await talk.hang_up()

    assert "path" in [item["label"] for item in offered]


@pytest_twisted.ensureDeferred
async def test_a_language_server_goes_with_its_websocket(example: Example) -> None:
    own = example.client.connect("language-server")
    example.client.wait_ready(own.id)

    def processes() -> int:
        return example.client.stats(own.id).told["pids"]

    before = processes()
    talk = await edit(own, "")
    during = processes()
    await talk.hang_up()

    assert during > before
    until(lambda: processes() == before)


@pytest_twisted.ensureDeferred
async def test_a_websocket_whose_language_server_ends_asks_to_come_back(session: Session) -> None:
    talk = await edit(session, "")

    talk.say({"jsonrpc": "2.0", "method": "exit", "params": {}})

    assert await talk.closed == (1011, "the language server has ended")


def open_page(example: Example, page: Page, watched: Watched) -> None:
    watched.allow(BOOTS)
    page.goto(example.demo)
    expect(page.locator("#state")).to_have_text("Ready")
    page.locator("#editor").press("Control+End")


def test_the_page_shows_what_is_wrong_until_it_is_mended(
    example: Example, page: Page, watched: Watched
) -> None:
    open_page(example, page, watched)

    page.keyboard.type("print(")
    expect(page.get_by_role("button", name="Line 12: '(' was never closed")).to_be_visible()
    expect(page.locator("#marks .error")).to_have_count(1)
    page.keyboard.type("1)")

    expect(page.get_by_text("No problems.")).to_be_visible()
    expect(page.locator("#marks .error")).to_have_count(0)


def test_the_page_offers_a_completion_and_takes_it(
    example: Example, page: Page, watched: Watched
) -> None:
    open_page(example, page, watched)

    page.keyboard.type("os.pa")
    path = page.get_by_role("option", name="path", exact=True)
    expect(path).to_be_visible()
    page.keyboard.press("ArrowDown")
    expect(path).to_have_attribute("aria-selected", "true")
    page.keyboard.press("Enter")

    assert page.locator("#editor").input_value().endswith("\nos.path")


def test_the_page_completes_a_word_that_was_begun_before_it_was_ready(
    example: Example, page: Page, watched: Watched
) -> None:
    watched.allow(BOOTS)
    page.add_init_script(HOLD)
    page.goto(example.demo)
    expect(page.locator("#state")).to_have_text("Starting the language server")

    page.locator("#editor").press("Control+End")
    page.keyboard.type("os.p")
    page.evaluate("letGo()")
    expect(page.locator("#state")).to_have_text("Ready")
    page.keyboard.type("a")

    expect(page.get_by_role("option", name="path", exact=True)).to_be_visible()


def test_the_page_describes_what_is_under_the_pointer(
    example: Example, page: Page, watched: Watched
) -> None:
    open_page(example, page, watched)

    page.locator("#editor").hover(position={"x": 40, "y": 70})

    expect(page.get_by_role("tooltip")).to_contain_text("What to say to")


def test_the_page_goes_on_with_another_language_server_where_its_own_was_killed(
    example: Example, page: Page, watched: Watched
) -> None:
    open_page(example, page, watched)
    page.keyboard.type("pass")
    (demo,) = example.client.list(key="demo")

    # Not seen to be ready again before it was seen not to be.
    page.evaluate(
        "new MutationObserver(() => (window.left = true)).observe(state, { childList: true })"
    )
    subprocess.run(["docker", "exec", f"plane-{demo.id}", "python3", "-c", KILL], check=True)
    page.wait_for_function("window.left")
    expect(page.locator("#state")).to_have_text("Ready")
    page.keyboard.type("(")

    expect(page.get_by_role("button", name="Line 12: ")).to_be_visible()
