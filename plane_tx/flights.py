"""Work under way that several wait for, and that no waiter's leaving breaks off half-way."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

T = TypeVar("T")


def _stay() -> None:
    """What most work does when nobody waits for it any more: it goes on."""


class Flight(Generic[T]):
    """One piece of work and those who wait for it.

    A waiter that is cancelled cancels only itself; when the last one has gone `deserted` is
    called. A failure that nobody waits for is dropped: whoever starts the work sees to it.
    """

    def __init__(self, work: Deferred[T], deserted: Callable[[], None] = _stay) -> None:
        self._deserted = deserted
        self._waiters: list[Deferred[T]] = []
        self._outcome: list[T | Failure] = []
        work.addBoth(self._land)

    @property
    def landed(self) -> bool:
        """Whether the work has ended."""
        return bool(self._outcome)

    def wait(self) -> Deferred[T]:
        """Fires with what the work comes to."""
        waiter: Deferred[T] = Deferred(self._leave)
        self._waiters.append(waiter)
        if self._outcome:
            self._tell(self._outcome[0])
        return waiter

    def _leave(self, waiter: Deferred[T]) -> None:
        self._waiters.remove(waiter)
        if not self._waiters:
            self._deserted()

    def _land(self, outcome: T | Failure) -> None:
        self._outcome.append(outcome)
        self._tell(outcome)

    def _tell(self, outcome: T | Failure) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.callback(outcome)


async def to_the_end(work: Coroutine[Deferred[Any], Any, T]) -> T:
    """Do `work` to its end, however often the one who awaits this is cancelled meanwhile.

    The cancellation is raised when the work is done; an error of the work itself goes before.
    """
    flight = Flight(Deferred.fromCoroutine(work))
    cancelled: CancelledError | None = None
    while True:
        try:
            result = await flight.wait()
            break
        except CancelledError as error:
            if flight.landed:
                raise
            cancelled = error
    if cancelled is not None:
        raise cancelled
    return result
