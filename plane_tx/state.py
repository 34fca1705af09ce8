"""The directory of what outlives the server, which one server of an instance has at a time."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from plane_tx.core.errors import ConfigError

#: What whoever meets a directory that cannot be had is to do.
_CURE = "name another by `[state] dir`"


class StateDirectory:
    """Where an instance keeps its journal, and the lock that keeps a second server out of it.

    `directory` may begin with `~`; raises `ConfigError` where its user has no home. The lock is the
    kernel's (flock(2)): it goes with this process, however that ends.
    """

    def __init__(self, directory: str, instance: str) -> None:
        self._directory = directory
        self._instance = instance
        self._path = _at_home(directory)
        self._lock: int | None = None

    def __repr__(self) -> str:
        held = "free" if self._lock is None else "held"
        return f"<StateDirectory {self._directory!r} {self._instance!r} [{held}]>"

    @property
    def journal_path(self) -> Path:
        """Where the journal is, once the directory has been claimed."""
        return self._path / f"{self._instance}.sqlite3"

    def claim(self) -> None:
        """Make the directory (0700) and the journal's file (0600), and keep others out.

        Raises `ConfigError` when another server has them, or they cannot be made or written.
        """
        try:
            # A directory that is there already keeps its rights: systemd's, for one, has its own.
            self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = self._take_lock()
            self.journal_path.touch(mode=0o600)
            self.journal_path.chmod(0o600)
        except BlockingIOError:
            raise ConfigError(
                f"{self._directory}: another server of the instance {self._instance!r} uses this"
                f" directory: stop it, or {_CURE}, or another instance by `[engine] instance`"
            ) from None
        except OSError as error:
            self.release()
            raise ConfigError(
                f"{self._directory}: state cannot be kept here: {error.strerror}; {_CURE}"
            ) from None

    def release(self) -> None:
        """Let another server in."""
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)

    def _take_lock(self) -> int:
        # Never deleted: who opened it before and who comes later would lock two files of one name.
        lock = os.open(self._path / f"{self._instance}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BaseException:
            os.close(lock)
            raise
        return lock


def _at_home(directory: str) -> Path:
    try:
        return Path(directory).expanduser()
    except RuntimeError:
        raise ConfigError(
            f"{directory}: the user of this server has no home: {_CURE}, or set $STATE_DIRECTORY"
        ) from None
