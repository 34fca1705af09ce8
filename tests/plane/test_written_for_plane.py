"""An app as Plane's documentation has it: its backend connects, its page goes to what it is given.

Of ours it knows a URL and the name of an app. The page is of another origin than both listeners.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Page

from tests.live import LiveServer, ask, live_server
from tests.plane.test_plane_client import LIFE, run, said

#: Plane's own example of a key and of limits, with `user` where that page says `name`.
KEY = ("--key", "room-abcde", "--namespace", "games", "--tag", "drop-four")
LIMITS = {"lifetime_limit_seconds": 3600, "max_idle_seconds": 60}
AUTH = {"room": "abcde", "even lists and numbers": ["like", 3.14, "are", "fine"]}

#: Follows the statuses; when the session is ready, asks it by HTTP and by WebSocket.
USE = """
([{url, status_url}]) => {
  window.seen = {statuses: [], asked: null, greeted: null, closed: null};
  const enter = async () => {
    seen.asked = await (await fetch(`${url}echo?a=b`)).json();
    const socket = new WebSocket(`${url.replace(/^http/, "ws")}ws-headers`);
    socket.onmessage = ({data}) => (seen.greeted = JSON.parse(data));
    socket.onclose = ({code}) => (seen.closed = code);
  };
  window.stream = new EventSource(`${status_url}-stream`);
  stream.onmessage = ({data}) => {
    const {status} = JSON.parse(data);
    seen.statuses.push(status);
    if (status === "ready") enter();
  };
}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    conf = '[engine]\nkind = "process"\n'
    with live_server(tmp_path_factory.mktemp("server"), conf) as running:
        yield running


class Tab:
    """A tab that has the app's page open, and goes to the session it was given."""

    def __init__(self, page: Page, server: LiveServer, made: Any) -> None:
        self._page = page
        # Chromium takes every name below localhost for loopback.
        page.goto(f"http://app.localhost:{server.control_port}/pub/health")
        page.evaluate(USE, [made])

    def wait_for(self, what: str) -> Any:
        """Wait until `seen` has this, and return it."""
        self._page.wait_for_function("(what) => seen[what] !== null", arg=what)
        return self._page.evaluate("(what) => seen[what]", what)

    def wait_until_the_stream_has_ended(self) -> list[str]:
        """Return what it told, when the browser will not ask for more."""
        self._page.wait_for_function("stream.readyState === EventSource.CLOSED")
        return self._page.evaluate("seen.statuses")


def verified(headers: list[list[str]]) -> dict[str, str]:
    """What the proxy vouches for."""
    return {name.lower(): value for name, value in headers if name.lower().startswith("x-verified")}


def connect(server: LiveServer, user: str, *more: str) -> Any:
    words = ("connect", *KEY, "--user", user, "--auth", json.dumps(AUTH), *more)
    (made,) = said(server.control, *words)
    return made


@pytest.mark.chromium
def test_a_page_goes_through_a_session_from_its_boot_to_its_end(
    server: LiveServer, page: Page
) -> None:
    made = connect(server, "ada", "--executable", '{"app": "echo"}', "--spawn", json.dumps(LIMITS))
    tab = Tab(page, server, made)
    asked, greeted = tab.wait_for("asked"), tab.wait_for("greeted")

    said(server.control, "terminate", made["backend_id"])

    assert tab.wait_until_the_stream_has_ended() == LIFE
    assert tab.wait_for("closed") == 1001
    path = f"/{made['token']}/echo"
    told = {
        "x-verified-username": "ada",
        "x-verified-user-data": json.dumps(AUTH, separators=(",", ":")),
        "x-verified-path": path,
        "x-verified-backend": made["backend_id"],
        "x-verified-secret": made["secret_token"],
    }
    assert asked["path"] == "/echo?a=b"
    assert verified(asked["headers"]) == told
    assert verified(greeted) == told | {"x-verified-path": f"/{made['token']}/ws-headers"}


@pytest.mark.chromium
def test_a_user_who_is_shut_out_loses_the_socket_and_the_others_stay(
    server: LiveServer, context: BrowserContext
) -> None:
    made = connect(server, "ada", "--executable", '{"app": "echo"}')
    joined = connect(server, "bob")
    ada, bob = (Tab(context.new_page(), server, each) for each in (made, joined))
    ada.wait_for("greeted")
    bob.wait_for("greeted")

    said(server.control, "revoke", made["backend_id"], "ada")

    assert ada.wait_for("closed") == 4403
    assert [ask("GET", each["url"]).status for each in (made, joined)] == [410, 200]
    said(server.control, "terminate", made["backend_id"])
    assert bob.wait_for("closed") == 1001


def test_a_key_under_another_tag_is_another_programs(server: LiveServer) -> None:
    made = connect(server, "ada", "--executable", '{"app": "echo"}')

    refused = run(server.control, "connect", "--key", "room-abcde", "--namespace", "games")
    elsewhere = run(server.control, "connect", "--key", "room-abcde")

    said(server.control, "terminate", made["backend_id"])
    said(server.control, "stream", made["backend_id"])
    assert refused.stderr.startswith("409 KeyHeld ")
    assert elsewhere.stderr.startswith("409 KeyUnheldNoSpawnConfig ")


def test_a_static_token_on_a_subdomain_keeps_its_path_and_is_everyones(server: LiveServer) -> None:
    spawn = {"use_static_token": True, "subdomain": "room", "pool": "", "cluster": server.cluster}
    words = ["connect", "--key", "shared", "--executable", '{"app": "echo"}']
    (made,) = said(server.control, *words, "--spawn", json.dumps(spawn))
    (joined,) = said(server.control, "connect", "--key", "shared")
    said(server.control, "stream", made["backend_id"], "--until", "ready")

    answer = ask("GET", made["url"])

    said(server.control, "terminate", made["backend_id"])
    assert (made["url"], made["secret_token"]) == (joined["url"], None)
    assert made["url"] == f"http://room.{server.cluster}/{made['token']}/"
    assert made["token"].startswith("s.")
    # The session has no page by the name of its token, which the path that it sees begins with.
    assert (answer.status, answer.headers["x-plane-backend-id"]) == (404, made["backend_id"])


def test_what_planes_own_example_says_by_mistake_is_refused_by_its_name(server: LiveServer) -> None:
    request = {"key": {"name": "room-abcde"}, "name": "user-123"}

    answer = ask("POST", f"{server.control}/ctrl/connect", request)

    assert answer.status == 422
    assert answer.json["message"].startswith("name: unknown field; known here: ")
