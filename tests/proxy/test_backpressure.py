"""Readers that stop bound what a real server holds for each of them, and lose nothing by it."""

from __future__ import annotations

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.certificate import write_certificate
from tests.live import live_server, until
from tests.proxy.bulk import FRAMES, MASKED_FRAMES, RAW, read_head
from tests.proxy.bulk_session import CONF, MIB, Memory, Session

#: More than what the kernel takes on the way, so that somebody has to wait.
SIZE = 24 * MIB

READERS = 25

#: How long all of them together may take on a busy box.
PATIENCE_SECONDS = 120.0

#: A state of a connection, as /proc/net/tcp has it.
ESTABLISHED = "01"


@pytest.fixture(scope="module", params=["plain", "tls"])
def session(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    certificate = write_certificate(folder) if request.param == "tls" else None
    with live_server(folder, CONF, tls=certificate) as server:
        session = Session(server, secure=certificate is not None)
        session.memory = Memory(server)
        yield session


class Reader:
    """What a client in a thread of its own works with; it reads nothing until it may go on."""

    def __init__(self, session):
        self.session = session
        self.go = threading.Event()

    def wait(self):
        assert self.go.wait(PATIENCE_SECONDS)


class Asleep:
    """Whether a process leaves so many connections unread, moves no byte for a while, and sleeps.

    Bytes wait for it then, and nothing that it was to do is left: it does not want them. It may
    wake meanwhile for what has to do with none of them, as a clock's tick.
    """

    def __init__(self, pid, count):
        self._place = Path(f"/proc/{pid}")
        self._count = count
        self._before = {}
        self._still = 0

    def __call__(self):
        queues = self._queues()
        still = queues == self._before and unread_of(queues) >= self._count
        self._before, self._still = queues, self._still + 1 if still else 0
        state = (self._place / "stat").read_text().rpartition(")")[2].split()[0]
        return self._still > 20 and state == "S"

    def unread(self):
        """How many of its connections have something for it to read."""
        return unread_of(self._queues())

    def _queues(self):
        """What waits in the kernel, sent and received, by connection of the process."""
        lines = [line.split() for line in (self._place / "net/tcp").read_text().splitlines()[1:]]
        queues = {line[9]: line[4] for line in lines if line[3] == ESTABLISHED}
        open_now = set()
        for file in (self._place / "fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                open_now.add(file.readlink().name.removeprefix("socket:[").rstrip("]"))
        return {inode: waits for inode, waits in queues.items() if inode in open_now}


def unread_of(queues):
    return sum(int(waits.partition(":")[2], 16) > 0 for waits in queues.values())


def download(reader):
    with reader.session.ask(f"GET down/{SIZE}") as end:
        reader.wait()
        _, early = read_head(end)
        return RAW.receive(end, SIZE, early)


def upload(reader):
    with reader.session.ask("POST stuck", f"Content-Length: {SIZE}\r\n") as end:
        RAW.send(end, SIZE)
        _, early = read_head(end)
        return (early or end.recv(5)) == b"right"


def _down(reader, protocol, stream):
    size = stream.whole(SIZE)
    end, early = reader.session.switch(f"down/{size}", protocol)
    with end:
        reader.wait()
        return stream.receive(end, size, early)


def _up(reader, protocol, stream):
    size = stream.whole(SIZE)
    end, _ = reader.session.switch(f"stuck/{size}", protocol)
    with end:
        stream.send(end, size)
        return end.recv(7) == b"\x82\x05right"


def websocket_down(reader):
    return _down(reader, "websocket", FRAMES)


def websocket_up(reader):
    return _up(reader, "websocket", MASKED_FRAMES)


def tunnel_down(reader):
    return _down(reader, "raw", RAW)


def tunnel_up(reader):
    return _up(reader, "raw", RAW)


def pipelined(reader):
    head = reader.session.head("GET x", f"X-Long: {'a' * 60_000}\r\n")
    count = SIZE // len(head)
    with reader.session.ask("GET slow") as end:
        for _ in range(count):
            end.sendall(head)
        early, read = b"", 0
        for _ in range(count + 1):
            _, early = read_head(end, early)
            early = early or end.recv(65536)
            read += early.startswith(b"ok")
            early = early[2:]
        return read == count + 1


#: How many of each. The server is not started anew for each: what it has kept of one counts.
KINDS = {
    pipelined: 10,  # thousands of requests wait there
    download: READERS,
    upload: READERS,
    websocket_down: READERS,
    websocket_up: READERS,
    tunnel_down: READERS,
    tunnel_up: READERS,
}


@pytest.mark.parametrize(("kind", "count"), KINDS.items(), ids=[kind.__name__ for kind in KINDS])
def test_a_side_that_stops_costs_less_than_a_mebibyte_and_gets_all_in_the_end(session, kind, count):
    readers = [Reader(session) for _ in range(count)]

    with ThreadPoolExecutor(count) as threads:
        results = [threads.submit(kind, reader) for reader in readers]
        asleep = Asleep(session.server.process.pid, count)
        # One that is done this early has failed, and says why when it is asked for its result.
        until(lambda: asleep() or any(result.done() for result in results), PATIENCE_SECONDS)
        unfinished = [not result.done() for result in results]
        grown, unread = session.memory.grown(), asleep.unread()
        for reader in readers:
            reader.go.set()
        session.go()
        complete = [result.result(PATIENCE_SECONDS) for result in results]

    assert unread >= count
    assert unfinished == [True] * count
    assert grown / count < MIB
    assert complete == [True] * count
