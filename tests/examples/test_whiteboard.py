"""The whiteboard in containers: two tabs draw on one board, as long as there is one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.browser.watched import AWAY, Watched
from tests.examples.example import BOOTS, Example

pytestmark = [pytest.mark.chromium, pytest.mark.docker]


class Tab:
    """A tab of Chromium that shows a board."""

    def __init__(self, page: Page, address: str) -> None:
        self.page = page
        self.state = page.locator("#state")
        page.goto(address)
        page.wait_for_selector("#board")  # what a booting session shows first goes on by itself
        self.wait_until_connected()

    def wait_until_connected(self) -> None:
        self.page.wait_for_function("window.whiteboard?.connected")

    def draw(self) -> None:
        """Draw a stroke, from the left to the right."""
        box = self.page.locator("#board").bounding_box()
        assert box is not None
        self.page.mouse.move(box["x"] + 40, box["y"] + 40)
        self.page.mouse.down()
        self.page.mouse.move(box["x"] + 160, box["y"] + 120, steps=5)
        self.page.mouse.up()

    def segments(self) -> int:
        return self.page.evaluate("window.whiteboard.segments.length")

    def expect_more_than(self, count: int) -> None:
        expression = f"window.whiteboard.segments.length > {count}"
        self.page.wait_for_function(expression)


Open = Callable[[str], Tab]


@pytest.fixture
def open_tab(context: BrowserContext, watched: Watched) -> Open:
    watched.allow(BOOTS)
    return lambda address: Tab(context.new_page(), address)


def test_two_tabs_see_what_the_other_draws(example: Example, open_tab: Open) -> None:
    tabs = [open_tab(example.demo), open_tab(example.demo)]

    for drawing, seeing in (tabs, tabs[::-1]):
        before = seeing.segments()
        drawing.draw()
        seeing.expect_more_than(before)

    assert tabs[0].page.url != tabs[1].page.url  # each has a link of its own
    assert len({session.id for session in example.client.list(status="ready")}) == 1


def test_a_stroke_drawn_after_a_restart_of_the_server_arrives(
    example: Example, open_tab: Open, watched: Watched
) -> None:
    watched.allow(AWAY, "WebSocket")
    drawing, seeing = open_tab(example.demo), open_tab(example.demo)
    drawing.draw()
    seeing.expect_more_than(0)
    before = seeing.segments()

    example.interrupt()
    expect(drawing.state).to_have_text("Reconnecting")
    drawing.draw()  # it is kept, and sent when there is somebody to send it to
    example.start()

    seeing.expect_more_than(before)
    drawing.wait_until_connected()
    expect(drawing.state).to_have_text("Connected")


def test_a_board_that_has_ended_says_so(example: Example, open_tab: Open, watched: Watched) -> None:
    watched.allow("status of 410")
    board = example.client.connect("whiteboard", key="to-end")
    tab = open_tab(board.url)

    example.client.hard_terminate(board.id)

    expect(tab.state).to_have_text("This session has ended")
    expect(tab.page.locator("#ended")).to_contain_text("it was stopped by request")
    expect(tab.page.locator("#clear")).to_be_disabled()
