"""Where processes of this box take TCP connections, read from /proc (proc(5)) in threads."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Self

from twisted.internet.defer import Deferred

from plane_tx.core.listeners import Listener, Row, listeners, rows
from plane_tx.engines.proc import PROC, family
from plane_tx.engines.threads import InThread

_TABLES = ("net/tcp", "net/tcp6")

#: How much of a table is read: the sockets that listen come first, before all connections.
MOST_BYTES = 1 << 20

_CONTAINER_ID = re.compile(r"[0-9a-f]{64}")
_SOCKET = re.compile(r"socket:\[(\d+)\]")


class SocketTables:
    """The kernel's tables, below `root`."""

    def __init__(self, in_thread: InThread, root: Path = PROC) -> None:
        self._in_thread = in_thread
        self._root = root

    def of_container(self, pid: int, container_id: str) -> Deferred[tuple[Listener, ...] | None]:
        """Where a container listens, as `container_listeners` tells it."""
        return self._in_thread(partial(container_listeners, self._root, pid, container_id))

    def of_group(self, group: int) -> Deferred[tuple[Listener, ...] | None]:
        """Where a process group listens, as `group_listeners` tells it."""
        return self._in_thread(partial(group_listeners, self._root, group))


def container_listeners(root: Path, pid: int, container_id: str) -> tuple[Listener, ...] | None:
    """Every socket that listens on the network of a container, whose first process is `pid`.

    None where that cannot be told: the container runs elsewhere, its engine counts processes from
    another one on, or it has no network of its own. What else listens on this box is not told.
    """
    try:
        # A number may be another process's at any moment; what is open stays this one's.
        with _Process(root / str(pid)) as process:
            if not process.is_of(container_id) or process.shares_network_of(root / "self"):
                return None
            return listeners(process.rows())
    except OSError:
        return None


def group_listeners(root: Path, group: int) -> tuple[Listener, ...] | None:
    """Every socket of this box's network that a process group, or its descendants, listen on.

    None where the group is gone, or where none was found and some of their sockets are hidden.
    """
    members, inodes, is_whole = family(group, root), set[int](), True
    for pid in members:
        try:
            inodes.update(_inodes(root / str(pid)))
        except PermissionError:
            is_whole = False
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has just ended
    try:
        with _Process(root / "self") as process:
            found = listeners(row for row in process.rows() if row.inode in inodes)
    except OSError:
        return None
    return found if found or (members and is_whole) else None


class _Process:
    """A process's directory of /proc, held open. Whatever is read of one that has ended fails."""

    def __init__(self, directory: Path) -> None:
        self._directory = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._directory)

    def is_of(self, container_id: str) -> bool:
        """Whether its control groups are those of a container; engines name them by its id."""
        return bool(_CONTAINER_ID.fullmatch(container_id)) and container_id in self._read("cgroup")

    def shares_network_of(self, other: Path) -> bool:
        """Whether it is on the same network: each has its files of /proc/PID/net to itself."""
        mine = os.stat(_TABLES[0], dir_fd=self._directory)
        its = (other / _TABLES[0]).stat()
        return (mine.st_dev, mine.st_ino) == (its.st_dev, its.st_ino)

    def rows(self) -> Iterator[Row]:
        """What listens on its network."""
        yield from rows(self._read(_TABLES[0]))
        # A kernel may be without IPv6.
        with suppress(FileNotFoundError):
            yield from rows(self._read(_TABLES[1]))

    def _read(self, name: str) -> str:
        fd = os.open(name, os.O_RDONLY, dir_fd=self._directory)
        with os.fdopen(fd, "rb") as file:
            return file.read(MOST_BYTES).decode(errors="replace")


def _inodes(directory: Path) -> Iterator[int]:
    """The numbers of the sockets that a process has open."""
    with os.scandir(directory / "fd") as entries:
        for entry in entries:
            # It may be closed at any moment.
            with suppress(FileNotFoundError, ProcessLookupError):
                if match := _SOCKET.fullmatch(str(Path(entry.path).readlink())):
                    yield int(match[1])
