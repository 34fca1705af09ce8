"""Chooses what carries a request, by what it asks for."""

from __future__ import annotations

from plane_tx.core.headers import Peer
from plane_tx.core.messages import RequestHead
from plane_tx.core.preflight import is_preflight
from plane_tx.core.routes import Route
from plane_tx.proxy.exchange import Exchange
from plane_tx.proxy.interface import Carrier, Client
from plane_tx.proxy.polls import Poll
from plane_tx.proxy.preflight import Preflight


def exchange_for(
    carrier: Carrier, client: Client, head: RequestHead, route: Route, peer: Peer
) -> Exchange:
    """Whatever carries such a request."""
    kind = Preflight if is_preflight(head) else Exchange
    if head.fields.waiting is not None and head.method == b"GET" and not head.upgrade:
        kind = Poll
    return kind(carrier, client, head, route, peer)
