"""Becomes a program that systemd has handed open sockets (sd_listen_fds(3)).

python handed.py NAME=DESCRIPTOR,... PROGRAM ARGUMENT...
"""

from __future__ import annotations

import fcntl
import os
import sys

#: The first descriptor that systemd hands over.
FIRST = 3

if __name__ == "__main__":
    sockets, *command = sys.argv[1:]
    names, descriptors = zip(*(each.split("=") for each in sockets.split(",")), strict=True)
    # Beyond those that they are to be, so that none is overwritten before it is moved.
    beyond = [fcntl.fcntl(int(each), fcntl.F_DUPFD, FIRST + len(names)) for each in descriptors]
    for number, descriptor in enumerate(beyond, FIRST):
        os.dup2(descriptor, number)
        os.close(descriptor)
    said = {
        "LISTEN_PID": str(os.getpid()),
        "LISTEN_FDS": str(len(names)),
        "LISTEN_FDNAMES": ":".join(names),
    }
    os.execve(command[0], command, {**os.environ, **said})  # the test's own program
