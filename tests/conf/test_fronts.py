"""A server behind Caddy and nginx, as conf/ has them: nothing is lost, cut, kept or given away."""

from __future__ import annotations

import hashlib
import http.client
import json
import subprocess
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from tests.conf.fronts import CADDYFILE, CHECKS, CLIENT, CONTROL, KINDS, SESSIONS, Front, front_of
from tests.live import PATIENCE_SECONDS, ask, until
from tests.proxy.frames import TEXT, frame, read, upgrade

pytestmark = pytest.mark.conf


@pytest.fixture(scope="module", params=sorted(KINDS))
def front(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Front]:
    with front_of(request.param, tmp_path_factory.mktemp(request.param)) as running:
        yield running


def get(front: Front, host: str, path: str, **headers: str) -> tuple[int, Any, bytes]:
    """Status, headers and body."""
    with closing(front.connect(host)) as browser:
        browser.request(
            "GET", path, headers={name.replace("_", "-"): v for name, v in headers.items()}
        )
        answer = browser.getresponse()
        return answer.status, answer.headers, answer.read()


def told(front: Front, host: str, path: str, **headers: str) -> dict[str, list[str]]:
    """The headers that a session was sent, by name in lower case."""
    status, _, body = get(front, host, f"{path}echo", **headers)
    assert status == 200, body
    found: dict[str, list[str]] = {}
    for name, value in json.loads(body)["headers"]:
        found.setdefault(name.lower(), []).append(value)
    return found


def connections(front: Front, session: str) -> Any:
    return ask("GET", f"{front.server.control}/ctrl/b/{session}").json["connection_count"]


def test_the_shipped_file_has_no_fault(front: Front) -> None:
    command = [front.kind, *(each.format(front.folder) for each in CHECKS[front.kind])]

    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert "[warn]" not in done.stderr  # nginx's word for what it takes all the same


def test_caddy_would_write_its_file_the_same_way() -> None:
    done = subprocess.run(["caddy", "fmt", CADDYFILE], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == CADDYFILE.read_text().strip()


def test_a_session_learns_who_came_and_how(front: Front) -> None:
    session, host, path = front.spawn()

    headers = told(
        front,
        host,
        path,
        X_Forwarded_For="6.6.6.6",
        X_Forwarded_Host="evil",
        X_Forwarded_Port="1",
        X_Forwarded_Prefix="/evil",
        X_Verified_Username="eve",
    )

    assert headers["x-verified-username"] == ["ada"]
    assert headers["x-verified-backend"] == [session]
    assert headers["x-forwarded-proto"] == ["https"]
    assert headers["x-forwarded-for"][0].split(",")[0] == CLIENT
    assert headers["x-forwarded-host"] == [SESSIONS]
    assert headers.get("x-forwarded-port", ["443"]) == ["443"]
    assert headers["x-forwarded-prefix"] == [path.rstrip("/")]
    assert "6.6.6.6" not in str(headers)


@pytest.mark.parametrize("how", [{"routing": "host"}, {"subdomain": "team"}])
def test_a_session_is_reached_by_a_host_of_its_own(front: Front, how: dict[str, str]) -> None:
    _, host, path = front.spawn(**how)

    headers = told(front, host, path)

    assert host.endswith(f".{SESSIONS}")
    assert headers["host"] == [host]


def test_a_websocket_passes_both_ways(front: Front) -> None:
    _, host, path = front.spawn()

    with closing(front.connect(host)) as browser:
        browser.connect()
        browser.sock.sendall(upgrade(f"{path}ws", host))
        head = browser.sock.recv(65536)
        browser.sock.sendall(frame(TEXT, b"hello", masked=True))
        echoed = read(browser.sock.recv(65536))

    assert head.startswith(b"HTTP/1.1 101 ")
    assert echoed == [(TEXT, b"hello")]


def test_events_arrive_one_by_one_and_a_browser_that_leaves_is_gone(front: Front) -> None:
    session, host, path = front.spawn()

    with closing(front.connect(host)) as browser:
        # The second event would come in an hour.
        browser.request("GET", f"{path}sse?count=2&interval=3600")
        answer = browser.getresponse()
        first = answer.readline()
        meanwhile = connections(front, session)

    assert (first, meanwhile) == (b'data: {"tick": 0}\n', 1)
    until(lambda: connections(front, session) == 0)


def test_an_upload_passes_piece_by_piece(front: Front) -> None:
    session, host, path = front.spawn()
    half = bytes(10 * 1024 * 1024)

    def arrived() -> int:
        told = ask("GET", f"{front.server.control}/ctrl/b/{session}").json
        return int(told["traffic"]["bytes_from_clients"])

    with closing(front.connect(host)) as browser:
        browser.putrequest("POST", f"{path}upload")
        browser.putheader("Content-Length", str(2 * len(half)))
        browser.endheaders()
        browser.send(half)
        until(lambda: arrived() == len(half))
        browser.send(half)
        answer = json.loads(browser.getresponse().read())

    assert answer == {"bytes": 2 * len(half), "sha256": hashlib.sha256(2 * half).hexdigest()}


def test_a_session_that_has_ended_has_its_page(front: Front) -> None:
    session, host, path = front.spawn()
    front.server.wait_for(session, "ready")
    ask("POST", f"{front.server.control}/ctrl/b/{session}/hard-terminate?wait=20", {})

    status, headers, body = get(front, host, path, Accept="text/html", Sec_Fetch_Mode="navigate")

    assert status == 410
    assert headers["Content-Type"].startswith("text/html")
    assert b"</html>" in body


def test_browsers_speak_http_2(front: Front) -> None:
    _, host, path = front.spawn()
    sent = front.certificate.stat().st_size

    done = subprocess.run(
        ["curl", "--silent", "--show-error", "--http2", "--cacert", front.certificate,
         "--connect-to", f"{host}:443:127.0.0.1:{front.port}", "--write-out", " %{http_version}",
         "--data-binary", f"@{front.certificate}", f"https://{host}{path}upload"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    answer, _, version = done.stdout.rpartition(" ")

    assert (json.loads(answer)["bytes"], version) == (sent, "2")


def test_a_plain_request_is_shown_the_way_to_tls(front: Front) -> None:
    plain = http.client.HTTPConnection("127.0.0.1", front.plain_port, PATIENCE_SECONDS)
    with closing(plain):
        plain.request("GET", "/x?y", headers={"Host": f"a.{SESSIONS}"})
        answer = plain.getresponse()

    assert answer.status == 308
    assert answer.headers["Location"] == f"https://a.{SESSIONS}/x?y"


def test_nginx_obeys_no_session(front: Front) -> None:
    _, host, path = front.spawn()

    status, _, body = get(front, host, f"{path}headers?X-Accel-Redirect=/other")

    assert (status, body) == (200, b"ok\n")


def test_of_the_control_api_only_what_is_public_is_reached(front: Front) -> None:
    session, _, _ = front.spawn()

    status, _, body = get(front, CONTROL, f"/pub/b/{session}/status")
    others = {
        path: get(front, CONTROL, path)[0]
        for path in (
            "/", "/ctrl/backends", "/metrics", "/demo", "/web/board.js", "/pub/../ctrl/backends",
            "/pub/%2e%2e/ctrl/backends", "//ctrl/backends", "/pub/..;/ctrl/backends",
        )
    }  # fmt: skip

    assert (status, "status" in json.loads(body)) == (200, True)
    assert set(others.values()) == {404}, others


def test_a_status_stream_arrives_as_it_happens(front: Front) -> None:
    session, _, _ = front.spawn()

    with closing(front.connect(CONTROL)) as browser:
        browser.request("GET", f"/pub/b/{session}/status-stream")
        stream = browser.getresponse()
        statuses = []
        while statuses[-1:] != [b"id: ready\n"]:
            statuses.append(stream.readline())
            assert statuses[-1], "it ended"

    assert stream.status == 200
