"""Sessions as processes on this box, which end with the server.

Each is the head of its own process group, made by launch.py; the group is what is signalled. A
descendant that leaves the group (setsid, a job-control shell) is out of our reach.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress

from twisted.internet.defer import Deferred, fail, gatherResults, succeed
from twisted.internet.error import ProcessExitedAlready, ProcessTerminated
from twisted.internet.interfaces import (
    IDelayedCall,
    IProcessTransport,
    IReactorProcess,
    IReactorTime,
)
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from plane_tx.core.errors import InvalidRequest, SpawnFailed
from plane_tx.core.model import Address, Executable, ResourceLimits
from plane_tx.engines import launch
from plane_tx.engines.interface import (
    Creating,
    EngineEvent,
    EngineHealth,
    IEngine,
    Progress,
    Running,
    SessionExited,
    SpawnOrder,
)
from plane_tx.engines.launch import ANSWER, ERRORS, LOG, ORDER, STARTING
from plane_tx.engines.listeners import Listeners
from plane_tx.engines.ring import Ring

LOOPBACK = "127.0.0.1"
LOG_TAIL = 50
CLOSE_GRACE_SECONDS = 2.0

# How long a log may stay open once its session has ended: only a process that left the group
# holds it then, and it may do so for ever.
DRAIN_SECONDS = 0.5

# The first word of a command that means the interpreter this server runs on.
OWN_PYTHON = "{python}"

# All that a session sees of the server's environment, which may hold secrets.
_INHERITED = ("PATH", "HOME", "LANG", "TZ", "TMPDIR")

_CONTAINERS_ONLY = ("entrypoint", "user", "network_name", "credentials")
# pids_limit is among them because RLIMIT_NPROC is no stand-in: it counts everything the server's
# user runs, other sessions included, and does not bind root.
_NO_LIMITS = ("cpus", "cpu_period", "cpu_period_percent", "disk_limit_bytes", "pids_limit")


class Ports:
    """The ports of a range, each given to one session at a time, in turn.

    Let the range be outside the kernel's own (/proc/sys/net/ipv4/ip_local_port_range), or an
    outgoing connection may take a port before its session listens.
    """

    def __init__(self, first: int, last: int) -> None:
        self._range = range(first, last + 1)
        self._next = 0
        self._taken: set[int] = set()

    def take(self) -> int:
        """A port that nobody listens on; `SpawnFailed` when there is none."""
        for _ in self._range:
            port = self._range[self._next]
            self._next = (self._next + 1) % len(self._range)
            if port not in self._taken and is_free(port):
                self._taken.add(port)
                return port
        raise SpawnFailed(
            f"every port from {self._range[0]} to {self._range[-1]} is taken; end a session, or"
            " widen engine.process_first_port to engine.process_last_port"
        )

    def release(self, port: int) -> None:
        """Let another session have it."""
        self._taken.remove(port)


def is_free(port: int) -> bool:
    """Whether a server could listen on `port` of the loopback interface now."""
    with socket.socket() as probe:
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def environment_of(order: SpawnOrder, port: int, base: Mapping[str, str]) -> dict[str, str]:
    """All of a session's environment, `base` being the server's."""
    inherited = {
        name: value for name, value in base.items() if name in _INHERITED or name.startswith("LC_")
    }
    return {**inherited, **order.executable.env, **order.environment, "PORT": str(port)}


def system_limits(limits: ResourceLimits) -> dict[str, tuple[int, int]]:
    """The soft and hard value of each limit to set, by its name in the module `resource`."""
    wanted = {"RLIMIT_CORE": (0, 0)}
    if limits.cpu_time_limit:
        # The soft limit's SIGXCPU says why it ended, the hard one's SIGKILL would not.
        wanted["RLIMIT_CPU"] = (limits.cpu_time_limit, limits.cpu_time_limit + 1)
    if limits.memory_limit_bytes:
        wanted["RLIMIT_AS"] = (limits.memory_limit_bytes, limits.memory_limit_bytes)
    return wanted


def complaints(executable: Executable, allow_request_commands: bool) -> Iterator[str]:
    """All that no process can be given, each as the field's name and a sentence."""
    if executable.image:
        yield "image: the process engine runs commands: name an app, or give a command"
    if not executable.command:
        yield "command: the process engine needs one: name an app that has a command"
    elif executable.app is None and not allow_request_commands:
        yield (
            "command: this server runs only the commands of its own apps: name an app, or have"
            " engine.allow_request_commands set to true"
        )
    for name in _CONTAINERS_ONLY:
        if getattr(executable, name):
            yield f"{name}: only an engine of containers has this; leave it out"
    for name in _NO_LIMITS:
        if getattr(executable.limits, name):
            yield f"resource_limits.{name}: only an engine of containers can limit this"


def exit_code_of(reason: Failure) -> int:
    """As a shell says it: 128 and the signal's number for one that was killed."""
    end = reason.value
    if not isinstance(end, ProcessTerminated):
        return 0
    code: int = 128 + end.signal if end.exitCode is None else end.exitCode
    return code


class Child(ProcessProtocol):
    """One session's process group, from its launcher's start to the last byte of its log.

    `over` is called once nothing of it is left, before anybody who waits for that hears of it.
    """

    transport: IProcessTransport

    def __init__(
        self, order: SpawnOrder, port: int, clock: IReactorTime, over: Callable[[Child], None]
    ) -> None:
        self.order = order
        self.port = port
        self.ring = Ring()
        #: Fires when the command runs; fails, with nothing left, when it could not.
        self.started: Deferred[None] = Deferred(lambda _: self.send(signal.SIGKILL))
        self.was_made = False
        self.was_removed = False
        self.exit_code: int | None = None
        self._order_line = order_line(order, port)
        self._clock, self._over = clock, over
        self._pid = 0
        self._answer = b""
        self._drain: IDelayedCall | None = None
        self._was_asked_to_end = False
        self._is_over = False
        self._waiting: list[Deferred[None]] = []

    @property
    def is_running(self) -> bool:
        """Whether its command was started and has not ended."""
        return self.was_made and self.exit_code is None

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
            self.ring.add(data)

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
        if self._drain is not None and self._drain.active():
            self._drain.cancel()
        self._is_over = True
        self._over(self)
        if not self.started.called:
            self.started.errback(SpawnFailed(self._why_not()))
        while self._waiting:
            self._waiting.pop(0).callback(None)

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
        last = "".join(f": {line}" for line in self.ring.lines(1))
        return f"it ended with exit code {self.exit_code} before its command ran{last}"


def order_line(order: SpawnOrder, port: int) -> bytes:
    """What its launcher is told of a session."""
    executable = order.executable
    word, *arguments = executable.command or ()
    return launch.order_line(
        [sys.executable if word == OWN_PYTHON else word, *arguments],
        environment_of(order, port, os.environ),
        executable.workdir,
        system_limits(executable.limits),
    )


@implementer(IEngine)
class ProcessEngine:
    """Runs sessions as processes that the server's own user may run, on ports of `port_range`.

    `allow_request_commands` lets a request bring its own command, which is to let everybody who
    may spawn run anything on this box. `reactor` must handle SIGCHLD, as a running one does.
    """

    def __init__(
        self,
        reactor: IReactorProcess,
        port_range: tuple[int, int],
        allow_request_commands: bool,
        clock: IReactorTime,
    ) -> None:
        self._reactor = reactor
        self._clock = clock
        self._ports = Ports(*port_range)
        self._allow_request_commands = allow_request_commands
        self._children: dict[str, Child] = {}
        self._listeners = Listeners()
        self._is_closed = False

    def start(self) -> None:
        """Do nothing: a process is watched from its start."""

    def close(self) -> Deferred[None]:
        """End every session, by force after `CLOSE_GRACE_SECONDS`; fires when all are gone."""
        self._is_closed = True
        ended = self._end_all(Child.terminate)
        ended.addTimeout(CLOSE_GRACE_SECONDS, self._clock)
        return ended.addErrback(lambda _: self._end_all(Child.kill))

    def check(self, executable: Executable) -> None:
        """See `IEngine`; the first thing that is wrong is named by its path in the request."""
        for complaint in complaints(executable, self._allow_request_commands):
            raise InvalidRequest(f"spawn_config.executable.{complaint}")

    def spawn(self, order: SpawnOrder, report: Callable[[Progress], None]) -> Deferred[Address]:
        """See `IEngine`."""
        report(Creating())
        try:
            child = self._make(order)
        except SpawnFailed:
            return fail()

        def nothing_left(failure: Failure) -> Deferred[Address]:
            return child.when_over().addCallback(lambda _: failure)

        return child.started.addCallbacks(lambda _: Address(LOOPBACK, child.port), nothing_left)

    def stop(self, session_id: str, grace_seconds: float) -> Deferred[None]:
        """See `IEngine`."""
        return self._end(session_id, Child.terminate)

    def kill(self, session_id: str) -> Deferred[None]:
        """See `IEngine`."""
        return self._end(session_id, Child.kill)

    def logs(self, session_id: str, tail: int) -> Deferred[tuple[str, ...]]:
        """See `IEngine`; the log of a session goes with its `SessionExited`."""
        child = self._children.get(session_id)
        return succeed(() if child is None else child.ring.lines(tail))

    def events(self, listener: Callable[[EngineEvent], None]) -> Callable[[], None]:
        """See `IEngine`."""
        return self._listeners.add(listener)

    def list_running(self) -> Deferred[list[Running]]:
        """See `IEngine`; none has outlived the server that made it."""
        live = [child for child in self._children.values() if child.is_running]
        return succeed([Running(it.order.session_id, it.order.labels, True) for it in live])

    def adopt(self, session_id: str, executable: Executable) -> Deferred[Address]:
        """Fail: none has outlived the server that made it."""
        return fail(SpawnFailed("a session of the process engine ends with the server it ran on"))

    def remove(self, session_id: str) -> Deferred[None]:
        """See `IEngine`."""
        if (child := self._children.get(session_id)) is not None:
            child.was_removed = True
        return self.kill(session_id)

    def health(self) -> Deferred[EngineHealth]:
        """See `IEngine`."""
        return succeed(EngineHealth(ok=True, message="the process engine runs sessions here"))

    def _end(self, session_id: str, end: Callable[[Child], Deferred[None]]) -> Deferred[None]:
        child = self._children.get(session_id)
        return succeed(None) if child is None else end(child)

    def _end_all(self, end: Callable[[Child], Deferred[None]]) -> Deferred[None]:
        ends = [end(child) for child in tuple(self._children.values())]
        return gatherResults(ends, consumeErrors=True).addCallback(lambda _: None)

    def _make(self, order: SpawnOrder) -> Child:
        if self._is_closed:
            raise SpawnFailed("the server is shutting down")
        if order.session_id in self._children:
            raise SpawnFailed(f"there is a session {order.session_id} already")
        child = Child(order, self._ports.take(), self._clock, self._forget)
        self._children[order.session_id] = child
        try:
            self._reactor.spawnProcess(child, *launch.PROGRAM, env={}, childFDs=launch.PIPES)
        except OSError as error:
            self._forget(child)
            raise SpawnFailed(f"this box cannot start a process: {error.strerror}") from None
        return child

    def _forget(self, child: Child) -> None:
        session_id = child.order.session_id
        del self._children[session_id]
        self._ports.release(child.port)
        if child.was_made and not child.was_removed:
            log_tail = child.ring.lines(LOG_TAIL)
            self._listeners.tell(SessionExited(session_id, child.exit_code, log_tail=log_tail))
