"""The sockets that systemd opens for the server, and word to it once they are served."""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Iterable, MutableMapping
from contextlib import closing, suppress
from typing import Any

from twisted.application.service import Service
from twisted.internet.endpoints import AdoptedStreamServerEndpoint, serverFromString
from twisted.internet.interfaces import IReactorCore

from plane_tx.core.config import OPEN
from plane_tx.core.endpoints import kind_of
from plane_tx.core.errors import ConfigError


class PassedSockets:
    """Finds the sockets that `systemd:` endpoints name, of which each serves once."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._taken: set[int] = set()

    def endpoint(self, description: str) -> AdoptedStreamServerEndpoint:
        """What listens on the socket that a description names, as it is there now.

        Raises `ConfigError` where systemd passed none, or none that can serve, or where an earlier
        endpoint has it.
        """
        endpoint = _adopted(self._reactor, description)
        if endpoint.fileno in self._taken:
            raise ConfigError("another endpoint has this socket: let systemd open one for each")
        with _copy(endpoint.fileno) as passed:
            listens = passed.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
            if passed.type != socket.SOCK_STREAM or not listens:
                raise ConfigError("nobody can connect to it: write ListenStream= in its unit")
            if passed.family != endpoint.addressFamily:
                kind = passed.family.name.removeprefix("AF_")
                raise ConfigError(f"what systemd passed is of another kind: write domain={kind}")
        self._taken.add(endpoint.fileno)
        return endpoint


def check_for_this_box(reactor: Any, descriptions: Iterable[str]) -> None:
    """Raise `ConfigError` unless each `systemd:` socket among them is for this box alone.

    Where it listens is asked of the socket itself.
    """
    for description in descriptions:
        if kind_of(description) != "systemd":
            continue
        try:
            with _copy(_adopted(reactor, description).fileno) as passed:
                closed = _is_for_this_box(passed)
        except ConfigError as error:
            raise ConfigError(
                f"control.endpoint: {description!r} is no endpoint: {error}"
            ) from None
        if not closed:
            where = "ListenStream=127.0.0.1:PORT or a path"
            raise ConfigError(f'control.endpoint: "{description}" {OPEN}, or have {where}')


def _is_for_this_box(passed: socket.socket) -> bool:
    if passed.family == socket.AF_UNIX:
        return True
    if passed.family not in (socket.AF_INET, socket.AF_INET6):
        return False
    return ipaddress.ip_address(passed.getsockname()[0]).is_loopback


def _adopted(reactor: Any, description: str) -> AdoptedStreamServerEndpoint:
    try:
        endpoint = serverFromString(reactor, description)
    except Exception:  # noqa: BLE001  # KeyError, IndexError and more, in terms of Python
        endpoint = None
    if not isinstance(endpoint, AdoptedStreamServerEndpoint):
        raise ConfigError(
            'systemd passed no such socket: write "systemd:domain=INET:name=NAME", where NAME is'
            " the FileDescriptorName= of a .socket unit (INET6 and UNIX are the other domains), and"
            " start the server by systemd"
        )
    return endpoint


def _copy(descriptor: int) -> closing[socket.socket]:
    try:
        return closing(socket.socket(fileno=os.dup(descriptor)))
    except OSError as error:
        raise ConfigError(f"what systemd passed is no socket: {error.strerror}") from None


class Readiness(Service):
    """Tells systemd that the server serves, and that it stops (sd_notify(3)), if it wants to know.

    The address to tell it to is taken out of `environ`: sessions have no business with it.
    """

    def __init__(self, reactor: IReactorCore, environ: MutableMapping[str, str]) -> None:
        self._reactor = reactor
        self._address = environ.pop("NOTIFY_SOCKET", "")

    def startService(self) -> None:
        """Tell it as soon as the reactor turns."""
        super().startService()  # type: ignore[no-untyped-call]  # Twisted's Service is untyped
        self._reactor.callWhenRunning(self._tell, b"READY=1")

    def stopService(self) -> None:
        """Tell it; what is left to do is done meanwhile."""
        super().stopService()  # type: ignore[no-untyped-call]  # as above
        self._tell(b"STOPPING=1")

    def _tell(self, said: bytes) -> None:
        if not self._address:
            return
        # An @ stands for the zero byte of an address that is no path (unix(7)).
        address = self._address.replace("@", "\0", 1) if self._address[0] == "@" else self._address
        # Who does not listen is told nothing: it would wait in vain, and says so itself.
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as telling:
            telling.setblocking(False)
            telling.sendto(said, address)
