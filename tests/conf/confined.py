"""Runs a program with the system calls that a unit allows, as systemd would let it.

python confined.py UNIT PROGRAM ARGUMENT...
"""

from __future__ import annotations

import ctypes
import errno
import os
import subprocess
import sys
from pathlib import Path

#: seccomp.h of libseccomp 2: what is done with a call.
ALLOW, REFUSE = 0x7FFF0000, 0x00050000 | errno.EPERM


def calls(group: str) -> set[str]:
    """The system calls in a group of systemd's, or the one of that name."""
    if not group.startswith("@"):
        return {group}
    told = subprocess.run(
        ["systemd-analyze", "syscall-filter", group], capture_output=True, text=True, check=True
    )
    found: set[str] = set()
    for line in told.stdout.splitlines():
        word = line.partition("#")[0].strip()
        if word and line.startswith(" "):
            found |= calls(word)
    return found


def allowed(unit: str) -> set[str]:
    """All that SystemCallFilter= of a unit lets pass (systemd.exec(5))."""
    # What systemd itself needs to start a program is in @default, which is always allowed.
    found = calls("@default")
    for line in unit.splitlines():
        name, _, value = line.partition("=")
        if name == "SystemCallFilter":
            named = set().union(*map(calls, value.removeprefix("~").split()))
            found = found - named if value.startswith("~") else found | named
    return found


def confine(names: set[str]) -> None:
    """Refuse this process, and all that it becomes, any other call."""
    seccomp = ctypes.CDLL("libseccomp.so.2", use_errno=True)
    seccomp.seccomp_init.restype = ctypes.c_void_p
    rules = ctypes.c_void_p(seccomp.seccomp_init(REFUSE))
    for name in names:
        number = seccomp.seccomp_syscall_resolve_name(name.encode())
        if number >= 0:  # the others are those of other machines
            assert seccomp.seccomp_rule_add(rules, ALLOW, number, 0) == 0
    assert seccomp.seccomp_load(rules) == 0


if __name__ == "__main__":
    unit, *command = sys.argv[1:]
    confine(allowed(Path(unit).read_text(encoding="utf-8")))
    os.execv(command[0], command)  # the program is the test's own
