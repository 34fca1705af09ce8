"""What the faces ask for: connect, reach, use and end sessions; one per key."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import attrs
from twisted.internet.defer import CancelledError, Deferred, ensureDeferred, succeed
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from plane_tx.conduct import Conductor, Watcher
from plane_tx.core import errors
from plane_tx.core.connect import (
    AwaitRelease,
    CapacityLimits,
    Join,
    Spawn,
    check_capacity,
    decide,
)
from plane_tx.core.explain import why_ended
from plane_tx.core.idle import next_deadlines
from plane_tx.core.lifecycle import HardTerminate, Launched, SoftTerminate
from plane_tx.core.model import (
    ENDING,
    Address,
    Key,
    Ready,
    Reason,
    Scheduled,
    Session,
    Status,
    Token,
    Use,
    UseKind,
)
from plane_tx.core.record import from_labels, to_labels
from plane_tx.core.registry import Registry
from plane_tx.core.routes import session_url
from plane_tx.core.spec import App, Defaults, complete
from plane_tx.core.wire import (
    STATIC_TOKEN_CARRIES_NOTHING,
    ConnectRequest,
    ConnectResponse,
    SpawnConfig,
)
from plane_tx.engines.interface import (
    EngineEvent,
    EngineHealth,
    EngineRegained,
    IEngine,
    Running,
    SpawnOrder,
)
from plane_tx.reactor import INetworkReactor
from plane_tx.tokens import FencingTokens, mint_id, mint_secret, mint_token
from plane_tx.waiters import Waiters

#: How long a connect waits for a key beyond the grace of the session that holds it.
RELEASE_MARGIN_SECONDS = 5.0

#: How long a stopping server waits for what it was making.
CLOSE_SECONDS = 5.0

#: How long a refused connection waits for the news that its session has ended.
CONFIRM_SECONDS = 1.0

#: How long a connect waits for the sessions of an earlier run to be taken up.
RECOVERY_SECONDS = 10.0

#: When taking up what runs at the engine is tried again after it failed.
RECOVERY_RETRY_SECONDS = 5.0


@attrs.frozen
class Policy:
    """What the configuration decides about sessions."""

    cluster: str
    control_url: str
    host_name: str = "localhost"
    apps: Mapping[str, App] = attrs.field(factory=dict)
    defaults: Defaults = Defaults()
    limits: CapacityLimits = CapacityLimits()
    hold_seconds: float = 30.0


class Supervisor:
    """The one door to sessions for the faces, which know nothing of engines."""

    _log = Logger()

    def __init__(self, reactor: INetworkReactor, engine: IEngine, policy: Policy) -> None:
        self.registry = Registry()
        self.policy = policy
        self.recovered = False
        self._reactor = reactor
        self._engine = engine
        self._conductor = Conductor(reactor, engine, self.registry, policy.limits.max_starting)
        self._fencing = FencingTokens(reactor.seconds)
        self._recovery: Waiters[None] = Waiters(reactor)
        self._recovering: Deferred[None] | None = None
        self._recover_again = False
        self._recovery_retry: IDelayedCall | None = None
        self._unlisten: Callable[[], None] = lambda: None

    def __repr__(self) -> str:
        return f"<Supervisor {self.registry!r} {self._conductor!r}>"

    def start(self) -> None:
        """Begin to listen to the engine, and take up the sessions of an earlier run."""
        self._unlisten = self._engine.events(self._heard)
        self._engine.start()
        self._recover()

    async def close(self) -> None:
        """Call off what boots, let go of the engine, and wait until both have settled."""
        self._stop_recovering()
        # An engine that does not answer must not keep us: closing it ends its calls. What it made
        # all the same, the next run finds by its labels.
        calling_off = ensureDeferred(self._conductor.call_off_flights())
        calling_off.addTimeout(CLOSE_SECONDS, self._reactor)
        await calling_off.addErrback(lambda failure: failure.trap(DeferredTimeout) and None)
        await self._engine.close()
        await self._conductor.settle_endings()
        self._unlisten()

    def watch(self, watcher: Watcher) -> Callable[[], None]:
        """Tell `watcher` of every state that a session enters; call the result to end that."""
        return self._conductor.watch(watcher)

    def reap(self) -> int:
        """End the sessions that are due; how many."""
        return self._conductor.reap()

    def health(self) -> Deferred[EngineHealth]:
        """Whether the engine answers; never fails."""
        return self._engine.health()

    def get(self, session_id: str) -> Session:
        """The session of this id. Raises `NotFound`."""
        session = self.registry.get(session_id)
        if session is None:
            raise errors.NotFound(f"there is no backend {session_id[:64]!r}")
        return session

    def deadlines(self, session: Session) -> dict[str, float]:
        """When each of its running clocks will end this session (seconds since epoch)."""
        return {deadline.cause.value: deadline.at for deadline in next_deadlines(session)}

    async def connect(self, request: ConnectRequest) -> ConnectResponse:
        """Join the session that holds the key, or have one made (plane.md 2.5).

        Waits while the key's last session is on its way out. Raises what `decide`,
        `check_capacity` and `complete` raise, and `EngineUnavailable`.
        """
        if not self.recovered:
            await self._wait_for_recovery()
        while True:
            decision = decide(request, self.registry)
            match decision:
                case Join(session):
                    return self._answer(session, request, spawned=False)
                case Spawn():
                    return self._reserve(request)
                case AwaitRelease(session):
                    await self._wait_for_release(session)

    def soft_terminate(self, session_id: str, reason: Reason = Reason.EXTERNAL) -> None:
        """Ask a session to end; one that is ending or gone stays as it is."""
        self._conductor.apply(self.get(session_id), SoftTerminate(reason))

    def hard_terminate(self, session_id: str, reason: Reason = Reason.EXTERNAL) -> None:
        """End a session by force; one that is gone stays as it is."""
        self._conductor.apply(self.get(session_id), HardTerminate(reason))

    def address_of(self, session: Session) -> Address | None:
        """Where a ready session listens; None while it boots. Raises `SessionEnded`."""
        state = session.state
        if isinstance(state, Ready):
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
        return self._conductor.holds.wait(session.id, seconds, lambda: _still_booting(session))

    def ended_soon(self, session: Session, seconds: float = CONFIRM_SECONDS) -> Deferred[bool]:
        """Whether word comes within a second, or `seconds`, that this session has ended."""
        if session.status is Status.TERMINATED:
            return succeed(True)
        waiting = self._conductor.releases.wait(session.id, seconds, TimeoutError)
        return waiting.addCallbacks(lambda _: True, _not_in_time)

    def begin_use(self, session: Session, kind: UseKind, peer: str = "") -> Use:
        """Keep the session in use until `end_use` of what this returns."""
        use = Use(kind, self._reactor.seconds(), peer)
        self.registry.begin_use(session, use)
        return use

    def end_use(self, session: Session, use: Use) -> None:
        """End one use; the idle clock starts when it was the last. A second call is nothing."""
        if self.registry.end_use(session, use, self._reactor.seconds()):
            self._conductor.reschedule(session)

    def _reserve(self, request: ConnectRequest) -> ConnectResponse:
        # Nothing here may wait: the key, the id and the place under the caps are taken in one go.
        config = request.spawn_config
        assert config is not None
        if self._conductor.engine_lost is not None:
            raise errors.EngineUnavailable(self._conductor.engine_lost)
        session = self._new_session(request, config)
        self._engine.check(session.spec.executable)
        check_capacity(self.registry, self.policy.limits, request.user)
        self.registry.add(session, Scheduled(), self._reactor.seconds())
        self._conductor.reschedule(session)
        response = self._answer(session, request, spawned=True)
        self._conductor.launch(session, self._order(session))
        return response

    def _new_session(self, request: ConnectRequest, config: SpawnConfig) -> Session:
        cluster = self.policy.cluster
        if config.cluster not in (None, cluster):
            raise errors.InvalidRequest(f"spawn_config.cluster: this server is {cluster!r}")
        spec = complete(config, self.policy.apps, self.policy.defaults)
        key = request.key.to_key() if request.key is not None else Key(f"lk-{mint_id()}")
        return Session(
            id=config.id or mint_id(),
            key=key,
            tag=request.key.tag if request.key is not None else "",
            spec=spec,
            created_at=self._reactor.seconds(),
            fencing_token=self._fencing.next(),
            user=request.user,
            static_token=mint_token(spec.routing, static=True) if spec.use_static_token else None,
        )

    def _answer(
        self, session: Session, request: ConnectRequest, *, spawned: bool
    ) -> ConnectResponse:
        token = self._grant(session, request)
        lifetime = session.spec.limits.lifetime_limit_seconds
        expires = None if lifetime is None else int((session.created_at + lifetime) * 1000)
        return ConnectResponse(
            backend_id=session.id,
            spawned=spawned,
            status=session.status.value,
            token=token.value,
            url=session_url(self.policy.cluster, session, token.value),
            subdomain=session.spec.subdomain,
            secret_token=None if token.static else token.secret,
            status_url=f"{self.policy.control_url}/pub/b/{session.id}/status",
            drone=self.policy.host_name if spawned else None,
            expires_at=expires,
        )

    def _grant(self, session: Session, request: ConnectRequest) -> Token:
        if session.static_token is not None:
            if request.user is not None or request.auth:
                raise errors.InvalidRequest(STATIC_TOKEN_CARRIES_NOTHING)
            token = _static(session.static_token, session.id)
        else:
            value = mint_token(session.spec.routing, static=False)
            token = Token(value, session.id, mint_secret(), request.user, dict(request.auth))
        self.registry.grant(token)
        return token

    def _order(self, session: Session) -> SpawnOrder:
        environment = {
            "PORT": str(session.spec.executable.port),
            "SESSION_BACKEND_ID": session.id,
            "SESSION_BACKEND_KEY": session.key.name,
            "SESSION_BACKEND_FENCING_TOKEN": str(session.fencing_token),
        }
        if session.static_token is not None:
            environment["SESSION_BACKEND_STATIC_TOKEN"] = session.static_token
        return SpawnOrder(session.id, session.spec.executable, environment, to_labels(session))

    def _wait_for_release(self, session: Session) -> Deferred[None]:
        def too_late() -> Exception:
            return errors.FailedToAcquireKey(
                f"the session {session.id} that holds the key does not end: try again"
            )

        seconds = session.spec.limits.stop_grace_seconds + RELEASE_MARGIN_SECONDS
        return self._conductor.releases.wait(session.id, seconds, too_late)

    async def _wait_for_recovery(self) -> None:
        if self._conductor.engine_lost is not None:
            raise errors.EngineUnavailable(self._conductor.engine_lost)
        await self._recovery.wait(
            "recovery",
            RECOVERY_SECONDS,
            lambda: errors.EngineUnavailable("the engine has not told yet what it runs"),
        )

    def _heard(self, event: EngineEvent) -> None:
        self._conductor.heard(event)
        if isinstance(event, EngineRegained):
            self._recover()

    def _recover(self) -> None:
        # One round at a time: two would adopt the same sessions. Whoever asks meanwhile gets
        # another, because the list of this one may be too old.
        self._recover_again = self._recovering is not None
        if self._recover_again:
            return
        if self._recovery_retry is not None and self._recovery_retry.active():
            self._recovery_retry.cancel()
        self._recovering = ensureDeferred(self._take_up())
        self._recovering.addErrback(self._recover_later).addBoth(self._recovery_ended)

    def _recover_later(self, failure: Failure) -> None:
        if failure.check(CancelledError):
            return
        self._log.warn("recovery failed: {error}", error=failure.value)
        if not failure.check(errors.EngineUnavailable):
            self._log.failure("recovery failed", failure)
        self._recovery_retry = self._reactor.callLater(RECOVERY_RETRY_SECONDS, self._recover)

    def _recovery_ended(self, _: object) -> None:
        self._recovering = None
        if self._recover_again:
            self._recover()

    def _stop_recovering(self) -> None:
        self._recover_again = False
        if self._recovery_retry is not None and self._recovery_retry.active():
            self._recovery_retry.cancel()
        if self._recovering is not None:
            self._recovering.cancel()

    async def _take_up(self) -> None:
        made = self._conductor.made()
        found = await self._engine.list_running()
        self._conductor.reconcile(made, {running.session_id for running in found})
        for running in found:
            session = self.registry.get(running.session_id)
            if session is None:
                await self._adopt(running)
            elif session.status is Status.TERMINATED:
                await self._engine.remove(session.id)
        self.recovered = True
        self._recovery.settle("recovery", None)

    async def _adopt(self, running: Running) -> None:
        session = from_labels(running.session_id, running.labels)
        if session is None or not running.running or self.registry.holder(session.key):
            await self._engine.remove(running.session_id)
            return
        try:
            address = await self._engine.adopt(running.session_id, session.spec.executable)
            self.registry.add(session, Scheduled(), self._reactor.seconds())
        except (errors.SpawnFailed, errors.FailedToAcquireKey) as error:
            self._log.warn("cannot take up {session}: {error}", session=session.id, error=error)
            await self._engine.remove(running.session_id)
            return
        self._fencing.rise_above(session.fencing_token)
        if session.static_token is not None:
            self.registry.grant(_static(session.static_token, session.id))
        self._conductor.apply(session, Launched(address))


def _static(value: str, session_id: str) -> Token:
    return Token(value, session_id, secret="", static=True)


def _not_in_time(failure: Failure) -> bool:
    failure.trap(TimeoutError)
    return False


def _still_booting(session: Session) -> errors.SessionNotReady:
    return errors.SessionNotReady(f"the session is still {session.status}: try again in a moment")
