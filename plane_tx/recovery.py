"""Takes up what an earlier run has left, and compares sessions and engine ever after."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred, DeferredList, ensureDeferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from plane_tx.chronicle import USES_SECONDS, Chronicle, Past
from plane_tx.conduct import Conductor
from plane_tx.core import errors
from plane_tx.core.adoption import (
    Adopt,
    Conclude,
    End,
    EndAgain,
    Finish,
    Found,
    Holding,
    Sweep,
    Verdict,
    in_order,
    verdicts,
)
from plane_tx.core.lifecycle import SpawnFailed
from plane_tx.core.model import Failure as WentWrong
from plane_tx.core.model import Scheduled, Session, Status, StatusEntry
from plane_tx.core.registry import Registry
from plane_tx.engines.interface import IEngine, Running
from plane_tx.leases import Leases
from plane_tx.reactor import INetworkReactor
from plane_tx.tokens import FencingTokens
from plane_tx.waiters import Waiters

T = TypeVar("T")

#: How long a connect waits for the sessions of an earlier run to be taken up.
RECOVERY_SECONDS = 10.0

#: When taking up what runs at the engine is tried again after it failed.
RECOVERY_RETRY_SECONDS = 5.0

#: How often sessions and engine are compared for what nobody has told.
RECONCILE_SECONDS = 60.0

#: How long a round waits until something is cleared away.
CLEARING_SECONDS = 30.0

#: How many sessions are compared in one turn of the reactor.
IN_ONE_TURN = 50

#: How many sessions are taken up at the same time.
AT_ONCE = 16


class Recovery:
    """One round at a time: two would adopt the same sessions."""

    _log = Logger()

    def __init__(
        self,
        reactor: INetworkReactor,
        engine: IEngine,
        registry: Registry,
        conductor: Conductor,
        fencing: FencingTokens,
        chronicle: Chronicle,
    ) -> None:
        self.done = False
        self._reactor = reactor
        self._engine = engine
        self._registry = registry
        self._conductor = conductor
        self._fencing = fencing
        self._chronicle = chronicle
        self._waiting: Waiters[None] = Waiters(reactor)
        self._round: Deferred[None] | None = None
        self._again = False
        self._retry: IDelayedCall | None = None

    def remember(self, past: Past, leases: Leases) -> None:
        """Know again what an earlier run has left: sessions as they were, tokens and leases.

        Whether those that had not ended still run, the first round finds out.
        """
        now, registry = self._reactor.seconds(), self._registry
        live = []
        registry.estimates.learn_all(past.sessions)
        for session in past.sessions:
            if _has_ended(session):
                registry.remember(session)
                registry.grants.grant(session.own_token, now)
            else:
                live.append(session)
        # Of two with one key, the end of the one made earlier was not written.
        for session in sorted(live, key=lambda each: -each.fencing_token):
            if not self._recall(session, now):
                self._chronicle.forget(session.id)
        for token, last_used in past.tokens:
            if registry.get(token.session_id) is not None:
                # What is written may be so much too early.
                latest = now if last_used is None else min(last_used + USES_SECONDS, now)
                registry.grants.grant(token, latest)
        for session_id, reason, until in past.leases:
            held = registry.get(session_id)
            if held is not None and held.unconfirmed and until > now:
                # More than there may be are due to a clock that was set back.
                with suppress(errors.InvalidRequest):
                    leases.take(held, until - now, reason)

    def begin(self) -> None:
        """Start a round, or another one after that which runs: its list may be too old."""
        self._again = self._round is not None
        if self._again:
            return
        if self._retry is not None and self._retry.active():
            self._retry.cancel()
        self._round = ensureDeferred(self._take_up())
        self._round.addErrback(self._try_later).addBoth(self._ended)

    def begin_if_at_rest(self) -> None:
        """Start a round, unless one runs, or will when the engine answers."""
        waits = self._retry is not None and self._retry.active()
        if self._round is None and not waits and self._conductor.engine_lost is None:
            self.begin()

    def close(self) -> None:
        """Call off what runs and what is to come."""
        self._again = False
        if self._retry is not None and self._retry.active():
            self._retry.cancel()
        if self._round is not None:
            self._round.cancel()

    def wait(self, seconds: float = RECOVERY_SECONDS) -> Deferred[None]:
        """Wait for the first round. Fails with `EngineUnavailable`."""
        return self._waiting.wait(
            "recovery",
            seconds,
            lambda: errors.EngineUnavailable("the engine has not told yet what it runs"),
        )

    def _try_later(self, failure: Failure) -> None:
        if failure.check(CancelledError):
            return
        self._log.warn("recovery failed: {error}", error=failure.value)
        if not failure.check(errors.EngineUnavailable):
            self._log.failure("recovery failed", failure)
        self._retry = self._reactor.callLater(RECOVERY_RETRY_SECONDS, self.begin)

    def _ended(self, _: object) -> None:
        self._round = None
        if self._again:
            self.begin()

    async def _take_up(self) -> None:
        # First who is there, then the list: what is made meanwhile is not missed in it.
        made = set(filter(None, await self._in_turns(self._conductor.made())))
        listed = await self._engine.list_running()
        held = await self._in_turns(map(_holding, listed))
        told = in_order(await self._in_turns(verdicts(self._registry, held, made)))
        failed = await self._do_all(each for each in told if not isinstance(each, Sweep))
        self.done = True
        self._waiting.settle("recovery", None)
        # By now every key that is held is known: nobody waits for what is cleared away.
        await self._do_all(each for each in told if isinstance(each, Sweep))
        if failed:
            raise failed[0]

    async def _in_turns(self, work: Iterable[T]) -> list[T]:
        """All of this, done so much at a time that others have their turns between."""
        done: list[T] = []
        for each in work:
            done.append(each)
            if not len(done) % IN_ONE_TURN:
                await deferLater(self._reactor, 0)
        return done

    async def _do_all(self, told: Iterator[Verdict]) -> list[errors.EngineUnavailable]:
        """Do these side by side; what the engine would not do of them, though it is there."""
        failed: list[errors.EngineUnavailable] = []
        await _all_of([ensureDeferred(self._do_each(told, failed)) for _ in range(AT_ONCE)])
        return failed

    async def _do_each(
        self, told: Iterator[Verdict], failed: list[errors.EngineUnavailable]
    ) -> None:
        for verdict in told:
            try:
                await self._do(verdict)
            except CancelledError:
                raise
            except errors.EngineUnavailable as error:
                if self._conductor.engine_lost is not None:
                    raise
                self._log.warn("{error}", error=error)
                failed.append(error)
            except Exception:  # noqa: BLE001  # one that fails must not keep the others from going on
                self._log.failure("{what} failed", what=type(verdict).__name__)

    async def _do(self, verdict: Verdict) -> None:
        match verdict:
            case Adopt(session):
                await self._adopt(session, start=False)
            case Finish(session):
                await self._adopt(session, start=True)
            case Conclude(session):
                await self._in_time(session.id, self._engine.conclude(session.id))
            case End(session, event):
                session.unconfirmed = False
                self._conductor.apply(session, event)
            case EndAgain(session):
                self._conductor.end_again(session)
            case Sweep(session_id):
                await self._sweep(session_id)

    async def _sweep(self, session_id: str) -> None:
        session = self._registry.get(session_id)
        if session is not None and not _has_ended(session):
            return  # meanwhile one was asked for that has the id of a stranger
        self._log.info("{session}: what was left of it is removed", session=session_id)
        await self._in_time(session_id, self._engine.remove(session_id))

    async def _in_time(self, session_id: str, clearing: Deferred[None]) -> None:
        """Wait for what is cleared away, but not for ever; the next round comes back to it."""
        try:
            await clearing.addTimeout(CLEARING_SECONDS, self._reactor)
        except DeferredTimeout:
            self._log.warn("{session}: it takes long to clear it away", session=session_id)

    async def _adopt(self, session: Session, *, start: bool) -> None:
        if self._registry.get(session.id) is None and not self._take_in(session):
            await self._engine.remove(session.id)
            return
        if _has_ended(session):
            await self._engine.remove(session.id)
            return
        try:
            address = await self._engine.adopt(session.id, session.spec.executable, start)
        except errors.SpawnFailed as error:
            await self._engine.conclude(session.id)
            await self._give_up(session, error)
            return
        if _has_ended(session):
            await self._engine.remove(session.id)
        else:
            self._conductor.confirm(session, address)

    def _take_in(self, session: Session) -> bool:
        """Take in a session that only its labels tell of; whether there is a place for it."""
        now = self._reactor.seconds()
        session.history.append(StatusEntry(Scheduled(), now))
        if not self._recall(session, now):
            return False
        # Nobody knows who came in the earlier run; to end it for want of a visit would be wrong.
        session.claimed = True
        self._chronicle.taken_up(session)
        return True

    def _recall(self, session: Session, now: float) -> bool:
        try:
            self._registry.recall(session)
        except errors.FailedToAcquireKey as error:
            self._log.warn("cannot take up {session}: {error}", session=session.id, error=error)
            return False
        self._fencing.rise_above(session.fencing_token)
        self._registry.grants.grant(session.own_token, now)
        return True

    async def _give_up(self, session: Session, error: errors.SpawnFailed) -> None:
        if _has_ended(session):
            return
        session.unconfirmed = False
        self._conductor.apply(session, SpawnFailed(WentWrong(error.kind, str(error))))
        await self._engine.remove(session.id)


def _has_ended(session: Session) -> bool:
    return session.status is Status.TERMINATED


async def _all_of(working: Sequence[Deferred[Any]]) -> None:
    """Wait for all of these, then raise the first error of any."""
    results: list[tuple[bool, object]] = await DeferredList(working, consumeErrors=True)
    for _, result in results:
        if isinstance(result, Failure):
            result.raiseException()


def _holding(running: Running) -> Holding:
    ended = Found.MADE if running.fresh else Found.ENDED
    found = Found.RUNS if running.running else ended
    return Holding(running.session_id, running.labels, found)
