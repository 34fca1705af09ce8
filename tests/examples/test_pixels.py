"""The pixel stream in Chromium: what is sent is shown, in order, and never late."""

from __future__ import annotations

import base64
import re
import struct
import zlib
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.browser.watched import Watched
from tests.examples.example import BOOTS, Example

pytestmark = [pytest.mark.chromium, pytest.mark.docker]

WIDTH, HEIGHT = 640, 360

#: As server.py has it.
IN_FLIGHT = 3

#: Colours of examples/pixels/scene.py: those of the first and the fourth pen.
FIRST, FOURTH = [0xFF, 0x6B, 0x76], [0x7B, 0xA4, 0xFF]

#: `shown` are all frames that were; from `lookAway()` to `lookAgain()` animation frames are held
#: back, as in a tab that nobody sees.
RECORD = """
window.shown = [];
document.addEventListener("frame", ({detail: {number, dropped}}) => shown.push([number, dropped]));
const native = window.requestAnimationFrame.bind(window);
let held = null;
window.requestAnimationFrame = (callback) => held ? held.push(callback) : native(callback);
window.lookAway = () => {
  held = [];
  return new Promise(native);  // those that were asked for before come before it
};
window.lookAgain = () => {
  held.forEach(native);
  held = null;
};
"""

#: The next frame that is shown: the bytes of its picture, and those of the canvas right then.
CAPTURE = """
() => new Promise((resolve) => document.addEventListener("frame", ({target, detail}) => {
  const encoded = (bytes) => {
    let text = "";
    for (let at = 0; at < bytes.length; at += 8192) {
      text += String.fromCharCode(...bytes.subarray(at, at + 8192));
    }
    return btoa(text);
  };
  const {data} = target.getContext("2d").getImageData(0, 0, target.width, target.height);
  resolve([encoded(detail.picture), encoded(data)]);
}, {once: true}))
"""

#: Whether the canvas has this colour at that place.
HAS_COLOUR = """
([x, y, colour]) => {
  const surface = document.getElementById("screen").getContext("2d");
  const {data} = surface.getImageData(x, y, 1, 1);
  return colour.every((value, place) => data[place] === value);
}
"""


class Viewer:
    """A tab of Chromium that shows the stream."""

    def __init__(self, page: Page, address: str) -> None:
        page.add_init_script(RECORD)
        self.page = page
        self.screen = page.locator("#screen")
        page.goto(address)
        self.screen.wait_for()
        self.wait_for_frames(1)

    def wait_for_frames(self, count: int) -> None:
        """Return when so many have been shown."""
        self.page.wait_for_function(f"shown.length >= {count}")

    def frames(self) -> list[tuple[int, int]]:
        """The number of each that was shown, and how many had been dropped by then."""
        return [(number, dropped) for number, dropped in self.page.evaluate("shown")]

    def capture(self) -> tuple[bytes, bytes]:
        """The next frame: its picture as it came, and the pixels of the canvas."""
        picture, pixels = self.page.evaluate(CAPTURE)
        return base64.b64decode(picture), base64.b64decode(pixels)

    def point(self, x: int, y: int) -> None:
        """Move the mouse to this place of the picture."""
        box: Any = self.screen.bounding_box()
        scale = box["width"] / WIDTH
        self.page.mouse.move(box["x"] + x * scale, box["y"] + y * scale)

    def expect_colour(self, x: int, y: int, colour: list[int]) -> None:
        """Wait until the picture has it there."""
        self.page.wait_for_function(HAS_COLOUR, arg=[x, y, colour])


Watch = Callable[[], Viewer]


@pytest.fixture
def watch(
    example: Example, context: BrowserContext, watched: Watched, request: pytest.FixtureRequest
) -> Watch:
    """Open a tab on the scene of this test."""
    watched.allow(BOOTS, "willReadFrequently")  # what tests do, and not the page
    key = request.node.name
    return lambda: Viewer(context.new_page(), example.client.connect("pixels", key=key).url)


def decode(picture: bytes) -> bytes:
    """The pixels of one of the example's PNGs, four bytes each: a palette, and no filters."""
    chunks = {}
    at = 8
    while at < len(picture):
        length, kind = struct.unpack_from("!I4s", picture, at)
        chunks[kind] = picture[at + 8 : at + 8 + length]
        at += 12 + length
    lines = zlib.decompress(chunks[b"IDAT"])
    colours = [chunks[b"PLTE"][at : at + 3] + b"\xff" for at in range(0, len(chunks[b"PLTE"]), 3)]
    starts = range(0, len(lines), WIDTH + 1)
    return b"".join(colours[each] for at in starts for each in lines[at + 1 : at + 1 + WIDTH])


def test_the_demo_link_leads_to_a_stream_that_says_how_it_goes(
    example: Example, page: Page, watched: Watched
) -> None:
    watched.allow(BOOTS)

    viewer = Viewer(page, example.demo)

    expect(page.locator("#state")).to_have_text("Connected")
    expect(page.locator("#rate")).to_have_text(re.compile(r"^[1-9]\d* frames/s$"))
    expect(page.locator("#round-trip")).to_have_text(re.compile(r"^\d+ ms round trip$"))
    expect(page.locator("#dropped")).to_have_text(re.compile(r"^\d+ dropped$"))
    assert viewer.page.url.startswith(f"{example.proxy}/")


def test_the_pixels_drawn_are_those_that_were_sent(watch: Watch) -> None:
    viewer = watch()

    first, second = viewer.capture(), viewer.capture()

    for picture, pixels in (first, second):
        assert len(pixels) == WIDTH * HEIGHT * 4
        assert pixels == decode(picture)
    assert first[1] != second[1]


def test_frames_come_in_order_and_each_is_shown_or_counted_as_dropped(watch: Watch) -> None:
    viewer = watch()

    viewer.wait_for_frames(60)

    frames = viewer.frames()
    numbers = [number for number, _ in frames]
    assert numbers == sorted(set(numbers))
    for (before, dropped_before), (after, dropped_after) in pairwise(frames):
        assert after - before - 1 == dropped_after - dropped_before


def test_a_viewer_that_does_not_look_is_sent_nothing_and_then_what_is_new(watch: Watch) -> None:
    away, looking = watch(), watch()  # Chromium hurries for the tab in front alone
    away.page.evaluate("lookAway()")
    before = away.frames()

    looking.wait_for_frames(len(looking.frames()) + 60)
    newest = looking.frames()[-1][0]
    away.page.evaluate("lookAgain()")
    away.wait_for_frames(len(before) + IN_FLIGHT + 1)

    came = away.frames()[len(before) :]
    late = [number for number, _ in came if number <= newest]
    assert len(late) <= IN_FLIGHT
    fresh, dropped = came[len(late)]
    assert dropped - before[-1][1] == fresh - before[-1][0] - 1 - len(late)
    assert dropped >= 50


def test_the_pen_follows_the_mouse_and_has_the_colour_of_the_key(watch: Watch) -> None:
    viewer = watch()

    viewer.point(100, 80)
    viewer.page.keyboard.press("1")
    viewer.expect_colour(100, 80, FIRST)
    viewer.point(500, 300)
    viewer.page.keyboard.press("4")
    viewer.expect_colour(500, 300, FOURTH)

    assert not viewer.page.evaluate(HAS_COLOUR, [100, 80, FIRST])


def test_each_viewer_sees_the_pen_of_the_other(watch: Watch) -> None:
    pointing, seeing = watch(), watch()

    pointing.point(60, 60)
    pointing.page.keyboard.press("1")

    seeing.expect_colour(60, 60, FIRST)
    assert pointing.frames()[-1][0] > 0


def test_keys_alone_move_the_pen(watch: Watch) -> None:
    viewer = watch()

    viewer.page.keyboard.press("4")
    for _ in range(8):
        viewer.page.keyboard.press("ArrowRight")

    viewer.expect_colour(WIDTH // 2 + 80, HEIGHT // 2, FOURTH)
    assert not viewer.page.evaluate(HAS_COLOUR, [WIDTH // 2, HEIGHT // 2, FOURTH])
