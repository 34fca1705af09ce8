"""What connections need of the proxy, and exchanges of the connections."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING
from typing import Protocol as Shape

import attrs

from plane_tx.accesslog import AccessLog
from plane_tx.core.errors import PlaneError
from plane_tx.core.headers import Introductions
from plane_tx.core.messages import ResponseHead
from plane_tx.core.routes import Way
from plane_tx.proxy.answers import Answering
from plane_tx.proxy.relays import Relays
from plane_tx.proxy.settings import ProxySettings
from plane_tx.proxy.upstream import UpstreamConnection, UpstreamPool
from plane_tx.proxy.waiting import Meanwhile
from plane_tx.proxy.websocket import Legs
from plane_tx.reactor import INetworkReactor
from plane_tx.supervisor import Supervisor

if TYPE_CHECKING:
    from plane_tx.proxy.client import ClientConnection


class Client(Shape):
    """The client's side, as an exchange sees it; `full` while it does not keep up."""

    full: bool
    introductions: Introductions
    way: Way

    def send(self, data: bytes) -> None:
        """Write to the client."""

    def send_pieces(self, pieces: Sequence[bytes | memoryview]) -> None:
        """The same with several pieces, at least one."""

    def refuse(self, error: PlaneError, session_id: str) -> None:
        """Answer the request with an error; the exchange is over."""

    def answer(self, answering: Answering) -> None:
        """Answer the request in our own words; the exchange is over."""

    def cut(self, *, at_once: bool) -> None:
        """Drop the client: its reply cannot be completed. What was sent may arrive first,
        unless `at_once`.
        """

    def pause_reading(self) -> None:
        """Take no more of the request for now."""

    def resume_reading(self) -> None:
        """Take more of the request."""

    def upstream_ready(self) -> None:
        """The session can be sent the body now."""

    def finished(self, *, keep_alive: bool) -> None:
        """The reply is complete."""

    def upgraded(self, upstream: UpstreamConnection, head: ResponseHead) -> None:
        """The session takes up the upgrade that the request offered."""


@attrs.frozen
class Carrier:
    """What every exchange works with."""

    supervisor: Supervisor
    pool: UpstreamPool
    meanwhile: Meanwhile


class Proxy(Shape):
    """What a connection needs of the proxy that it belongs to."""

    reactor: INetworkReactor
    supervisor: Supervisor
    settings: ProxySettings
    cluster: str
    #: `answers.refusal` with the pages that are configured.
    refusal: Callable[..., bytes]
    carrier: Carrier
    legs: Legs
    relays: Relays
    connections: set[ClientConnection]
    access_log: AccessLog | None

    def lost(self, connection: ClientConnection) -> None:
        """A connection is no more."""
