"""Becomes a session's command, at the head of a process group that ends with the server.

It is run by its path with `python -I -S -X utf8` and knows the standard library only. Its
descriptors: 0 is a pipe that brings the order as one line of JSON and stays open for as long as
the server lives; 1 and 2 are the log; 3 takes the answer: `STARTING` and nothing more when the
command runs, a sentence when it cannot.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import resource
import signal
import sys
from collections.abc import Callable, Mapping, Sequence

ORDER, LOG, ERRORS, ANSWER = 0, 1, 2, 3
STARTING = b"starting\n"

#: The program to start for a session, with its arguments, and its pipes as `spawnProcess` has them.
PROGRAM = (sys.executable, (sys.executable, "-I", "-S", "-X", "utf8", __file__))
PIPES: Mapping[int, str] = {ORDER: "w", LOG: "r", ERRORS: "r", ANSWER: "r"}

# From linux/prctl.h.
_SET_PARENT_DEATH_SIGNAL = 1
_SET_NO_NEW_PRIVILEGES = 38

# High enough to be in nobody's way: shells and LISTEN_FDS count from 3.
_GUARD_FLOOR = 100


def order_line(
    command: Sequence[str],
    environment: Mapping[str, str],
    workdir: str | None,
    limits: Mapping[str, tuple[int, int]],
    directory: str | None = None,
    user: tuple[int, int, Sequence[int]] | None = None,
) -> bytes:
    """The order, made by the process that starts this program.

    `limits` are as in `launch`, `directory` is one to make, and `user` is whom to become: the
    numbers of the user, its group and all its groups.
    """
    order = {
        "parent": os.getpid(),
        "command": command,
        "environment": environment,
        "workdir": workdir,
        "limits": limits,
        "directory": directory,
        "user": user,
    }
    return json.dumps(order).encode() + b"\n"


class Refused(Exception):
    """The command cannot be run; the message says why."""


def main() -> None:
    """Do as the order says; comes back only when the command cannot run, which was answered."""
    # First of all, so that there is no moment in which the server could die unnoticed.
    control(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    order = json.loads(read_line(ORDER))
    if os.getppid() != order["parent"]:
        return
    try:
        prepare()
        if order["directory"] is not None:
            move_in(order["directory"], order["user"])
        if order["user"] is not None:
            become(order["user"], order["parent"])
        launch(order["command"], order["environment"], order["workdir"], order["limits"])
    except Refused as refused:
        os.write(ANSWER, str(refused).encode())


def read_line(fd: int) -> bytes:
    """Everything up to the first newline or the end; nothing may have been sent behind it."""
    line = b""
    while not line.endswith(b"\n") and (data := os.read(fd, 65536)):
        line += data
    return line


def control(option: int, value: int) -> None:
    """The system call prctl, which Python lacks."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, *map(ctypes.c_ulong, (value, 0, 0, 0))):
        raise OSError(ctypes.get_errno(), f"prctl {option}")


def prepare() -> None:
    """Leave behind what came from the server: its session, descriptors, signals and umask."""
    os.setsid()
    # A process that gained privileges could not be killed by us any more, and would not be told
    # of our death.
    control(_SET_NO_NEW_PRIVILEGES, 1)
    os.set_inheritable(ANSWER, False)
    close_above(ANSWER)
    end_with_server()
    os.umask(0o077)
    default_signals()


def close_above(last: int) -> None:
    """Close every descriptor above `last`."""
    with os.scandir("/proc/self/fd") as entries:
        found = [int(entry.name) for entry in entries]
    for fd in found:
        if fd > last:
            # The listing's own descriptor is among them and closed already.
            with contextlib.suppress(OSError):
                os.close(fd)


def end_with_server() -> None:
    """Have the kernel kill the whole group when the server is gone; /dev/null becomes stdin.

    The death signal is for one process and not inherited by its children. But nobody except the
    server holds the other end of the order's pipe, so it hangs up when the server dies, and the
    kernel tells the owner of this end, which is the group, by the signal that was chosen.
    """
    guard = fcntl.fcntl(ORDER, fcntl.F_DUPFD, _GUARD_FLOOR)
    fcntl.fcntl(guard, fcntl.F_SETOWN, -os.getpgrp())
    fcntl.fcntl(guard, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(guard, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, ORDER)
    os.close(null)


def default_signals() -> None:
    """Undo what Python (SIGPIPE), twistd or nohup (SIGHUP) set: a new program expects defaults."""
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def move_in(directory: str, user: tuple[int, int, Sequence[int]] | None) -> None:
    """Make `directory`, which is to be there for one session only, and enter it."""
    attempt(f"make the directory {directory}", os.mkdir, directory, 0o700)
    if user is not None:
        attempt(f"give away the directory {directory}", os.chown, directory, *user[:2])
    attempt(f"enter the directory {directory}", os.chdir, directory)


def become(user: tuple[int, int, Sequence[int]], parent: int) -> None:
    """Give up being root for `user`, with no way back."""
    number, group, groups = user
    # os.execvpe imports what this needs only when it is called, and this user may not read that.
    os.get_exec_path({})
    for log in (LOG, ERRORS):
        # /dev/stdout is opened anew by many a program, with the rights of the pipe's owner.
        attempt("give away the log", os.fchown, log, number, group)
    attempt("take the groups", os.setgroups, groups)
    attempt(f"become the group {group}", os.setresgid, group, group, group)
    attempt(f"become the user {number}", os.setresuid, number, number, number)
    # Who becomes another has no death signal any more (prctl(2)).
    control(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent:
        raise Refused("the server is gone")


def launch(
    command: Sequence[str],
    environment: Mapping[str, str],
    workdir: str | None,
    limits: Mapping[str, Sequence[int]],
) -> None:
    """Become `command`, or raise `Refused`; `limits` are soft and hard values by name."""
    if workdir is not None:
        attempt(f"enter the workdir {workdir!r}", os.chdir, workdir)
    # Last, because they bind us as well: a small address space might not even fit this program.
    for name, (soft, hard) in limits.items():
        attempt(f"set {name} to {soft}", limit, getattr(resource, name), soft, hard)
    os.write(ANSWER, STARTING)
    name = f"{command[0]!r} (a name on PATH, or a path from the workdir on)"
    attempt(f"run {name}", os.execvpe, command[0], command, environment)


def limit(kind: int, soft: int, hard: int) -> None:
    """Set a limit, or keep the one that is there where it is lower already."""
    _, present = resource.getrlimit(kind)
    if present != resource.RLIM_INFINITY:
        soft, hard = min(soft, present), min(hard, present)
    resource.setrlimit(kind, (soft, hard))


def attempt(what: str, do: Callable[..., object], *arguments: object) -> None:
    """Call `do`; raise `Refused` saying what could not be done and why."""
    try:
        do(*arguments)
    except (OSError, ValueError, OverflowError, MemoryError) as error:
        why = getattr(error, "strerror", None) or error
        raise Refused(f"cannot {what}: {why}") from None


if __name__ == "__main__":
    main()
