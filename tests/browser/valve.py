"""A connection that lets only so much through, so that a pull stands still when it is to."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

PIECE_BYTES = 64 * 1024


class Valve:
    """Listens on loopback and passes on to `target`; what comes back is held up beyond `limit`."""

    def __init__(self, target: tuple[str, int], limit: int) -> None:
        self._target = target
        self._left = limit
        self._room = threading.Condition()
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.host = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def open(self) -> None:
        """Let everything through from now on."""
        with self._room:
            self._left = 1 << 62
            self._room.notify_all()

    def close(self) -> None:
        """Cut every connection; returns when nothing of this is left."""
        self.open()
        for each in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for each in (self._listener, *self._sockets):
            each.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._target)
                self._sockets += [near, far]
                self._start(near, far, held_up=False)
                self._start(far, near, held_up=True)

    def _start(self, source: socket.socket, sink: socket.socket, *, held_up: bool) -> None:
        copy = threading.Thread(target=self._copy, args=(source, sink, held_up), daemon=True)
        self._threads.append(copy)
        copy.start()

    def _copy(self, source: socket.socket, sink: socket.socket, held_up: bool) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(PIECE_BYTES):
                if held_up:
                    self._take(len(piece))
                sink.sendall(piece)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def _take(self, size: int) -> None:
        with self._room:
            self._room.wait_for(lambda: self._left > 0)
            self._left -= size


@contextlib.contextmanager
def valve(host: str, limit: int) -> Iterator[Valve]:
    """A valve before `host` that passes `limit` bytes or a little more until it is opened."""
    name, _, port = host.rpartition(":")
    made = Valve((name, int(port)), limit)
    try:
        yield made
    finally:
        made.close()
