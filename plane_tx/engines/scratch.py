"""The directories that processes run in, each for one session, and gone when that has ended."""

from __future__ import annotations

import fcntl
import itertools
import os
import tempfile
from contextlib import suppress
from functools import partial
from pathlib import Path
from stat import S_IMODE
from uuid import uuid4

from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger

from plane_tx.engines.threads import InThread

#: What a server's own directory is called, below the one for temporary files; and its rights, by
#: which it is known as well. Others pass through it, to what is theirs, and see nothing else there.
_PREFIX = "plane_tx-sessions-"
_RIGHTS = 0o711

#: While it is not locked yet.
_UNLOCKED_PREFIX = "new-plane_tx-sessions-"


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
            self._clear(partial(clear_away, path))

    def sweep(self) -> None:
        """Clear away what servers of this user left, that were killed."""
        self._clear(partial(_sweep, self._parent))

    def close(self) -> Deferred[None]:
        """Fires when all is cleared away."""
        return Deferred.fromCoroutine(self._close())

    async def _close(self) -> None:
        # One after the other: what is just being moved would keep the rest from going.
        await DeferredList(tuple(self._clearing))
        if self._base is not None:
            base, self._base = self._base, None
            await self._clear(partial(_clear_base, base))
            os.close(self._lock)

    def _clear(self, work: partial[None]) -> Deferred[None]:
        clearing = self._in_thread(work)
        self._clearing.add(clearing)
        clearing.addErrback(partial(self._log.failure, "could not clear away directories"))
        clearing.addBoth(lambda _: self._clearing.discard(clearing))
        return clearing


def _locked_directory(parent: Path) -> tuple[int, Path]:
    """The descriptor of a new directory that is locked, and its path."""
    made = Path(tempfile.mkdtemp(prefix=_UNLOCKED_PREFIX, dir=parent))
    made.chmod(_RIGHTS)
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
            status = os.fstat(directory)
            if status.st_uid == os.geteuid() and S_IMODE(status.st_mode) == _RIGHTS:
                fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _clear_base(found)
        except BlockingIOError:
            # Its server lives.
            continue
        finally:
            os.close(directory)


def _clear_base(base: Path) -> None:
    with suppress(OSError):
        for found in os.scandir(base):
            clear_away(Path(found.path))
        base.rmdir()


def clear_away(path: Path) -> None:
    """Remove a directory with all there is in it, as far as that can be; no link is followed.

    It may be of any depth, which takes neither memory nor descriptors: directories found in it are
    moved to beside it first.
    """
    with suppress(OSError):
        top = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            pending = [path.name]
            while pending:
                with suppress(OSError):
                    _clear_one(top, pending.pop(), pending)
        finally:
            os.close(top)


def _clear_one(top: int, name: str, pending: list[str]) -> None:
    """Remove the directory `name` in `top`, and let those in it be `pending` there."""
    _make_usable(top, name)
    directory = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=top)
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                with suppress(OSError):
                    if not entry.is_dir(follow_symlinks=False):
                        os.unlink(entry.name, dir_fd=directory)
                        continue
                    _make_usable(directory, entry.name)
                    moved = uuid4().hex
                    os.rename(entry.name, moved, src_dir_fd=directory, dst_dir_fd=top)
                    pending.append(moved)
    finally:
        os.close(directory)
    os.rmdir(name, dir_fd=top)


def _make_usable(parent: int, name: str) -> None:
    # Root may do anything without; whoever else we are, so is the one who took the rights away, and
    # nothing is gained by putting a link there.
    if os.geteuid():
        os.chmod(name, 0o700, dir_fd=parent)
