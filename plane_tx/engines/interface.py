"""What every engine promises: the one way in which sessions are made, ended and watched.

A session has its id from us before an engine hears of it, and every call names it by that id.
Nothing here says where a session runs: an engine may place it on this box or on another node
of a cluster, as long as it answers with an address that can be reached from here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from zope.interface import Interface

from plane_tx.core.listeners import Listener
from plane_tx.core.model import Address, Executable, Key, LogLine
from plane_tx.core.pulls import Pulling


@attrs.frozen
class SpawnOrder:
    """What an engine needs to make a session: its id, what to run, and with what environment.

    `labels` are kept with it and come back from `list_running`; `environment` wins over the
    executable's own; the `key` is what a mount belongs to.
    """

    session_id: str
    executable: Executable
    environment: Mapping[str, str]
    labels: Mapping[str, str]
    key: Key


@attrs.frozen
class Creating:
    """The image is there; the container or process is being made."""


@attrs.frozen
class Created:
    """The container or process was made, and is about to be started."""


#: Told in this order: the first never or often, but not twice in half a second; the others once.
Progress = Pulling | Creating | Created

#: What hears of the steps of a spawn. A Deferred that it returns for `Creating` is waited for
#: before anything is made; it never fails but by being cancelled.
Report = Callable[[Progress], Deferred[None] | None]


@attrs.frozen
class SessionExited:
    """A session's process or container ended; what is known of how, and the end of its log."""

    session_id: str
    exit_code: int | None = None
    oom: bool = False
    log_tail: tuple[LogLine, ...] = ()


@attrs.frozen
class Remains:
    """What an engine has of a session that tells what happened to it: its account, and its log.

    The `account` is in the engine's own words, fit for JSON and to be shown: the values of its
    environment are left out of it, and what we keep in its labels. The log is the end of it.
    """

    account: dict[str, Any]
    log: tuple[LogLine, ...] = ()


@attrs.frozen
class LeftBehind:
    """A session that has ended, or could not start, is about to be cleared away; what is left."""

    session_id: str
    remains: Remains


@attrs.frozen
class Unreachable:
    """A session is not, or no longer, to be found at its address: another may be there by now.

    Told at once, and followed by `SessionExited`, or by `Reachable` where it runs after all.
    """

    session_id: str


@attrs.frozen
class Reachable:
    """A session that was unreachable is found at this address."""

    session_id: str
    address: Address


@attrs.frozen
class EngineLost:
    """The engine stopped answering; exits may go unseen from now on."""

    why: str


@attrs.frozen
class EngineRegained:
    """The engine answers again: list what runs, for exits that nobody saw."""


EngineEvent = SessionExited | LeftBehind | Unreachable | Reachable | EngineLost | EngineRegained


@attrs.frozen
class Running:
    """A session found at the engine: its id, its labels, and whether it still runs.

    A `fresh` one was made, and has never been started.
    """

    session_id: str
    labels: Mapping[str, str]
    running: bool
    fresh: bool = False


@attrs.frozen
class EngineStats:
    """What a session takes of the box at one moment; None is what this engine cannot tell.

    `cpu_seconds` and the bytes received and sent count from its start; `memory_bytes` is without
    file pages that could be dropped, where that is known; `memory_limit_bytes` is the limit on
    just that; `pids` counts threads as well.
    """

    cpu_seconds: float | None
    memory_bytes: int | None
    memory_limit_bytes: int | None
    pids: int | None
    received_bytes: int | None
    sent_bytes: int | None


@attrs.frozen
class EngineHealth:
    """Whether the engine answers, in a sentence, with its version when it told one."""

    ok: bool
    message: str
    version: str = ""


#: What is told a line of a log. A Deferred says that it can take no more until that fires. It has
#: not fired yet when it is returned, and never needs to once nobody follows any more.
Tell = Callable[[LogLine], Deferred[None] | None]


class IEngine(Interface):
    """Something that runs sessions. All waiting is by Deferred; nothing blocks."""

    def start() -> None:
        """Begin to watch; events go to the listeners from now on. Never fails: an engine that
        does not answer is an `EngineLost`, told again as `EngineRegained` when it does.
        """

    def close() -> Deferred[None]:
        """Stop watching and let go of every connection; sessions that can outlive us go on,
        those that cannot are ended before the Deferred fires.
        """

    def check(executable: Executable) -> None:
        """Raise `InvalidRequest`, naming the field, for an executable that this engine can never
        run as it is: what it cannot give is refused, and never left out in silence.
        """

    def spawn(order: SpawnOrder, report: Report) -> Deferred[Address]:
        """Make the session and start it; fires with its address as soon as it runs, which is
        before its server listens. `report` hears of each step as it begins.

        Fails with `SpawnFailed` (or `ImageUnavailable`) when it cannot be made, with
        `EndedAtOnce` when it was gone before its address was known, and
        `EngineUnavailable` when the engine does not answer; in either case, and when the
        Deferred is cancelled, nothing of the session is left once it has fired, or will be as
        soon as an engine that does not answer can be asked.
        """

    def stop(session_id: str, grace_seconds: float) -> Deferred[None]:
        """Ask the session to end (SIGTERM or its own stop signal); fires once it has ended,
        its `SessionExited` told before. One that is gone, or never was, is ended already.
        Fails with `EngineUnavailable`. Whoever asks sees to what outlives the grace.
        """

    def kill(session_id: str) -> Deferred[None]:
        """End the session by force; otherwise as `stop`."""

    def logs(
        session_id: str, tail: int, since_ns: int | None = None
    ) -> Deferred[tuple[LogLine, ...]]:
        """The last `tail` lines of its stdout and stderr, oldest first; none when it is gone.

        With `since_ns` (nanoseconds since epoch) only those that came then or later. A long line
        is cut, bytes that are not UTF-8 are replaced, and of very much output fewer lines come.
        The order is kept within each stream, between the two only roughly. Fails with
        `EngineUnavailable`.
        """

    def follow_logs(session_id: str, tail: int, since_ns: int | None, tell: Tell) -> Deferred[None]:
        """Tell the lines that `logs` would give, then each new one when it is complete.

        Fires once the log has ended, which is at once for a session that is gone or not made
        yet. `tell` is called for a line as soon as it is read, perhaps before this returns, but
        only for so many in one turn of the reactor. While a Deferred that it returned has not
        fired, no more is read for it; a few lines that were read already may still come. The
        session is never held up by that: an engine that keeps only so much leaves out lines, and
        tells one that says how many. What `tell` raises ends the following, and is what this
        fails with; else it fails with `EngineUnavailable`. Cancelling hangs up, from within
        `tell` as well, and no line is told after that.
        """

    def stats(session_id: str) -> Deferred[EngineStats | None]:
        """What the session takes of the box now; None when it does not run. Fails with
        `EngineUnavailable`.
        """

    def listening(session_id: str) -> Deferred[tuple[Listener, ...] | None]:
        """Where the session takes TCP connections now, by port: a container by its own ports.

        None where that cannot be told: of one that does not run, or whose processes are not to be
        seen from here. What listens beside the session is never told. Fails with
        `EngineUnavailable`.
        """

    def remains(session_id: str) -> Deferred[Remains | None]:
        """What there is of the session now, running or ended; None when it is gone.

        Of its log that is `REMAINS_LINES` at most. Fails with `EngineUnavailable`.
        """

    def events(listener: Callable[[EngineEvent], None]) -> Callable[[], None]:
        """Tell `listener` of every event from now on; call the result to end that.

        `SessionExited` comes once for each session made or adopted, after its last log lines
        were read and before its remains are removed. `LeftBehind` comes between these two, where
        there is anything to tell; for a session that was made and could not start it comes before
        its spawn fails.
        """

    def list_running() -> Deferred[list[Running]]:
        """Every session of this server's instance that the engine holds, ended ones included.
        Fails with `EngineUnavailable`.
        """

    def adopt(session_id: str, executable: Executable, start: bool) -> Deferred[Address]:
        """Take up a session that an earlier run of this server made; fires with its address.
        With `start`, one that is fresh is started. Fails with `SpawnFailed` when it does not run.
        """

    def conclude(session_id: str) -> Deferred[None]:
        """Fires once the end of a session that has ended, in an earlier run or unseen in this one,
        was told and nothing is left of it. One that runs after all is left alone. Fails with
        `EngineUnavailable`.
        """

    def remove(session_id: str) -> Deferred[None]:
        """Remove by force whatever is left of a session, telling nobody; fires once it is gone."""

    def health() -> Deferred[EngineHealth]:
        """Ask the engine whether it answers; never fails."""
