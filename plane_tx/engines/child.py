"""One session's process group: how it is started, signalled, read and seen to end."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress

import attrs
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ProcessExitedAlready, ProcessTerminated
from twisted.internet.interfaces import (
    IDelayedCall,
    IProcessTransport,
    IPushProducer,
    IReactorTime,
)
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from plane_tx.core.errors import SpawnFailed
from plane_tx.core.model import LogStream, ResourceLimits
from plane_tx.engines import launch
from plane_tx.engines.interface import SpawnOrder
from plane_tx.engines.launch import ANSWER, ERRORS, LOG, ORDER, STARTING
from plane_tx.engines.log import Log
from plane_tx.engines.ports import LOOPBACK
from plane_tx.engines.users import User

# How long a log may stay open once its session has ended: only a process that left the group
# holds it then, and it may do so for ever.
DRAIN_SECONDS = 0.5

#: How much of its output is read before the session has to wait a little, and how long that is: one
#: that writes without end must not keep this server from everything else.
MOST_AT_ONCE = 64 * 1024
PAUSE_SECONDS = 0.01

_STREAMS = {LOG: LogStream.STDOUT, ERRORS: LogStream.STDERR}

# The first word of a command that means the interpreter this server runs on.
OWN_PYTHON = "{python}"

# All that a session sees of the server's environment, which may hold secrets.
_INHERITED = ("PATH", "HOME", "LANG", "TZ", "TMPDIR")


@attrs.frozen
class Conditions:
    """What every session is run under.

    `open_files` are its soft and hard limit of them, where they are not to be this process's own;
    `user` is whom it runs as, where that is not this process's user.
    """

    open_files: tuple[int, int] | None = None
    user: User | None = None


def environment_of(
    order: SpawnOrder, port: int, base: Mapping[str, str], user: User | None = None
) -> dict[str, str]:
    """All of a session's environment, `base` being the server's."""
    inherited = {
        name: value for name, value in base.items() if name in _INHERITED or name.startswith("LC_")
    }
    if user is not None:
        inherited |= {"HOME": user.home, "USER": user.name, "LOGNAME": user.name}
    # Without HOST many a server listens on every interface, where no token is asked for.
    where = {"HOST": LOOPBACK, "PORT": str(port)}
    return {**inherited, **order.executable.env, **order.environment, **where}


def system_limits(
    limits: ResourceLimits, open_files: tuple[int, int] | None
) -> dict[str, tuple[int, int]]:
    """The soft and hard value of each limit to set, by its name in the module `resource`."""
    wanted = {"RLIMIT_CORE": (0, 0)}
    if open_files is not None:
        wanted["RLIMIT_NOFILE"] = open_files
    if limits.cpu_time_limit:
        # The soft limit's SIGXCPU says why it ended, the hard one's SIGKILL would not.
        wanted["RLIMIT_CPU"] = (limits.cpu_time_limit, limits.cpu_time_limit + 1)
    if limits.memory_limit_bytes:
        wanted["RLIMIT_AS"] = (limits.memory_limit_bytes, limits.memory_limit_bytes)
    return wanted


def exit_code_of(reason: Failure) -> int:
    """As a shell says it: 128 and the signal's number for one that was killed."""
    end = reason.value
    if not isinstance(end, ProcessTerminated):
        return 0
    code: int = 128 + end.signal if end.exitCode is None else end.exitCode
    return code


class _Transport(IProcessTransport, IPushProducer):
    """A process of twisted.internet.process, which can hold back what it reads from."""


class Child(ProcessProtocol):
    """One session's process group, from its launcher's start to the last byte of its log.

    `order_line` is what the launcher is told. `over` is called once nothing of it is left, before
    anybody who waits for that hears of it.
    """

    transport: _Transport

    def __init__(
        self,
        order: SpawnOrder,
        port: int,
        clock: IReactorTime,
        over: Callable[[Child], None],
        order_line: bytes,
    ) -> None:
        self.order = order
        self.port = port
        self.log = Log(clock)
        #: Fires when the command runs; fails, with nothing left, when it could not.
        self.started: Deferred[None] = Deferred(lambda _: self.send(signal.SIGKILL))
        self.was_made = False
        self.was_removed = False
        self.exit_code: int | None = None
        self._order_line = order_line
        self._clock, self._over = clock, over
        self._pid = 0
        self._answer = b""
        self._drain: IDelayedCall | None = None
        self._read = 0
        self._pause: IDelayedCall | None = None
        self._was_asked_to_end = False
        self._is_over = False
        self._waiting: list[Deferred[None]] = []

    @property
    def is_running(self) -> bool:
        """Whether its command was started and has not ended."""
        return self.was_made and self.exit_code is None

    @property
    def group(self) -> int:
        """The number of its process group."""
        return self._pid

    def terminate(self) -> Deferred[None]:
        """Ask it to end; fires once it is over."""
        # Once only: to many servers a second SIGTERM means to drop everything.
        if not self._was_asked_to_end:
            self._was_asked_to_end = True
            self.send(signal.SIGTERM)
        return self.when_over()

    def kill(self) -> Deferred[None]:
        """End it; fires once it is over."""
        self.send(signal.SIGKILL)
        return self.when_over()

    def send(self, number: int) -> None:
        """Send a signal to the whole group, unless it has ended."""
        if self.exit_code is None and not self._signal_group(number):
            # The launcher is not at the head of a group yet, so it is alone still.
            with suppress(ProcessExitedAlready):
                self.transport.signalProcess(number)

    def when_over(self) -> Deferred[None]:
        """Fires once nothing is left of it; cancelling that changes nothing else."""
        if self._is_over:
            return succeed(None)
        waiter: Deferred[None] = Deferred(self._waiting.remove)
        self._waiting.append(waiter)
        return waiter

    def connectionMade(self) -> None:
        """Hand the launcher its order; that pipe then stays open, as a sign that we live."""
        self._pid = self.transport.pid
        self.transport.writeToChild(ORDER, self._order_line)

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        """Keep the launcher's answer apart from the log."""
        if childFD == ANSWER:
            self._answer += data
        else:
            self.log.add(_STREAMS[childFD], data, self._clock.seconds())
            self._hold_back(len(data))

    def childConnectionLost(self, childFD: int) -> None:
        """Judge the launcher's answer once it is complete: running a command ends it."""
        if childFD != ANSWER or self.started.called:
            return
        if self._answer == STARTING:
            self.was_made = True
            self.started.callback(None)
        else:
            self.send(signal.SIGKILL)

    def processExited(self, reason: Failure) -> None:
        """Take the rest of the group along, and give its log a moment to end."""
        self._signal_group(signal.SIGKILL)
        self.exit_code = exit_code_of(reason)
        self.transport.closeChildFD(ORDER)
        self._drain = self._clock.callLater(DRAIN_SECONDS, self._close_log)

    def processEnded(self, reason: Failure) -> None:
        """Everything was read and is closed."""
        for call in (self._drain, self._pause):
            if call is not None and call.active():
                call.cancel()
        self._is_over = True
        self.log.end()
        self._over(self)
        if not self.started.called:
            self.started.errback(SpawnFailed(self._why_not()))
        while self._waiting:
            self._waiting.pop(0).callback(None)

    def _hold_back(self, size: int) -> None:
        self._read += size
        if self._read >= MOST_AT_ONCE and self._pause is None:
            self.transport.pauseProducing()
            self._pause = self._clock.callLater(PAUSE_SECONDS, self._read_on)

    def _read_on(self) -> None:
        self._read, self._pause = 0, None
        self.transport.resumeProducing()

    def _close_log(self) -> None:
        for fd in (LOG, ERRORS, ANSWER):
            self.transport.closeChildFD(fd)

    def _signal_group(self, number: int) -> bool:
        try:
            os.killpg(self._pid, number)
        except ProcessLookupError:
            return False
        return True

    def _why_not(self) -> str:
        if sentence := self._answer.removeprefix(STARTING).decode():
            return sentence
        last = "".join(f": {line.text}" for line in self.log.lines(1))
        return f"it ended with exit code {self.exit_code} before its command ran{last}"


def order_line(
    order: SpawnOrder, port: int, conditions: Conditions, directory: str | None
) -> bytes:
    """What its launcher is told of a session; it is run in `directory`, or in its workdir."""
    executable, user = order.executable, conditions.user
    word, *arguments = executable.command or ()
    return launch.order_line(
        [sys.executable if word == OWN_PYTHON else word, *arguments],
        environment_of(order, port, os.environ, user),
        executable.workdir,
        system_limits(executable.limits, conditions.open_files),
        directory,
        None if user is None else (user.number, user.group, user.groups),
    )
