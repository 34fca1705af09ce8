"""The service as twistd runs it: options, assembly, and one clear line when it cannot start."""

from __future__ import annotations

import fcntl
import http.client
import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import pytest_twisted

from plane_tx.core import tables
from plane_tx.core.sections import Config, EngineConfig
from tests.certificate import write_chain
from tests.conftest import LoggedFailures
from tests.live import TWISTD, LiveServer, ask, live_server, until, with_state

PROCESS = '[engine]\nkind = "process"\n'


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LiveServer]:
    with live_server(tmp_path, PROCESS) as running:
        yield running


def start(*options: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [TWISTD, "-n", "--pidfile=", "plane", *options]
    return subprocess.run(
        command, cwd=folder, env=with_state(folder), capture_output=True, text=True, timeout=30,
        check=False,
    )  # fmt: skip


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
    assert complaint(done) == (
        "proxy.endpoint: 'carrier-pigeon:1' is no endpoint: expected tcp:, tcp6:, ssl:, tls: or"
        " unix:, or what another kind of Twisted's takes"
    )


def test_a_second_server_of_an_instance_is_one_line_with_the_cure(tmp_path: Path) -> None:
    with live_server(tmp_path, PROCESS) as first:
        (tmp_path / "other.toml").write_text(
            f'{PROCESS}[control]\nendpoint = "tcp:0:interface=127.0.0.1"\n'
            '[proxy]\nendpoint = "tcp:0:interface=127.0.0.1"\n'
        )
        done = start("--config", "other.toml", folder=tmp_path)
        still_there = ask("GET", f"{first.control}/pub/ready").status
    line = complaint(done)
    assert line.startswith(f"{tmp_path / 'state'}: another server of the instance 'default'")
    assert "`[state] dir`" in line
    assert still_there == 200


def test_a_server_in_the_background_that_cannot_start_keeps_nobody_waiting(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    (tmp_path / "plane.toml").write_text(
        f'{PROCESS}[control]\nendpoint = "tcp:0:interface=127.0.0.1"\n'
        '[proxy]\nendpoint = "tcp:0:interface=127.0.0.1"\n'
    )
    command = [TWISTD, "--pidfile=pid", "--logfile=log", "plane", "--config", "plane.toml"]
    done = subprocess.run(
        command, cwd=tmp_path, env=with_state(tmp_path), capture_output=True, text=True,
        timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "StartRefused: plane: " in done.stderr
    assert not (tmp_path / "pid").exists()


def test_a_state_directory_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    (tmp_path / "plane.toml").write_text(
        f'{PROCESS}[control]\nendpoint = "tcp:0:interface=127.0.0.1"\n'
        f'[proxy]\nendpoint = "tcp:0:interface=127.0.0.1"\n'
        f'[state]\ndir = "{tmp_path}/state/below"\n'
    )
    done = start("--config", "plane.toml", folder=tmp_path)
    assert complaint(done) == (
        f"{tmp_path}/state/below: state cannot be kept here: Not a directory; name another by"
        " `[state] dir`"
    )


def test_the_journal_is_the_instances_own_and_is_closed_last(tmp_path: Path) -> None:
    with live_server(tmp_path, f'{PROCESS}instance = "blue"\n'):
        open_now = {path.name for path in (tmp_path / "state").iterdir()}
    left = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "state").iterdir()}
    assert open_now == {"blue.lock", "blue.sqlite3", "blue.sqlite3-wal", "blue.sqlite3-shm"}
    assert left == {"blue.lock": 0o600, "blue.sqlite3": 0o600}


@pytest.mark.parametrize(
    ("kind", "allowed", "told"),
    [
        ("docker", False, (True, True)),
        ("process", False, (False, False)),
        ("process", True, (False, True)),
    ],
)
def test_what_requests_may_name_goes_by_the_engine(
    kind: str, allowed: bool, told: tuple[bool, bool]
) -> None:
    from plane_tx.tap import make_policy

    config = Config(engine=EngineConfig(allow_request_commands=allowed))

    policy = make_policy(config, kind)

    assert policy.engine_kind == kind
    assert (policy.request_images, policy.request_commands) == told


@pytest_twisted.ensureDeferred
async def test_the_journal_is_open_before_the_parts_start_and_until_they_have_stopped(
    tmp_path: Path,
) -> None:
    from twisted.application.service import Service
    from twisted.internet import reactor
    from twisted.internet.defer import Deferred

    from plane_tx.tap import Remembering

    whole = Remembering(reactor, str(tmp_path), "default")
    stopped: Deferred[None] = Deferred()

    class Part(Service):
        def startService(self) -> None:
            self.first = whole.journal.record(tables.number(1))

        def stopService(self) -> Deferred[None]:
            return stopped

    part = Part()
    part.setServiceParent(whole)
    whole.startService()
    stopping = whole.stopService()
    last = whole.journal.record(tables.number(2))
    stopped.callback(None)
    await stopping
    assert part.first.called
    assert last.called
    again = Remembering(reactor, str(tmp_path), "default")
    again.startService()
    assert again.journal.last_number == 2
    await again.stopService()


@pytest_twisted.ensureDeferred
async def test_a_journal_that_hangs_does_not_keep_the_server_from_ending(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from threading import Event

    from twisted.internet import reactor
    from twisted.internet.task import deferLater

    from plane_tx import tap

    monkeypatch.setattr(tap, "CLOSE_SECONDS", 0.01)
    whole = tap.Remembering(reactor, str(tmp_path), "default")
    whole.startService()
    disk = Event()
    hanging = whole._thread.run(disk.wait)
    writing = whole.journal.record(tables.number(1))

    await whole.stopService()

    assert not writing.called
    disk.set()
    await hanging
    await writing
    await deferLater(reactor, 0)
    await whole._thread.run(lambda: None)  # behind the closing of the file
    whole._thread.stop()
    whole._state.release()


def test_a_key_file_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    endpoint = "ssl:0:interface=127.0.0.1:privateKey=nowhere.pem"
    (tmp_path / "plane.toml").write_text(f'{PROCESS}[proxy]\nendpoint = "{endpoint}"\n')
    done = start("--config", "plane.toml", folder=tmp_path)
    line = complaint(done)
    assert endpoint in line
    assert "nowhere.pem" in line


def test_a_key_of_another_certificate_is_one_line(tmp_path: Path) -> None:
    key, _, other = write_chain(tmp_path)
    endpoint = f"ssl:0:interface=127.0.0.1:privateKey={key}:certKey={other}"
    (tmp_path / "plane.toml").write_text(f'{PROCESS}[proxy]\nendpoint = "{endpoint}"\n')
    done = start("--config", "plane.toml", folder=tmp_path)
    assert complaint(done) == (
        f"proxy.endpoint: {endpoint!r} is no endpoint: Certificate public and private keys do not"
        " match"
    )


@pytest.mark.parametrize("kind", ["tls", "TLS"])
def test_a_tls_endpoint_at_a_directory_is_one_line(tmp_path: Path, kind: str) -> None:
    (tmp_path / "certs").mkdir()
    endpoint = f"{kind}:certs:0:interface=127.0.0.1"
    (tmp_path / "plane.toml").write_text(f'{PROCESS}[proxy]\nendpoint = "{endpoint}"\n')
    done = start("--config", "plane.toml", folder=tmp_path)
    assert complaint(done).endswith("certs: a directory, where one file was expected")


def test_a_redirect_endpoint_in_use_is_one_line_too(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        endpoint = f"tcp:{taken.getsockname()[1]}:interface=127.0.0.1"
        (tmp_path / "plane.toml").write_text(
            f'{PROCESS}[proxy]\nendpoint = "tcp:0:interface=127.0.0.1"\n'
            f'redirect_endpoint = "{endpoint}"\n'
        )
        done = start("--config", "plane.toml", folder=tmp_path)
    assert complaint(done).startswith(f"proxy.redirect_endpoint: cannot listen on {endpoint!r}")


def test_parts_stop_one_after_the_other_and_a_failing_one_stops_no_other(
    logged_failures: LoggedFailures,
) -> None:
    from twisted.application.service import Service
    from twisted.internet.defer import Deferred

    from plane_tx.tap import InOrder

    class Part(Service):
        stopped: Deferred[None] | None = None

        def stopService(self) -> Deferred[None]:
            self.stopped = Deferred()
            return self.stopped

    whole, parts = InOrder(), [Part() for _ in range(3)]
    for part in parts:
        part.setServiceParent(whole)

    stopping = whole.stopService()
    begun = []
    for part in reversed(parts):
        begun.append([each.stopped is not None for each in parts])
        part.stopped.errback(ValueError("part")) if part is parts[1] else part.stopped.callback(
            None
        )

    assert begun == [[False, False, True], [False, True, True], [True, True, True]]
    assert stopping.called
    assert len(logged_failures.claim(ValueError)) == 1


def test_a_file_of_keys_that_is_not_there_stops_the_start(tmp_path: Path) -> None:
    config = f'{PROCESS}[control]\nendpoint = "tcp:0"\napi_keys = [{{file = "nowhere"}}]\n'
    (tmp_path / "plane.toml").write_text(config)
    done = start("--config", f"{tmp_path}/plane.toml", folder=Path("/"))
    assert complaint(done) == f"{tmp_path}/nowhere: cannot be read: No such file or directory"


def test_without_keys_an_open_control_listener_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "plane.toml").write_text(f'{PROCESS}[control]\nendpoint = "tcp:0"\n')
    done = start("--config", "plane.toml", folder=tmp_path)
    assert "is open to the network, where api_keys must say who may call" in complaint(done)


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


def test_an_access_log_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "plane.toml").write_text(
        f'{PROCESS}[control]\nendpoint = "tcp:0:interface=127.0.0.1"\n'
        '[proxy]\nendpoint = "tcp:0:interface=127.0.0.1"\naccess_log = "none/access.log"\n'
    )

    done = start("--config", "plane.toml", folder=tmp_path)

    assert complaint(done) == (
        f"the access log {tmp_path / 'none/access.log'} cannot be written: No such file or"
        " directory; free it, or name another file by `[proxy] access_log`"
    )


def streaming(url: str) -> http.client.HTTPConnection:
    """A connection on which a reply has begun that goes on for a minute."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection("127.0.0.1", parts.port or 80, 10)
    connection.request(
        "GET", f"{parts.path}sse?count=600&interval=0.1", headers={"Host": parts.netloc}
    )
    assert connection.getresponse().status == 200
    return connection


def test_requests_are_logged_beside_the_configuration_until_the_end(tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    conf = f'access_log = "access.log"\nshutdown_seconds = 0\n{PROCESS}'
    with live_server(tmp_path, conf) as running:
        made = running.connect("echo")
        assert ask("GET", made["url"] + "echo/hello?q=1").status == 200
        until(log.read_text)
        log.rename(tmp_path / "rotated.log")
        with closing(streaming(made["url"])):
            running.interrupt()
    first, last = ((tmp_path / name).read_text() for name in ("rotated.log", "access.log"))
    told = [json.loads(first), json.loads(last)]

    assert [line["path"] for line in told] == ["/echo/hello", "/sse"]
    assert [line["closed"] for line in told] == ["", "proxy"]
    assert {line["session"] for line in told} == {made["backend_id"]}
    assert made["token"] not in first + last


def test_the_access_log_on_standard_output_stands_there_as_it_is(tmp_path: Path) -> None:
    conf = f'access_log = "-"\naccess_log_format = "text"\n{PROCESS}'
    with live_server(tmp_path, conf) as running:
        made = running.connect("echo")
        assert ask("GET", made["url"] + "echo/hello").status == 200
    lines = [line for line in running.log.read_text().splitlines() if '"GET /echo/hello"' in line]

    assert len(lines) == 1
    assert lines[0].split(" ")[1] == made["backend_id"]


def test_a_pipe_that_nobody_reads_does_not_keep_the_server_from_stopping(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, 4096)
    conf = f'access_log = "pipe"\n{PROCESS}'

    try:
        with live_server(tmp_path, conf) as running:
            statuses = {ask("GET", f"http://{running.cluster}/x{n}").status for n in range(60)}
        read = os.read(reader, 65536)
    finally:
        os.close(reader)

    assert statuses == {410}
    assert "Server Shut Down." in running.log.read_text()
    assert len(read) <= 4096
    assert read.startswith(b'{"time":')
