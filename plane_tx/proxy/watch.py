"""Looks now and then at what a connection carries: whether bytes still pass, and for whom."""

from __future__ import annotations

import select
import socket
from collections.abc import Callable
from typing import Protocol as Shape

from twisted.internet.interfaces import IDelayedCall

from plane_tx.core.errors import IdleTimeout
from plane_tx.proxy.connection import below
from plane_tx.reactor import IFlowTransport, INetworkReactor

#: How often a client that has said its last is looked after. Twisted does not watch a connection
#: that it does not read from. Of a TCP client that has closed both sides the kernel learns by its
#: own probes, within two minutes or so; of one on a unix socket at once.
HALF_CLOSED_SECONDS = 30.0


class Carried(Shape):
    """What is watched: a request with its reply, or a tunnel."""

    @property
    def last_moved(self) -> float:
        """When bytes last passed, or could not have yet (seconds since epoch)."""

    def idle(self, error: IdleTimeout) -> None:
        """End: no byte has passed for too long."""


class Watch:
    """One timer, armed while something is carried; it asks when it is due, and is told nothing.

    `carried` says what there is to be watched; with `idle_seconds` of 0 it may be idle for ever.
    """

    def __init__(
        self,
        reactor: INetworkReactor,
        transport: IFlowTransport,
        idle_seconds: float,
        carried: Callable[[], Carried | None],
    ) -> None:
        self._reactor = reactor
        self._transport = transport
        self._idle_seconds = idle_seconds
        self._carried = carried
        self._call: IDelayedCall | None = None
        self._half_closed = False

    def begin(self) -> None:
        """Something is carried now."""
        if self._call is None and self._idle_seconds:
            self._look_in(self._idle_seconds)

    def half_closed(self) -> None:
        """The other end has said its last: from here on only a write, or this, finds it gone."""
        self.stop()
        self._half_closed = True
        self._look_in(HALF_CLOSED_SECONDS)

    def stop(self) -> None:
        """The connection is no more."""
        call, self._call = self._call, None
        if call is not None:
            call.cancel()

    def _look_in(self, seconds: float) -> None:
        self._call = self._reactor.callLater(seconds, self._look)

    def _look(self) -> None:
        self._call = None
        carried = self._carried()
        if self._half_closed and _has_failed(self._transport):
            self._transport.abortConnection()
        elif carried is not None:
            self._judge(carried)

    def _judge(self, carried: Carried) -> None:
        left = HALF_CLOSED_SECONDS
        if self._idle_seconds:
            idle = carried.last_moved + self._idle_seconds - self._reactor.seconds()
            if idle <= 0:
                carried.idle(IdleTimeout(f"no byte has passed for {self._idle_seconds:g} s"))
                return
            left = min(idle, left) if self._half_closed else idle
        self._look_in(left)


def _has_failed(transport: IFlowTransport) -> bool:
    owner = below(transport)
    handle = owner.getHandle() if hasattr(owner, "getHandle") else None
    if not isinstance(handle, socket.socket):
        return False
    poll = select.poll()
    poll.register(handle, 0)  # asks for nothing but what is always told: an error, or both ends
    return bool(poll.poll(0))
