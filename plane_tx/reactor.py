"""What the layers above the pure one ask of a reactor."""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTCP, IReactorTime


class INetworkReactor(IReactorTCP, IReactorTime):
    """A reactor that can dial and tell the time; every Twisted reactor is one."""
