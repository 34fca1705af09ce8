"""Set-ups broken on purpose, as the program finds them, and each mended by the cure it names."""

from __future__ import annotations

import http.server
import json
import os
import re
import resource
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from plane_tx.cli.engine import engine
from plane_tx.cli.findings import Finding
from plane_tx.core.sections import EngineConfig
from tests.cli.test_doctor import NOBODY, PROCESS, answering_with, listening, written
from tests.live import PATIENCE_SECONDS, LiveServer, live_server

DOCTOR = ("-c", "from plane_tx.cli.entry import main; main()")

DOCKER = b'{"Version": "27.0", "ApiVersion": "1.46", "MinAPIVersion": "1.24"}'
OLD_DOCKER = b'{"Version": "17.03", "ApiVersion": "1.26", "MinAPIVersion": "1.12"}'

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be another user")

Found = dict[str, dict[str, str]]


def doctor(*arguments: str | Path, environ: dict[str, str] | None = None, **how: Any) -> Found:
    """What the program finds in a process of its own, by name."""
    done = subprocess.run(
        [sys.executable, *DOCTOR, "--json", "doctor", *map(str, arguments)],
        env={**os.environ, **(environ or {})},
        capture_output=True,
        text=True,
        check=False,
        **how,
    )
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == any(each["level"] == "bad" for each in found), done.stderr
    return {each["name"]: each for each in found}


def on_docker(folder: Path, path: Path) -> Path:
    return written(folder, f'[engine]\nkind = "docker"\ndocker_socket = "{path}"\n')


def changed(config: Path, old: str, new: str) -> Path:
    text = config.read_text()
    assert old in text
    config.write_text(text.replace(old, new))
    return config


def test_1_a_mistake_in_the_configuration(tmp_path: Path) -> None:
    config = written(tmp_path, '[engine]\nkidn = "process"\n')

    broken = doctor("--config", config)["configuration"]
    mended = doctor("--config", changed(config, "kidn", "kind"))["configuration"]

    assert (broken["level"], mended["level"]) == ("bad", "ok")
    assert broken["cure"].startswith("correct that line")


def test_2_no_docker_where_its_socket_is_said_to_be(tmp_path: Path) -> None:
    there = tmp_path / "elsewhere.sock"
    config = on_docker(tmp_path, tmp_path / "docker.sock")

    with listening(there, answering_with(DOCKER)):
        broken = doctor("--config", config)["engine"]
        mended = doctor("--config", changed(config, "docker.sock", there.name))["engine"]

    assert (broken["level"], mended["level"]) == ("bad", "ok")
    assert "set [engine] docker_socket to where its socket is" in broken["cure"]


def test_3_a_docker_that_is_stopped(tmp_path: Path) -> None:
    path = tmp_path / "docker.sock"
    config = on_docker(tmp_path, path)
    with closing(socket.socket(socket.AF_UNIX)) as left:
        left.bind(str(path))

    broken = doctor("--config", config)["engine"]
    path.unlink()
    with listening(path, answering_with(DOCKER)):
        mended = doctor("--config", config)["engine"]

    assert (broken["level"], mended["level"]) == ("bad", "ok")
    assert broken["cure"] == "start Docker: systemctl start docker"


@needs_root
def test_4_a_user_that_is_not_in_the_group_of_the_socket() -> None:
    group = 54_321
    with open_folder() as folder:
        path = folder / "docker.sock"
        config = on_docker(folder, path)
        config.chmod(0o644)
        with listening(path, answering_with(DOCKER)):
            os.chown(path, 0, group)
            path.chmod(0o660)
            may_not, may = (as_nobody(path, groups) for groups in ([], [group]))

    assert (may_not.name, may_not.level) == ("socket rights", "bad")
    assert "add the server's user to the group docker" in may_not.cure
    assert (may.name, may.level) == ("engine", "ok")


@contextmanager
def open_folder() -> Iterator[Path]:
    """A folder that every user may look into."""
    folder = Path("/tmp") / f"plane-tx-{os.getpid()}"
    folder.mkdir(mode=0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def as_nobody(path: Path, groups: list[int]) -> Finding:
    """What is found of the socket by a user of these groups who owns nothing."""
    before = os.getgroups()
    os.setgroups(groups)
    os.seteuid(NOBODY)
    try:
        return engine(EngineConfig(kind="docker", docker_socket=str(path)))
    finally:
        os.seteuid(0)
        os.setgroups(before)


def test_5_a_docker_that_is_too_old(tmp_path: Path) -> None:
    path = tmp_path / "docker.sock"
    config = on_docker(tmp_path, path)

    with listening(path, answering_with(OLD_DOCKER)):
        broken = doctor("--config", config)["engine version"]
    path.unlink()
    with listening(path, answering_with(DOCKER)):
        mended = doctor("--config", config)["engine"]

    assert (broken["level"], mended["level"]) == ("bad", "ok")
    assert broken["cure"].startswith("upgrade Docker to 19.03 or newer")


def test_6_a_port_that_another_program_has(tmp_path: Path) -> None:
    config = written(tmp_path, PROCESS)
    port = int(re.findall(r"tcp:(\d+)", config.read_text())[1])
    with web_server(port=port, date=None):
        broken = doctor("--config", config)["proxy port"]

    mended = doctor("--config", config)["proxy port"]

    assert (broken["level"], mended["level"]) == ("bad", "ok")
    assert broken["cure"].startswith("stop what listens there")


def test_7_a_cluster_whose_name_does_not_resolve(tmp_path: Path) -> None:
    # RFC 6761, section 6.4: nothing in .invalid ever does.
    config = written(tmp_path, 'cluster = "plane.invalid"\n' + PROCESS)

    broken = doctor("--config", config)["cluster name"]
    mended = doctor("--config", changed(config, "plane.invalid", "localhost:9090"))

    assert (broken["level"], mended["cluster name"]["level"]) == ("bad", "ok")
    assert "correct [proxy] cluster" in broken["cure"]


def test_8_a_state_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "state").touch()
    config = written(tmp_path, PROCESS)

    broken = doctor("--config", config)["state"]
    mended = doctor("--config", changed(config, '/state"', '/other"'))["state"]

    assert (broken["level"], mended["level"]) == ("bad", "ok")
    assert "set [state] dir to a directory" in broken["cure"]


@needs_root
def test_9_a_disk_without_room(tmp_path: Path) -> None:
    full = tmp_path / "full"
    full.mkdir()
    config = written(tmp_path, PROCESS)
    program = f'mount -t tmpfs -o size=1m none {full} && exec {sys.executable} "$@"'
    on_full = changed(config, f'{tmp_path}/state"', f'{full}/state"')
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", program, "-", *DOCTOR, "--json", "doctor", "--config",
         on_full],
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    broken = {each["name"]: each for each in map(json.loads, done.stdout.splitlines())}["disk"]

    mended = doctor("--config", changed(config, f'{full}/state"', f'{tmp_path}/state"'))["disk"]

    assert (done.returncode, broken["level"], mended["level"] == "bad") == (1, "bad", False)
    assert "set [state] dir to another disk" in broken["cure"]


def test_10_too_few_open_files(tmp_path: Path) -> None:
    config = written(tmp_path, PROCESS)

    def few() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024))

    broken = doctor("--config", config, preexec_fn=few)["open files"]
    mended = doctor("--config", config)["open files"]

    assert (broken["level"], mended["level"]) == ("warn", "ok")
    assert "LimitNOFILE=65536" in broken["cure"]


def test_11_a_clock_that_is_off() -> None:
    found = []
    for date in ("Tue, 02 Jan 2024 03:04:05 GMT", None):
        with web_server(port=0, date=date) as url:
            found.append(doctor(environ={"PLANE_TX_URL": url})["clock"])

    assert [each["level"] for each in found] == ["bad", "ok"]
    assert "timedatectl set-ntp true" in found[0]["cure"]


def test_12_a_server_that_does_not_run(tmp_path: Path) -> None:
    with live_server(tmp_path, PROCESS) as server:
        url = server.control
        mended = doctor(environ={"PLANE_TX_URL": url})["control API"]

    broken = doctor(environ={"PLANE_TX_URL": url})["control API"]

    assert (broken["level"], mended["level"]) == ("bad", "ok")
    assert broken["cure"].startswith("start it (twistd plane")


def test_13_a_url_that_leads_to_the_proxy(server: LiveServer) -> None:
    proxy = f"http://127.0.0.1:{server.proxy_port}"

    broken = doctor(environ={"PLANE_TX_URL": proxy})["control API"]
    mended = doctor(environ={"PLANE_TX_URL": server.control})["control API"]

    assert (broken["level"], mended["level"]) == ("bad", "ok")
    assert "the proxy is another port" in broken["cure"]


def test_14_a_key_that_the_server_does_not_know(tmp_path: Path) -> None:
    keys = 'api_keys = ["me:admin:0123456789abcdef"]'
    with live_server(tmp_path, PROCESS, control=keys) as server:
        known = {"PLANE_TX_URL": server.control}

        broken = doctor(environ={**known, "PLANE_TX_KEY": "f" * 16})["API key"]
        mended = doctor(environ={**known, "PLANE_TX_KEY": "0123456789abcdef"})["API key"]

    assert (broken["level"], mended["level"]) == ("bad", "ok")
    assert "set PLANE_TX_KEY to a secret in [control] api_keys" in broken["cure"]


HEALTH = b'{"status": "ok", "engine": {"ok": true, "message": "well", "version": "1"}}'


@contextmanager
def web_server(port: int, date: str | None) -> Iterator[str]:
    """Another program, that answers as a server's health does; `date` is what its clock says."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(HEALTH)))
            self.end_headers()
            self.wfile.write(HEALTH)

        def do_HEAD(self) -> None:
            self.send_response(200)
            self.end_headers()

        def date_time_string(self, timestamp: float | None = None) -> str:
            return date or super().date_time_string(timestamp)

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler) as serving:
        thread = threading.Thread(target=serving.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{serving.server_port}"
        finally:
            serving.shutdown()
            thread.join(PATIENCE_SECONDS)
