"""What every engine promises: the one way in which sessions are made, ended and watched.

A session has its id from us before an engine hears of it, and every call names it by that id.
Nothing here says where a session runs: an engine may place it on this box or on another node
of a cluster, as long as it answers with an address that can be reached from here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import attrs
from twisted.internet.defer import Deferred
from zope.interface import Interface

from plane_tx.core.model import Address, Executable


@attrs.frozen
class SpawnOrder:
    """What an engine needs to make a session: its id, what to run, and with what environment.

    `labels` are kept with it and come back from `list_running`; `environment` wins over the
    executable's own.
    """

    session_id: str
    executable: Executable
    environment: Mapping[str, str]
    labels: Mapping[str, str]


@attrs.frozen
class Pulling:
    """The image is being fetched; bytes so far, and of how many when that is known."""

    image: str
    current: int = 0
    total: int = 0


@attrs.frozen
class Creating:
    """The image is there; the container or process is being made."""


Progress = Pulling | Creating


@attrs.frozen
class SessionExited:
    """A session's process or container ended; what is known of how."""

    session_id: str
    exit_code: int | None = None
    oom: bool = False
    log_tail: tuple[str, ...] = ()


@attrs.frozen
class EngineLost:
    """The engine stopped answering; exits may go unseen from now on."""

    why: str


@attrs.frozen
class EngineRegained:
    """The engine answers again: list what runs, for exits that nobody saw."""


EngineEvent = SessionExited | EngineLost | EngineRegained


@attrs.frozen
class Running:
    """A session found at the engine: its id, its labels, and whether it still runs."""

    session_id: str
    labels: Mapping[str, str]
    running: bool


@attrs.frozen
class EngineHealth:
    """Whether the engine answers, in a sentence, with its version when it told one."""

    ok: bool
    message: str
    version: str = ""


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
        """Raise `InvalidRequest` for an executable that this engine can never run."""

    def spawn(order: SpawnOrder, report: Callable[[Progress], None]) -> Deferred[Address]:
        """Make the session and start it; fires with its address as soon as it runs, which is
        before its server listens.

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

    def logs(session_id: str, tail: int) -> Deferred[tuple[str, ...]]:
        """The last `tail` lines of its stdout and stderr, oldest first; none when it is gone."""

    def events(listener: Callable[[EngineEvent], None]) -> Callable[[], None]:
        """Tell `listener` of every event from now on; call the result to end that.

        `SessionExited` comes once for each session made or adopted, after its last log lines
        were read and before its remains are removed.
        """

    def list_running() -> Deferred[list[Running]]:
        """Every session of this server's instance that the engine holds, ended ones included.
        Fails with `EngineUnavailable`.
        """

    def adopt(session_id: str, executable: Executable) -> Deferred[Address]:
        """Take up a session that an earlier run of this server made; fires with its address.
        Fails with `SpawnFailed` when it does not run.
        """

    def remove(session_id: str) -> Deferred[None]:
        """Remove by force whatever is left of a session, telling nobody; fires once it is gone."""

    def health() -> Deferred[EngineHealth]:
        """Ask the engine whether it answers; never fails."""
