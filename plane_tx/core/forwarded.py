"""Whose word about a client is believed: that of the proxies we were told stand in front of us."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable

import attrs

from plane_tx.core.fields import Headers, values_of
from plane_tx.core.headers import Peer

#: The address of whoever comes by a unix socket.
UNIX = "unix"

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network

#: How many hops of X-Forwarded-For count, the last ones; those before them are dropped.
HOPS = 32

_HOST = re.compile(rb"[A-Za-z0-9._-]+(:\d{1,5})?|\[[0-9A-Fa-f:.]+\](:\d{1,5})?")
_PORT = re.compile(rb"\d{1,5}")
_SECURE = {b"https": True, b"wss": True, b"http": False, b"ws": False}

#: A path that can stand in a Location: no segment is empty, so that it names no other host.
_PREFIX = re.compile(rb"(/[A-Za-z0-9._~%!$&'()*+,;=:@-]+)+")


@attrs.frozen
class TrustedProxies:
    """The addresses whose X-Forwarded headers are the truth; `unix` stands for unix sockets."""

    networks: tuple[_Network, ...] = ()
    unix: bool = False

    def trusts(self, address: str) -> bool:
        """Whether a proxy that we trust has this address."""
        if address == UNIX:
            return self.unix
        found = _address(address)
        return found is not None and any(found in network for network in self.networks)

    def client_of(self, peer: Peer, headers: Headers) -> Peer:
        """Who is behind `peer`, by its own `headers` if we trust it; else `peer` itself."""
        if not self.trusts(peer.address):
            return peer
        hops = _members(headers, b"x-forwarded-for")
        chain = hops if peer.address == UNIX else [*hops, peer.address.encode("ascii")]
        proto = _last(headers, b"x-forwarded-proto").lower()
        return Peer(
            address=self._client_among(hops, peer.address),
            secure=_SECURE.get(proto, peer.secure),
            chain=b", ".join(chain),
            host=_last(headers, b"x-forwarded-host", _HOST),
            port=_last(headers, b"x-forwarded-port", _PORT),
            prefix=_last(headers, b"x-forwarded-prefix", _PREFIX),
        )

    def _client_among(self, hops: list[bytes], nearest: str) -> str:
        # From our end: what stands before the first one that we do not trust, it may have made up.
        client = nearest
        for hop in reversed(hops):
            address = _address(_without_port(hop.decode("latin-1")))
            if address is None:
                break
            client = str(address)
            if not self.trusts(client):
                break
        return client


def trusted_proxies(entries: Iterable[str]) -> TrustedProxies:
    """Read addresses, networks (10.0.0.0/8) and "unix". Raises `ValueError` for anything else."""
    networks, unix = [], False
    for entry in entries:
        if entry == UNIX:
            unix = True
        else:
            networks.append(_unmapped(ipaddress.ip_network(entry)))
    return TrustedProxies(tuple(networks), unix)


def _address(text: str) -> _Address | None:
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return None
    # How an IPv4 client shows on a socket that takes both.
    return getattr(found, "ipv4_mapped", None) or found


def _unmapped(network: _Network) -> _Network:
    # Addresses are compared as IPv4 where they can be: ::ffff:10.0.0.0/104 is 10.0.0.0/8.
    start = getattr(network.network_address, "ipv4_mapped", None)
    return network if start is None else ipaddress.IPv4Network((start, network.prefixlen - 96))


def _without_port(hop: str) -> str:
    bracketed = re.fullmatch(r"\[(.*)\](:\d+)?", hop)
    if bracketed:
        return bracketed[1]
    host, colon, port = hop.partition(":")
    return host if colon and port.isdigit() else hop


def _members(headers: Headers, name: bytes) -> list[bytes]:
    # A head has room for thousands: only the last ones are parted.
    members = b",".join(values_of(headers, name)).rsplit(b",", HOPS)[-HOPS:]
    return [member.strip() for member in members if member.strip()]


def _last(headers: Headers, name: bytes, shape: re.Pattern[bytes] | None = None) -> bytes:
    # A proxy may add to what the client itself wrote there, so only the end is our proxy's word.
    # What does not look like it is passed over.
    found = next(reversed(_members(headers, name)), b"")
    found = found.rstrip(b"/") if shape is _PREFIX else found
    return found if shape is None or shape.fullmatch(found) else b""
