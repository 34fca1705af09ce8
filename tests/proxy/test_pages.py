"""The pages of errors, and those that somebody puts in their place."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from plane_tx.core.errors import (
    BadRequest,
    ConfigError,
    PlaneError,
    SessionEnded,
    SessionNotReady,
    StillBooting,
    UnknownToken,
    UpstreamUnreachable,
)
from plane_tx.proxy.pages import (
    FILES,
    MOST_BYTES,
    STYLE_FILE,
    WAITING_VALUES,
    Pages,
    own_pages,
    read_pages,
)
from tests.proxy.world import World, body_of, head_of, status

HOSTILE = "<img src=x onerror=alert(1)>"


def page(pages: Pages, error: PlaneError, session_id: str = "abc") -> str:
    return pages.of(error, session_id)[1].decode()


@pytest.mark.parametrize(
    ("error", "title", "advice"),
    [
        (SessionEnded("x"), "Your session has ended", "Ask the app that gave you this link"),
        (UnknownToken("x"), "This link leads to no session", "Ask the app"),
        (UpstreamUnreachable("x"), "Your session does not answer", "Try again"),
        (SessionNotReady("x"), "Your session is not ready yet", "tries again by itself"),
        (BadRequest("x"), "This request cannot be answered", "makers"),
        (PlaneError("x"), "This did not work", "makers"),
    ],
)
def test_each_status_has_a_page_that_says_what_to_do(error, title, advice) -> None:
    told = page(own_pages(), error)

    assert f"<title>{title}</title>" in told
    assert f"<h1>{title}</h1>" in told
    assert f">{error.status}<" in told
    assert advice in told


@pytest.mark.parametrize("kind", [SessionEnded, UpstreamUnreachable, SessionNotReady, BadRequest])
def test_what_went_wrong_is_told_as_text(kind) -> None:
    told = page(own_pages(), kind(f"it said {HOSTILE}"))

    assert "It said &lt;img" in told
    assert HOSTILE not in told


def test_only_what_may_pass_by_itself_is_tried_again() -> None:
    retried = [
        'http-equiv="refresh" content="2"' in page(own_pages(), kind("x"))
        for kind in (SessionNotReady, SessionEnded, UpstreamUnreachable, BadRequest)
    ]

    assert retried == [True, False, False, False]


def test_every_page_is_complete_in_itself() -> None:
    shown = dict.fromkeys(WAITING_VALUES, "{}")
    told = [page(own_pages(), StillBooting("x", shown)), page(own_pages(), SessionEnded("x"))]

    assert all("--accent" in each for each in told)
    assert not any(re.search(r"https?:|src=|@import|url\(|<link|{{", each) for each in told)


def test_a_page_of_the_own_folder_takes_the_place_of_ours(tmp_path: Path) -> None:
    (tmp_path / "gone.html").write_text("<h1>Weg</h1>{{message}} {{session}}")

    pages = read_pages(tmp_path)

    assert page(pages, SessionEnded("it is <over>")) == "<h1>Weg</h1>It is &lt;over&gt;. abc"
    assert "does not answer" in page(pages, UpstreamUnreachable("x"))


def test_a_style_of_the_own_folder_stands_in_every_page(tmp_path: Path) -> None:
    (tmp_path / STYLE_FILE).write_text("h1 { color: rebeccapurple }")

    pages = read_pages(tmp_path)

    parts = ["".join(pages.by_file[file].parts) for file in FILES]
    assert all("rebeccapurple" in each and "--accent:" not in each for each in parts)


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("gone.html", b"{{told}}", "gone.html: {{told}} is no value of this page; it has status,"),
        (
            "waiting.html",
            b"{{nope}}",
            "waiting.html: {{nope}} is no value of this page; it has title,",
        ),
        ("other.html", b"\xff", "other.html: is not UTF-8: invalid start byte at byte 0"),
        ("page.css", b" " * (MOST_BYTES + 1), "page.css: is larger than 1048576 bytes"),
        ("pages.html", b"", "has none of waiting.html, gone.html, unreachable.html,"),
    ],
)
def test_what_is_wrong_with_a_file_is_told(tmp_path: Path, name, content, complaint) -> None:
    (tmp_path / name).write_bytes(content)

    with pytest.raises(ConfigError) as raised:
        read_pages(tmp_path)

    assert str(tmp_path) in str(raised.value)
    assert complaint in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"pages\.dir: .*none: cannot be read: No such file"):
        read_pages(tmp_path / "none")


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "gone.html").mkdir()

    with pytest.raises(ConfigError, match=r"gone\.html: cannot be read: Is a directory"):
        read_pages(tmp_path)


def test_the_proxy_shows_the_pages_that_it_was_given(tmp_path: Path) -> None:
    (tmp_path / "gone.html").write_text("<style>b { color: red }</style>weg")
    world = World(pages=read_pages(tmp_path))
    client = world.client()

    client.send(world.get("unknown", more="Accept: text/html\r\n"))

    answer = client.get()
    assert status(answer) == 410
    assert body_of(answer) == b"<style>b { color: red }</style>weg"
    assert "style-src 'sha256-" in head_of(answer)["content-security-policy"]
    world.finish()
