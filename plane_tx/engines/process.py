"""Sessions as processes on this box, which end with the server.

Each is the head of its own process group, made by launch.py; the group is what is signalled. A
descendant that leaves the group (setsid, a job-control shell) is out of our reach.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import attrs
from twisted.internet.defer import Deferred, fail, gatherResults, succeed
from twisted.internet.interfaces import (
    IReactorProcess,
    IReactorTime,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from plane_tx.core.autopsy import hide_values
from plane_tx.core.errors import InvalidRequest, SpawnFailed
from plane_tx.core.hardening import Egress
from plane_tx.core.listeners import Listener
from plane_tx.core.model import Address, Executable, LogLine, PullPolicy, ResourceLimits
from plane_tx.engines import launch
from plane_tx.engines.child import Child, Conditions, order_line
from plane_tx.engines.interface import (
    Created,
    Creating,
    EngineEvent,
    EngineHealth,
    EngineStats,
    IEngine,
    LeftBehind,
    Remains,
    Report,
    Running,
    SessionExited,
    SpawnOrder,
    Tell,
)
from plane_tx.engines.lines import REMAINS_LINES, TAIL_LINES, told_with_end
from plane_tx.engines.listeners import Listeners
from plane_tx.engines.ports import LOOPBACK, Ports
from plane_tx.engines.proc import group_stats
from plane_tx.engines.scratch import Scratch
from plane_tx.engines.sockets import SocketTables
from plane_tx.engines.threads import IThreadingReactor, threads_of

#: How long sessions have to end by themselves when the server stops.
CLOSE_GRACE_SECONDS = 2.0

_CONTAINERS_ONLY = (
    "entrypoint", "user", "network_name", "credentials", "read_only", "tmpfs", "volumes",
    "cap_add", "runtime", "gpus", "mount",
)  # fmt: skip
# pids_limit is among them because RLIMIT_NPROC is no stand-in: it counts everything the server's
# user runs, other sessions included, and does not bind root.
_NO_LIMITS = ("cpus", "cpu_period", "cpu_period_percent", "disk_limit_bytes", "pids_limit")


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
    if executable.egress is Egress.NONE:
        yield 'egress: only an engine of containers can give "none"; leave it out'
    if executable.port != Executable.DEFAULT_PORT:
        yield "port: the process engine gives each session a port of its own, as PORT"
    if executable.pull_policy is not PullPolicy.IF_NOT_PRESENT:
        yield "pull_policy: only an engine of containers pulls; leave it out"
    yield from _limits_it_lacks(executable.limits)


def _limits_it_lacks(limits: ResourceLimits) -> Iterator[str]:
    for name in _NO_LIMITS:
        if getattr(limits, name):
            yield f"resource_limits.{name}: only an engine of containers can limit this"


class IProcessReactor(IReactorProcess, IThreadingReactor):
    """A reactor that has processes and threads; every Twisted reactor on POSIX is one."""


@implementer(IEngine)
class ProcessEngine:
    """Runs sessions as processes that the server's own user may run, on ports of `port_range`.

    `allow_request_commands` lets a request bring its own command, which is to let everybody who
    may spawn run anything on this box. `reactor` must handle SIGCHLD, as a running one does.
    Each session without a workdir is run in a directory of its own, which goes with it.
    """

    def __init__(
        self,
        reactor: IProcessReactor,
        port_range: tuple[int, int],
        allow_request_commands: bool,
        clock: IReactorTime,
        conditions: Conditions | None = None,
    ) -> None:
        self._reactor = reactor
        self._in_thread = threads_of(reactor)
        self._clock = clock
        self._conditions = conditions or Conditions()
        self._scratch = Scratch(self._in_thread)
        self._sockets = SocketTables(self._in_thread)
        self._ports = Ports(*port_range)
        self._allow_request_commands = allow_request_commands
        self._children: dict[str, Child] = {}
        self._listeners = Listeners()
        self._is_closed = False

    def start(self) -> None:
        """Clear away what servers left that were killed; a process is watched from its start."""
        self._scratch.sweep()

    def close(self) -> Deferred[None]:
        """End every session, by force after `CLOSE_GRACE_SECONDS`; fires when all are gone."""
        self._is_closed = True
        ended = self._end_all(Child.terminate)
        ended.addTimeout(CLOSE_GRACE_SECONDS, self._clock)
        ended.addErrback(lambda _: self._end_all(Child.kill))
        return ended.addCallback(lambda _: self._scratch.close())

    def check(self, executable: Executable) -> None:
        """See `IEngine`; the first thing that is wrong is named by its path in the request."""
        for complaint in complaints(executable, self._allow_request_commands):
            raise InvalidRequest(f"spawn_config.executable.{complaint}")

    def spawn(self, order: SpawnOrder, report: Report) -> Deferred[Address]:
        """See `IEngine`."""
        report(Creating())
        try:
            child = self._make(order)
        except SpawnFailed:
            return fail()
        report(Created())

        def nothing_left(failure: Failure) -> Deferred[Address]:
            return child.when_over().addCallback(lambda _: failure)

        return child.started.addCallbacks(lambda _: Address(LOOPBACK, child.port), nothing_left)

    def stop(self, session_id: str, grace_seconds: float) -> Deferred[None]:
        """See `IEngine`."""
        return self._end(session_id, Child.terminate)

    def kill(self, session_id: str) -> Deferred[None]:
        """See `IEngine`."""
        return self._end(session_id, Child.kill)

    def logs(
        self, session_id: str, tail: int, since_ns: int | None = None
    ) -> Deferred[tuple[LogLine, ...]]:
        """See `IEngine`; the log of a session goes with its `SessionExited`."""
        child = self._children.get(session_id)
        return succeed(() if child is None else child.log.lines(tail, since_ns))

    def follow_logs(
        self, session_id: str, tail: int, since_ns: int | None, tell: Tell
    ) -> Deferred[None]:
        """See `IEngine`."""
        child = self._children.get(session_id)
        return succeed(None) if child is None else child.log.follow(tail, since_ns, tell)

    def stats(self, session_id: str) -> Deferred[EngineStats | None]:
        """See `IEngine`; the sum over the session's process group."""
        child = self._children.get(session_id)
        if child is None or not child.is_running:
            return succeed(None)
        return self._in_thread(partial(group_stats, child.group))

    def listening(self, session_id: str) -> Deferred[tuple[Listener, ...] | None]:
        """See `IEngine`; those of the session's process group and of its descendants."""
        child = self._children.get(session_id)
        if child is None or not child.is_running:
            return succeed(None)
        return self._sockets.of_group(child.group)

    def remains(self, session_id: str) -> Deferred[Remains | None]:
        """See `IEngine`."""
        child = self._children.get(session_id)
        return succeed(None if child is None else _remains(child))

    def events(self, listener: Callable[[EngineEvent], None]) -> Callable[[], None]:
        """See `IEngine`."""
        return self._listeners.add(listener)

    def list_running(self) -> Deferred[list[Running]]:
        """See `IEngine`; none has outlived the server that made it."""
        # One that has ended is there until that is told.
        made = [child for child in self._children.values() if child.was_made]
        return succeed(
            [Running(it.order.session_id, it.order.labels, it.is_running) for it in made]
        )

    def adopt(self, session_id: str, executable: Executable, start: bool) -> Deferred[Address]:
        """Fail: none has outlived the server that made it."""
        return fail(SpawnFailed("a session of the process engine ends with the server it ran on"))

    def conclude(self, session_id: str) -> Deferred[None]:
        """Do nothing: the end of each process is seen."""
        return succeed(None)

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
        port = self._ports.take()
        try:
            own = None if order.executable.workdir else self._scratch.take(order.session_id)
        except OSError as error:
            self._ports.release(port)
            raise SpawnFailed(f"no directory can be made: {error.strerror}; see TMPDIR") from None
        line = order_line(order, port, self._conditions, own)
        child = Child(order, port, self._clock, self._forget, line)
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
        self._scratch.release(session_id)
        if child.was_made and not child.was_removed:
            log_tail = told_with_end(child.log.lines(TAIL_LINES))
            self._listeners.tell(SessionExited(session_id, child.exit_code, log_tail=log_tail))
        if child.exit_code is not None and not child.was_removed:
            self._listeners.tell(LeftBehind(session_id, _remains(child)))


def _remains(child: Child) -> Remains:
    executable = child.order.executable
    environment = sorted({*executable.env, *child.order.environment})
    account = {
        "engine": "process",
        "pid": child.group,
        "running": child.is_running,
        "exit_code": child.exit_code,
        "port": child.port,
        "command": list(executable.command or ()),
        "workdir": executable.workdir,
        "environment": hide_values(environment),
        "resource_limits": attrs.asdict(executable.limits),
    }
    return Remains(account, child.log.lines(REMAINS_LINES))
