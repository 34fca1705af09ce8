"""The main job on the real thing: a twistd process, real sessions, a real browser."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import socket
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.live import Answer, LiveServer, ask, entered, live_server, remove_networks, until

PROCESS = '[engine]\nkind = "process"\n'


@pytest.fixture
def docker_conf() -> Iterator[str]:
    """The docker engine, as an instance that no other server or run has."""
    instance = f"test-{uuid.uuid4().hex[:12]}"
    yield f'[engine]\nkind = "docker"\ninstance = "{instance}"\n'
    # A test that failed may have left some.
    if left := containers(instance).split():
        subprocess.run(["docker", "rm", "--force", *left], check=True, capture_output=True)
        remove_networks(instance)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LiveServer]:
    with live_server(tmp_path, PROCESS) as running:
        yield running


@pytest.fixture
def docker_server(tmp_path: Path, docker_conf: str) -> Iterator[LiveServer]:
    with live_server(tmp_path, docker_conf) as running:
        yield running
        end_all(running)


def end_all(server: LiveServer) -> None:
    listed = ask("GET", f"{server.control}/ctrl/backends?limit=1000").json["backends"]
    ids = [session["backend_id"] for session in listed if session["status"] != "terminated"]
    urls = [f"{server.control}/ctrl/b/{name}/hard-terminate?wait=30" for name in ids]
    with ThreadPoolExecutor(50) as pool:
        ended = list(pool.map(lambda url: ask("POST", url).status, urls))
    assert set(ended) <= {200}


def stream_lines(url: str) -> Iterator[bytes]:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection("127.0.0.1", parts.port or 80, 30)
    with contextlib.closing(connection):
        connection.request("GET", f"{parts.path}?{parts.query}", headers={"Host": parts.netloc})
        yield from connection.getresponse()


# --- in a browser ------------------------------------------------------------------------------


@contextlib.contextmanager
def browser() -> Iterator[object]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path="/usr/bin/chromium",
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        yield chromium
        chromium.close()


def draw_together(server: LiveServer, app: str) -> tuple[dict[str, object], float]:
    """Draw in two tabs, each seeing the other; the ended session, and when both had left."""
    with browser() as chromium:
        tabs = [chromium.new_page() for _ in range(2)]
        first = server.connect(app, key="board", max_idle_seconds=2)
        second = server.connect(app, key="board")
        assert (first["spawned"], second["spawned"]) == (True, False)
        for tab, url in zip(tabs, (first["url"], second["url"]), strict=True):
            tab.goto(url)  # while it boots that is the waiting page, which then goes on by itself
            tab.wait_for_selector("#board")
            tab.wait_for_function("window.whiteboard?.connected")
        tabs[0].wait_for_function("window.whiteboard.peers === 2")
        for drawing, seeing in (tabs, tabs[::-1]):
            before = seeing.evaluate("window.whiteboard.segments.length")
            box = drawing.locator("#board").bounding_box()
            drawing.mouse.move(box["x"] + 40, box["y"] + 40)
            drawing.mouse.down()
            drawing.mouse.move(box["x"] + 160, box["y"] + 120, steps=5)
            drawing.mouse.up()
            seeing.wait_for_function(f"window.whiteboard.segments.length > {before}")
        assert server.connect(app, key="board")["spawned"] is False
        tabs[0].close()
        tabs[1].close()
    left_at = time.time()
    return server.wait_for(first["backend_id"], "terminated"), left_at


@pytest.mark.chromium
def test_two_tabs_draw_on_one_board_that_ends_when_both_have_gone(server: LiveServer) -> None:
    session, left_at = draw_together(server, "whiteboard")

    assert entered(session, "terminated") <= left_at + 2 + 1
    assert session["status_history"][-1]["termination_reason"] == "idle"
    assert server.connect("whiteboard", key="board")["spawned"] is True


@pytest.mark.chromium
@pytest.mark.docker
def test_two_tabs_draw_on_one_board_in_a_container(docker_server: LiveServer) -> None:
    session, left_at = draw_together(docker_server, "docker-whiteboard")

    assert entered(session, "terminated") <= left_at + 2 + 1
    assert session["status_history"][-1]["termination_reason"] == "idle"
    assert docker_server.connect("docker-whiteboard", key="board")["spawned"] is True


@pytest.mark.chromium
def test_the_demo_link_leads_to_the_whiteboard(tmp_path: Path) -> None:
    conf = f'{PROCESS}[demo]\napp = "whiteboard"\n'
    with live_server(tmp_path, conf) as running, browser() as chromium:
        tab = chromium.new_page()
        tab.goto(f"{running.control}/demo")
        tab.wait_for_selector("#board")
        tab.wait_for_function("window.whiteboard?.connected")
        assert tab.url.startswith(f"http://{running.cluster}/")


# --- what is in use is not reaped ---------------------------------------------------------------


def still_ready(server: LiveServer, session_id: str) -> bool:
    return bool(server.session(session_id)["status"] == "ready")


def test_an_event_stream_of_three_idle_times_is_not_reaped(server: LiveServer) -> None:
    made = server.connect("echo", max_idle_seconds=1)
    began = time.monotonic()
    ticks = [
        line for line in stream_lines(f"{made['url']}sse?count=8&interval=0.4") if line != b"\n"
    ]
    assert len(ticks) == 8
    assert time.monotonic() - began >= 2.8
    assert still_ready(server, made["backend_id"])
    assert server.wait_for(made["backend_id"], "terminated")["exit_code"] == 0


def test_a_slow_download_of_three_idle_times_is_not_reaped(server: LiveServer) -> None:
    made = server.connect("echo", max_idle_seconds=1)
    answer = ask("GET", f"{made['url']}chunked?count=8&size=1000&delay=0.4")
    assert len(answer.body) == 8000
    assert still_ready(server, made["backend_id"])


def test_a_slow_upload_of_three_idle_times_is_not_reaped(server: LiveServer) -> None:
    made = server.connect("echo", max_idle_seconds=1)
    parts = urlsplit(made["url"])
    assert ask("GET", f"{made['url']}echo").status == 200
    with socket.create_connection(("127.0.0.1", parts.port or 80)) as upload:
        request_line = f"POST {parts.path}upload HTTP/1.1"
        head = f"{request_line}\r\nHost: {parts.netloc}\r\nContent-Length: 16\r\n\r\n"
        upload.sendall(head.encode())
        ticks = stream_lines(f"{server.connect('echo')['url']}sse?count=8&interval=0.4")
        for _ in range(8):
            next(ticks), next(ticks)
            upload.sendall(b"xx")
        assert b'"bytes": 16' in upload.recv(65536)
    assert still_ready(server, made["backend_id"])


def test_a_session_that_boots_longer_than_its_idle_time_is_not_reaped(server: LiveServer) -> None:
    slow = {"env": {"ECHO_START_DELAY": "3"}}
    made = server.connect("echo", max_idle_seconds=1, executable=slow)
    session = server.wait_for(made["backend_id"], "ready")
    assert entered(session, "ready") - entered(session, "starting") >= 3


def test_a_request_is_held_until_its_session_is_ready(server: LiveServer) -> None:
    made = server.connect("echo", executable={"env": {"ECHO_START_DELAY": "1"}})
    assert made["status"] == "scheduled"
    assert ask("GET", f"{made['url']}echo/held").json["path"] == "/echo/held"


# --- many at once -------------------------------------------------------------------------------


def test_fifty_connects_on_one_key_make_one_session(server: LiveServer) -> None:
    with ThreadPoolExecutor(50) as pool:
        made = list(pool.map(lambda _: server.connect("whiteboard", key="one"), range(50)))
    assert sorted(each["spawned"] for each in made) == [False] * 49 + [True]
    assert len({each["backend_id"] for each in made}) == 1
    assert len({each["token"] for each in made}) == 50


def test_fifty_sessions_leave_nothing_behind(server: LiveServer) -> None:
    assert ask("GET", f"{server.control}/pub/health").status == 200
    files = server.open_files()
    with ThreadPoolExecutor(50) as pool:
        made = list(pool.map(lambda n: server.connect("whiteboard", key=f"k{n}"), range(50)))
        answers = list(pool.map(lambda each: ask("GET", each["url"]), made))
    assert {answer.status for answer in answers} == {200}
    assert len(server.children()) == len({each["backend_id"] for each in made}) == 50
    end_all(server)
    assert server.children() == set()
    until(lambda: server.open_files() <= files)
    listed = ask("GET", f"{server.control}/ctrl/backends?limit=1000").json["backends"]
    assert {session["status"] for session in listed} == {"terminated"}
    assert all(session["connections"] == [] for session in listed)


def listening_addresses(server: LiveServer) -> set[str]:
    """The addresses that the sessions of the process engine listen on, as the kernel tells."""
    environments = [Path(f"/proc/{pid}/environ").read_bytes() for pid in server.children()]
    ports = {int(port) for each in environments for port in re.findall(rb"\0PORT=(\d+)", each)}
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    local = [line.split()[1].split(":") for line in lines if line.split()[3] == "0A"]
    return {address for address, port in local if int(port, 16) in ports}


def test_sessions_of_the_process_engine_are_reached_through_the_proxy_only(
    server: LiveServer,
) -> None:
    for app in ("whiteboard", "echo"):
        assert ask("GET", server.connect(app)["url"]).status in (200, 404)
    assert listening_addresses(server) == {"0100007F"}


@pytest.mark.docker
def test_fifty_containers_leave_nothing_behind(docker_server: LiveServer) -> None:
    instance = re.search(r'instance = "(.*)"', docker_server.config.read_text())[1]
    files = docker_server.open_files()
    with ThreadPoolExecutor(50) as pool:
        keys = [f"k{number}" for number in range(50)]
        made = list(pool.map(lambda key: docker_server.connect("docker-busybox", key=key), keys))
        answers = list(pool.map(lambda each: ask("GET", each["url"]), made))
    assert {answer.status for answer in answers} == {200}
    assert len({each["backend_id"] for each in made}) == 50
    end_all(docker_server)
    until(lambda: not containers(instance))
    until(lambda: docker_server.open_files() <= files)


def containers(instance: str) -> str:
    label = f"label=plane-tx.instance={instance}"
    command = ["docker", "ps", "--all", "--quiet", "--filter", label]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.docker
def test_mounts_are_directories_of_the_custom_name_and_of_the_key(
    tmp_path: Path, docker_conf: str
) -> None:
    """Plane's volume_mounts (plane.md part 7)."""
    base = tmp_path / "mounts"
    conf = f'{docker_conf}mount_base = "{base}"\nallow_requests = ["mount"]\n'
    with live_server(tmp_path, conf) as running:
        for key, mount in (("k", True), ("l", "custom")):
            made = running.connect("docker-busybox", key=key, executable={"mount": mount})
            running.wait_for(made["backend_id"], "ready")
        end_all(running)
    assert {path.name for path in (base / "@default").iterdir()} == {"k", "custom"}


@pytest.mark.docker
def test_what_a_request_has_no_leave_for_is_refused_at_once(docker_server: LiveServer) -> None:
    for field, value in (("mount", True), ("cap_add", ["ALL"]), ("gpus", "all")):
        request = {"spawn_config": {"executable": {"app": "docker-busybox", field: value}}}
        answer = ask("POST", f"{docker_server.control}/ctrl/connect", request)
        assert (answer.status, answer.json["kind"]) == (422, "InvalidRequest")
        assert answer.json["message"].startswith(f"spawn_config.executable.{field}: this server")


# --- what goes wrong is said --------------------------------------------------------------------


def test_a_session_that_never_listens_ends_with_the_reason(server: LiveServer) -> None:
    deaf = {"env": {"ECHO_NEVER_LISTEN": "1"}, "readiness": {"timeout_seconds": 1}}
    made = server.connect("echo", executable=deaf)
    held = ask("GET", made["url"])
    session = server.wait_for(made["backend_id"], "terminated")
    assert session["status_history"][-1]["termination_reason"] == "startuptimeout"
    assert "did not answer HTTP within 1 s" in session["failure"]["message"]
    assert "and its process listens on no port" in session["failure"]["message"]
    assert held.status == 410
    assert "did not answer HTTP" in held.json["message"]


def test_a_session_that_exits_at_once_ends_with_its_last_words(server: LiveServer) -> None:
    made = server.connect("echo", executable={"env": {"ECHO_EXIT_AT_ONCE": "3"}})
    session = server.wait_for(made["backend_id"], "terminated")
    held = ask("GET", made["url"])
    assert session["exit_code"] == 3
    assert "exit code 3" in session["failure"]["message"]
    assert session["failure"]["log_tail"]
    assert held.status == 410
    assert "exit code 3" in held.json["message"]


@pytest.mark.docker
def test_an_image_that_does_not_exist_ends_the_session_with_the_reason(
    docker_server: LiveServer,
) -> None:
    image = {"image": "plane-tx-test/no-such-image", "pull_policy": "Never"}
    request = {"spawn_config": {"executable": image}}
    made = ask("POST", f"{docker_server.control}/ctrl/connect", request).json
    held = ask("GET", made["url"])
    session = docker_server.wait_for(made["backend_id"], "terminated")
    assert "plane-tx-test/no-such-image" in session["failure"]["message"]
    assert held.status == 410
    assert "no-such-image" in held.json["message"]


@pytest.mark.docker
def test_a_container_that_exits_at_once_ends_with_its_exit_code(docker_server: LiveServer) -> None:
    image = {"image": "plane-tx-test/busybox", "pull_policy": "Never"}
    command = ["sh", "-c", "echo last words; exit 7"]
    request = {"spawn_config": {"executable": {**image, "command": command}}}
    made = ask("POST", f"{docker_server.control}/ctrl/connect", request).json
    session = docker_server.wait_for(made["backend_id"], "terminated")
    assert session["exit_code"] == 7
    assert session["failure"]["log_tail"] == ["last words"]


@pytest.mark.docker
@pytest.mark.parametrize(
    ("command", "readiness", "why"),
    [
        ("httpd -f -p 3000", {}, "port 8080 is not open; the container listens on 3000: "),
        ("sleep 60", {}, "port 8080 is not open, and the container listens on no port: "),
        ("httpd -f -p 127.0.0.1:8080", {}, "the container listens on 127.0.0.1:8080 only: "),
        (
            "httpd -f -p 8080",
            {"path": "/up", "statuses": [200, 204]},
            "port 8080 is open, but HEAD /up is answered by 404, not by 200 or 204: ",
        ),
        ("nc -ll -p 8080 -e echo SSH-2.0-none", {}, "what answers there is not HTTP: "),
    ],
)
def test_a_container_that_does_not_answer_ends_with_why(
    docker_server: LiveServer, command: str, readiness: dict[str, Any], why: str
) -> None:
    executable = {
        "image": "plane-tx-test/busybox",
        "pull_policy": "Never",
        "command": command.split(),
        "readiness": {"timeout_seconds": 2, **readiness},
    }
    request = {"spawn_config": {"executable": executable}}
    made = ask("POST", f"{docker_server.control}/ctrl/connect", request).json
    session = docker_server.wait_for(made["backend_id"], "terminated")
    told = ask("GET", f"{docker_server.control}/ctrl/b/{made['backend_id']}/why").json
    assert why in session["failure"]["message"]
    assert why in told["summary"]


@pytest.mark.docker
@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"command": ["no-such-program"]}, "exit code 127: its command was not found"),
        ({"command": ["/bin"]}, "exit code 126: its command may not be run"),
        ({"entrypoint": ["true"]}, "exit code 0: its command has to go on in the foreground"),
        (
            {
                "command": ["sh", "-c", "sleep 0.3; tail /dev/zero"],
                "resource_limits": {"memory_limit_bytes": 16 << 20},
            },
            "used more memory than its limit and was killed: have it use less",
        ),
        ({"image": "plane-tx-test/none"}, "; pull it on this box, or have it pulled"),
    ],
)
def test_what_goes_wrong_while_a_container_boots_is_told_with_what_to_do(
    docker_server: LiveServer, change: dict[str, Any], why: str
) -> None:
    executable = {"image": "plane-tx-test/busybox", "pull_policy": "Never", **change}
    request = {"spawn_config": {"executable": executable}}
    made = ask("POST", f"{docker_server.control}/ctrl/connect", request).json
    session = docker_server.wait_for(made["backend_id"], "terminated")
    assert why in session["failure"]["message"]


# --- Docker away and back -----------------------------------------------------------------------


class SocketRelay:
    """Stands before Docker's socket, so that a test can take Docker away and bring it back."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._listener: socket.socket | None = None
        self._pairs: list[socket.socket] = []

    def open(self) -> None:
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self._path))
        self._listener.listen(64)
        threading.Thread(target=self._serve, args=(self._listener,), daemon=True).start()

    def close(self) -> None:
        assert self._listener is not None
        self._path.unlink()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for each in self._pairs:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _serve(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = listener.accept()
                far = socket.socket(socket.AF_UNIX)
                far.connect("/var/run/docker.sock")
                self._pairs += [near, far]
                for one, other in ((near, far), (far, near)):
                    threading.Thread(target=self._copy, args=(one, other), daemon=True).start()

    def _copy(self, one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(65536):
                other.sendall(data)
        with contextlib.suppress(OSError):
            other.shutdown(socket.SHUT_WR)


@pytest.mark.docker
def test_docker_missing_or_stopped_is_said_and_works_again_when_it_returns(
    tmp_path: Path, docker_conf: str
) -> None:
    path = tmp_path / "docker.sock"
    relay = SocketRelay(path)
    running = LiveServer(tmp_path, f'{docker_conf}docker_socket = "{path}"\n')
    try:
        running.wait_until_listening()
        missing_at_start(running)
        relay.open()
        until(lambda: ask("GET", f"{running.control}/pub/ready").status == 200)
        made = running.connect("docker-whiteboard")
        visit = ask("GET", made["url"])
        assert visit.status == 200, visit.body
        relay.close()
        until(lambda: ask("GET", f"{running.control}/pub/health").status == 503)
        missing_at_start(running)
        assert ask("GET", made["url"]).status == 200
        relay.open()
        until(lambda: ask("GET", f"{running.control}/pub/health").status == 200)
        until(lambda: ask("POST", *whiteboard(running)).status == 200)
        end_all(running)
    finally:
        running.interrupt()


def whiteboard(server: LiveServer) -> tuple[str, object]:
    spawn = {"spawn_config": {"executable": {"app": "docker-whiteboard"}}}
    return f"{server.control}/ctrl/connect", spawn


def missing_at_start(server: LiveServer) -> None:
    refused = ask("POST", *whiteboard(server))
    health = ask("GET", f"{server.control}/pub/health")
    assert refused.status == 503
    assert refused.json["kind"] == "NoDroneAvailable"
    assert "docker.sock" in refused.json["message"]
    assert refused.headers["Retry-After"]
    assert health.status == 503
    assert "docker.sock" in health.json["engine"]["message"]


@pytest.mark.docker
def test_a_container_goes_on_over_a_restart_of_a_server_that_has_lost_its_journal(
    tmp_path: Path, docker_conf: str
) -> None:
    first_run, second_run = tmp_path / "first", tmp_path / "second"
    first_run.mkdir(), second_run.mkdir()
    with live_server(first_run, docker_conf) as before:
        made = before.connect("docker-whiteboard", key="kept")
        assert ask("GET", made["url"]).status == 200
    with live_server(second_run, docker_conf) as after:
        again = after.connect("docker-whiteboard", key="kept")
        assert (again["spawned"], again["backend_id"]) == (False, made["backend_id"])
        assert ask("GET", again["url"]).status == 200
        end_all(after)


# --- killed and started again --------------------------------------------------------------------


def visit(made: dict[str, str], cluster: str) -> Answer:
    """Ask for a page by the link that was given, which may name a host of its own."""
    parts = urlsplit(made["url"])
    port = cluster.rpartition(":")[2]
    host = parts.netloc.rpartition(":")[0] or parts.netloc
    url = f"http://127.0.0.1:{port}{parts.path}"
    return ask("GET", url, headers={"Host": f"{host}:{port}"})


class Servers:
    """One after the other on the same ports, with the same state and instance."""

    def __init__(self, folder: Path, conf: str) -> None:
        self._folder, self._conf = folder, conf
        self._ports: tuple[int, int] | None = None
        self._started: list[LiveServer] = []

    def start(self) -> LiveServer:
        server = LiveServer(self._folder, self._conf, ports=self._ports)
        self._ports = (server.control_port, server.proxy_port)
        self._started.append(server)
        return server

    def kill(self) -> None:
        """Kill the one that runs, which must not have logged a traceback."""
        server = self._started[-1]
        server.process.kill()
        server.process.wait(30)
        assert "Traceback" not in server.log.read_text(), server.log.read_text()

    def stop(self) -> None:
        for server in self._started:
            server.interrupt()


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Callable[[str], Servers]]:
    made: list[Servers] = []

    def make(conf: str) -> Servers:
        made.append(Servers(tmp_path, conf))
        return made[-1]

    yield make
    for each in made:
        each.stop()


@pytest.mark.docker
def test_a_killed_server_goes_on_where_it_was(
    docker_conf: str, servers: Callable[[str], Servers]
) -> None:
    runs = servers(docker_conf)
    before = runs.start()
    before.wait_until_ready()
    limits = {"lifetime_limit_seconds": 3600, "max_idle_seconds": 600}
    path = before.connect("docker-busybox", key="path", **limits)
    host = before.connect("docker-busybox", routing="host")
    static = before.connect("docker-busybox", use_static_token=True)
    gone = before.connect("docker-busybox", key="gone")
    revoked = before.ask_connect({"key": {"name": "path"}, "user": "eve"})
    user = before.ask_connect({"key": {"name": "path"}, "user": "ada", "auth": {"n": 1}})
    links = (path, host, static, user)
    first = [visit(made, before.cluster).status for made in (*links, gone, revoked)]
    whose = {"backend_id": path["backend_id"], "user": "eve"}
    url = f"{before.control}/ctrl/b/{path['backend_id']}/keepalive"
    end = f"{before.control}/ctrl/b/{gone['backend_id']}/hard-terminate?wait=30"
    asked = [
        ask("POST", f"{before.control}/ctrl/b/revoke", whose).status,
        ask("POST", url, {"seconds": 3000, "reason": "work"}).status,
        ask("POST", end).status,
    ]
    was = before.session(path["backend_id"])
    runs.kill()

    after = runs.start()
    after.wait_until_listening()
    answers = [visit(made, after.cluster).status for made in links]
    left = [visit(made, after.cluster) for made in (gone, revoked)]
    now_is = after.session(path["backend_id"])
    again = after.connect("docker-busybox", key="path")
    end_all(after)

    # A static link's path reaches the session as it is, and that one has no such page.
    assert (first, asked) == ([200, 200, 404, 200, 200, 200], [200] * 3)
    assert answers == [200, 200, 404, 200]
    assert [each.status for each in left] == [410, 410]
    assert "stopped by request" in left[0].json["message"]
    same = ("key", "created_at", "status_history", "limits", "user")
    assert {name: now_is[name] for name in same} == {name: was[name] for name in same}
    assert now_is["deadlines"]["lifetime"] == was["deadlines"]["lifetime"]
    assert [lease["reason"] for lease in now_is["leases"]] == ["work"]
    assert (again["spawned"], again["backend_id"]) == (False, path["backend_id"])


@pytest.mark.docker
def test_what_ended_while_the_server_was_away_says_how(
    docker_conf: str, servers: Callable[[str], Servers]
) -> None:
    runs = servers(docker_conf)
    before = runs.start()
    before.wait_until_ready()
    made = [before.connect("docker-busybox") for _ in range(3)]
    first = [visit(each, before.cluster).status for each in made]
    runs.kill()
    names = [f"plane-{each['backend_id']}" for each in made]
    subprocess.run(["docker", "kill", names[0]], check=True, capture_output=True)
    subprocess.run(["docker", "rm", "-f", names[1]], check=True, capture_output=True)

    after = runs.start()
    after.wait_until_ready()
    states = [after.session(each["backend_id"]) for each in made]
    end_all(after)

    assert first == [200] * 3
    assert [state["status"] for state in states] == ["terminated", "terminated", "ready"]
    assert states[0]["exit_code"] == 137
    assert states[1]["status_history"][-1]["termination_reason"] == "lost"


def test_sessions_of_the_process_engine_end_with_a_killed_server_and_say_so(
    servers: Callable[[str], Servers],
) -> None:
    runs = servers(PROCESS)
    before = runs.start()
    before.wait_until_ready()
    made = before.connect("echo")
    first = visit(made, before.cluster).status
    runs.kill()

    after = runs.start()
    after.wait_until_ready()
    link = visit(made, after.cluster)

    assert (first, link.status) == (200, 410)
    assert "end with the server" in link.json["message"]


# --- reactors -----------------------------------------------------------------------------------


@pytest.mark.parametrize("reactor", ["epoll", "asyncio"])
def test_sessions_work_under_each_reactor(tmp_path: Path, reactor: str) -> None:
    with live_server(tmp_path, PROCESS, reactor) as running:
        made = running.connect("echo", max_idle_seconds=1)
        body = os.urandom(3_000_000)
        assert ask("POST", f"{made['url']}upload", body).json["bytes"] == len(body)
        assert len(ask("GET", f"{made['url']}bytes?size=3000000").body) == 3_000_000
        ended = running.wait_for(made["backend_id"], "terminated")
        assert ended["status_history"][-1]["termination_reason"] == "idle"
