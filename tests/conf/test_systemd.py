"""The units of conf/systemd: without a fault, hardened, and served by the real server."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conf.served import CONF, PROCESSES, Served, stopped_at_the_end, with_places
from tests.live import PATIENCE_SECONDS, TWISTD, ask, free_ports

UNITS = CONF / "systemd"
SERVICE = UNITS / "plane_tx.service"
SOCKETS = [UNITS / "plane_tx-control.socket", UNITS / "plane_tx-proxy.socket"]

#: In tenths: a unit without any hardening has 96. This is what ours has, so that a setting that is
#: lost is seen.
MOST_EXPOSURE = 14

pytestmark = pytest.mark.conf


def analyze(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", *map(str, arguments)], capture_output=True, text=True, check=False
    )


def shipped_config(ports: tuple[int, int]) -> str:
    """conf/systemd/plane.toml, for sessions that need no Docker."""
    control, proxy = ports
    places = {
        "http://127.0.0.1:8080": f"http://127.0.0.1:{control}",
        '"sessions.example.com"': f'"localhost:{proxy}"',
        'kind = "docker"': PROCESSES,
    }
    return with_places((UNITS / "plane.toml").read_text(), places)


def by_systemd(folder: Path, config: str, ports: tuple[int, int]) -> Served:
    """A server that systemd's own program starts at the first connection, with two sockets."""
    names = [f"--setenv={name}" for name in (*os.environ, "STATE_DIRECTORY")]
    listen = [f"--listen=127.0.0.1:{port}" for port in ports]
    confined = [sys.executable, Path(__file__).with_name("confined.py"), SERVICE]
    program = ["systemd-socket-activate", *listen, "--fdname=control:proxy", *names, *confined]
    return Served(folder, config, ports, program)


def two_ports() -> tuple[int, int]:
    control, proxy = free_ports(2)
    return control, proxy


class Holder:
    """Keeps sockets open, as systemd does, whoever serves them."""

    def __init__(self, folder: Path, host: str = "127.0.0.1") -> None:
        self.folder = folder
        self.ports = two_ports()
        self.config = shipped_config(self.ports)
        self._sockets = [socket.create_server((host, port), backlog=64) for port in self.ports]

    def start(self) -> Served:
        """A server that is handed the sockets."""
        numbers = [each.fileno() for each in self._sockets]
        handed = "control={},proxy={}".format(*numbers)
        program = [sys.executable, Path(__file__).with_name("handed.py"), handed]
        return Served(self.folder, self.config, self.ports, program, passed=numbers)

    def close(self) -> None:
        for each in self._sockets:
            each.close()


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[Holder]:
    with contextlib.closing(Holder(tmp_path)) as held:
        yield held


def first_line(client: socket.socket) -> bytes:
    client.settimeout(PATIENCE_SECONDS)
    with client:
        return client.recv(4096).partition(b"\r\n")[0]


def test_the_units_have_no_fault(tmp_path: Path) -> None:
    for unit in (SERVICE, *SOCKETS):
        places = {"/opt/plane_tx/bin/twistd": str(TWISTD)} if unit == SERVICE else {}
        (tmp_path / unit.name).write_text(with_places(unit.read_text(), places))

    done = analyze("verify", *(tmp_path / unit.name for unit in (SERVICE, *SOCKETS)))

    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_service_is_as_little_exposed_as_can_be() -> None:
    done = analyze("security", "--offline=yes", f"--threshold={MOST_EXPOSURE}", SERVICE)

    assert done.returncode == 0, done.stdout


def test_what_is_not_closed_is_said_with_its_reason() -> None:
    told = analyze("security", "--offline=yes", SERVICE).stdout.splitlines()
    _, _, reasons = SERVICE.read_text().partition("# What cannot be had, and why:\n")

    open_ways = [line.split()[1].partition("=")[0] for line in told if line.startswith("✗")]
    missing = [each for each in open_ways if f"\n# {each}=" not in f"\n{reasons}"]

    assert open_ways
    assert missing == []


def test_what_the_server_has_no_need_of_is_refused() -> None:
    program = [sys.executable, Path(__file__).with_name("confined.py"), SERVICE, sys.executable]

    done = subprocess.run(
        [*program, "-c", "import os; os.chroot('/')"], capture_output=True, check=False
    )

    assert b"PermissionError" in done.stderr


def test_the_configuration_finds_the_sockets_by_the_names_they_have() -> None:
    config = (UNITS / "plane.toml").read_text()

    for unit in SOCKETS:
        (name,) = [
            line.partition("=")[2]
            for line in unit.read_text().splitlines()
            if line.startswith("FileDescriptorName=")
        ]
        assert f'endpoint = "systemd:domain=INET:name={name}"' in config


def test_sessions_are_spawned_and_reached_over_sockets_of_systemd(tmp_path: Path) -> None:
    ports = control, proxy = two_ports()

    with stopped_at_the_end(by_systemd(tmp_path, shipped_config(ports), ports)) as server:
        server.wait_until_ready()
        made = server.connect("echo")
        answer = ask("GET", f"{made['url']}headers")

    assert made["url"].startswith(f"http://localhost:{proxy}/")
    assert made["status_url"].startswith(f"http://127.0.0.1:{control}/pub/b/")
    assert answer.status == 200
    assert f"control  http://127.0.0.1:{control}" in server.log.read_text()


def test_who_connects_while_the_server_is_started_anew_is_answered_after(holder: Holder) -> None:
    first = holder.start()
    first.wait_until_ready()
    first.terminate()
    waiting = [socket.create_connection(("127.0.0.1", holder.ports[0])) for _ in range(20)]
    for client in waiting:
        client.sendall(b"GET /pub/health HTTP/1.1\r\nHost: localhost\r\n\r\n")

    with stopped_at_the_end(holder.start()):
        answers = [first_line(client) for client in waiting]

    assert answers == [b"HTTP/1.1 200 OK"] * 20


def test_a_socket_that_others_reach_is_not_served_without_keys(tmp_path: Path) -> None:
    with contextlib.closing(Holder(tmp_path, "0.0.0.0")) as held:
        server = held.start()
        said = server.ended()

    assert server.process.returncode == 1
    assert 'plane: control.endpoint: "systemd:domain=INET:name=control" is open to the' in said


def test_systemd_is_told_when_the_server_serves_and_when_it_stops(tmp_path: Path) -> None:
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as systemd:
        systemd.settimeout(PATIENCE_SECONDS)
        systemd.bind(str(tmp_path / "notify"))
        ports = two_ports()
        endpoints = (f"tcp:{port}:interface=127.0.0.1" for port in ports)
        config = '[control]\nendpoint = "{}"\n[proxy]\nendpoint = "{}"\n'.format(*endpoints)
        told = {"NOTIFY_SOCKET": str(tmp_path / "notify")}
        config += f"[engine]\n{PROCESSES}\n"

        with stopped_at_the_end(Served(tmp_path, config, ports, environment=told)) as server:
            first = systemd.recv(64)
            health = ask("GET", f"{server.control}/pub/health").status
        last = systemd.recv(64)

    assert (first, health, last) == (b"READY=1", 200, b"STOPPING=1")
