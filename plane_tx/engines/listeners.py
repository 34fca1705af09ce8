"""Who is told what an engine sees."""

from __future__ import annotations

from collections.abc import Callable

from twisted.logger import Logger

from plane_tx.engines.interface import EngineEvent

Listener = Callable[[EngineEvent], None]


class Listeners:
    """A list of listeners that one failing listener cannot break for the rest."""

    _log = Logger()

    def __init__(self) -> None:
        self._listeners: list[Listener] = []

    def add(self, listener: Listener) -> Callable[[], None]:
        """Tell `listener` of every event from now on; call the result to end that."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def tell(self, event: EngineEvent) -> None:
        """Tell everyone; a listener that raises is logged and passed over."""
        for listener in tuple(self._listeners):
            with self._log.failuresHandled("an engine listener failed"):
                listener(event)
