"""Does something again and again for as long as the server runs, whatever one time meets."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

#: What is done; a coroutine's end is waited for before the next time.
Work = Callable[[], Coroutine[Deferred[Any], Any, None] | None]


class Upkeep(Service):
    """Does `work` every so many seconds, the first time after as many."""

    _log = Logger()

    def __init__(self, clock: IReactorTime, seconds: float, work: Work) -> None:
        self._seconds = seconds
        self._work = work
        self._loop = LoopingCall(self._once)
        self._loop.clock = clock

    def startService(self) -> None:
        """Begin."""
        super().startService()  # type: ignore[no-untyped-call]  # Twisted's Service is untyped
        self._loop.start(self._seconds, now=False)

    def stopService(self) -> None:
        """Do it no more; what goes on has its end."""
        super().stopService()  # type: ignore[no-untyped-call]  # as above
        if self._loop.running:
            self._loop.stop()

    async def _do(self) -> None:
        doing = self._work()
        if doing is not None:
            await doing

    def _once(self) -> Deferred[None]:
        # An error that left here would end the loop for good.
        done = Deferred.fromCoroutine(self._do())
        return done.addErrback(lambda failure: self._log.failure("upkeep failed", failure))
