"""Sessions that boot: their turns to start, and who is told how far their pulls have come."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.logger import Logger

from plane_tx.core.model import Session, Status
from plane_tx.core.pulls import Pulling
from plane_tx.core.registry import Registry

PullWatcher = Callable[[Session], None]


class Turn:
    """A session's place among those that start at the same time, which it has at first."""

    def __init__(self, places: DeferredSemaphore) -> None:
        self._places = places
        self._has_place = True

    def give_up(self) -> None:
        """Let the next one start; a second call is nothing."""
        if self._has_place:
            self._has_place = False
            self._places.release()

    def take_back(self) -> Deferred[None] | None:
        """Wait for a place again; None where it was not given up. Cancelling leaves the queue."""
        if self._has_place:
            return None
        return self._places.acquire().addCallback(self._taken)

    def _taken(self, _places: object) -> None:
        self._has_place = True


class PullNews:
    """Notes how far the pull of a session's image has come, and tells of it."""

    _log = Logger()

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._watchers: list[PullWatcher] = []

    def watch(self, watcher: PullWatcher) -> None:
        """Tell `watcher`, from now on for good, of every session whose pull has come further."""
        self._watchers.append(watcher)

    def tell(self, session: Session, pulling: Pulling) -> None:
        """Take in the news; one whose session is on its way out is none."""
        if session.status is not Status.LOADING:
            return
        self._registry.pull_came_on(session, pulling)
        for watcher in self._watchers:
            with self._log.failuresHandled("a watcher failed"):
                watcher(session)
