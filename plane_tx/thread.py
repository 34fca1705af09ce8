"""A thread of one's own for work that may hang, which a process that ends does not wait for."""

from __future__ import annotations

from functools import partial
from threading import Thread
from typing import Any

from twisted.internet.interfaces import IReactorFromThreads
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool


class _Daemon(Thread):
    """A thread that does not keep its process from ending."""

    def __init__(self, **how: Any) -> None:
        super().__init__(**how, daemon=True)


class OwnThread:
    """Does one thing after the other, each handed to `run`; `stop` it only when nothing is done."""

    def __init__(self, reactor: IReactorFromThreads, name: str) -> None:
        self._pool = ThreadPool(0, 1, name)
        self._pool.threadFactory = _Daemon  # type: ignore[assignment]  # any maker of threads does
        self.start = self._pool.start
        self.stop = self._pool.stop
        self.run = partial(deferToThreadPool, reactor, self._pool)
