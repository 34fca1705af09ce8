"""The directories of this box that sessions find at /plane-data, and that live on after them."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from functools import partial
from pathlib import Path
from stat import S_IMODE
from urllib.parse import quote

from plane_tx.core.errors import SpawnFailed
from plane_tx.core.model import Key
from plane_tx.engines.interface import SpawnOrder
from plane_tx.engines.threads import InThread

#: What stands for no name at all; nothing is made safe to anything with an '@'.
_NAMELESS = "@default"

#: What every file system takes as one name, in bytes.
_LONGEST_NAME = 255


def safe_name(text: str) -> str:
    """A name of one directory for `text`, and for no other text.

    Letters, digits, '_', '-' and inner '.' stand for themselves, everything else as in a URL;
    what gets too long is a hash.
    """
    if not text:
        return _NAMELESS
    name = quote(text, safe="").replace("~", "%7E")
    if name.startswith("."):
        name = "%2E" + name[1:]
    if len(name) > _LONGEST_NAME:
        return f"@{hashlib.sha256(text.encode()).hexdigest()}"
    return name


def directory_of(key: Key, mount: bool | str) -> tuple[str, str]:
    """Where a mount is, below the base: the namespace's directory, and its own in there.

    A path with slashes is one name too. Were it several, a session that is given `a` could put a
    link where another is then given `a/b`, and have any place of this box opened to that one.
    """
    return safe_name(key.namespace), safe_name(key.name if mount is True else str(mount))


class MountDirectories:
    """Makes the directory of each mount below `base`, in a thread."""

    def __init__(self, base: str, in_thread: InThread) -> None:
        self._base = base
        self._in_thread = in_thread

    async def of(self, order: SpawnOrder) -> str | None:
        """The directory that this session is to find, made if need be; None if it wants none.

        Fails with `SpawnFailed`.
        """
        mount = order.executable.mount
        if not mount:
            return None
        namespace, name = directory_of(order.key, mount)
        return await self._in_thread(partial(make_directory, self._base, namespace, name))


def make_directory(base: str, namespace: str, name: str) -> str:
    """Make `base`/`namespace`/`name` where it is missing, and return its real path.

    Nobody but this server's user and root gets past the namespace's directory; the last one is
    open to whatever user a session has. Raises `SpawnFailed`, also for a link on the way, below
    the base: it would lead into another session's data, or out of the base.
    """
    try:
        Path(base).mkdir(0o700, parents=True, exist_ok=True)
        parent = Path(os.path.realpath(base)) / namespace
        _make(parent, 0o700)
        _make(parent / name, 0o777)
    except OSError as error:
        raise SpawnFailed(
            f"could not make the mount directory {error.filename}: {error.strerror}; look at"
            " engine.mount_base"
        ) from None
    return str(parent / name)


def _make(path: Path, mode: int) -> None:
    with suppress(FileExistsError):
        path.mkdir(mode)
    if os.path.realpath(path) != str(path) or not path.is_dir():
        raise SpawnFailed(f"the mount directory {path} is a link or a file: remove it")
    # The umask took away from it, now or in a server that died before this. A session may have
    # taken its own directory for itself: then that is not ours to change, nor need it be.
    found = path.stat()
    if found.st_uid == os.geteuid() and S_IMODE(found.st_mode) != mode:
        path.chmod(mode)
