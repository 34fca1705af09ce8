"""Lets Twisted's epoll reactor read from its connections without a log context around each time.

That context says in legacy log lines which connection an event was of. Making one takes longer than
all that the proxy does with a small WebSocket message.
"""

from __future__ import annotations

import select
from functools import partial
from typing import Any

from twisted.internet.epollreactor import EPollReactor
from twisted.logger import Logger
from twisted.python import log

_log = Logger()

#: What this needs of Twisted beside its public interfaces; without it the reactor stays as it is.
_INSIDE = ("_poller", "_selectables", "_doReadOrWrite", "_disconnectSelectable")


def poll_plainly(reactor: Any) -> None:
    """Let `reactor`, if it is Twisted's epoll reactor, read as said above from its next turn on."""
    if type(reactor) is EPollReactor and all(hasattr(reactor, name) for name in _INSIDE):
        vars(reactor)["doIteration"] = partial(_turn, reactor)


def _turn(reactor: Any, timeout: float | None) -> None:
    selectables, readable = reactor._selectables, select.EPOLLIN
    events = reactor._poller.poll(-1 if timeout is None else timeout, len(selectables))
    for fd, event in events:
        selectable = selectables.get(fd)
        if selectable is None:
            continue  # one of the events before has closed it
        if event != readable:
            log.callWithLogger(selectable, reactor._doReadOrWrite, selectable, fd, event)
            continue
        try:
            why = selectable.doRead()
        except BaseException as error:  # noqa: BLE001 (nothing may end the reactor)
            why = error
            _log.failure("a protocol failed to take in what came, which ends its connection")
        if why:
            log.callWithLogger(selectable, reactor._disconnectSelectable, selectable, why, True)
