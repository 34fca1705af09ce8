"""Ports of this box, each given to one session at a time."""

from __future__ import annotations

import socket

from plane_tx.core.errors import SpawnFailed

#: Where sessions of this box listen, and nowhere else if they heed their environment.
LOOPBACK = "127.0.0.1"

#: How many ports one session is tried on. Each try takes calls to the kernel, and whoever has an
#: account on this box can have claimed them all.
MOST_TRIES = 1000


class Ports:
    """The ports of a range, each given to one session at a time, in turn.

    A port is claimed against every other server on this box too: until its session listens, it
    looks free to all of them, and one server's session would answer for another's.

    Let the range be outside the kernel's own (/proc/sys/net/ipv4/ip_local_port_range), or an
    outgoing connection may take a port before its session listens.
    """

    def __init__(self, first: int, last: int) -> None:
        self._range = range(first, last + 1)
        self._next = 0
        self._claims: dict[int, socket.socket] = {}

    def take(self) -> int:
        """A port that nobody listens on; `SpawnFailed` when `MOST_TRIES` in turn were taken."""
        for _ in range(tries := min(len(self._range), MOST_TRIES)):
            port = self._range[self._next]
            self._next = (self._next + 1) % len(self._range)
            claim = claimed(port) if port not in self._claims and is_free(port) else None
            if claim is not None:
                self._claims[port] = claim
                return port
        tried = "every port" if tries == len(self._range) else f"each of {tries} ports tried"
        raise SpawnFailed(
            f"{tried} from {self._range[0]} to {self._range[-1]} is taken; end a session, or widen"
            " engine.process_first_port to engine.process_last_port"
        )

    def release(self, port: int) -> None:
        """Let another session have it."""
        self._claims.pop(port).close()


def is_free(port: int) -> bool:
    """Whether a server could listen on `port` of the loopback interface now."""
    with socket.socket() as probe:
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def claimed(port: int) -> socket.socket | None:
    """A claim to `port` that lasts until it is closed; None where another server has one.

    An abstract unix socket (unix(7)): nothing is left of it when a server dies, and it is known
    exactly where the port is, in one network namespace.
    """
    claim = socket.socket(socket.AF_UNIX)
    try:
        claim.bind(f"\0plane_tx/port/{port}")
    except OSError:
        claim.close()
        return None
    return claim
