"""Snippets of strangers: what they print comes back, and whatever they try ends with them."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from plane_tx.client import Session
from tests.examples.example import Example
from tests.live import PATIENCE_SECONDS, ask, until

pytestmark = pytest.mark.docker

JSON = "application/json"

HOG = """
held = []
while True:
    held.append(bytearray(10_000_000))
"""

#: A whole gigabyte, if it were let.
FLOOD = """
for _ in range(1024):
    print("x" * 2**20)
"""

#: It goes on where an ordinary one fails: when there may be no more processes.
BOMB = """
import os
print("lit")
while True:
    try:
        os.fork()
    except OSError:
        pass
"""

MUTINY = """
import os, signal, time
os.kill(os.getppid(), signal.SIGKILL)
time.sleep(60)
"""

#: Prints what of `places` answers. To look a name up may take longer than a snippet lives.
REACH = """
import json, os, socket, threading

def try_out(place):
    try:
        socket.create_connection(place, 1).close()
    except OSError:
        return
    reached.append(place)

reached = []
threads = [threading.Thread(target=try_out, args=[place]) for place in {places}]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join(1)
print(json.dumps(reached))
os._exit(0)
"""

WRITE = """
import os
for path in ("/app/runner.py", "/etc/passwd", "/usr/x", "/var/tmp/x", "/tmp/x"):
    try:
        open(path, "w").close()
        print(path)
    except OSError:
        pass
print(os.getuid())
"""

#: Leaves a file, is there for a while, and tells when that was and which files it found.
STAY = """
import json, os, time
open("/tmp/{name}", "w").close()
came = time.time()
time.sleep(3)
print(json.dumps([came, time.time(), os.listdir("/tmp")]))
"""


@pytest.fixture(scope="module")
def app(example: Example) -> str:
    """The URL of the app that asks for the sessions."""
    until(lambda: _serves(example.app))
    return example.app


def _serves(url: str) -> bool:
    try:
        return ask("GET", url).status == 200
    except OSError:
        return False


def run(app: str, code: str) -> Any:
    answer = ask("POST", f"{app}/run", {"code": code})
    assert answer.status == 200, answer.body
    return answer.json


def address_of(session: Session) -> str:
    """Where a session's container is, among the others."""
    word = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
    command = ["docker", "inspect", "--format", word, f"plane-{session.id}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.chromium
def test_the_page_shows_what_a_snippet_prints_and_how_it_ends(app: str, page: Page) -> None:
    page.goto(app)

    page.get_by_label("Python").fill("print('<b>', 6 * 7)\nraise SystemExit('no more')")
    page.get_by_role("button", name="Run").click()

    expect(page.get_by_role("status")).to_have_text("it ended by itself, with exit code 1")
    expect(page.locator("#stdout")).to_have_text("<b> 42")
    expect(page.locator("#stderr")).to_have_text("no more")


#: What goes too far, and why it then ended.
TOO_FAR = {
    "memory hog": (HOG, "it used more than 134217728 bytes of memory"),
    "flood": (FLOOD, "it printed more than 262144 bytes"),
    "fork bomb": (BOMB, "its 10 seconds were over"),
    "mutiny": (MUTINY, "it brought down what it ran in"),
}

Ends = dict[str, Future[Any]]


@pytest.fixture(scope="module")
def ends(app: str) -> Iterator[Ends]:
    """What is told of each of `TOO_FAR`, which all run at once: their ten seconds pass but once."""
    with ThreadPoolExecutor() as pool:
        yield {name: pool.submit(run, app, code) for name, (code, _) in TOO_FAR.items()}


@pytest.mark.chromium
@pytest.mark.usefixtures("ends")
def test_the_page_tells_of_an_endless_loop_that_its_time_was_over(app: str, page: Page) -> None:
    page.goto(app)

    page.get_by_label("Python").fill("print('so far')\nwhile True: pass")
    page.keyboard.press("Control+Enter")

    expect(page.get_by_role("status")).to_have_text("its 10 seconds were over")
    expect(page.locator("#stdout")).to_have_text("so far")


@pytest.mark.parametrize("name", TOO_FAR)
def test_what_goes_too_far_ends_for_a_reason_and_the_next_runs(
    app: str, ends: Ends, name: str
) -> None:
    told = ends[name].result(PATIENCE_SECONDS)

    assert told["why"] == TOO_FAR[name][1]
    assert len(told["stdout"]) <= 262144
    assert run(app, "print('next')")["stdout"] == "next\n"


def test_a_snippet_reaches_neither_a_neighbour_nor_the_server_nor_the_world(
    example: Example, app: str
) -> None:
    neighbour = example.client.connect("sandbox")
    example.client.wait_ready(neighbour.id)
    address = address_of(neighbour)
    gateway = f"{address.rpartition('.')[0]}.1"
    places = [(address, 8080), ("example.com", 443), ("1.1.1.1", 443)]
    places += [(host, example.control_port) for host in (gateway, "172.17.0.1", "127.0.0.1")]

    told = run(app, REACH.replace("{places}", repr(places)))

    assert (told["stdout"], told["stderr"]) == ("[]\n", "")
    socket.create_connection((address, 8080), PATIENCE_SECONDS).close()  # there was a neighbour


def test_a_snippet_writes_nothing_but_its_own_memory_and_is_nobody(app: str) -> None:
    told = run(app, WRITE)

    assert (told["stdout"], told["stderr"]) == ("/tmp/x\n65534\n", "")


def test_two_snippets_at_once_do_not_see_each_others_files(app: str) -> None:
    with ThreadPoolExecutor() as pool:
        codes = [STAY.replace("{name}", name) for name in ("one", "two")]
        one, two = (json.loads(told["stdout"]) for told in pool.map(run, [app, app], codes))

    assert max(one[0], two[0]) < min(one[1], two[1])
    assert sorted(one[2]) == ["one", "snippet.py"]
    assert sorted(two[2]) == ["snippet.py", "two"]


def test_nothing_is_left_of_a_snippet_that_was_answered(example: Example, app: str) -> None:
    example.end_sessions()

    run(app, "print('here and gone')")

    until(lambda: example.containers() == [])
    assert next(example.client.list()).status == "terminated"


def test_a_server_that_takes_no_more_is_told_in_its_own_words(example: Example, app: str) -> None:
    example.client.drain()

    answer = ask("POST", f"{app}/run", {"code": ""})

    example.client.undrain()
    assert (answer.status, answer.json["kind"]) == (503, "NoDroneAvailable")


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"Content-Type": "text/plain"}, id="another origin's page"),
        pytest.param({"Content-Type": JSON, "Host": "example.com"}, id="a name made to lead here"),
        pytest.param(
            {"Content-Type": JSON, "Host": "localhost.example.com:80"}, id="one like ours"
        ),
    ],
)
def test_what_a_page_of_somebody_else_may_send_runs_nothing(
    example: Example, app: str, headers: dict[str, str]
) -> None:
    before = len([*example.client.list()])

    answer = ask("POST", f"{app}/run", b'{"code": ""}', headers)

    assert answer.status == 404
    assert len([*example.client.list()]) == before


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        pytest.param(b"[1]", {}, id="no object"),
        pytest.param(b"[" * 60_000, {}, id="a depth that no parser follows"),
        pytest.param(b'{"code": "' + b"x" * 65_536 + b'"}', {}, id="too long"),
        pytest.param(b"", {"Content-Length": "-1"}, id="a length below zero"),
        pytest.param(b"", {"Content-Length": "many"}, id="a length that is none"),
    ],
)
def test_what_is_no_snippet_is_refused_and_not_waited_for(
    app: str, body: bytes, headers: dict[str, str]
) -> None:
    answer = ask("POST", f"{app}/run", body, {"Content-Type": JSON, **headers})

    assert (answer.status, answer.json["message"]) == (
        400,
        'expected {"code": text}, of 65536 bytes at most',
    )
