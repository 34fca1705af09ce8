"""How a server is reached: by a socket's path, once it is there, and leaving no connection open."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from plane_tx.client import AsyncClient, Client, InvalidRequest, Unavailable
from plane_tx.client.flows import Patience
from tests.live import (
    APPS,
    PATIENCE_SECONDS,
    ROOT,
    TWISTD,
    LiveServer,
    free_ports,
    until,
    with_state,
)
from tests.process_server import SERVER

AT_ONCE = Patience(first_seconds=0.0)


@contextmanager
def behind_socket(folder: Path) -> Iterator[Path]:
    """A server whose control API is at the path of a unix socket alone."""
    path, config = folder / "control.sock", folder / "plane.toml"
    (port,) = free_ports(1)
    config.write_text(
        f'[control]\nendpoint = "unix:{path}"\n'
        f'[proxy]\nendpoint = "tcp:{port}:interface=127.0.0.1"\n{SERVER}{APPS}'
    )
    command = [TWISTD, "-n", "--pidfile=", "plane", "--config", config]
    log = (folder / "server.log").open("wb")
    environ = with_state(folder)
    with log, subprocess.Popen(command, cwd=ROOT, env=environ, stdout=log, stderr=log) as server:
        try:
            until(lambda: path.exists() or server.poll() is not None)
            yield path
        finally:
            server.terminate()
            server.wait(PATIENCE_SECONDS)


def test_a_server_behind_a_unix_socket_is_reached_by_its_path(tmp_path: Path) -> None:
    with behind_socket(tmp_path) as path, Client(f"unix:{path}") as client:
        session = client.connect("echo")
        client.wait_ready(session.id, PATIENCE_SECONDS)
        lines = client.logs(session.id, follow=True)
        first = next(lines)
        client.hard_terminate(session.id, wait=10)
        lines.close()

    assert "listening" in first.text


# httpcore 1.0.9 leaves a socket that could not be connected to the garbage collector.
@pytest.mark.filterwarnings("ignore:Exception ignored in. <socket.socket")
def test_no_socket_at_the_path_is_unavailable(tmp_path: Path) -> None:
    where = tmp_path / "none.sock"

    with (
        Client(f"unix:{where}", patience=AT_ONCE) as client,
        pytest.raises(Unavailable, match=r"none\.sock cannot be reached .*is the server running"),
    ):
        client.health()


@pytest.mark.parametrize(
    "url", ["unix:", "unix:a\0b", "http://h:99999", "http://h:0", "http://\udcff"]
)
def test_what_leads_nowhere_is_said_at_once(url: str) -> None:
    with pytest.raises(InvalidRequest, match="unix:PATH"):
        Client(url)


def test_what_was_never_sent_is_sent_when_the_server_is_back() -> None:
    asked: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(request.method)
        if len(asked) < 3:
            raise httpx.ConnectError("Connection refused")
        return httpx.Response(200, stream=httpx.ByteStream(b'{"draining":true,"sessions":0}'))

    client = Client("http://plane.test", patience=AT_ONCE, transport=httpx.MockTransport(handler))

    assert client.drain().draining
    assert asked == ["POST"] * 3


@pytest.mark.parametrize("key", ["", "a b", "a\r\nb", "\u00fc", "x" * 256])
def test_a_key_that_no_header_can_have_is_never_sent(server: LiveServer, key: str) -> None:
    with Client(server.control) as client, pytest.raises(InvalidRequest, match="idempotency_key"):
        client.connect("echo", idempotency_key=key)


def test_half_a_character_is_never_sent(server: LiveServer) -> None:
    with Client(server.control) as client, pytest.raises(InvalidRequest, match=r"user: .*Unicode"):
        list(client.list(user="\udcff"))


def test_streams_left_early_leave_no_connection(server: LiveServer) -> None:
    with warnings.catch_warnings(record=True) as told, Client(server.control) as client:
        warnings.simplefilter("always")
        session = client.connect("echo")
        for _ in client.status_stream(session.id):
            break
        next(client.stats_stream(session.id))
        client.hard_terminate(session.id, wait=10)
        pool = client._http._transport._pool  # type: ignore[attr-defined]  # httpx tells no other way
        open_after = [each for each in pool.connections if not each.is_idle()]
        gc.collect()

    assert open_after == []
    assert [each for each in told if each.category is ResourceWarning] == []


def test_a_cancelled_wait_leaves_no_connection(server: LiveServer) -> None:
    async def cancelled() -> tuple[bool, int]:
        async with AsyncClient(server.control) as client:
            session = await client.connect("echo", env={"ECHO_NEVER_LISTEN": "1"})
            heard = asyncio.Event()
            waiting = asyncio.ensure_future(
                client.wait_ready(session.id, on_update=lambda _: heard.set())
            )
            await heard.wait()
            waiting.cancel()
            await asyncio.wait([waiting])
            pool = client._http._transport._pool  # type: ignore[attr-defined]  # as above
            left = sum(not each.is_idle() for each in pool.connections)
            await client.hard_terminate(session.id, wait=10)
            return waiting.cancelled(), left

    assert asyncio.run(cancelled()) == (True, 0)


def test_what_several_take_comes_in_one_stream(server: LiveServer) -> None:
    with Client(server.control) as client:
        made = [client.connect("echo").id for _ in range(3)]
        for each in made:
            client.wait_ready(each, PATIENCE_SECONDS)
        stream = client.stats_stream_of(made)
        told = {next(stream).id for _ in made}
        for each in made:
            client.hard_terminate(each, wait=10)
        rest = list(stream)

    assert told == set(made)
    assert {each.id for each in rest} <= set(made)
