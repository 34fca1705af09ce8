"""What Plane's own tests ask of its controller, and what they should ask, of a real server.

Rows of Plane's inventory that other tests here show over HTTP already are not shown again.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import re
import socket
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.live import Answer, LiveServer, ask, live_server, until

LIFE = ["scheduled", "loading", "starting", "waiting", "ready"]

#: In a container: tells what it was sent and what it may take, by either version of cgroups.
TELLS = """
import http.server, json, os, pathlib, resource, signal
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
FILES = {
    "cpu": ("cpu.max", "cpu/cpu.cfs_quota_us"),
    "memory": ("memory.max", "memory/memory.limit_in_bytes"),
    "pids": ("pids.max", "pids/pids.max"),
}
class Tells(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        told = {"headers": {name.lower(): value for name, value in self.headers.items()}}
        told["cpu_time"] = resource.getrlimit(resource.RLIMIT_CPU)
        for name, files in FILES.items():
            paths = [pathlib.Path("/sys/fs/cgroup", file) for file in files]
            told[name] = next(p.read_text().split()[0] for p in paths if p.exists())
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(told).encode())
    do_HEAD = do_GET
http.server.ThreadingHTTPServer(("", 8080), Tells).serve_forever()
"""
CONTAINER = {
    "image": "plane-tx-test/python",
    "command": ["python3", "-c", TELLS],
    "pull_policy": "Never",
    "readiness": {"timeout_seconds": 20},
}

#: A process that answers, and does not end when it is asked to.
STUBBORN = """
import http.server, os, signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
where = ("127.0.0.1", int(os.environ["PORT"]))
http.server.HTTPServer(where, http.server.SimpleHTTPRequestHandler).serve_forever()
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    conf = '[engine]\nkind = "process"\nallow_request_commands = true\n'
    with live_server(tmp_path_factory.mktemp("server"), conf) as running:
        yield running


@pytest.fixture(scope="module")
def docker_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    conf = f'[engine]\nkind = "docker"\ninstance = "test-{uuid.uuid4().hex[:12]}"\n'
    with live_server(tmp_path_factory.mktemp("docker"), conf) as running:
        yield running
        for session in ask("GET", f"{running.control}/ctrl/backends").json["backends"]:
            assert end(running, session["backend_id"], "hard").status == 200


def connect(server: LiveServer, **request: Any) -> Answer:
    return ask("POST", f"{server.control}/ctrl/connect", request)


def spawn(server: LiveServer, executable: dict[str, Any], **spawn_config: Any) -> Any:
    made = connect(server, spawn_config={"executable": executable, **spawn_config})
    assert made.status == 200, made.body
    return made.json


def end(server: LiveServer, backend: str, how: str) -> Answer:
    return ask("POST", f"{server.control}/ctrl/b/{backend}/{how}-terminate?wait=10")


@contextlib.contextmanager
def opened(url: str) -> Iterator[http.client.HTTPResponse]:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection("127.0.0.1", parts.port or 80, 30)
    with contextlib.closing(connection):
        target = f"{parts.path}?{parts.query}"
        connection.request("GET", target, headers={"Host": parts.netloc})
        yield connection.getresponse()


def statuses(server: LiveServer, backend: str, last: str = "terminated") -> list[dict[str, Any]]:
    """What the status stream of /pub says up to a status, each event in Plane's two lines."""
    found = []
    with opened(f"{server.control}/pub/b/{backend}/status-stream") as stream:
        while not found or found[-1]["status"] != last:
            data, event_id, blank = (stream.readline().decode() for _ in range(3))
            found.append(json.loads(data.removeprefix("data: ")))
            assert (event_id, blank) == (f"id: {found[-1]['status']}\n", "\n")
    return found


# backend_actions::no_drone_available


def test_a_server_with_nothing_to_run_sessions_on_has_no_drone_available(tmp_path: Path) -> None:
    conf = f'[engine]\nkind = "docker"\ndocker_socket = "{tmp_path}/nothing.sock"\n'
    running = LiveServer(tmp_path, conf)
    try:
        running.wait_until_listening()
        refused = connect(running, spawn_config={"executable": CONTAINER})
    finally:
        running.interrupt()

    assert (refused.status, refused.json["kind"]) == (503, "NoDroneAvailable")
    assert int(refused.headers["retry-after"]) > 0


# backend_lifecycle_docker


def lived(server: LiveServer, executable: dict[str, Any], path: str) -> list[str]:
    """Every status of a session that is used once it is ready, and then ended."""
    made = spawn(server, executable)
    backend = made["backend_id"]
    assert [entry["status"] for entry in statuses(server, backend, "ready")] == LIFE
    status = ask("GET", f"{server.control}/pub/b/{backend}/status").json
    assert status == {"status": "ready", "time": status["time"]}
    headers = ask("GET", f"{made['url']}{path}").json["headers"]
    assert dict(headers)["x-verified-secret"] == made["secret_token"]
    assert end(server, backend, "soft").body == b"null"
    return [entry["status"] for entry in statuses(server, backend)]


def test_a_session_goes_through_planes_life(server: LiveServer) -> None:
    life = lived(server, {"app": "echo"}, "echo")

    assert life == [*LIFE, "terminating", "terminated"]


@pytest.mark.docker
def test_a_container_goes_through_planes_life(docker_server: LiveServer) -> None:
    life = lived(docker_server, CONTAINER, "")

    assert life == [*LIFE, "terminating", "terminated"]


# backend_status_in_response


def test_a_join_tells_how_far_the_session_is_and_its_lifetime_ends_it(server: LiveServer) -> None:
    key = {"name": "status-in-response"}
    config = {"executable": {"app": "echo"}, "lifetime_limit_seconds": 2}
    first = connect(server, key=key, spawn_config=config).json
    statuses(server, first["backend_id"], "loading")
    second = connect(server, key=key, spawn_config=config).json
    ended = statuses(server, first["backend_id"])[-1]

    assert (first["spawned"], first["status"]) == (True, "scheduled")
    assert (second["spawned"], second["backend_id"]) == (False, first["backend_id"])
    assert second["status"] in LIFE[1:]
    assert (ended["termination_reason"], ended["termination_kind"]) == ("swept", "soft")
    assert first["expires_at"] == second["expires_at"]


# docker_command::test_resource_limits


@pytest.mark.docker
def test_what_a_container_may_take_is_what_was_asked_for(docker_server: LiveServer) -> None:
    limits = {
        "cpu_period": 1_000_000,
        "cpu_period_percent": 80,
        "cpu_time_limit": 100,
        "memory_limit_bytes": 100_000_000,
        "pids_limit": 50,
    }
    made = spawn(docker_server, {**CONTAINER, "resource_limits": limits})
    seen = ask("GET", made["url"]).json

    assert seen["cpu_time"] == [100, 100]
    assert seen["cpu"] == "800000"
    assert seen["memory"] == str(100_000_000 // 4096 * 4096)
    assert seen["pids"] == "50"


# metrics::test_get_metrics


@pytest.mark.docker
def test_a_container_is_said_to_use_memory(docker_server: LiveServer) -> None:
    made = spawn(docker_server, CONTAINER)
    docker_server.wait_for(made["backend_id"], "ready")

    def memory() -> Any:
        stats = ask("GET", f"{docker_server.control}/ctrl/b/{made['backend_id']}/stats")
        assert stats.status == 200, stats.body
        return stats.json["memory_bytes"]

    until(memory)
    assert memory() > 1_000_000


# subdomains, names


def test_a_subdomain_stands_before_the_cluster(server: LiveServer) -> None:
    plain = spawn(server, {"app": "echo"})
    below = spawn(server, {"app": "echo"}, subdomain="sub")

    assert plain["url"] == f"http://{server.cluster}/{plain['token']}/"
    assert below["url"] == f"http://sub.{server.cluster}/{below['token']}/"
    assert (plain["subdomain"], below["subdomain"]) == (None, "sub")
    assert ask("GET", below["url"]).status == 200


@pytest.mark.parametrize("name", ["Upper", "a*b", "a b", "../x", "-a", "a-", "", "x" * 46])
def test_an_id_that_cannot_name_a_container_is_refused(server: LiveServer, name: str) -> None:
    refused = connect(server, spawn_config={"executable": {"app": "echo"}, "id": name})

    assert (refused.status, refused.json["kind"]) == (422, "InvalidRequest")
    assert refused.json["message"].startswith("spawn_config.id: ")


# the environment of a session


def test_a_session_knows_itself_by_planes_variables_and_by_a_link_to_itself(
    server: LiveServer,
) -> None:
    made = spawn(server, {"app": "echo"}, id="knows-itself")
    told = ask("GET", f"{made['url']}env").json
    itself = ask("GET", f"{told['SESSION_BACKEND_URL']}env").json
    assert itself == told
    assert told["SESSION_BACKEND_ID"] == "knows-itself"
    assert told["SESSION_BACKEND_KEY"].startswith("lk-")
    assert told["SESSION_BACKEND_CONTROL_URL"] == server.control
    assert int(told["SESSION_BACKEND_FENCING_TOKEN"]) > 1_700_000_000_000
    assert len(told["SESSION_BACKEND_SECRET"]) == 43
    assert told["PORT"].isdigit()
    assert set(told) == {
        "PORT", "SESSION_BACKEND_ID", "SESSION_BACKEND_KEY", "SESSION_BACKEND_FENCING_TOKEN",
        "SESSION_BACKEND_URL", "SESSION_BACKEND_CONTROL_URL", "SESSION_BACKEND_SECRET",
    }  # fmt: skip


def test_a_session_keeps_itself_alive_with_the_secret_of_its_environment(
    tmp_path: Path,
) -> None:
    keys = 'api_keys = ["app:admin:a-secret-of-an-app"]'
    key = {"Authorization": "Bearer a-secret-of-an-app"}
    with live_server(tmp_path, '[engine]\nkind = "process"', control=keys) as server:
        config = {"executable": {"app": "echo"}, "max_idle_seconds": 1}
        body = {"spawn_config": config}
        made = ask("POST", f"{server.control}/ctrl/connect", body, key).json
        told = ask("GET", f"{made['url']}env").json
        own = {"Authorization": f"Bearer {told['SESSION_BACKEND_SECRET']}"}
        lease = f"{told['SESSION_BACKEND_CONTROL_URL']}/ctrl/b/{made['backend_id']}/keepalive"

        kept = ask("POST", lease, {"seconds": 600, "reason": "a batch job"}, own)
        why = ask("GET", f"{server.control}/ctrl/b/{made['backend_id']}/why", None, key).json
        ended = ask("POST", lease, {"seconds": 0, "reason": "a batch job"}, own)
        other = ask("GET", f"{server.control}/ctrl/b/{made['backend_id']}/why", None, own)

        assert (kept.status, ended.status, other.status) == (200, 200, 401)
        assert [hold["reason"] for hold in why["holds"] if hold["kind"] == "lease"] == [
            "a batch job"
        ]


# not tested by Plane: tag mismatch, duplicate ids


def test_a_live_key_with_another_tag_is_held(server: LiveServer) -> None:
    config = {"executable": {"app": "echo"}}
    made = connect(server, key={"name": "tagged", "tag": "1"}, spawn_config=config).json
    other = connect(server, key={"name": "tagged", "tag": "2"}, spawn_config=config)
    elsewhere = connect(
        server, key={"name": "tagged", "namespace": "n", "tag": "2"}, spawn_config=config
    ).json
    again = connect(server, key={"name": "tagged", "tag": "1"}).json

    assert (other.status, other.json["kind"]) == (409, "KeyHeld")
    assert elsewhere["spawned"] is True
    assert (again["spawned"], again["backend_id"]) == (False, made["backend_id"])


def test_an_id_is_given_once_even_after_its_session_has_ended(server: LiveServer) -> None:
    spawn(server, {"app": "echo"}, id="chosen")
    while_it_lives = connect(server, spawn_config={"executable": {"app": "echo"}, "id": "chosen"})
    end(server, "chosen", "hard")
    afterwards = connect(server, spawn_config={"executable": {"app": "echo"}, "id": "chosen"})

    for refused in (while_it_lives, afterwards):
        assert (refused.status, refused.json["kind"]) == (409, "FailedToAcquireKey")


# not tested by Plane: idle reaping, hard terminate, startup timeout, exit_error and reasons


def do_nothing(_server: LiveServer, _made: Any) -> None:
    pass


def exit_by_itself(code: int) -> Callable[[LiveServer, Any], object]:
    return lambda _, made: ask("GET", f"{made['url']}exit?code={code}")


def terminate(*ways: str) -> Callable[[LiveServer, Any], object]:
    def end_it(server: LiveServer, made: Any) -> None:
        server.wait_for(made["backend_id"], "ready")
        for how in ways:
            path = f"/ctrl/b/{made['backend_id']}/{how}-terminate"
            assert ask("POST", f"{server.control}{path}").body == b"null"

    return end_it


ECHO = {"app": "echo"}
DEAF = {"app": "echo", "env": {"ECHO_NEVER_LISTEN": "1"}, "readiness": {"timeout_seconds": 0.5}}
NOTHING = {"command": ["/nothing/here"]}
REFUSES = {"command": [sys.executable, "-c", STUBBORN]}


@pytest.mark.parametrize(
    ("executable", "spawn_config", "do", "path", "expected"),
    [
        pytest.param(ECHO, {}, exit_by_itself(0), "", (None, None, False), id="exits with 0"),
        pytest.param(ECHO, {}, exit_by_itself(3), "", (None, None, True), id="exits with 3"),
        pytest.param(
            ECHO, {}, terminate("soft"), "terminating", ("external", "soft", False), id="soft"
        ),
        pytest.param(
            ECHO, {}, terminate("hard"), "hard-terminating", ("external", "hard", True), id="hard"
        ),
        pytest.param(
            REFUSES, {}, terminate("soft", "hard"),
            "terminating hard-terminating", ("external", "hard", True), id="soft, then hard",
        ),
        pytest.param(
            REFUSES, {"stop_grace_seconds": 0.5}, terminate("soft"),
            "terminating hard-terminating", ("external", "hard", True), id="soft, its grace over",
        ),
        pytest.param(
            ECHO, {"max_idle_seconds": 0.5}, do_nothing,
            "terminating", ("swept", "soft", False), id="idle",
        ),
        pytest.param(
            ECHO, {"claim_within_seconds": 0.5}, do_nothing,
            "terminating", ("swept", "soft", False), id="unclaimed",
        ),
        pytest.param(
            DEAF, {}, do_nothing,
            "hard-terminating", ("startuptimeout", "hard", True), id="never listens",
        ),
        pytest.param(NOTHING, {}, do_nothing, "", (None, None, False), id="cannot be started"),
    ],
)  # fmt: skip
def test_planes_clients_are_told_how_a_session_ended(
    server: LiveServer,
    executable: dict[str, Any],
    spawn_config: dict[str, Any],
    do: Callable[[LiveServer, Any], object],
    path: str,
    expected: tuple[str | None, str | None, bool],
) -> None:
    made = spawn(server, executable, **spawn_config)
    do(server, made)
    told = statuses(server, made["backend_id"])
    ending = [entry["status"] for entry in told if entry["status"] not in LIFE]
    last = told[-1]
    assert ending == [*path.split(), "terminated"]
    assert (
        last.get("termination_reason"), last.get("termination_kind"), last["exit_error"]
    ) == expected  # fmt: skip


# not tested by Plane: pull failure


@pytest.mark.docker
def test_an_image_that_cannot_be_pulled_ends_the_session_without_a_word_in_public(
    docker_server: LiveServer,
) -> None:
    image = {"image": "registry.invalid/nowhere:1"}
    made = spawn(docker_server, image)
    told = statuses(docker_server, made["backend_id"])
    assert [entry["status"] for entry in told] == ["scheduled", "loading", "terminated"]
    assert told[-1] == {"status": "terminated", "exit_error": False, "time": told[-1]["time"]}
    failure = docker_server.session(made["backend_id"])["failure"]
    assert (failure["kind"], "registry.invalid" in failure["message"]) == ("ImageUnavailable", True)


# not tested by Plane: revoke


@contextlib.contextmanager
def websocket(url: str) -> Iterator[socket.socket]:
    parts = urlsplit(url)
    head = {
        "Host": parts.netloc,
        "Connection": "keep-alive, Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
    with socket.create_connection(("127.0.0.1", parts.port or 80), 30) as opened:
        opened.sendall(f"GET {parts.path} HTTP/1.1\r\n{lines}\r\n".encode())
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += opened.recv(4096)
        assert answer.startswith(b"HTTP/1.1 101 "), answer
        yield opened


def last_words(connection: Any) -> bytes:
    """All that still comes; a connection may end by being cut."""
    received = b""
    with contextlib.suppress(ConnectionResetError, http.client.IncompleteRead):
        while data := connection.recv(4096):
            received += data
    return received


def test_a_revoked_user_is_cut_off_at_once_and_nobody_else(server: LiveServer) -> None:
    key = {"name": "revoked"}
    config = {"executable": ECHO}
    alice, alice_too, bob = (
        connect(server, key=key, user=user, spawn_config=config).json
        for user in ("alice", "alice", "bob")
    )
    backend = alice["backend_id"]
    server.wait_for(backend, "ready")
    with (
        websocket(f"{alice['url']}ws") as cut,
        opened(f"{alice_too['url']}sse?count=1000&interval=0.1") as stream,
        opened(f"{bob['url']}sse?count=5&interval=0.1") as kept,
    ):
        assert stream.readline()
        revoked = revoke(server, backend, "alice")
        assert (revoked.status, type(revoked.json)) == (200, str)
        frame = last_words(cut)
        with contextlib.suppress(http.client.IncompleteRead, ConnectionResetError):
            stream.read()
        assert len(re.findall(rb"data: ", kept.read())) == 5
    assert (frame[0], int.from_bytes(frame[2:4], "big")) == (0x88, 4403)
    links = [ask("GET", each["url"]).status for each in (alice, alice_too, bob)]
    assert links == [410, 410, 200]


def revoke(server: LiveServer, backend: str, user: str) -> Answer:
    body = {"backend_id": backend, "user": user}
    return ask("POST", f"{server.control}/ctrl/b/revoke", body)


def test_revoking_what_was_never_given_is_a_success(server: LiveServer) -> None:
    made = spawn(server, ECHO)
    assert revoke(server, made["backend_id"], "nobody").status == 200
    assert revoke(server, "no-such-backend", "alice").status == 200
    assert ask("GET", made["url"]).status == 200


# not tested by Plane: token expiry


def test_a_link_that_nobody_uses_for_its_time_is_forgotten(server: LiveServer) -> None:
    key = {"name": "expiring"}
    config = {"executable": ECHO, "token_ttl_seconds": 1}
    used = connect(server, key=key, spawn_config=config).json
    unused = connect(server, key=key).json
    with opened(f"{used['url']}sse?count=1000&interval=0.1") as stream:
        assert stream.readline()
        # What asks is a use too, so it asks for a host where the session does not live.
        until(lambda: elsewhere(server, unused) == 410)
        assert ask("GET", used["url"]).status == 200
        assert stream.readline()
    assert ask("GET", unused["url"]).status == 410


def elsewhere(server: LiveServer, made: Any) -> int:
    """Ask where the session does not live: 403 while the link is known, 410 when it is not."""
    return ask("GET", made["url"], headers={"Host": f"elsewhere.{server.cluster}"}).status


# not tested by Plane: drain


def test_a_drained_server_makes_no_sessions_and_lets_them_be_joined(tmp_path: Path) -> None:
    with live_server(tmp_path, '[engine]\nkind = "process"\n') as running:
        key = {"name": "drained"}
        config = {"executable": ECHO}
        made = connect(running, key=key, spawn_config=config).json
        drone = f"{running.control}/ctrl/c/{running.cluster}/d/{made['drone']}/drain"
        updated = [ask("POST", drone).json for _ in range(2)]
        joined = connect(running, key=key, spawn_config=config)
        refused = connect(running, spawn_config=config)
        nobody = ask("POST", f"{drone.removesuffix('/drain')}x/drain")
        state = ask("GET", f"{running.control}/ctrl/c/{running.cluster}/state").json
    assert updated == [{"updated": True}, {"updated": False}]
    assert (joined.status, joined.json["spawned"]) == (200, False)
    assert (refused.status, refused.json["kind"]) == (503, "NoDroneAvailable")
    assert (nobody.status, nobody.json["kind"]) == (404, "NotFound")
    assert [(each["draining"], each["backend_count"]) for each in state["drones"]] == [(True, 1)]
