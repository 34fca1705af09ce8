"""What the layers above the pure one ask of a reactor and its connections."""

from __future__ import annotations

from twisted.internet.interfaces import (
    IConsumer,
    IPushProducer,
    IReactorTCP,
    IReactorTime,
    ITCPTransport,
)


class INetworkReactor(IReactorTCP, IReactorTime):
    """A reactor that can dial and tell the time; every Twisted reactor is one."""


class IFlowTransport(ITCPTransport, IConsumer, IPushProducer):
    """A connection that can be held back and can hold its writer back; TCP and TLS ones can."""
