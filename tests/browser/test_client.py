"""The JavaScript client in a page: what it tells, and when it comes back or gives up."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page

from tests.browser.line import Line, line
from tests.browser.places import Place, end_all, ready, spawn
from tests.browser.watched import Watched
from tests.live import LiveServer, ask, until

pytestmark = pytest.mark.chromium

#: What Chromium itself says of a session or a server that is away.
SAID_BY_CHROMIUM = r"net::ERR_\w+|status of (410|502|503)|WebSocket"

#: Makes `client` (a Session) and writes down what it tells; it is quick to try again.
MAKE = """
async ([module, url, options]) => {
  const {Session} = await import(module);
  window.states = [];
  const quick = {firstSeconds: 0.1, mostSeconds: 0.2, ...options};
  window.client = new Session(url, {...quick, onstate: (state) => states.push(state)});
}
"""

#: Opens its WebSocket; `pong` asks the session something by it, and resolves with what it says.
OPEN = """
(options) => {
  window.told = [];
  window.socket = client.websocket("socket", [], options);
  for (const type of ["open", "down", "close"]) {
    socket.addEventListener(type, ({code, reason, again, ended}) =>
      told.push({type, code, reason, again, ended: ended?.reason}));
  }
  window.pong = () => new Promise((resolve) => {
    socket.addEventListener("message", ({data}) => resolve(data), {once: true});
    socket.send("ping");
  });
}
"""


class Client:
    """A `Session` in a page of another origin than the session's and the control listener's."""

    def __init__(self, page: Page, server: LiveServer) -> None:
        self._page = page
        self._server = server

    def make(self, made: dict[str, Any], url: str = "", **options: Any) -> None:
        """Make it; it follows the statuses, but where `status` is false."""
        # An origin of its own: Chromium takes every name below localhost for loopback.
        self._page.goto(f"http://page.localhost:{self._server.control_port}/pub/client.js")
        if options.pop("status", True):
            options["statusUrl"] = made["status_url"]
        module = f"{self._server.control}/pub/client.js"
        self._page.evaluate(MAKE, [module, url or made["url"], options])

    def open(self, **options: Any) -> None:
        """Open its WebSocket; returns when it is open for the first time."""
        self._page.evaluate(OPEN, options)
        self.expect_told("open")

    def expect_phase(self, phase: str) -> dict[str, Any]:
        """Wait for the state with this phase, and return it."""
        self._page.wait_for_function("(phase) => client.state.phase === phase", arg=phase)
        return self._page.evaluate("client.state")

    def expect_told(self, kind: str, count: int = 1) -> dict[str, Any]:
        """Wait until the WebSocket has told this `count` times; returns the last."""
        wanted = "([kind, count]) => told.filter(({type}) => type === kind).length >= count"
        self._page.wait_for_function(wanted, arg=[kind, count])
        return self._page.evaluate("(kind) => told.findLast(({type}) => type === kind)", kind)

    def phases(self) -> list[str]:
        """The phases it told, each once as long as it lasted."""
        told = self._page.evaluate("states.map(({phase}) => phase)")
        return [each for place, each in enumerate(told) if [each] != told[place - 1 : place]]

    def told(self) -> list[str]:
        """What kinds of events the WebSocket told, in order."""
        return self._page.evaluate("told.map(({type}) => type)")

    def evaluate(self, expression: str) -> Any:
        return self._page.evaluate(expression)

    def wait_for(self, expression: str) -> None:
        self._page.wait_for_function(expression)


@pytest.fixture
def client(page: Page, watched: Watched, on_processes: LiveServer) -> Client:
    watched.allow(SAID_BY_CHROMIUM)
    return Client(page, on_processes)


def stop(server: LiveServer, made: dict[str, Any]) -> None:
    ask("POST", f"{server.control}/ctrl/b/{made['backend_id']}/hard-terminate?wait=30")


# --- while it boots ------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [True, False], ids=["by its statuses", "by its URL alone"])
def test_ready_waits_for_the_boot(client: Client, on_processes: LiveServer, status: bool) -> None:
    client.make(spawn(on_processes, f"boots-{status}", env={"START_DELAY": 2}), status=status)

    client.evaluate("client.ready()")

    assert client.phases() == (["booting", "ready"] if status else ["ready"])
    assert client.evaluate("client.fetch('say?text=hello').then((it) => it.text())") == "said"


def test_the_statuses_are_told_in_words(client: Client, on_processes: LiveServer) -> None:
    client.make(spawn(on_processes, "in-words", env={"START_DELAY": 2}))

    client.evaluate("client.ready()")

    told = client.evaluate("states.find(({status}) => status === 'waiting')")
    assert told == {"phase": "booting", "status": "waiting"}


def test_a_session_that_cannot_be_made_rejects_ready(
    client: Client, on_processes: LiveServer
) -> None:
    client.make(spawn(on_processes, "fails", env={"EXIT": 3}))

    why = client.evaluate("client.ready().catch(({name, message}) => [name, message])")

    assert why[0] == "SessionEnded"
    assert "3" in why[1]
    assert client.expect_phase("ended")["message"] == why[1]


def test_a_wait_can_be_given_up(client: Client, on_processes: LiveServer) -> None:
    client.make(spawn(on_processes, "given-up", env={"START_DELAY": 60}))

    given_up = client.evaluate(
        "client.ready({signal: AbortSignal.timeout(50)}).catch(({name}) => name)"
    )

    assert given_up == "TimeoutError"
    assert client.evaluate("client.state.phase") == "booting"


# --- while it lives ------------------------------------------------------------------------------


def test_a_websocket_opened_while_it_boots_waits_for_it(
    client: Client, on_processes: LiveServer
) -> None:
    client.make(spawn(on_processes, "socket-boots", env={"START_DELAY": 2}), status=False)

    client.open()

    assert client.evaluate("pong()") == "ok"
    assert client.told() == ["open"]


def test_a_websocket_that_the_session_refuses_is_told_as_that(
    client: Client, on_processes: LiveServer
) -> None:
    client.make(ready(on_processes, "refuses"))

    client.evaluate("void client.websocket('no-socket')")
    client.wait_for("client.state.attempt >= 2")

    assert client.evaluate("[client.state.phase, client.state.cause]") == [
        "reconnecting",
        "refused",
    ]


def test_a_websocket_closed_here_stays_closed(client: Client, on_processes: LiveServer) -> None:
    client.make(ready(on_processes, "closed-here"))
    client.open()

    client.evaluate("socket.close(3001, 'enough')")

    closed = client.expect_told("close")
    assert (closed["code"], closed["reason"], closed["ended"]) == (3001, "enough", None)
    assert client.evaluate("client.state.phase") == "ready"


def test_letting_go_of_a_session_leaves_it_alive(client: Client, on_processes: LiveServer) -> None:
    made = ready(on_processes, "let-go")
    client.make(made)
    client.open()

    client.evaluate("client.close()")

    assert client.expect_told("close")["ended"] is None
    assert client.evaluate("client.fetch().catch(({name}) => name)") == "AbortError"
    assert on_processes.session(made["backend_id"])["status"] == "ready"


@pytest.mark.parametrize("path", ["../other", "http://other.example/", "a:b", "x/../../y"])
def test_no_path_leads_out_of_the_session(
    client: Client, on_processes: LiveServer, path: str
) -> None:
    client.make({"url": f"http://{on_processes.cluster}/token/"}, status=False)

    refused = client.evaluate(f"client.fetch('{path}').catch(({{name}}) => name)")

    assert refused == "TypeError"


# --- when it ends --------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [True, False], ids=["by its statuses", "by its URL alone"])
def test_a_session_that_is_stopped_is_not_tried_again(
    client: Client, on_processes: LiveServer, status: bool
) -> None:
    made = ready(on_processes, f"stopped-{status}")
    client.make(made, status=status, follow=True)
    client.open()

    stop(on_processes, made)

    ended = client.expect_phase("ended")
    assert ended["reason"] == "terminated"
    assert "it was stopped by request" in ended["message"]
    assert client.expect_told("close")["ended"] == "terminated"
    assert client.told() == ["open", "close"]
    assert client.evaluate("client.fetch().catch(({name}) => name)") == "SessionEnded"


def test_a_session_whose_lifetime_is_over_is_told_as_that(
    client: Client, on_processes: LiveServer
) -> None:
    client.make(ready(on_processes, "lifetime", lifetime_limit_seconds=6), status=False)
    client.open()

    ended = client.expect_phase("ended")

    assert ended["reason"] == "lifetime"
    assert "its lifetime of 6 s is over" in ended["message"]


def test_a_session_that_ended_before_is_known_by_its_410(
    client: Client, on_processes: LiveServer
) -> None:
    made = ready(on_processes, "ended-before")
    stop(on_processes, made)
    client.make(made, status=False)

    why = client.evaluate("client.fetch('x').catch(({name, message}) => [name, message])")

    assert why[0] == "SessionEnded"
    assert "it was stopped by request" in why[1]


def test_a_refused_websocket_of_a_dead_session_is_known_by_its_410(
    client: Client, on_processes: LiveServer
) -> None:
    made = ready(on_processes, "refused")
    stop(on_processes, made)
    client.make(made, status=False)

    client.evaluate(
        "new Promise((resolve) => { client.websocket('socket').onclose = () => resolve(); })"
    )

    assert "it was stopped by request" in client.expect_phase("ended")["message"]


def test_a_link_that_is_taken_back_is_told_as_that(
    client: Client, on_processes: LiveServer
) -> None:
    made = _ready_for(on_processes, "ada")
    client.make(made)
    client.open()

    revoked = {"backend_id": made["backend_id"], "user": "ada"}
    assert ask("POST", f"{on_processes.control}/ctrl/b/revoke", revoked).status == 200

    closed = client.expect_told("close")
    assert (closed["code"], closed["ended"]) == (4403, "revoked")
    assert client.expect_phase("ended")["reason"] == "revoked"
    assert client.told() == ["open", "close"]


def _ready_for(server: LiveServer, user: str) -> Any:
    wanted = {"executable": {"app": "program"}}
    made = server.ask_connect({"key": {"name": user}, "user": user, "spawn_config": wanted})
    server.wait_for(made["backend_id"], "ready")
    return made


# --- a network that fails ------------------------------------------------------------------------


@pytest.fixture
def flaky(on_processes: LiveServer) -> Iterator[Line]:
    with line(("127.0.0.1", on_processes.proxy_port)) as its:
        yield its


def through(flaky: Line, made: dict[str, Any], server: LiveServer) -> str:
    """The session's URL, by the line that fails."""
    return made["url"].replace(f":{server.proxy_port}/", f":{flaky.port}/")


def test_what_is_cut_comes_back(client: Client, on_processes: LiveServer, flaky: Line) -> None:
    made = ready(on_processes, "cut")
    client.make(made, through(flaky, made, on_processes))
    client.open()

    flaky.cut()
    client.expect_told("down")
    assert client.expect_phase("reconnecting")["attempt"] >= 0
    until(lambda: flaky.turned_away >= 6)
    flaky.mend()

    assert client.expect_told("open", 2)["again"] is True
    assert client.evaluate("pong()") == "ok"
    client.expect_phase("ready")
    assert client.told() == ["open", "down", "open"]


def test_nothing_is_kept_of_what_is_sent_while_it_is_down(
    client: Client, on_processes: LiveServer, flaky: Line
) -> None:
    made = ready(on_processes, "down")
    client.make(made, through(flaky, made, on_processes))
    client.open()
    flaky.cut()
    client.expect_told("down")

    refused = client.evaluate(
        "(() => { try { socket.send('lost'); } catch ({name}) { return name; } })()"
    )

    assert refused == "NotConnected"
    assert client.evaluate("socket.connected") is False


def test_an_attempt_that_comes_to_nothing_is_given_up(
    client: Client, on_processes: LiveServer, flaky: Line
) -> None:
    made = ready(on_processes, "stalled")
    client.make(made, through(flaky, made, on_processes), attemptSeconds=0.5)
    client.open(silentSeconds=0.5)

    flaky.stall()
    client.expect_told("down")
    until(lambda: flaky.held_up >= 2)
    flaky.mend()

    client.expect_told("open", 2)
    client.expect_phase("ready")


def test_a_session_that_ends_while_nobody_reaches_it_is_found_dead(
    client: Client, on_processes: LiveServer, flaky: Line
) -> None:
    made = ready(on_processes, "ends-unseen")
    client.make(made, through(flaky, made, on_processes))
    client.open()
    flaky.cut()
    client.expect_told("down")

    stop(on_processes, made)
    flaky.mend()

    assert "it was stopped by request" in client.expect_phase("ended")["message"]
    assert client.told() == ["open", "down", "close"]


def go_online(page: Page) -> None:
    page.context.set_offline(True)
    page.context.set_offline(False)


def look_again(page: Page) -> None:
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")


@pytest.mark.parametrize("comes_back", [go_online, look_again])
def test_who_comes_back_does_not_wait_for_the_next_retry(
    page: Page,
    client: Client,
    on_processes: LiveServer,
    flaky: Line,
    comes_back: Callable[[Page], None],
) -> None:
    made = ready(on_processes, comes_back.__name__)
    long = {"firstSeconds": 1e6, "mostSeconds": 1e6}
    client.make(made, through(flaky, made, on_processes), **long)
    client.open()
    flaky.cut()
    client.expect_phase("reconnecting")
    client.wait_for("client.state.retryAt !== null")
    flaky.mend()

    comes_back(page)

    client.expect_told("open", 2)


# --- a server that is started again --------------------------------------------------------------


@pytest.fixture
def start(engine: Place, tmp_path: Path) -> Iterator[Callable[[], LiveServer]]:
    """Start the server, each time at the same addresses and with the same state."""
    started: list[LiveServer] = []

    def start() -> LiveServer:
        ports = (started[0].control_port, started[0].proxy_port) if started else None
        started.append(LiveServer(tmp_path, engine.conf, ports=ports))
        started[-1].wait_until_ready()
        return started[-1]

    yield start
    if started[-1].process.poll() is None:
        end_all(started[-1])
    for server in started:
        server.interrupt()


@pytest.mark.parametrize("end", ["killed", "stopped"])
def test_over_a_restart_a_session_comes_back_or_is_told_dead(
    page: Page,
    watched: Watched,
    engine: Place,
    start: Callable[[], LiveServer],
    end: str,
) -> None:
    watched.allow(SAID_BY_CHROMIUM)
    first = start()
    made = ready(first, "survivor")
    client = Client(page, first)
    client.make(made, follow=True)
    client.open()

    if end == "killed":
        first.process.kill()
        first.process.wait()
    else:
        first.interrupt()
    if engine.adopts or end == "killed":
        client.expect_told("down")
    start()

    if engine.adopts:
        client.expect_told("open", 2)
        assert client.evaluate("pong()") == "ok"
        assert client.expect_phase("ready") == {"phase": "ready"}
    else:
        client.expect_phase("ended")
        assert client.expect_told("close")["ended"] is not None
