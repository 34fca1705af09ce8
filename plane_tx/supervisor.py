"""What the faces ask for: connect, reach, use and end sessions; one per key."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred, ensureDeferred, succeed
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.logger import Logger
from twisted.python.failure import Failure

from plane_tx.admission import Admission, Policy
from plane_tx.boots import PullWatcher
from plane_tx.chronicle import Chronicle
from plane_tx.conduct import Conductor, Watcher
from plane_tx.core import errors
from plane_tx.core.connect import AwaitRelease, Join, Spawn, decide
from plane_tx.core.explain import why_ended, why_not_ready
from plane_tx.core.idle import next_deadlines
from plane_tx.core.lifecycle import HardTerminate, SoftTerminate
from plane_tx.core.measures import Measures
from plane_tx.core.model import (
    ENDING,
    Address,
    LogLine,
    Ready,
    Reason,
    Session,
    Status,
    StatusEntry,
)
from plane_tx.core.registry import Registry
from plane_tx.core.use import NOBODY, Use, UseKind, Visit
from plane_tx.core.wire import ConnectRequest, ConnectResponse, LinkRequest
from plane_tx.engines.interface import (
    EngineEvent,
    EngineHealth,
    EngineRegained,
    EngineStats,
    IEngine,
    Tell,
)
from plane_tx.journal import Journal
from plane_tx.leases import Leases
from plane_tx.reactor import INetworkReactor
from plane_tx.recovery import Recovery
from plane_tx.tokens import FencingTokens

#: How long a connect waits for a key beyond the grace of the session that holds it.
RELEASE_MARGIN_SECONDS = 5.0

#: How long a stopping server waits for what it was making.
CLOSE_SECONDS = 5.0

#: How long a refused connection waits for the news that its session has ended.
CONFIRM_SECONDS = 1.0


def _heed_not(_response: ConnectResponse) -> None:
    """What is done with an answer that nobody wants to hear of first."""


class Supervisor:
    """The one door to sessions for the faces, which know nothing of engines."""

    _log = Logger()

    def __init__(
        self, reactor: INetworkReactor, engine: IEngine, policy: Policy, journal: Journal
    ) -> None:
        """Have `journal` know what the next run needs; it is to be open when this starts."""
        self.registry = Registry()
        self.policy = policy
        self.measures = Measures()
        self.draining = False
        #: The one clock: seconds since epoch.
        self.now: Callable[[], float] = reactor.seconds
        self._reactor = reactor
        self._engine = engine
        self._journal = journal
        self._fencing = FencingTokens(reactor.seconds)
        self._leases = Leases(reactor, self.registry.begin_use, self.end_use)
        self.chronicle = Chronicle(reactor, journal, self.registry, self._leases.of)
        self._conductor = Conductor(
            reactor, engine, self.registry, policy.limits.max_starting, self.chronicle
        )
        self._admission = Admission(
            policy, self.registry, self._fencing, self.chronicle, engine.check
        )
        self.recovery = Recovery(
            reactor, engine, self.registry, self._conductor, self._fencing, self.chronicle
        )
        self._unlisten: Callable[[], None] = lambda: None
        self.watch(self._moved)
        self.watch(self.chronicle.moved)

    def __repr__(self) -> str:
        return f"<Supervisor {self.registry!r} {self._conductor!r} [Leases: {len(self._leases)}]>"

    @property
    def recovered(self) -> bool:
        """Whether the sessions of an earlier run have been taken up."""
        return self.recovery.done

    @property
    def engine_lost(self) -> str | None:
        """Why the engine does not answer; None while it does."""
        return self._conductor.engine_lost

    def start(self) -> None:
        """Begin to listen to the engine, and take up the sessions of an earlier run.

        Those that the journal knows are there at once; whoever comes to one waits for the engine.
        """
        self._fencing.rise_above(self._journal.last_number)
        self.recovery.remember(self.chronicle.take_past(), self._leases)
        self._unlisten = self._engine.events(self._heard)
        self._engine.start()
        self.recovery.begin()

    async def close(self) -> None:
        """Call off what boots, let go of the engine, and wait until both have settled."""
        self.recovery.close()
        # An engine that does not answer must not keep us: closing it ends its calls. What it made
        # all the same, the next run finds by its labels.
        calling_off = ensureDeferred(self._conductor.call_off_flights())
        calling_off.addTimeout(CLOSE_SECONDS, self._reactor)
        await calling_off.addErrback(lambda failure: failure.trap(DeferredTimeout) and None)
        await self._engine.close()
        await self._conductor.settle_endings()
        self._leases.close()
        self.chronicle.write_last()
        self._unlisten()

    def watch(self, watcher: Watcher) -> Callable[[], None]:
        """Tell `watcher` of every state that a session enters; call the result to end that."""
        return self._conductor.watch(watcher)

    def watch_pulls(self, watcher: PullWatcher) -> None:
        """Tell `watcher`, from now on for good, of every session whose pull has come further."""
        self._conductor.pulls.watch(watcher)

    def reap(self) -> int:
        """End the sessions that are due; how many. Tokens that nobody used for their time to live
        are forgotten too.
        """
        self.chronicle.expired(self.registry.grants.expire(self._reactor.seconds()))
        return self._conductor.reap()

    async def recorded(self) -> None:
        """Wait until a restart, however it comes, would not undo what was done until now.

        That is when the journal knows, or has failed, or takes too long.
        """
        await self.chronicle.settled()

    def when_recovered(self) -> Deferred[None]:
        """Wait until the sessions of an earlier run have been taken up, as long as a request is
        held. Fails with `EngineUnavailable`.
        """
        return self.recovery.wait(self.policy.hold_seconds)

    def health(self) -> Deferred[EngineHealth]:
        """Whether the engine answers; never fails."""
        return self._engine.health()

    def logs(
        self, session: Session, tail: int, since_ns: int | None
    ) -> Deferred[tuple[LogLine, ...]]:
        """What the session wrote, as `IEngine.logs` tells it."""
        return self._engine.logs(session.id, tail, since_ns)

    def follow_logs(
        self,
        session: Session,
        tail: int,
        since_ns: int | None,
        tell: Tell,
    ) -> Deferred[None]:
        """What the session writes, as `IEngine.follow_logs` tells it."""
        return self._engine.follow_logs(session.id, tail, since_ns, tell)

    def stats(self, session: Session) -> Deferred[EngineStats | None]:
        """What the session takes of the box, as `IEngine.stats` tells it."""
        return self._engine.stats(session.id)

    def why_not_answering(self, session: Session) -> Deferred[str | None]:
        """What keeps a session `waiting`, and what to do, as `Diagnosis.why` tells it."""
        return self._conductor.diagnosis.why(session)

    def get(self, session_id: str) -> Session:
        """The session of this id. Raises `NotFound`."""
        session = self.registry.get(session_id)
        if session is None:
            raise errors.NotFound(f"there is no backend {session_id[:64]!r}")
        return session

    def deadlines(self, session: Session) -> dict[str, float]:
        """When each of its running clocks will end this session (seconds since epoch)."""
        return {deadline.cause.value: deadline.at for deadline in next_deadlines(session)}

    async def connect(
        self, request: ConnectRequest, decided: Callable[[ConnectResponse], None] = _heed_not
    ) -> ConnectResponse:
        """Join the session that holds the key, or have one made (plane.md 2.5).

        Waits while the key's last session is on its way out. Raises what `decide`,
        `check_capacity` and `complete` raise, `EngineUnavailable` and `Draining`. `decided` hears
        what will be answered before that is known to the journal: what it records there is known
        together with it, or not at all.
        """
        try:
            response = await self._connect(request, decided)
        except errors.PlaneError as error:
            self.measures.refusals[error.kind] += 1
            raise
        await self.recorded()
        return response

    async def _connect(
        self, request: ConnectRequest, decided: Callable[[ConnectResponse], None]
    ) -> ConnectResponse:
        if not self.recovered:
            self._check_engine()
            await self.recovery.wait()
        while True:
            decision = decide(request, self.registry)
            match decision:
                case Join(session):
                    now = self._reactor.seconds()
                    with self.chronicle.together():
                        response = self._admission.answer(session, request, now, spawned=False)
                        decided(response)
                    self.measures.joins += 1
                    return response
                case Spawn():
                    return self._reserve(request, decided)
                case AwaitRelease(session):
                    await self._wait_for_release(session)

    async def link(self, session_id: str, request: LinkRequest) -> str:
        """A new link to a session, as `request` asks for it; the journal knows it.

        Raises `NotFound`, and what `Admission.link` raises.
        """
        url = self._admission.link(self.get(session_id), request, self._reactor.seconds())
        await self.recorded()
        return url

    def soft_terminate(self, session_id: str, by: str = "") -> None:
        """Ask a session to end; one that is ending or gone stays as it is."""
        self._conductor.apply(self.get(session_id), SoftTerminate(Reason.EXTERNAL, by=by))

    def hard_terminate(self, session_id: str, by: str = "") -> None:
        """End a session by force; one that is gone stays as it is."""
        self._conductor.apply(self.get(session_id), HardTerminate(Reason.EXTERNAL, by=by))

    def keep_alive(self, session_id: str, seconds: float, reason: str) -> float | None:
        """Keep a session in use without a connection; `Leases.take` says what comes of it.

        Raises `NotFound`, `SessionEnded` for one that is ending or gone, and `InvalidRequest`.
        """
        session = self.get(session_id)
        if session.status in ENDING:
            raise errors.SessionEnded(why_ended(session))
        until = self._leases.take(session, seconds, reason)
        self.chronicle.leased(session, reason, until)
        return until

    def revoke(self, session_id: str, user: str) -> int:
        """Take back every token of a session that `user` was given; how many there were.

        What is open with one of them is cut at once.
        """
        values = self.registry.grants.revoke(session_id, user)
        self.chronicle.revoked(session_id, values)
        session = self.registry.get(session_id)
        for use in tuple(session.uses) if session is not None and values else ():
            if use.visit.token in values and use.cut is not None:
                # One that fails must not leave the others open.
                with self._log.failuresHandled("a use could not be cut"):
                    use.cut()
        return len(values)

    def drain(self, wanted: bool) -> bool:
        """Refuse new sessions from now on, or no longer; whether that is a change."""
        changed, self.draining = self.draining is not wanted, wanted
        return changed

    def address_of(self, session: Session) -> Address | None:
        """Where a ready session listens; None while it boots, or is of an earlier run and has
        not been taken up. Raises `SessionEnded`.
        """
        state = session.state
        if isinstance(state, Ready) and not session.unconfirmed:
            return state.address
        if session.status in ENDING:
            raise errors.SessionEnded(why_ended(session))
        return None

    def hold(self, session: Session) -> Deferred[Address]:
        """Wait until the session is ready.

        Fails with `SessionNotReady` when the hold runs out, with `SessionEnded` when the session
        ends first. Cancelling leaves only this waiter out.
        """
        seconds = self.policy.hold_seconds
        return self._conductor.holds.wait(session.id, seconds, lambda: _not_ready(session))

    def ended_soon(self, session: Session, seconds: float = CONFIRM_SECONDS) -> Deferred[bool]:
        """Whether word comes within a second, or `seconds`, that this session has ended."""
        if session.status is Status.TERMINATED:
            return succeed(True)
        waiting = self._conductor.releases.wait(session.id, seconds, TimeoutError)
        return waiting.addCallbacks(lambda _: True, _not_in_time)

    def begin_use(
        self,
        session: Session,
        kind: UseKind,
        visit: Visit = NOBODY,
        cut: Callable[[], None] | None = None,
        *,
        passive: bool = False,
    ) -> Use:
        """Begin a use of the session: it is in use until `end_use` of what this returns.

        A `passive` use does not keep it in use: only each `touch` of it counts.
        """
        use = Use(kind, self._reactor.seconds(), visit, cut=cut, passive=passive)
        self.registry.begin_use(session, use)
        return use

    def touch(self, session: Session, use: Use) -> None:
        """Something passed over a passive use: the idle clock, if it runs, begins anew."""
        self.registry.touch(session, use, self._reactor.seconds())

    def end_use(self, session: Session, use: Use) -> None:
        """End one use; the idle clock starts when none holds any more. A second call is nothing."""
        now = self._reactor.seconds()
        if self.registry.end_use(session, use, now):
            self._conductor.idle_began(session, now)

    def _reserve(
        self, request: ConnectRequest, decided: Callable[[ConnectResponse], None]
    ) -> ConnectResponse:
        # Nothing here may wait: the key, the id and the place under the caps are taken in one go.
        if self.draining:
            raise errors.Draining("this server takes no new sessions: it is being drained")
        self._check_engine()
        session, response = self._admission.reserve(
            request, self._reactor.seconds(), self._conductor.soonest_deadline, decided
        )
        self._conductor.reschedule(session)
        self._conductor.launch(session, self._admission.order(session))
        return response

    def _check_engine(self) -> None:
        if self._conductor.engine_lost is not None:
            raise errors.EngineUnavailable(self._conductor.engine_lost)

    def _wait_for_release(self, session: Session) -> Deferred[None]:
        def too_late() -> Exception:
            return errors.FailedToAcquireKey(
                f"the session {session.id} that holds the key does not end: try again"
            )

        seconds = session.spec.limits.stop_grace_seconds + RELEASE_MARGIN_SECONDS
        return self._conductor.releases.wait(session.id, seconds, too_late)

    def _heard(self, event: EngineEvent) -> None:
        self._conductor.heard(event)
        if isinstance(event, EngineRegained):
            self.recovery.begin()

    def _moved(self, session: Session, entry: StatusEntry) -> None:
        self.measures.session_moved(session, entry)
        if entry.state.status in ENDING:
            self._leases.session_ended(session)


def _not_in_time(failure: Failure) -> bool:
    failure.trap(TimeoutError)
    return False


def _not_ready(session: Session) -> errors.SessionNotReady:
    return errors.SessionNotReady(f"{why_not_ready(session)}: try again in a moment")
