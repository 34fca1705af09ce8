"""examples/plane_client.py, which knows Plane's contract and nothing of ours, on real servers."""

from __future__ import annotations

import ast
import json
import os
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.live import PATIENCE_SECONDS, ROOT, LiveServer, ask, live_server

CLIENT = ROOT / "examples/plane_client.py"
LIFE = ["scheduled", "loading", "starting", "waiting", "ready", "terminating", "terminated"]
ECHO = {"app": "echo"}
IMAGE = {"image": "plane-tx-test/whiteboard", "pull_policy": "Never"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    conf = '[engine]\nkind = "process"\n'
    with live_server(tmp_path_factory.mktemp("server"), conf) as running:
        yield running


@pytest.fixture
def docker_server(tmp_path: Path) -> Iterator[LiveServer]:
    conf = f'[engine]\nkind = "docker"\ninstance = "test-{uuid.uuid4().hex[:12]}"\n'
    with live_server(tmp_path, conf) as running:
        yield running
        for session in ask("GET", f"{running.control}/ctrl/backends").json["backends"]:
            path = f"/ctrl/b/{session['backend_id']}/hard-terminate?wait=10"
            assert ask("POST", f"{running.control}{path}").status == 200


def run(url: str, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, CLIENT, url, *words]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_SECONDS,
        env={**os.environ, "no_proxy": "*"},
    )


def said(url: str, *words: str) -> list[Any]:
    """What the client prints: a JSON value a line."""
    ran = run(url, *words)
    assert (ran.returncode, ran.stderr) == (0, ""), ran
    return [json.loads(line) for line in ran.stdout.splitlines()]


def statuses(entries: list[Any]) -> list[str]:
    return [entry["status"] for entry in entries]


def live_a_life(url: str, executable: dict[str, Any]) -> list[Any]:
    """All that a client does, and in the end the life that it has seen."""
    asked = ["connect", "--key", "board", "--user"]
    (made,) = said(url, *asked, "alice", "--executable", json.dumps(executable))
    backend = made["backend_id"]
    booting = said(url, "stream", backend, "--until", "ready")
    (joined,) = said(url, *asked, "bob")
    assert (made["spawned"], joined["spawned"]) == (True, False)
    assert (joined["backend_id"], joined["status"]) == (backend, "ready")
    assert statuses(booting) == LIFE[:5]
    assert [ask("GET", each["url"]).status for each in (made, joined)] == [200, 200]

    assert said(url, "revoke", backend, "alice") == []
    assert [ask("GET", each["url"]).status for each in (made, joined)] == [410, 200]

    assert said(url, "terminate", backend) == []
    ended = said(url, "stream", backend)
    assert ended[-1]["termination_reason"] == "external"
    assert said(url, "status", backend) == ended[-1:]
    assert ask("GET", joined["url"]).status == 410
    return statuses(ended)


def test_a_client_of_planes_contract_connects_streams_joins_revokes_and_terminates(
    server: LiveServer,
) -> None:
    life = live_a_life(server.control, ECHO)

    assert life == LIFE


@pytest.mark.docker
def test_a_client_of_planes_contract_does_so_with_containers(docker_server: LiveServer) -> None:
    life = live_a_life(docker_server.control, IMAGE)

    assert life == LIFE


def test_a_refusal_is_told_with_its_kind_and_id(server: LiveServer) -> None:
    refused = run(server.control, "connect", "--key", "nobody-has-it")

    status, kind, error_id, *_ = refused.stderr.split(" ")
    assert (refused.returncode, status, kind) == (1, "409", "KeyUnheldNoSpawnConfig")
    assert len(error_id.removesuffix(":")) == 14
    assert refused.stdout == ""


class BreakingRelay:
    """Stands before a server, and cuts each of its first connections once a word has passed."""

    def __init__(self, port: int, words: list[bytes]) -> None:
        self._port = port
        self._words = words
        self.asked: list[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _serve(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            with near, socket.create_connection(("127.0.0.1", self._port)) as far:
                self._pass(near, far)

    def _pass(self, near: socket.socket, far: socket.socket) -> None:
        self.asked.append(near.recv(65536))
        far.sendall(self.asked[-1])
        # The client wants each connection closed, and the session has ended: so there is an end.
        answer = b"".join(iter(lambda: far.recv(65536), b""))
        if self._words:
            before, word, _ = answer.partition(self._words.pop(0))
            answer = before + word
        near.sendall(answer)


def test_a_stream_that_breaks_off_is_taken_up_where_it_was(server: LiveServer) -> None:
    backend = server.connect("echo", key="broken")["backend_id"]
    server.wait_for(backend, "ready")
    assert ask("POST", f"{server.control}/ctrl/b/{backend}/soft-terminate?wait=10").status == 200
    # Once between two events, once in the middle of one.
    relay = BreakingRelay(server.control_port, [b"id: loading\n\n", b'data: {"status":"wai'])
    try:
        ran = run(relay.url, "stream", backend)
    finally:
        relay.close()
    assert statuses([json.loads(line) for line in ran.stdout.splitlines()]) == LIFE
    resumed = [b"last-event-id:" in request.lower() for request in relay.asked]
    assert resumed == [False, True, True]
    assert b"\r\nlast-event-id: loading\r\n" in relay.asked[1].lower()
    assert b"\r\nlast-event-id: starting\r\n" in relay.asked[2].lower()


def test_a_user_in_the_url_is_sent_as_a_bearer_but_not_to_what_is_public() -> None:
    asked: list[tuple[str, str | None]] = []

    class Recorder(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"] or 0))
            asked.append((self.path, self.headers["authorization"]))
            self.send_response(200)
            self.send_header("content-length", "4")
            self.end_headers()
            self.wfile.write(b"null")

        do_GET = do_POST

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Recorder) as recorder:
        serving = threading.Thread(target=recorder.serve_forever)
        serving.start()
        url = f"http://a%2Fkey@127.0.0.1:{recorder.server_port}/"
        said(url, "terminate", "id", "--hard")
        said(url, "status", "id")
        recorder.shutdown()
        serving.join()
    assert asked == [
        ("/ctrl/b/id/hard-terminate", "Bearer a/key"),
        ("/pub/b/id/status", None),
    ]


def test_it_imports_nothing_but_the_standard_library() -> None:
    imported: set[str] = set()
    for node in ast.walk(ast.parse(CLIENT.read_text())):
        if isinstance(node, ast.Import):
            imported |= {name.name.split(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or "").split(".")[0])
    assert imported <= sys.stdlib_module_names
