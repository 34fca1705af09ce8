"""What an executable can ask of a container engine alone, and what of it is refused at once."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from typing import Annotated, Literal

import attrs

from plane_tx.core import strict
from plane_tx.core.errors import InvalidRequest
from plane_tx.core.hardening import Egress, Hardening, HardeningChange
from plane_tx.core.strict import Most, Name, Text

#: Where a session finds its mount (plane.md 3.5).
MOUNT_TARGET = "/plane-data"

#: The fields that reach beyond a session's own container: a request needs leave for each.
GUARDED = ("cap_add", "runtime", "gpus", "volumes", "mount", "network_name")

#: Docker's own rule for the name of a volume; what has a slash would be a path of the host.
_VOLUME_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,254}", re.ASCII)

#: The name of a runtime, as Docker is configured with it.
RUNTIME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}", re.ASCII)

#: The name of a network, by Docker's rule. With a ':' it would be another container's network, or
#: in podman any of this box; and without a name it would be Docker's default one.
NETWORK = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,254}", re.ASCII)

_MOST_PATH = 1024

#: What tmpfs takes, as Docker passes it on (moby pkg/mount, tmpfs(5)).
_TMPFS_OPTION = re.compile(
    r"(size|nr_blocks|nr_inodes)=[0-9]+[kmgKMG%]?|mode=[0-7]{3,4}|(uid|gid)=[0-9]+"
    r"|r[ow]|(no)?(exec|suid|dev|atime|diratime)|(a)?sync|relatime|strictatime",
    re.ASCII,
)

#: A name of capabilities(7), as Linux 5.9 and later have them, or all of them.
CAPABILITY = (
    r"^(ALL|(CAP_)?("
    r"AUDIT_CONTROL|AUDIT_READ|AUDIT_WRITE|BLOCK_SUSPEND|BPF|CHECKPOINT_RESTORE|"
    r"CHOWN|DAC_OVERRIDE|DAC_READ_SEARCH|FOWNER|FSETID|IPC_LOCK|IPC_OWNER|KILL|"
    r"LEASE|LINUX_IMMUTABLE|MAC_ADMIN|MAC_OVERRIDE|MKNOD|NET_ADMIN|"
    r"NET_BIND_SERVICE|NET_BROADCAST|NET_RAW|PERFMON|SETFCAP|SETGID|SETPCAP|"
    r"SETUID|SYSLOG|SYS_ADMIN|SYS_BOOT|SYS_CHROOT|SYS_MODULE|SYS_NICE|"
    r"SYS_PACCT|SYS_PTRACE|SYS_RAWIO|SYS_RESOURCE|SYS_TIME|SYS_TTY_CONFIG|"
    r"WAKE_ALARM"
    r"))$"
)

Gpus = int | Literal["all"]


@attrs.frozen
class VolumeRequest:
    """A named volume of the container engine, which is made when there is none of that name."""

    name: str
    path: Text
    read_only: bool = False


@attrs.frozen(kw_only=True)
class ContainerFields:
    """What requests and configured apps can both ask of a container engine; None is not said."""

    read_only: bool | None = None
    tmpfs: Annotated[Mapping[Text, Text], Most(64)] | None = None
    volumes: Annotated[tuple[VolumeRequest, ...], Most(64)] | None = None
    cap_add: Annotated[tuple[str, ...], Most(64)] | None = None
    runtime: str | None = None
    gpus: Gpus | None = None
    mount: bool | str | None = None
    network_name: Name | None = None
    egress: Egress | None = None


def bool_or_string(value: object, _type: object) -> bool | str | None:
    """Read a `mount` from JSON. Raises `ValueError`."""
    if value is None or isinstance(value, bool | str):
        return value
    raise ValueError("expected true, false or a string")


def gpus_or_all(value: object, _type: object) -> Gpus | None:
    """Read `gpus` from JSON. Raises `ValueError`."""
    if value is None or value == "all" or (type(value) is int and value >= 0):
        return value
    raise ValueError(f'expected a whole number >= 0 or "all", got {strict.show(value)}')


def check_container(where: str, asked: ContainerFields) -> None:
    """Raise `InvalidRequest` for what no container can have; `where` is the field it stands in."""
    for path, options in (asked.tmpfs or {}).items():
        _check_path(f"{where}.tmpfs", path)
        _check_options(f"{where}.tmpfs", options)
    for index, volume in enumerate(asked.volumes or ()):
        _check_volume(f"{where}.volumes[{index}]", volume)
    for name in asked.cap_add or ():
        if not re.fullmatch(CAPABILITY, name):
            raise InvalidRequest(
                f"{where}.cap_add: expected names of capabilities(7), got {strict.show(name)}"
            )
    if asked.runtime is not None and not RUNTIME.fullmatch(asked.runtime):
        raise InvalidRequest(
            f"{where}.runtime: expected the name of a runtime, got {strict.show(asked.runtime)}"
        )
    if asked.network_name is not None and not NETWORK.fullmatch(asked.network_name):
        got = strict.show(asked.network_name)
        raise InvalidRequest(f"{where}.network_name: expected the name of a network, got {got}")
    if isinstance(asked.mount, str):
        _check_mount(f"{where}.mount", asked.mount)


def check_leave(where: str, asked: ContainerFields, allowed: frozenset[str]) -> None:
    """Raise `InvalidRequest` when a request asks for a guarded field that is not in `allowed`.

    To ask for less than an app has (no mount, no volumes) is always allowed.
    """
    for field in GUARDED:
        if getattr(asked, field) and field not in allowed:
            raise InvalidRequest(
                f"{where}.{field}: this server lets no request ask for it: name an app that has"
                f' it, or have "{field}" added to engine.allow_requests'
            )


def check_hardening(where: str, said: Hardening | HardeningChange | None) -> None:
    """Raise `strict.Misfit` for what no container can be given; `where` is the table it is in."""
    if said is None:
        return
    for name in said.cap_drop or ():
        if not re.fullmatch(CAPABILITY, name):
            allowed, got = "names of capabilities(7)", strict.show(name)
            raise strict.Misfit(f"{where}.cap_drop", f"expected {allowed}, got {got}")
    if said.log_files == 0:
        raise strict.Misfit(f"{where}.log_files", "expected at least 1")


def _check_path(where: str, path: str) -> None:
    plain = path.startswith("/") and not path.startswith("//") and path != "/"
    if not plain or posixpath.normpath(path) != path or not _is_text(path):
        raise InvalidRequest(
            f"{where}: expected absolute paths below / without '.' and '..', got"
            f" {strict.show(path)}"
        )


def _check_options(where: str, options: str) -> None:
    for option in options.split(",") if options else ():
        if not _TMPFS_OPTION.fullmatch(option):
            raise InvalidRequest(
                f'{where}: expected options as in "size=64m,mode=1777", got {strict.show(option)}'
            )


def _check_volume(where: str, volume: VolumeRequest) -> None:
    if not _VOLUME_NAME.fullmatch(volume.name):
        raise InvalidRequest(
            f"{where}.name: expected the name of a volume (a-z, A-Z, 0-9, '_', '.', '-'; no path),"
            f" got {strict.show(volume.name)}"
        )
    _check_path(f"{where}.path", volume.path)


def _check_mount(where: str, mount: str) -> None:
    plain = _is_text(mount) and ":" not in mount
    if not plain or any(part in ("", ".", "..") for part in mount.split("/")):
        raise InvalidRequest(
            f"{where}: expected true, or a relative path without '.', '..' and ':', got"
            f" {strict.show(mount)}"
        )


def _is_text(path: str) -> bool:
    return len(path) <= _MOST_PATH and path.isprintable()
