"""A line to a server that is cut and stalled at a word, so that a network fails when it is to."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator

PIECE_BYTES = 64 * 1024

#: close(2) then sends a reset.
_RESET = struct.pack("ii", 1, 0)


class Line:
    """Listens on loopback and passes on to `target`, until it is told otherwise.

    A Host that names this line is passed on as one that names the target.
    """

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._change = threading.Condition()
        self._cut = self._stalled = False
        self.turned_away = self.held_up = 0
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._named = b"localhost:%d" % self.port, b"localhost:%d" % target[1]
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def cut(self) -> None:
        """Reset every connection, and each new one at once."""
        with self._change:
            self._cut = True
            pairs, self._pairs = self._pairs, []
            self._change.notify_all()
        for pair in pairs:
            _reset(pair)

    def stall(self) -> None:
        """Pass nothing on any more, and take new connections that come to nothing."""
        with self._change:
            self._stalled = True

    def mend(self) -> None:
        """Pass everything on again: what was held up, too."""
        with self._change:
            self._cut = self._stalled = False
            self._change.notify_all()

    def close(self) -> None:
        """Cut everything; returns when nothing of this is left."""
        self.mend()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join()
        self.cut()
        self._listener.close()
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                with self._change:
                    self.turned_away += self._cut
                    self.held_up += self._stalled
                    if not self._cut:
                        pair = (near, socket.create_connection(self._target))
                        self._pairs.append(pair)
                        self._start(*pair)
                        self._start(*reversed(pair))
                        continue
                _reset((near,))

    def _start(self, source: socket.socket, sink: socket.socket) -> None:
        copy = threading.Thread(target=self._copy, args=(source, sink), daemon=True)
        self._threads.append(copy)
        copy.start()

    def _copy(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(PIECE_BYTES):
                with self._change:
                    self._change.wait_for(lambda: not self._stalled or self._cut)
                sink.sendall(piece.replace(*self._named))
            sink.shutdown(socket.SHUT_WR)


def _reset(sockets: tuple[socket.socket, ...]) -> None:
    for each in sockets:
        each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)  # which wakes whoever reads from it
        each.close()


@contextlib.contextmanager
def line(target: tuple[str, int]) -> Iterator[Line]:
    """One for as long as the context lasts."""
    its = Line(target)
    try:
        yield its
    finally:
        its.close()
