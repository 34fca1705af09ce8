"""Work that may block, done in a thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads, IReactorThreads
from twisted.internet.threads import deferToThreadPool

T = TypeVar("T")


class InThread(Protocol):
    """Something that does work in a thread, and answers here."""

    def __call__(self, work: Callable[[], T]) -> Deferred[T]:
        """Fires with what `work` returns; cancelling leaves it to end for nobody."""


class IThreadingReactor(IReactorThreads, IReactorFromThreads):
    """A reactor with threads; every Twisted reactor is one."""


def threads_of(reactor: IThreadingReactor) -> InThread:
    """The threads of `reactor`, which has none before the first work."""

    def in_thread(work: Callable[[], T]) -> Deferred[T]:
        return deferToThreadPool(reactor, reactor.getThreadPool(), work)

    return in_thread
