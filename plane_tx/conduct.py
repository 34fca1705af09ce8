"""Events in, `advance`, effects out: sees every session through its life."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from twisted.internet.defer import (
    CancelledError,
    Deferred,
    DeferredList,
    DeferredSemaphore,
    ensureDeferred,
    succeed,
)
from twisted.logger import Logger

from plane_tx.boots import PullNews, Turn
from plane_tx.chronicle import Chronicle
from plane_tx.core.adoption import UNMADE
from plane_tx.core.errors import (
    EndedAtOnce,
    PlaneError,
    SessionEnded,
    SessionNotReady,
)
from plane_tx.core.explain import why_ended
from plane_tx.core.idle import Cause, DeadlineHeap, event_at, next_deadlines, soonest_if_idle
from plane_tx.core.lifecycle import (
    EFFECTS,
    Answered,
    Effect,
    Event,
    Exited,
    Launched,
    LoadingBegan,
    SpawnFailed,
    StartBegan,
    advance,
)
from plane_tx.core.model import (
    ENDING,
    Address,
    Failure,
    Ready,
    Session,
    Status,
    StatusEntry,
    Waiting,
)
from plane_tx.core.pulls import Pulling
from plane_tx.core.registry import Registry
from plane_tx.diagnosis import FRESH_SECONDS, Diagnosis
from plane_tx.endings import Endings
from plane_tx.engines.interface import (
    Created,
    Creating,
    EngineEvent,
    EngineLost,
    EngineRegained,
    IEngine,
    Progress,
    Reachable,
    SessionExited,
    SpawnOrder,
    Unreachable,
)
from plane_tx.probe import probe
from plane_tx.reactor import INetworkReactor
from plane_tx.waiters import Waiters

#: Stands for "no limit" where Twisted wants a number.
_UNLIMITED = 1_000_000

#: When an ending that failed is tried again.
ENDING_RETRY_SECONDS = 5.0

Watcher = Callable[[Session, StatusEntry], None]


class Conductor:
    """Moves sessions: the only caller of `advance`, and the doer of what a new state asks for.

    Each session has at most one flight (its spawn, then its probe) and one ending under way;
    both are cancelled or awaited here, so that nothing of a session outlives it.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: INetworkReactor,
        engine: IEngine,
        registry: Registry,
        max_starting: int,
        chronicle: Chronicle,
    ) -> None:
        self._reactor = reactor
        self._engine = engine
        self._registry = registry
        self._chronicle = chronicle
        self._deadlines = DeadlineHeap()
        self._starting = DeferredSemaphore(max_starting or _UNLIMITED)
        self._flights: dict[str, Deferred[None]] = {}
        self._abandoned: set[Deferred[None]] = set()
        self._endings = Endings(engine, self._abandon_flight, self._has_ended, self._end_later)
        self.diagnosis = Diagnosis(reactor, engine)
        self._watchers: list[Watcher] = [self.diagnosis.moved]
        self.holds: Waiters[Address] = Waiters(reactor)
        self.releases: Waiters[None] = Waiters(reactor)
        self.pulls = PullNews(registry)
        self.engine_lost: str | None = None
        self._do: dict[Effect, Callable[[Session], None]] = {
            Effect.PROBE: self._begin_probe,
            Effect.ADMIT_HOLDS: self._admit_holds,
            Effect.REFUSE_HOLDS: self._refuse_holds,
            Effect.STOP: self._endings.begin,
            Effect.KILL: self._endings.begin,
            Effect.RELEASE: self._release,
        }

    def __repr__(self) -> str:
        return (
            f"<Conductor [Flights: {len(self._flights)} | Endings: {len(self._endings)} | "
            f"Holds: {len(self.holds)} | Deadlines: {len(self._deadlines)}]>"
        )

    def watch(self, watcher: Watcher) -> Callable[[], None]:
        """Tell `watcher` of every state that a session enters; call the result to end that."""
        self._watchers.append(watcher)
        return lambda: self._watchers.remove(watcher)

    def apply(self, session: Session, event: Event) -> None:
        """Let `event` happen to `session`: record what comes of it and do what that asks for."""
        state = advance(session.state, event)
        if state is session.state:
            return
        self._registry.record(session, state, self._reactor.seconds())
        self._log.info("session {session}: {status}", session=session.id, status=state.status.value)
        self.reschedule(session)
        for watcher in tuple(self._watchers):
            with self._log.failuresHandled("a watcher failed"):
                watcher(session, session.history[-1])
        for effect in EFFECTS[state.status]:
            self._do[effect](session)

    def reschedule(self, session: Session) -> None:
        """See to it that the reaper looks at this session no later than its next deadline."""
        deadlines = next_deadlines(session)
        if deadlines:
            self._deadlines.put(session.id, deadlines[0].at)

    def idle_began(self, session: Session, now: float) -> None:
        """The same when only the idle clock began anew; mostly that costs nothing."""
        if not self._deadlines.covers(session.id, soonest_if_idle(session.spec.limits, now)):
            self.reschedule(session)

    def reap(self) -> int:
        """End what is due, and return how many sessions that were. Costs what is due."""
        ended, now = 0, self._reactor.seconds()
        for session_id in self._deadlines.take_due(now):
            session = self._registry.get(session_id)
            if session is None:
                continue
            # One that fails must not take the others' deadlines along, nor lose its own.
            failing = "session {session}: reaping failed"
            with self._log.failuresHandled(failing, session=session_id) as reaping:
                ended += self._reap_one(session, now)
            if reaping.failed:
                self._deadlines.put(session_id, now + ENDING_RETRY_SECONDS)
        return ended

    def _reap_one(self, session: Session, now: float) -> bool:
        if session.unconfirmed:
            return False  # `confirm` puts its deadline back
        self.end_again(session)
        deadline = next(iter(next_deadlines(session)), None)
        if deadline is None:
            return False
        if deadline.at > now:
            self._deadlines.put(session.id, deadline.at)
            return False
        if deadline.cause is Cause.STARTUP and not self.diagnosis.is_made(
            session, deadline.at - FRESH_SECONDS
        ):
            # Nobody could look after its end, so that waits a moment for it.
            self._deadlines.put(session.id, now)
            return False
        self._log.info(
            "session {session}: {cause} deadline", session=session.id, cause=deadline.cause
        )
        self.apply(session, event_at(deadline, session, self.diagnosis.found(session)))
        return True

    def soonest_deadline(self) -> float | None:
        """When a clock will end the next session (seconds since epoch); None if none will."""
        return self._deadlines.soonest(self._true_deadline)

    def _true_deadline(self, session_id: str) -> float | None:
        session = self._registry.get(session_id)
        if session is None:
            return None
        if session.status in ENDING:
            # What is queued may be the next try of its ending, of which no deadline knows.
            return 0.0
        deadline = next(iter(next_deadlines(session)), None)
        return None if deadline is None else deadline.at

    def launch(self, session: Session, order: SpawnOrder) -> None:
        """Have the engine make this session, when its turn to start comes."""
        self._fly(session, ensureDeferred(self._spawn(session, order)))

    def heard(self, event: EngineEvent) -> None:
        """Take in what the engine saw."""
        match event:
            case SessionExited():
                session = self._registry.get(event.session_id)
                if session is not None:
                    self.apply(session, Exited(event.exit_code, event.oom, event.log_tail))
            case Unreachable():
                session = self._registry.get(event.session_id)
                if session is not None:
                    self._lose_sight(session)
            case Reachable():
                session = self._registry.get(event.session_id)
                if session is not None and session.unconfirmed:
                    self.confirm(session, event.address)
            case EngineLost():
                self.engine_lost = event.why
                self._log.warn("the engine is lost: {why}", why=event.why)
            case EngineRegained():
                self.engine_lost = None
                self._log.info("the engine answers")

    def made(self) -> Iterator[str | None]:
        """Each session that the engine must hold now: made by this run, and not known as gone.

        None stands for each other one.
        """
        for session in self._registry:
            status = session.status
            gone = status in UNMADE or status is Status.TERMINATED
            is_held = not gone and self._flights.get(session.id) not in self._abandoned
            yield session.id if is_held else None

    def confirm(self, session: Session, address: Address) -> None:
        """The engine runs a session of an earlier run, at this address: it goes on from there."""
        self._registry.confirm(session, address, self._reactor.seconds())
        self.reschedule(session)
        if session.status in UNMADE:
            self.apply(session, Launched(address))
        elif session.status is Status.WAITING:
            self._begin_probe(session)
        elif session.status is Status.READY:
            self._admit_holds(session)
        else:
            self.end_again(session)

    def end_again(self, session: Session) -> None:
        """Go on with an ending that has failed, or that was interrupted."""
        if session.status in ENDING and session.status is not Status.TERMINATED:
            self._endings.begin(session)

    async def call_off_flights(self) -> None:
        """Cancel everything that boots, and turn away whoever waits for it."""
        self.diagnosis.close()
        # The youngest first: those that wait for their turn to start must not get it.
        landings = [self._abandon_flight(each) for each in reversed(tuple(self._flights))]
        await DeferredList(landings, consumeErrors=True)
        for session in self._registry:
            self.holds.refuse(session.id, lambda: SessionNotReady("the server is stopping"))

    async def settle_endings(self) -> None:
        """Wait for the endings under way."""
        await self._endings.settle()

    async def _spawn(self, session: Session, order: SpawnOrder) -> None:
        await self._starting.acquire()
        turn = Turn(self._starting)
        try:
            # Once a session knows its number, no later one may have it, not even after a crash;
            # and what the engine holds, the next run is to know.
            await self._chronicle.settled()
            event = await self._spawned(session, order, turn)
        finally:
            turn.give_up()
        # Out of the way first: what the event leads to must not cancel the flight it runs in.
        self._flights.pop(session.id, None)
        self.apply(session, event)

    async def _spawned(
        self, session: Session, order: SpawnOrder, turn: Turn
    ) -> Launched | Exited | SpawnFailed:
        self.apply(session, LoadingBegan())
        try:
            report = partial(self._progressed, session, turn)
            return Launched(await self._engine.spawn(order, report))
        except CancelledError:
            raise
        except EndedAtOnce as ended:
            return Exited(ended.exit_code, ended.oom, ended.log_tail)
        except PlaneError as error:
            return SpawnFailed(Failure(error.kind, str(error)))
        except Exception:  # noqa: BLE001  # whatever an engine raises, the session must end
            self._log.failure("session {session}: the spawn failed", session=session.id)
            return SpawnFailed(
                Failure("internal", "the server failed to make this session: its log says why")
            )

    def _progressed(
        self, session: Session, turn: Turn, progress: Progress
    ) -> Deferred[None] | None:
        match progress:
            case Pulling():
                # A pull waits for a registry, not for this box: others may start meanwhile.
                turn.give_up()
                self.pulls.tell(session, progress)
            case Creating():
                # Many may have waited for one pull: they take their turns after it like any other.
                waiting = turn.take_back()
                if waiting is not None:
                    return waiting.addCallback(lambda _: self.apply(session, StartBegan()))
                self.apply(session, StartBegan())
            case Created():
                # To Plane's clients it has been `starting` since it was being made.
                self._registry.start_began(session, self._reactor.seconds())
        return None

    def _lose_sight(self, session: Session) -> None:
        """Let nobody come to its address any more, neither a client nor our own probe."""
        if session.status in ENDING:
            return
        session.unconfirmed = True
        if session.status is Status.WAITING:
            self._abandon_flight(session.id)

    def _begin_probe(self, session: Session) -> None:
        assert isinstance(session.state, Waiting)
        if session.unconfirmed:
            return  # `confirm` begins it
        address, readiness = session.state.address, session.spec.executable.readiness
        tell = partial(self.diagnosis.knocked, session)
        probing = ensureDeferred(probe(self._reactor, address, readiness, tell))
        self._fly(session, probing.addCallback(lambda _: self._answered(session)))

    def _answered(self, session: Session) -> None:
        self._flights.pop(session.id, None)
        if isinstance(session.state, Waiting):
            self.apply(session, Answered(session.state.address))

    def _fly(self, session: Session, flight: Deferred[None]) -> None:
        def landed(result: object) -> object:
            self._abandoned.discard(flight)
            if self._flights.get(session.id) is flight:
                del self._flights[session.id]
            return result

        if not flight.called:
            self._flights[session.id] = flight
        flight.addBoth(landed)
        flight.addErrback(lambda failure: failure.trap(CancelledError) and None)
        flight.addErrback(lambda failure: self._log.failure("a flight failed", failure))

    def _abandon_flight(self, session_id: str) -> Deferred[None]:
        flight = self._flights.get(session_id)
        if flight is None:
            return succeed(None)
        landed: Deferred[None] = Deferred()
        flight.addBoth(lambda _: landed.callback(None))
        if flight not in self._abandoned:
            # Once only: a second cancel would hit the engine's cleaning up after the first.
            self._abandoned.add(flight)
            flight.cancel()
        return landed

    def _admit_holds(self, session: Session) -> None:
        assert isinstance(session.state, Ready)
        self.holds.settle(session.id, session.state.address)

    def _refuse_holds(self, session: Session) -> None:
        self.holds.refuse(session.id, lambda: SessionEnded(why_ended(session)))

    def _has_ended(self, session: Session) -> None:
        self.apply(session, Exited())

    def _end_later(self, session: Session) -> None:
        if session.status is not Status.TERMINATED:
            self._deadlines.put(session.id, self._reactor.seconds() + ENDING_RETRY_SECONDS)

    def _release(self, session: Session) -> None:
        self._deadlines.discard(session.id)
        self._abandon_flight(session.id)
        self.releases.settle(session.id, None)
