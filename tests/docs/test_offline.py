"""The built site in a browser, from the file system: it needs neither a server nor a network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright
from playwright.sync_api import TimeoutError as WaitedTooLong

pytestmark = pytest.mark.chromium

#: Phones and desks, by day and by night.
LOOKS = [(width, scheme) for width in (390, 1280) for scheme in ("light", "dark")]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-gpu"]
        )
        yield browser
        browser.close()


def test_every_page_fits_and_asks_nothing_of_any_other_host(site: Path, chromium: Browser) -> None:
    page = chromium.new_page()
    asked: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: complaints.append(str(error)))

    wide = []
    for file in sorted(site.glob("*.html")):
        page.goto(file.as_uri())
        wide += [(file.name, *look) for look in LOOKS if _is_wide(page, *look)]

    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    assert complaints == []
    assert wide == []
    page.close()


def _is_wide(page: Page, width: int, scheme: str) -> bool:
    """Whether one must scroll sideways; all in one load, which is what takes the time."""
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    try:
        # A page that was just made narrower or wider has yet to be laid out anew.
        page.wait_for_function("document.documentElement.scrollWidth <= innerWidth", timeout=10000)
    except WaitedTooLong:
        return True
    return False


@pytest.mark.parametrize(("scheme", "named"), [("light", "default"), ("dark", "slate")])
def test_a_page_is_light_or_dark_as_its_reader_is(
    site: Path, chromium: Browser, scheme: str, named: str
) -> None:
    page = chromium.new_page(color_scheme=scheme)  # type: ignore[arg-type]

    page.goto((site / "index.html").as_uri())

    assert page.locator("body").get_attribute("data-md-color-scheme") == named
    page.close()


def test_search_finds_a_page_without_a_server(site: Path, chromium: Browser) -> None:
    page = chromium.new_page()
    page.goto((site / "index.html").as_uri())

    # The page looks at what was typed when a key comes up.
    page.get_by_role("textbox", name="Search").press_sequentially("whiteboard")

    page.locator(".md-search-result__link").first.wait_for()
    assert page.locator(".md-search-result__link").count() > 1
    page.close()
