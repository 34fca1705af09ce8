"""The directories that processes run in, each for one session, and gone when that has ended."""

from __future__ import annotations

import fcntl
import itertools
import os
import shutil
import tempfile
from functools import partial
from pathlib import Path

from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger

from plane_tx.engines.threads import InThread

#: What a server's own directory is called, below the one for temporary files.
_PREFIX = "plane_tx-"

#: While it is not locked yet.
_UNLOCKED_PREFIX = "new-plane_tx-"


class Scratch:
    """One directory of this server's, in which each session has one.

    A session makes its own (launch.py). Ours is locked (flock(2)) for as long as we live, however
    that ends: what is not can be cleared away by the next server. It is made when it is needed.
    """

    _log = Logger()

    def __init__(self, in_thread: InThread, parent: str | None = None) -> None:
        self._in_thread = in_thread
        self._parent = Path(parent or tempfile.gettempdir())
        self._base: Path | None = None
        self._lock = -1
        self._numbers = itertools.count(1)
        self._taken: dict[str, Path] = {}
        self._clearing: set[Deferred[None]] = set()

    def take(self, session_id: str) -> str:
        """Where a session is to make its directory. Raises `OSError`."""
        if self._base is None:
            self._lock, self._base = _locked_directory(self._parent)
        # The one of an earlier session with this id may not be gone yet.
        path = self._taken[session_id] = self._base / f"{session_id}.{next(self._numbers)}"
        return str(path)

    def release(self, session_id: str) -> None:
        """Clear it away, if there is one."""
        if (path := self._taken.pop(session_id, None)) is not None:
            self._clear(partial(shutil.rmtree, path, ignore_errors=True))

    def sweep(self) -> None:
        """Clear away what servers of this user left, that were killed."""
        self._clear(partial(_sweep, self._parent))

    def close(self) -> Deferred[None]:
        """Fires when all is cleared away."""
        if self._base is not None:
            self._clear(partial(shutil.rmtree, self._base, ignore_errors=True))
        done = DeferredList(tuple(self._clearing))
        return done.addCallback(self._unlock)

    def _clear(self, work: partial[None]) -> None:
        clearing = self._in_thread(work)
        self._clearing.add(clearing)
        clearing.addErrback(partial(self._log.failure, "could not clear away directories"))
        clearing.addBoth(lambda _: self._clearing.discard(clearing))

    def _unlock(self, _: object) -> None:
        if self._base is not None:
            self._base = None
            os.close(self._lock)


def _locked_directory(parent: Path) -> tuple[int, Path]:
    """The descriptor of a new directory that is locked, and its path.

    Others may pass through it, to what is theirs, and not see what else is there.
    """
    made = Path(tempfile.mkdtemp(prefix=_UNLOCKED_PREFIX, dir=parent))
    made.chmod(0o711)
    lock = os.open(made, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    # Only now may another server find it.
    base = made.with_name(made.name.replace(_UNLOCKED_PREFIX, _PREFIX, 1))
    made.rename(base)
    return lock, base


def _sweep(parent: Path) -> None:
    for found in parent.glob(f"{_PREFIX}*"):
        try:
            directory = os.open(found, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:
            continue
        try:
            if os.fstat(directory).st_uid == os.geteuid():
                fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(found, ignore_errors=True)
        except BlockingIOError:
            # Its server lives.
            continue
        finally:
            os.close(directory)
