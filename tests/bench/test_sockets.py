"""The load counts a message only when it was echoed as it was sent."""

import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from bench.echo import Programs, compiled
from bench.proxies import Proxy
from bench.sockets import Messages, load, numbers, storm, upgrade
from tests.live import free_ports, until
from tests.proxy.frames import BINARY, PING, PONG, close, frame, read, switched


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Programs:
    return compiled(tmp_path_factory.mktemp("programs"))


def proxy_at(port: int, *pids: int) -> Proxy:
    url = f"http://127.0.0.1:{port}/token"
    return Proxy("a proxy", pids, url, url)


@pytest.fixture
def echo_server(programs: Programs) -> Iterator[Proxy]:
    (port,) = free_ports(1)

    def listens() -> bool:
        with suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
            return True
        return False

    with subprocess.Popen([programs.echo, str(port)]) as process:
        until(listens)
        yield proxy_at(port, process.pid)
        process.kill()


@contextmanager
def origin(greeting: bytes, reply: Callable[[bytes], bytes]) -> Iterator[Proxy]:
    """A server of one WebSocket that answers an upgrade so, and what comes after it so."""

    def serve() -> None:
        connection, _peer = listener.accept()
        with connection, suppress(ConnectionError):
            connection.recv(4096)
            connection.sendall(greeting)
            while received := connection.recv(4096):
                connection.sendall(reply(received))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield proxy_at(listener.getsockname()[1])
        thread.join()


def echo(received: bytes) -> bytes:
    said = [(opcode, payload) for opcode, payload in read(received) if opcode == BINARY]
    return b"".join(frame(opcode, payload) for opcode, payload in said)


def changed(received: bytes) -> bytes:
    return echo(received)[:-1] + b"?"


def twice(received: bytes) -> bytes:
    return echo(received) * 2


def test_an_upgrade_is_asked_for_below_the_url() -> None:
    head = upgrade("http://localhost:9090/token")

    assert head.startswith("GET /token/ws HTTP/1.1\r\nHost: localhost:9090\r\nConnection: Upgrade")
    assert head.endswith("\r\n\r\n")


@pytest.mark.parametrize(
    ("line", "found"),
    [("opened 5 0 1200\n", [5, 0, 1200]), ("ran 1 2 3 4 5\n", None), ("", None)],
)
def test_only_the_line_that_is_waited_for_has_the_numbers(line, found) -> None:
    assert numbers(line, "opened") == found


@pytest.mark.bench
def test_one_message_follows_the_other_for_the_time_of_a_turn(programs, echo_server) -> None:
    turn = Messages("", 64, 3).turn(programs.load, echo_server, 1)

    assert turn.rate > 3
    assert 0 <= turn.median_milliseconds <= turn.p99_milliseconds < 1000


@pytest.mark.bench
@pytest.mark.parametrize("size", [125, 126, (64 << 10) - 1, 64 << 10, 1 << 20])
def test_messages_of_any_size_are_echoed(programs, echo_server, size) -> None:
    with load(programs.load, echo_server, 3, 2, size) as its:
        counts = [its.run(0).messages for _ in range(2)]

    assert counts == [3, 3]


@pytest.mark.bench
def test_all_that_are_opened_at_once_are_counted(programs, echo_server) -> None:
    seen = storm(programs.load, echo_server, 50)

    assert (seen.opened.count, seen.opened.failed) == (50, 0)


@pytest.mark.bench
def test_no_two_messages_are_alike(programs) -> None:
    seen: list[bytes] = []

    def reply(received: bytes) -> bytes:
        seen.append(received)
        return echo(received)

    with origin(switched(), reply) as proxy, load(programs.load, proxy, 1, 1) as its:
        counts = [its.run(0).messages for _ in range(3)]

    assert counts == [1, 1, 1]
    assert len(set(seen)) == 3


@pytest.mark.bench
def test_a_ping_is_answered_and_no_message(programs) -> None:
    seen: list[tuple[int, bytes]] = []

    def reply(received: bytes) -> bytes:
        seen.extend(read(received))
        return frame(PING, b"alive?") + echo(received) if echo(received) else b""

    with origin(switched(), reply) as proxy, load(programs.load, proxy, 1, 1) as its:
        ran = its.run(0)
        until(lambda: (PONG, b"alive?") in seen)

    assert (ran.messages, ran.pings) == (1, 1)


@pytest.mark.bench
@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (changed, "an echo is not what was sent"),
        (twice, "an echo of nothing"),
        (lambda _: frame(BINARY, b"short"), "a frame that is no echo: opcode 2, 5 bytes"),
        (lambda _: close(1000), "a frame that is no echo: opcode 8, 2 bytes"),
    ],
)
def test_an_echo_that_is_wrong_ends_the_run(programs, capfd, reply, why) -> None:
    with (
        origin(switched(), reply) as proxy,
        pytest.raises(SystemExit, match="a proxy: the load has failed"),
        load(programs.load, proxy, 1, 1) as its,
    ):
        its.run(0)

    assert why in capfd.readouterr().err


@pytest.mark.bench
@pytest.mark.parametrize("greeting", [b"HTTP/1.1 403 No\r\n\r\n", switched(accept=b"bm9uc2Vuc2U=")])
def test_a_websocket_that_is_refused_is_counted_and_ends_a_turn(programs, capfd, greeting) -> None:
    with origin(greeting, echo) as proxy, pytest.raises(SystemExit, match="1 WebSockets did not"):
        Messages("", 64, 1).turn(programs.load, proxy, 1)

    assert "the first that did not open" in capfd.readouterr().err
