"""Bodies larger than any memory pass a real server in constant memory, both ways."""

import pytest

from tests.live import live_server
from tests.proxy.bulk import RAW, read_head
from tests.proxy.bulk_session import CONF, MIB, Memory, Session

SIZE = 10 * 1024 * MIB


@pytest.fixture
def session(tmp_path):
    with live_server(tmp_path, CONF) as server:
        yield Session(server)


def test_10_gib_down_take_no_memory(session):
    memory = Memory(session.server)

    with session.ask(f"GET down/{SIZE}") as client:
        head, early = read_head(client)
        right = RAW.receive(client, SIZE, early)

    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert right
    assert memory.peaked() < 16 * MIB


def test_10_gib_up_take_no_memory(session):
    memory = Memory(session.server)

    with session.ask("POST up", f"Content-Length: {SIZE}\r\n") as client:
        RAW.send(client, SIZE)
        head, early = read_head(client)
        told = early or client.recv(5)

    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert told == b"right"
    assert memory.peaked() < 16 * MIB
