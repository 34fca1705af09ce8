"""Starts Chromium so that it does not hear of network interfaces: `launch.py PROGRAM ARGUMENT...`.

Each container that comes or goes brings or takes an interface of this box, at which Chromium drops
what it loads from anywhere (ERR_NETWORK_CHANGED). Denied its netlink socket it takes the network
for one that never changes.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import socket
import struct
import sys

#: What of <linux/prctl.h>, <linux/seccomp.h> and <linux/bpf_common.h> is needed here.
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
LOAD_WORD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, FAIL = 0x7FFF0000, 0x00050000

#: The number of socket(2), and where a call's number and its first argument stand.
SOCKET = {"x86_64": 41, "aarch64": 198}
NUMBER_AT, FIRST_ARGUMENT_AT = 0, 16


class Program(ctypes.Structure):
    """struct sock_fprog"""

    _fields_ = (("length", ctypes.c_ushort), ("steps", ctypes.c_void_p))


def deny_netlink(number: int) -> None:
    """Have this process, and all that come of it, fail to make netlink sockets."""
    steps = [
        (LOAD_WORD, 0, 0, NUMBER_AT),
        (JUMP_IF_EQUAL, 0, 3, number),
        (LOAD_WORD, 0, 0, FIRST_ARGUMENT_AT),
        (JUMP_IF_EQUAL, 0, 1, socket.AF_NETLINK),
        (RETURN, 0, 0, FAIL | errno.EPERM),
        (RETURN, 0, 0, ALLOW),
    ]
    packed = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    program = Program(len(steps), ctypes.addressof(packed))
    libc = ctypes.CDLL(None, use_errno=True)
    one, zero = ctypes.c_ulong(1), ctypes.c_ulong(0)
    mode = ctypes.c_ulong(SECCOMP_MODE_FILTER)
    asked = libc.prctl(PR_SET_NO_NEW_PRIVS, one, zero, zero, zero)
    if asked or libc.prctl(PR_SET_SECCOMP, mode, ctypes.byref(program)):
        raise OSError(ctypes.get_errno(), "this process cannot be denied netlink sockets")


if __name__ == "__main__":
    if platform.machine() in SOCKET:
        deny_netlink(SOCKET[platform.machine()])
    os.execv(sys.argv[1], sys.argv[1:])
