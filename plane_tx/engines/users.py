"""The user that sessions run as, where a server of root's is told to have another than root."""

from __future__ import annotations

import os
import pwd

import attrs

from plane_tx.core.errors import ConfigError


@attrs.frozen
class User:
    """A user of this box as its databases know it (passwd(5), group(5))."""

    name: str
    home: str
    number: int
    group: int
    groups: tuple[int, ...]


def user_named(name: str) -> User:
    """The user called `name`.

    Raises `ConfigError` when there is none, when it is root, and when we may not become it.
    """
    key = "[engine] process_user"
    if os.geteuid() != 0:
        raise ConfigError(f"{key}: only a server that root started may run processes as another")
    try:
        found = pwd.getpwnam(name)
    except KeyError:
        raise ConfigError(f"{key}: no user {name!r} on this box") from None
    if found.pw_uid == 0:
        raise ConfigError(f"{key}: {name!r} is root, which this server is anyway: leave it out")
    groups = os.getgrouplist(name, found.pw_gid)
    return User(name, found.pw_dir, found.pw_uid, found.pw_gid, tuple(groups))
