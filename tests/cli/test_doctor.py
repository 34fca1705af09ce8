"""Set-ups that are broken on purpose: the doctor names each, and its cure."""

from __future__ import annotations

import json
import os
import resource
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

from plane_tx.cli import answering, box
from plane_tx.cli.commands import plane_tx
from plane_tx.cli.engine import engine, judged
from plane_tx.cli.findings import Finding
from plane_tx.client import Client
from plane_tx.core.config import parse_config
from plane_tx.core.sections import Config, EngineConfig
from tests.live import PATIENCE_SECONDS, LiveServer, free_ports, live_server

#: A user that owns nothing.
NOBODY = 65_534


def doctor(*arguments: str | Path) -> tuple[int, dict[str, Any]]:
    """Its exit code, and what it found by name."""
    done = CliRunner().invoke(plane_tx, ["doctor", "--json", *map(str, arguments)])
    found = [json.loads(line) for line in done.stdout.splitlines()]
    return done.exit_code, {each["name"]: each for each in found}


def written(folder: Path, text: str) -> Path:
    """A configuration on free ports, which has `text`, too."""
    control, proxy = free_ports(2)
    path = folder / "plane.toml"
    path.write_text(
        f'[control]\nendpoint = "tcp:{control}:interface=127.0.0.1"\n'
        f'[state]\ndir = "{folder}/state"\n'
        f'[proxy]\nendpoint = "tcp:{proxy}:interface=127.0.0.1"\n{text}'
    )
    return path


PROCESS = '[engine]\nkind = "process"\n'


def docker_at(path: Path, kind: str = "docker") -> EngineConfig:
    return EngineConfig(kind=kind, docker_socket=str(path))


def is_bad(finding: Finding, name: str, cure: str) -> bool:
    return (finding.name, finding.level) == (name, "bad") and cure in finding.cure


@contextmanager
def listening(path: Path, handler: type[socketserver.BaseRequestHandler]) -> Iterator[None]:
    server = socketserver.ThreadingUnixStreamServer(str(path), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    with server:
        try:
            yield
        finally:
            server.shutdown()
            thread.join(PATIENCE_SECONDS)


def answering_with(body: bytes) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

        def address_string(self) -> str:
            return "unix"

    return Handler


# What works


def test_a_server_that_runs_is_well(server: LiveServer, tmp_path: Path) -> None:
    code, found = doctor("--config", server.config)

    assert code == 0
    assert {each["level"] for each in found.values()} == {"ok"}
    assert found["control port"]["sentence"].startswith("a plane_tx server listens")
    assert found["proxy port"]["sentence"].startswith("a plane_tx server listens")
    assert "clock" in found


def test_a_server_that_does_not_run_yet_is_only_told(tmp_path: Path) -> None:
    code, found = doctor("--config", written(tmp_path, PROCESS))

    assert code == 0
    assert found["control API"]["level"] == "warn"
    assert "twistd plane" in found["control API"]["cure"]
    assert found["control port"]["sentence"].endswith("is free")


def test_people_are_shown_a_line_and_the_cure(tmp_path: Path) -> None:
    done = CliRunner().invoke(plane_tx, ["doctor", "--config", str(tmp_path / "none.toml")])

    assert done.exit_code == 1
    assert done.stdout.splitlines()[0].startswith("bad   configuration: ")
    assert done.stdout.splitlines()[1].startswith("      cure: ")


# 1: the configuration


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"[engine]\nkidn = 1\n", "kidn"),
        (b"[engine\n", "not TOML"),
        (b"\xff", "not UTF-8"),
        (None, "cannot be read"),
    ],
)
def test_a_configuration_that_cannot_be_read(
    tmp_path: Path, content: bytes | None, said: str
) -> None:
    path = tmp_path / "plane.toml"
    if content is not None:
        path.write_bytes(content)

    code, found = doctor("--config", path)

    assert code == 1
    assert list(found) == ["configuration"]
    assert said in found["configuration"]["sentence"]
    assert found["configuration"]["cure"]


# 2: no Docker


def test_docker_that_is_not_there(tmp_path: Path) -> None:
    finding = engine(docker_at(tmp_path / "docker.sock"))

    assert is_bad(finding, "engine", "start Docker")


def test_docker_that_was_stopped(tmp_path: Path) -> None:
    path = tmp_path / "docker.sock"
    with closing(socket.socket(socket.AF_UNIX)) as left:
        left.bind(str(path))

    assert is_bad(engine(docker_at(path)), "engine", "systemctl start docker")


def test_without_docker_auto_means_processes(tmp_path: Path) -> None:
    finding = engine(docker_at(tmp_path / "docker.sock", "auto"))

    assert finding.level == "warn"
    assert "plain processes" in finding.sentence
    assert "start Docker" in finding.cure


# 3: no right to use its socket


@pytest.mark.parametrize("kind", ["docker", "auto"])
def test_a_socket_that_our_user_may_not_use(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "docker.sock"
    with listening(path, answering_with(b"{}")):
        path.chmod(0)
        is_root = os.geteuid() == 0
        if is_root:
            os.seteuid(NOBODY)
        try:
            finding = engine(docker_at(path, kind))
        finally:
            if is_root:
                os.seteuid(0)

    assert is_bad(finding, "socket rights", "group docker")


# 4: the wrong Docker


def test_docker_that_is_too_old(tmp_path: Path) -> None:
    path = tmp_path / "docker.sock"
    told = b'{"Version": "17.03", "ApiVersion": "1.26", "MinAPIVersion": "1.12"}'

    with listening(path, answering_with(told)):
        finding = engine(docker_at(path))

    assert is_bad(finding, "engine version", "upgrade Docker")


@pytest.mark.parametrize("told", [b"hello", b"[]", b"{}", b'{"ApiVersion": 1}', b"[" * 99_999])
def test_a_socket_of_something_else(tmp_path: Path, told: bytes) -> None:
    path = tmp_path / "docker.sock"

    with listening(path, answering_with(told)):
        finding = engine(docker_at(path))

    assert is_bad(finding, "engine", "docker_socket")


@pytest.mark.parametrize(
    ("newest", "oldest", "level"),
    [("1.40", "1.12", "ok"), ("1.60", "1.44", "ok"), ("1.60", "1.50", "bad"), ("x", None, "bad")],
)
def test_versions_are_judged_as_the_server_does(newest: str, oldest: Any, level: str) -> None:
    assert judged("99", newest, oldest).level == level


# 5: a port that is taken


def hang_up(listener: socket.socket) -> None:
    listener.accept()[0].close()


def test_a_port_that_another_program_has(tmp_path: Path) -> None:
    path = written(tmp_path, PROCESS)
    port = int(parse_config(path.read_text(), "conf").proxy.endpoint[0].split(":")[1])
    with closing(socket.create_server(("127.0.0.1", port))) as taken:
        thread = threading.Thread(target=hang_up, args=(taken,))
        thread.start()
        code, found = doctor("--config", path)
        thread.join(PATIENCE_SECONDS)

    assert code == 1
    assert "another program" in found["proxy port"]["sentence"]
    assert "ss -ltnp" in found["proxy port"]["cure"]


def test_an_address_that_this_box_does_not_have() -> None:
    # RFC 5737: for documentation alone.
    assert is_bad(box.port("control port", "http://192.0.2.1:8080"), "control port", "ip address")


# 6 and 7: names


def cluster(name: str) -> Config:
    return parse_config(f'[proxy]\ncluster = "{name}"\n', "conf")


def knowing(*names: str) -> Callable[[str], None]:
    def resolve(host: str) -> None:
        if host not in names:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    return resolve


def test_a_cluster_whose_name_leads_nowhere() -> None:
    (finding,) = box.names(cluster("plane.example"), knowing())

    assert is_bad(finding, "cluster name", "DNS record for plane.example")


def test_names_below_the_cluster_that_lead_nowhere() -> None:
    of_cluster, below = box.names(cluster("plane.example"), knowing("plane.example"))

    assert of_cluster.level == "ok"
    assert (below.level, "*.plane.example" in below.cure) == ("warn", True)


@pytest.mark.parametrize("address", ["127.0.0.1:9090", "[::1]:9090"])
def test_an_address_can_have_no_names_below(address: str) -> None:
    _, below = box.names(cluster(address))

    assert (below.level, "[proxy] cluster" in below.cure) == ("warn", True)


def test_names_that_all_lead_somewhere_are_right() -> None:
    known = knowing("plane.example", f"{box.BELOW}.plane.example")

    assert [each.level for each in box.names(cluster("plane.example"), known)] == ["ok", "ok"]


# 8: disk and state


def test_a_state_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    config = parse_config(f'[state]\ndir = "{tmp_path}/file/state"\n', "conf")

    (finding,) = box.state(config, {})

    assert is_bad(finding, "state", "[state] dir")


@pytest.mark.parametrize(("free", "level"), [(2**20, "bad"), (2**29, "warn"), (2**33, "ok")])
def test_a_disk_that_is_full(free: int, level: str) -> None:
    finding = box.disk(Path("/var"), free)

    assert finding.level == level
    assert ("make room" in finding.cure) == (level != "ok")


# 9: the clock


@pytest.mark.parametrize(("off", "which"), [(3600, "ahead of"), (-3600, "behind")])
def test_a_clock_that_is_off(off: int, which: str) -> None:
    (finding,) = answering.clock(formatdate(1_000_000 + off, usegmt=True), 1_000_000.0)

    assert is_bad(finding, "clock", "timedatectl")
    assert f"1h00m {which}" in finding.sentence


@pytest.mark.parametrize("date", [None, "", "yesterday"])
def test_a_server_without_a_date_says_nothing_of_its_clock(date: str | None) -> None:
    assert list(answering.clock(date, 0.0)) == []


# 10: the control API, and the key


def test_a_control_api_that_does_not_answer() -> None:
    (port,) = free_ports(1)

    done = CliRunner().invoke(plane_tx, ["--url", f"http://127.0.0.1:{port}", "doctor"])

    assert done.exit_code == 1
    assert "cannot be reached" in done.stdout
    assert "--url, PLANE_TX_URL" in done.stdout


def test_a_url_that_leads_to_the_proxy(server: LiveServer) -> None:
    url = f"http://localhost:{server.proxy_port}"

    done = CliRunner().invoke(plane_tx, ["--url", url, "doctor"])

    assert done.exit_code == 1
    assert "no plane_tx server" in done.stdout
    assert "the proxy is another port" in done.stdout


def test_a_key_that_is_missing_wrong_or_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = 'api_keys = ["me:read:0123456789abcdef", "app:connect:fedcba9876543210"]'
    found = []
    with live_server(tmp_path, PROCESS, control=keys) as server:
        monkeypatch.setenv("PLANE_TX_URL", server.control)
        for secret in ("", "0" * 16, "fedcba9876543210", "0123456789abcdef"):
            monkeypatch.setenv("PLANE_TX_KEY", secret)
            found.append(doctor()[1]["API key"])

    assert [each["level"] for each in found] == ["bad", "bad", "warn", "ok"]
    assert "--key-file" in found[0]["cure"]
    assert "[control] api_keys" in found[1]["cure"]
    assert "scope" in found[2]["cure"]


def test_a_server_whose_engine_is_gone() -> None:
    health = {
        "status": "degraded",
        "reason": "no Docker",
        "engine": {"ok": False, "message": "no Docker", "version": ""},
    }

    def handler(request: httpx.Request) -> httpx.Response:
        body = health if request.url.path == "/pub/health" else {"status": "ok", "version": "1"}
        content = httpx.ByteStream(json.dumps(body).encode())
        return httpx.Response(503 if body is health else 200, stream=content)

    client = Client("http://plane.test", transport=httpx.MockTransport(handler))

    found = {each.name: each for each in answering.server(client, may_be_down=False)}

    assert is_bad(found["server's engine"], "server's engine", "start the engine")


# And: too few open files


@pytest.mark.parametrize(
    ("hard", "level"), [(1024, "warn"), (65_536, "ok"), (resource.RLIM_INFINITY, "ok")]
)
def test_too_few_open_files(hard: int, level: str) -> None:
    finding = box.files_allowed(hard)

    assert finding.level == level
    assert ("LimitNOFILE" in finding.cure) == (level == "warn")


def test_a_control_socket_is_named_as_clients_do() -> None:
    config = parse_config('[control]\nendpoint = "unix:/run/plane.sock:mode=660"\n', "conf")

    assert box.control(config) == "unix:/run/plane.sock"
