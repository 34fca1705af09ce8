"""The service as twistd runs it: options, assembly, and one clear line when it cannot start."""

from __future__ import annotations

import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live import TWISTD, LiveServer, ask, live_server, until

PROCESS = '[engine]\nkind = "process"\n'


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LiveServer]:
    with live_server(tmp_path, PROCESS) as running:
        yield running


def start(*options: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [TWISTD, "-n", "--pidfile=", "plane", *options]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=30, check=False
    )


def complaint(done: subprocess.CompletedProcess[str]) -> str:
    """The one line that says why the start failed; there must be no traceback."""
    said = done.stdout + done.stderr
    assert done.returncode == 1
    assert "Traceback" not in said
    (line,) = [line for line in said.splitlines() if "plane: " in line]
    return line.partition("plane: ")[2]


def test_the_command_line_takes_a_configuration_and_nothing_else() -> None:
    from plane_tx.tap import Options

    options = Options()
    options.parseOptions(["--config", "conf/plane.toml"])
    assert dict(options) == {"config": "conf/plane.toml"}


def test_without_a_configuration_everything_has_its_default() -> None:
    from plane_tx.core.config import Config
    from plane_tx.tap import read_config

    assert read_config(None) == Config()


def test_a_configuration_that_is_not_there_is_named(tmp_path: Path) -> None:
    done = start("--config", "nowhere.toml", folder=tmp_path)
    assert complaint(done) == "nowhere.toml: cannot be read: No such file or directory"


def test_a_wrong_key_is_one_line_with_file_key_and_what_is_allowed(tmp_path: Path) -> None:
    (tmp_path / "plane.toml").write_text("[proxy]\nhold_second = 3\n")
    done = start("--config", "plane.toml", folder=tmp_path)
    assert complaint(done) == (
        "plane.toml: proxy.hold_second: unknown field; did you mean 'hold_seconds'?"
    )


def test_a_port_in_use_is_one_line_with_the_endpoint_and_the_cure(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        endpoint = f"tcp:{taken.getsockname()[1]}:interface=127.0.0.1"
        (tmp_path / "plane.toml").write_text(
            f'{PROCESS}[control]\nendpoint = "{endpoint}"\n'
            '[proxy]\nendpoint = "tcp:0:interface=127.0.0.1"\n'
        )
        done = start("--config", "plane.toml", folder=tmp_path)
    line = complaint(done)
    assert endpoint in line
    assert "Address already in use" in line
    assert "another endpoint" in line


def test_an_endpoint_that_is_none_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "plane.toml").write_text(f'{PROCESS}[proxy]\nendpoint = "carrier-pigeon:1"\n')
    done = start("--config", "plane.toml", folder=tmp_path)
    assert "'carrier-pigeon:1' is no endpoint" in complaint(done)


def test_auto_means_process_where_no_docker_socket_accepts(tmp_path: Path) -> None:
    from plane_tx.core.config import Config, EngineConfig
    from plane_tx.tap import engine_kind

    nowhere = EngineConfig(docker_socket=str(tmp_path / "docker.sock"))
    assert engine_kind(Config(engine=nowhere)) == "process"


def test_auto_means_docker_where_its_socket_accepts(tmp_path: Path) -> None:
    from plane_tx.core.config import Config, EngineConfig
    from plane_tx.tap import engine_kind

    with socket.socket(socket.AF_UNIX) as docker:
        docker.bind(str(tmp_path / "docker.sock"))
        docker.listen()
        somewhere = EngineConfig(docker_socket=str(tmp_path / "docker.sock"))
        assert engine_kind(Config(engine=somewhere)) == "docker"


def test_the_start_says_where_to_go(tmp_path: Path) -> None:
    with live_server(tmp_path, f'{PROCESS}[demo]\napp = "whiteboard"\n') as running:
        log = running.log.read_text()
    assert f"control  http://127.0.0.1:{running.control_port}" in log
    assert f"proxy    http://{running.cluster}" in log
    assert f"try it   http://127.0.0.1:{running.control_port}/demo" in log


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_stopping_leaves_no_session_and_no_traceback(server: LiveServer, how: int) -> None:
    made = [server.connect("whiteboard") for _ in range(3)]
    assert {ask("GET", each["url"]).status for each in made} == {200}
    sessions = server.children()
    server.process.send_signal(how)
    server.process.wait(10)
    assert len(sessions) == 3
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in sessions))
    assert "Traceback" not in server.log.read_text()


def test_a_server_that_is_killed_leaves_no_session_process(tmp_path: Path) -> None:
    server = LiveServer(tmp_path, PROCESS)
    server.wait_until_ready()
    assert ask("GET", server.connect("whiteboard")["url"]).status == 200
    sessions = server.children()
    server.process.kill()
    server.process.wait(10)
    assert sessions
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in sessions))


def test_stopping_while_a_session_boots_answers_who_waits(tmp_path: Path) -> None:
    import threading

    with live_server(tmp_path, PROCESS) as running:
        made = running.connect("echo", executable={"env": {"ECHO_NEVER_LISTEN": "1"}})
        answers: list[int] = []
        asking = threading.Thread(target=lambda: answers.append(ask("GET", made["url"]).status))
        asking.start()
        until(lambda: bool(running.session(made["backend_id"])["connections"]))
    asking.join(10)
    assert answers == [503]
