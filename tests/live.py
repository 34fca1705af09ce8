"""A real server in a process of its own, and the plain HTTP that a test speaks with it."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from plane_tx.engines.ports import Ports

ROOT = Path(__file__).parent.parent
TWISTD = Path(sys.executable).with_name("twistd")

#: How long anything may take before a test gives up on it.
PATIENCE_SECONDS = 30.0

DOCKER_SOCKET = os.environ.get("PLANE_TX_TEST_DOCKER", "/var/run/docker.sock")

APPS = """
[apps.echo]
command = ["{python}", "examples/echo/server.py"]
workdir = "."
request_env = ["ECHO_START_DELAY", "ECHO_NEVER_LISTEN", "ECHO_EXIT_AT_ONCE"]
[apps.whiteboard]
command = ["{python}", "examples/whiteboard/server.py"]
workdir = "."
[apps.docker-busybox]
image = "plane-tx-test/busybox"
command = ["sh", "-c", "mkdir -p /www; echo here > /www/index.html; httpd -f -p 8080 -h /www"]
pull_policy = "Never"
[apps.docker-whiteboard]
image = "plane-tx-test/whiteboard"
pull_policy = "Never"
"""


#: Outside the process engine's range, and outside the kernel's own: of that an outgoing connection
#: of anybody may take a port before a server listens there. Beyond 10080, where browsers go not.
_PORTS = Ports(10_100, 19_999)


def free_ports(count: int) -> list[int]:
    """Ports on which nobody listens, and which no other process that asks here gets meanwhile."""
    return [_PORTS.take() for _ in range(count)]


def with_state(folder: Path) -> dict[str, str]:
    """Our environment, with state below `folder`: servers neither collide nor use a user's home."""
    return {**os.environ, "STATE_DIRECTORY": str(folder / "state")}


class Answer:
    """A whole HTTP answer."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def ask(method: str, url: str, body: Any = None, headers: dict[str, str] | None = None) -> Answer:
    """One request on a connection of its own; `body` is sent as JSON unless it is bytes."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection("127.0.0.1", parts.port or 80, PATIENCE_SECONDS)
    said = {"Host": parts.netloc, **(headers or {})}
    if body is not None and not isinstance(body, bytes):
        body = json.dumps(body).encode()
        said["Content-Type"] = "application/json"
    path = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
    with contextlib.closing(connection):
        connection.request(method, path, body, said)
        return Answer(connection.getresponse())


class DockerConnection(http.client.HTTPConnection):
    """A connection to the Docker of this box, or to the one at another socket."""

    def __init__(self, path: str = DOCKER_SOCKET) -> None:
        super().__init__("docker", timeout=PATIENCE_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def remove_networks(instance: str) -> None:
    """Remove what a server leaves for the next one: a box has room for thirty networks or so.

    One that still has containers stays.
    """
    for name in (f"plane-tx-{instance}", f"plane-tx-{instance}-internal"):
        with contextlib.closing(DockerConnection()) as docker:
            docker.request("DELETE", f"/networks/{name}")
            docker.getresponse().read()


def heed_interrupts() -> None:
    """Undo what a shell does to whatever it starts in the background: ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class LiveServer:
    """`twistd plane` with a configuration and a state of its own, on ports of its own."""

    def __init__(
        self,
        folder: Path,
        conf: str,
        reactor: str = "epoll",
        tls: Path | str | None = None,
        control: str = "",
        stdin: int = subprocess.DEVNULL,
        *,
        program: Sequence[Path | str] = (TWISTD,),
        ports: tuple[int, int] | None = None,
    ) -> None:
        self.control_port, self.proxy_port = ports or free_ports(2)
        self.control = f"http://127.0.0.1:{self.control_port}"
        self.cluster = f"localhost:{self.proxy_port}"
        self.log = folder / "server.log"
        self.config = folder / "plane.toml"
        at = f"{self.proxy_port}:interface=127.0.0.1"
        endpoint = f"tcp:{at}" if tls is None else f"ssl:{at}:privateKey={tls}"
        if isinstance(tls, str) and tls.startswith("tls:"):
            endpoint = f"{tls}:{at}"
        self.config.write_text(
            f'[control]\nendpoint = "tcp:{self.control_port}:interface=127.0.0.1"\n{control}\n'
            f'[proxy]\nendpoint = "{endpoint}"\n'
            f'cluster = "{self.cluster}"\n{conf}\n{APPS}'
        )
        command = [*program, "-n", "--pidfile=", f"--reactor={reactor}"]
        command += ["plane", "--config", self.config]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=with_state(folder),
                stdin=stdin,
                stdout=log,
                stderr=log,
                preexec_fn=heed_interrupts,  # noqa: PLW1509  # it takes no lock
            )

    def wait_until_ready(self) -> None:
        """Return when the control listener answers and recovery is done."""
        until(lambda: self.process.poll() is not None or self._answers("/pub/ready", 200))
        assert self.process.poll() is None, self.log.read_text()

    def wait_until_listening(self) -> None:
        """Return when the control listener answers anything."""
        until(lambda: self.process.poll() is not None or self._answers("/pub/ready", 200, 503))
        assert self.process.poll() is None, self.log.read_text()

    def _answers(self, path: str, *statuses: int) -> bool:
        try:
            return ask("GET", self.control + path).status in statuses
        except OSError:
            return False

    def connect(self, app: str, key: str | None = None, **spawn: Any) -> Any:
        """POST /ctrl/connect for a configured app; the answer must be a success."""
        executable = {"app": app, **spawn.pop("executable", {})}
        request: dict[str, Any] = {"spawn_config": {"executable": executable, **spawn}}
        if key is not None:
            request["key"] = {"name": key}
        return self.ask_connect(request)

    def ask_connect(self, request: dict[str, Any]) -> Any:
        """POST /ctrl/connect; the answer must be a success."""
        answer = ask("POST", f"{self.control}/ctrl/connect", request)
        assert answer.status == 200, answer.body
        return answer.json

    def session(self, session_id: str) -> Any:
        """GET /ctrl/b/{id}."""
        return ask("GET", f"{self.control}/ctrl/b/{session_id}").json

    def wait_for(self, session_id: str, status: str) -> Any:
        """Follow the status stream until `status`; return what /ctrl/b/{id} says then."""
        connection = http.client.HTTPConnection("127.0.0.1", self.control_port, PATIENCE_SECONDS)
        with contextlib.closing(connection):
            connection.request("GET", f"/pub/b/{session_id}/status-stream")
            stream = connection.getresponse()
            for line in stream:
                if line.strip() == f"id: {status}".encode():
                    return self.session(session_id)
        raise AssertionError(f"{session_id} ended without {status}: {self.session(session_id)}")

    def children(self) -> set[int]:
        """The pids of the server's own child processes."""
        found = set()
        for task in Path(f"/proc/{self.process.pid}/task").iterdir():
            found |= {int(pid) for pid in (task / "children").read_text().split()}
        return found

    def open_files(self) -> int:
        """How many file descriptors the server has."""
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    def interrupt(self) -> None:
        """Press Ctrl-C and wait for the end; the networks of its instance go too."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        self.process.wait(PATIENCE_SECONDS)
        instance = re.search(r'^instance = "(.+)"$', self.config.read_text(), re.MULTILINE)
        if instance is not None and Path(DOCKER_SOCKET).exists():
            remove_networks(instance[1])


def until(happened: Any, seconds: float = PATIENCE_SECONDS) -> None:
    """Return as soon as `happened()` is true: for what another process does and tells nobody."""
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, "gave up waiting"
        with contextlib.suppress(InterruptedError):
            signal.sigtimedwait([], 0.02)


@contextlib.contextmanager
def live_server(
    folder: Path,
    conf: str,
    reactor: str = "epoll",
    tls: Path | str | None = None,
    control: str = "",
    *,
    program: Sequence[Path | str] = (TWISTD,),
) -> Iterator[LiveServer]:
    """A server that is ready; it is stopped at the end, and must not have logged a traceback."""
    server = LiveServer(folder, conf, reactor, tls, control, program=program)
    try:
        server.wait_until_ready()
        yield server
    finally:
        server.interrupt()
    assert "Traceback" not in server.log.read_text(), server.log.read_text()


def entered(session: Any, status: str) -> float:
    """When a session entered `status`, in seconds since epoch, by its status history."""
    return next(
        line["time"] / 1000 for line in session["status_history"] if line["status"] == status
    )
