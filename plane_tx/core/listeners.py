"""Where servers listen, as the kernel's tables of TCP sockets tell it (/proc/PID/net/tcp, tcp6)."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address

import attrs

# TCP_LISTEN of the kernel's tcp_states.h, as the tables have it.
_LISTENS = "0A"

# Where Docker itself resolves names within a container: no server of the session's own.
_DOCKERS_RESOLVER = "127.0.0.11"


@attrs.frozen
class Listener:
    """A socket that takes connections: at `port` of `host`, which is an IP address."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether nobody reaches it but those who share its network."""
        return ip_address(self.host).is_loopback

    @property
    def is_everywhere(self) -> bool:
        """Whether it is at every address."""
        return ip_address(self.host).is_unspecified

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@attrs.frozen
class Row:
    """A row of a table: who listens, and the number by which processes hold that socket."""

    listener: Listener
    inode: int


def rows(table: str, byteorder: str = sys.byteorder) -> Iterator[Row]:
    """Each row of a table that listens; `byteorder` is that of the kernel.

    A row that is cut off, or is no row, is passed over.
    """
    for line in table.splitlines():
        fields = line.split()
        if len(fields) > 9 and fields[3] == _LISTENS:
            with suppress(ValueError):
                yield Row(_listener(fields[1], byteorder), int(fields[9]))


def listeners(found: Iterable[Row]) -> tuple[Listener, ...]:
    """Those of the rows, each once, by port; Docker's own resolver is left out."""
    distinct = {row.listener for row in found if row.listener.host != _DOCKERS_RESOLVER}
    return tuple(sorted(distinct, key=lambda each: (each.port, each.host)))


def _listener(local: str, byteorder: str) -> Listener:
    address, _, port = local.partition(":")
    packed = bytes.fromhex(address)
    if byteorder == "little":
        # Each word of 32 bits is shown as the number that it is to the kernel.
        packed = b"".join(packed[at : at + 4][::-1] for at in range(0, len(packed), 4))
    return Listener(_host(packed), int(port, 16))


def _host(packed: bytes) -> str:
    if len(packed) == 4:
        return str(IPv4Address(packed))
    address = IPv6Address(packed)
    return str(address.ipv4_mapped or address)
