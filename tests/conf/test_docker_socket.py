"""The filter before Docker's socket (HAProxy): a session's whole life passes, and nothing else."""

from __future__ import annotations

import json
import signal
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest

from tests.engines import registry as registries
from tests.engines.registry import LOGIN, Registry
from tests.live import (
    DOCKER_SOCKET,
    ROOT,
    DockerConnection,
    LiveServer,
    ask,
    live_server,
    remove_networks,
    until,
)

pytestmark = [pytest.mark.conf, pytest.mark.docker]

FILE = ROOT / "conf/haproxy/docker-socket.cfg"
V = "/v1.41"
OURS = '["dev.plane.backend=true", "plane-tx.instance=default"]'
ANY_ID = 64 * "a"


@pytest.fixture(scope="module")
def filtered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The socket of a filter that runs, as the shipped file says but for where it is."""
    folder = tmp_path_factory.mktemp("filter")
    at = folder / "docker.sock"
    text = FILE.read_text()
    for shipped, here in (
        ("/run/plane-docker/docker.sock", str(at)),
        (" group plane\n", "\n"),
        ("unix@/var/run/docker.sock", f"unix@{DOCKER_SOCKET}"),
    ):
        assert shipped in text
        text = text.replace(shipped, here)
    config = folder / "haproxy.cfg"
    config.write_text(text)
    with (folder / "log").open("wb") as log:
        haproxy = subprocess.Popen(["haproxy", "-db", "-f", config], stdout=log, stderr=log)
    until(lambda: haproxy.poll() is not None or at.exists())
    assert haproxy.poll() is None, (folder / "log").read_text()
    yield str(at)
    haproxy.terminate()
    haproxy.wait()


@pytest.fixture
def conf(filtered: str) -> Iterator[str]:
    instance = f"test-{uuid.uuid4().hex[:12]}"
    yield f'[engine]\nkind = "docker"\ninstance = "{instance}"\ndocker_socket = "{filtered}"\n'
    remove_networks(instance)


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    with registries.running(tmp_path) as running:
        yield running
        with closing(DockerConnection()) as docker:
            image = quote(f"{running.host}/app:latest", safe="")
            docker.request("DELETE", f"/images/{image}?force=1")
            docker.getresponse().read()


def status_through(socket: str, method: str, path: str, body: object = None) -> int:
    """What a call is answered by."""
    with closing(DockerConnection(socket)) as docker:
        sent = None if body is None else json.dumps(body)
        docker.request(method, path, sent, {"Content-Type": "application/json"})
        return docker.getresponse().status


def kill(server: LiveServer) -> None:
    server.process.send_signal(signal.SIGKILL)
    server.process.wait()


def test_a_session_lives_its_whole_life_through_the_filter(tmp_path: Path, conf: str) -> None:
    with live_server(tmp_path, conf) as server:
        session = server.connect("docker-busybox", max_idle_seconds=0)
        page = ask("GET", session["url"])
        at = f"{server.control}/ctrl/b/{session['backend_id']}"
        # One that has just begun may have nothing to be counted yet.
        until(lambda: ask("GET", f"{at}/stats").json["memory_bytes"])
        logs = ask("GET", f"{at}/logs")
        ended = ask("POST", f"{at}/soft-terminate?wait=30")
        autopsy = ask("GET", f"{at}/autopsy.tar.gz")
        last = server.session(session["backend_id"])

    assert (page.status, page.body) == (200, b"here\n")
    assert (logs.status, ended.status, autopsy.status) == (200, 200, 200)
    assert last["status"] == "terminated"


def test_a_session_outlives_a_killed_server_through_the_filter(tmp_path: Path, conf: str) -> None:
    first = LiveServer(tmp_path, conf)
    first.wait_until_ready()
    session = first.connect("docker-busybox", max_idle_seconds=0)
    before = ask("GET", session["url"])
    kill(first)

    ports = (first.control_port, first.proxy_port)
    second = LiveServer(tmp_path, conf, ports=ports)
    try:
        second.wait_until_ready()
        after = ask("GET", session["url"])
        at = f"{second.control}/ctrl/b/{session['backend_id']}"
        ended = ask("POST", f"{at}/hard-terminate?wait=30")
    finally:
        second.interrupt()

    assert (before.status, after.status, ended.status) == (200, 200, 200)


@pytest.mark.registry
def test_an_image_is_pulled_through_the_filter(
    tmp_path: Path, conf: str, registry: Registry
) -> None:
    registry.push("app", "latest", {"bin/busybox": Path("/bin/busybox").read_bytes()})
    login = {"username": LOGIN.username, "password": LOGIN.password}
    serve = ["/bin/busybox", "httpd", "-f", "-p", "8080"]
    executable = {"image": f"{registry.host}/app", "credentials": login, "command": serve}

    with live_server(tmp_path, conf) as server:
        session = server.ask_connect({"spawn_config": {"executable": executable}})
        server.wait_for(session["backend_id"], "ready")
        at = f"{server.control}/ctrl/b/{session['backend_id']}"
        ended = ask("POST", f"{at}/hard-terminate?wait=30")

    assert ended.status == 200
    assert registry.manifests_asked("app") >= 1


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/info"),
        ("GET", f"{V}/info"),
        ("GET", f"{V}/containers/json?all=1"),
        ("GET", f"{V}/containers/json?all=1&filters=" + quote('{"label": ["a"]}')),
        ("GET", f"{V}/containers/json?filters=" + quote(f'{{"label": {OURS}, "name": ["x"]}}')),
        ("GET", f"{V}/events"),
        ("GET", f"{V}/containers/somebody-elses/json"),
        ("GET", f"{V}/containers/plane-x/archive?path=/etc/passwd"),
        ("GET", f"{V}/containers/plane-x/top"),
        ("POST", f"{V}/containers/create"),
        ("POST", f"{V}/containers/create?name=other"),
        ("POST", f"{V}/containers/somebody-elses/stop"),
        ("POST", f"{V}/containers/plane-x/exec"),
        ("POST", f"{V}/containers/plane-x/attach"),
        ("POST", f"{V}/containers/plane-x/update"),
        ("DELETE", f"{V}/containers/somebody-elses"),
        ("POST", f"{V}/exec/{ANY_ID}/start"),
        ("POST", f"{V}/build"),
        ("POST", f"{V}/commit"),
        ("POST", f"{V}/images/create?fromSrc=http://x/"),
        ("GET", f"{V}/images/json"),
        ("GET", f"{V}/images/a/../../volumes/json"),
        ("DELETE", f"{V}/images/busybox"),
        ("GET", f"{V}/volumes"),
        ("POST", f"{V}/volumes/create"),
        ("DELETE", f"{V}/networks/bridge"),
        ("GET", "/v1.39/networks"),
        ("POST", "/containers/create?name=plane-x"),
        ("GET", "//version"),
    ],
)
def test_a_call_that_the_server_never_makes_is_refused(
    filtered: str, method: str, path: str
) -> None:
    assert status_through(filtered, method, path) == 403


def test_docker_run_is_refused_in_words(filtered: str) -> None:
    run = ["docker", "-H", f"unix://{filtered}", "run", "--privileged", "plane-tx-test/busybox"]

    said = subprocess.run(run, capture_output=True, text=True, check=False)

    assert said.returncode != 0
    assert "docker-socket.cfg lets no such call through" in said.stderr


def test_what_a_container_is_made_with_passes_unread(filtered: str) -> None:
    name = f"plane-test-{uuid.uuid4().hex[:12]}"
    hostile = {"Image": "plane-tx-test/busybox", "HostConfig": {"Privileged": True}}

    made = status_through(
        filtered, "POST", f"{V}/containers/create?{urlencode({'name': name})}", hostile
    )

    removed = status_through(filtered, "DELETE", f"{V}/containers/{name}")
    assert (made, removed) == (201, 204)
