"""Ports of this box, each given to one session at a time."""

from __future__ import annotations

import socket

from plane_tx.core.errors import SpawnFailed

#: Where sessions of this box listen, and nowhere else if they heed their environment.
LOOPBACK = "127.0.0.1"


class Ports:
    """The ports of a range, each given to one session at a time, in turn.

    Let the range be outside the kernel's own (/proc/sys/net/ipv4/ip_local_port_range), or an
    outgoing connection may take a port before its session listens.
    """

    def __init__(self, first: int, last: int) -> None:
        self._range = range(first, last + 1)
        self._next = 0
        self._taken: set[int] = set()

    def take(self) -> int:
        """A port that nobody listens on; `SpawnFailed` when there is none."""
        for _ in self._range:
            port = self._range[self._next]
            self._next = (self._next + 1) % len(self._range)
            if port not in self._taken and is_free(port):
                self._taken.add(port)
                return port
        raise SpawnFailed(
            f"every port from {self._range[0]} to {self._range[-1]} is taken; end a session, or"
            " widen engine.process_first_port to engine.process_last_port"
        )

    def release(self, port: int) -> None:
        """Let another session have it."""
        self._taken.remove(port)


def is_free(port: int) -> bool:
    """Whether a server could listen on `port` of the loopback interface now."""
    with socket.socket() as probe:
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True
