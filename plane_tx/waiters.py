"""Waiting for something that concerns a name, where whoever leaves takes only itself along."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

T = TypeVar("T")


class Waiters(Generic[T]):
    """Deferreds by name; each leaves no trace once it has fired, timed out or been cancelled."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._waiting: dict[str, dict[Deferred[T], None]] = {}

    def __len__(self) -> int:
        return sum(len(waiting) for waiting in self._waiting.values())

    def wait(self, name: str, seconds: float, too_late: Callable[[], Exception]) -> Deferred[T]:
        """Fire with what `name` is settled with; fail with `too_late()` after `seconds`."""
        waiter: Deferred[T] = Deferred()
        self._waiting.setdefault(name, {})[waiter] = None

        def expire() -> None:
            self._leave(name, waiter)
            waiter.errback(Failure(too_late()))

        timeout = self._clock.callLater(seconds, expire)

        def tidy(result: T | Failure) -> T | Failure:
            if timeout.active():
                timeout.cancel()
            self._leave(name, waiter)
            return result

        return waiter.addBoth(tidy)

    def settle(self, name: str, result: T) -> None:
        """Fire everyone who waits for `name` with `result`, in the order in which they came."""
        for waiter in self._waiting.pop(name, ()):
            waiter.callback(result)

    def refuse(self, name: str, make: Callable[[], Exception]) -> None:
        """Fail everyone who waits for `name`, each with an error of its own."""
        for waiter in self._waiting.pop(name, ()):
            waiter.errback(Failure(make()))

    def _leave(self, name: str, waiter: Deferred[T]) -> None:
        waiting = self._waiting.get(name)
        if waiting is not None:
            waiting.pop(waiter, None)
            if not waiting:
                del self._waiting[name]
