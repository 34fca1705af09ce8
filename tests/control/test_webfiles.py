"""The dashboard's page and files: to whom they are given, and under which rules."""

from importlib.resources import files

import pytest

from plane_tx.control.guard import Access
from plane_tx.core.apikeys import ApiKeys, parse_key
from plane_tx.core.sections import DemoConfig
from tests.control.client import asking

BROWSER = {"Accept": "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"}
PAGE = "<!doctype html><title>plane</title>"


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "web"
    (folder / "vendor").mkdir(parents=True)
    (folder / "__pycache__").mkdir()
    (folder / "index.html").write_text(PAGE)
    (folder / "app.js").write_text("export const a = 1;\n")
    (folder / "style.css").write_text("body{}")
    (folder / "mark.svg").write_text("<svg/>")
    (folder / "shot.png").write_bytes(b"\x89PNG")
    (folder / "names.json").write_text("{}")
    (folder / ".hidden").write_text("hidden")
    (folder / "vendor" / "chart.js").write_text("export const b = 2;\n")
    (folder / "vendor" / "LICENSE").write_text("MIT")
    return folder


@pytest.fixture
def served(folder, monkeypatch):
    # Only here: klein, which the package's other modules import, installs the reactor.
    from plane_tx.control import webfiles

    monkeypatch.setattr(webfiles, "FOLDER", folder)


@pytest.fixture
def site(served, make_site):
    return make_site(DemoConfig())


@pytest.mark.parametrize(
    ("name", "content_type", "body"),
    [
        ("app.js", "text/javascript; charset=utf-8", b"export const a = 1;\n"),
        ("style.css", "text/css; charset=utf-8", b"body{}"),
        ("mark.svg", "image/svg+xml", b"<svg/>"),
        ("shot.png", "image/png", b"\x89PNG"),
        ("names.json", "application/json", b"{}"),
        ("index.html", "text/html; charset=utf-8", PAGE.encode()),
        ("vendor/chart.js", "text/javascript; charset=utf-8", b"export const b = 2;\n"),
        ("vendor/LICENSE", "text/plain; charset=utf-8", b"MIT"),
    ],
)
def test_each_file_is_given_as_what_it_is(ask, name, content_type, body):
    answer = ask("GET", f"/web/{name}")

    assert (answer.status, answer.headers["content-type"], answer.body) == (200, content_type, body)
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_browser_gets_the_page_and_all_others_the_list(ask):
    page, listed = ask("GET", "/", BROWSER), ask("GET", "/", {"Accept": "*/*"})

    assert page.body == PAGE.encode()
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert listed.body.startswith(b"plane-tx ")
    assert page.headers["vary"] == listed.headers["vary"] == "accept"


@pytest.mark.parametrize("path", ["/", "/web/app.js", "/web/vendor/chart.js"])
def test_nothing_foreign_and_nothing_inline_runs(ask, path):
    headers = ask("GET", path, BROWSER).headers
    policy = dict(
        directive.partition(" ")[::2]
        for directive in headers["content-security-policy"].split("; ")
    )

    assert policy == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self' data:",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
        "require-trusted-types-for": "'script'",
        "trusted-types": "'none'",
    }
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-opener-policy"] == "same-origin"
    assert headers["cross-origin-resource-policy"] == "same-origin"


@pytest.mark.parametrize("path", ["/", "/web/app.js"])
@pytest.mark.parametrize("said", ["{tag}", 'W/{tag}, "other"', '"other", {tag}', "*"])
def test_what_the_client_has_is_not_sent_again(ask, path, said):
    first = ask("GET", path, BROWSER)
    tag = first.headers["etag"]

    again = ask("GET", path, {**BROWSER, "If-None-Match": said.format(tag=tag)})

    assert first.headers["cache-control"] == "no-cache"
    assert (again.status, again.body, again.headers["etag"]) == (304, b"", tag)
    assert "content-length" not in again.headers


def test_a_file_that_changed_is_sent_again(ask, folder, make_site):
    before = ask("GET", "/web/app.js").headers["etag"]
    (folder / "app.js").write_text("export const a = 2;\n")

    answer = asking(make_site(DemoConfig()))("GET", "/web/app.js", {"If-None-Match": before})

    assert (answer.status, answer.body) == (200, b"export const a = 2;\n")


@pytest.mark.parametrize(
    "path",
    [
        "/web/", "/web/nothing.js", "/web/vendor/", "/web/vendor/nothing.js", "/web/.hidden",
        "/web/../app.py", "/web/%2e%2e/app.py", "/web/..%2fapp.py", "/web/vendor/../app.js",
        "/web/vendor%2fchart.js%00", "/web/__pycache__", "/web/vendor",
    ],
)  # fmt: skip
def test_no_path_leads_elsewhere(ask, path):
    assert ask("GET", path).status == 404


def test_no_path_goes_round_the_guard(ask):
    foreign = {"Sec-Fetch-Site": "cross-site"}

    statuses = [ask("GET", path, foreign).status for path in ("/web/app.js", "/web/../ctrl/status")]

    assert statuses == [200, 404]


def test_the_page_needs_no_key_and_what_it_shows_does(served, make_site):
    key = "the-secret-of-a-reader"
    access = Access(keys=ApiKeys([("here", parse_key(f"reader:read:{key}"))]))
    ask = asking(make_site(DemoConfig(), access))

    statuses = [
        ask("GET", path, BROWSER).status
        for path in ("/", "/web/app.js", "/web/vendor/chart.js", "/ctrl/backends", "/ctrl/board")
    ]

    assert statuses == [200, 200, 200, 401, 401]
    assert ask("HEAD", "/ctrl/board", {"Authorization": f"Bearer {key}"}).status == 200


def test_every_file_of_the_package_is_served_as_it_stands(make_site):
    ask, folder = asking(make_site(DemoConfig())), files("plane_tx.control") / "web"
    within = {"": folder, "vendor/": folder / "vendor"}
    shipped = {
        below + each.name: each.read_bytes()
        for below, place in within.items()
        for each in place.iterdir()
        if each.is_file()
    }

    answers = {name: ask("GET", f"/web/{name}").body for name in shipped}

    assert answers == shipped
    assert shipped.keys() >= {"index.html", "app.js", "vendor/uPlot.esm.js", "vendor/uPlot.LICENSE"}
