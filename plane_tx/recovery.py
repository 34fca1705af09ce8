"""Takes up, at the start and after every break, what the engine runs of an earlier time."""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred, ensureDeferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from plane_tx.conduct import Conductor
from plane_tx.core import errors
from plane_tx.core.lifecycle import Launched
from plane_tx.core.model import Scheduled, Session, Status
from plane_tx.core.record import from_labels
from plane_tx.core.registry import Registry
from plane_tx.engines.interface import IEngine, Running
from plane_tx.reactor import INetworkReactor
from plane_tx.tokens import FencingTokens
from plane_tx.waiters import Waiters

#: How long a connect waits for the sessions of an earlier run to be taken up.
RECOVERY_SECONDS = 10.0

#: When taking up what runs at the engine is tried again after it failed.
RECOVERY_RETRY_SECONDS = 5.0


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
    ) -> None:
        self.done = False
        self._reactor = reactor
        self._engine = engine
        self._registry = registry
        self._conductor = conductor
        self._fencing = fencing
        self._waiting: Waiters[None] = Waiters(reactor)
        self._round: Deferred[None] | None = None
        self._again = False
        self._retry: IDelayedCall | None = None

    def begin(self) -> None:
        """Start a round, or another one after that which runs: its list may be too old."""
        self._again = self._round is not None
        if self._again:
            return
        if self._retry is not None and self._retry.active():
            self._retry.cancel()
        self._round = ensureDeferred(self._take_up())
        self._round.addErrback(self._try_later).addBoth(self._ended)

    def close(self) -> None:
        """Call off what runs and what is to come."""
        self._again = False
        if self._retry is not None and self._retry.active():
            self._retry.cancel()
        if self._round is not None:
            self._round.cancel()

    def wait(self) -> Deferred[None]:
        """Wait for the first round. Fails with `EngineUnavailable`."""
        return self._waiting.wait(
            "recovery",
            RECOVERY_SECONDS,
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
        made = self._conductor.made()
        found = await self._engine.list_running()
        self._conductor.reconcile(made, {running.session_id for running in found})
        for running in found:
            session = self._registry.get(running.session_id)
            if session is None:
                await self._adopt(running)
            elif session.status is Status.TERMINATED:
                await self._engine.remove(session.id)
        self.done = True
        self._waiting.settle("recovery", None)

    async def _adopt(self, running: Running) -> None:
        session = from_labels(running.session_id, running.labels)
        if session is None or not running.running or self._registry.holder(session.key):
            await self._engine.remove(running.session_id)
            return
        try:
            await self._join(session)
        except (errors.SpawnFailed, errors.FailedToAcquireKey) as error:
            self._log.warn("cannot take up {session}: {error}", session=session.id, error=error)
            await self._engine.remove(running.session_id)

    async def _join(self, session: Session) -> None:
        address = await self._engine.adopt(session.id, session.spec.executable)
        now = self._reactor.seconds()
        self._registry.add(session, Scheduled(), now)
        self._fencing.rise_above(session.fencing_token)
        self._registry.grants.grant(session.own_token, now)
        # Nobody knows who came in the earlier run; to end it for want of a visit would be wrong.
        session.claimed = True
        self._conductor.apply(session, Launched(address))
