"""What a connect is given: a session made of its request, a token of its own, and the answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import attrs

from plane_tx.chronicle import Chronicle
from plane_tx.core import errors
from plane_tx.core.connect import CapacityLimits, check_capacity, check_user_capacity
from plane_tx.core.explain import why_ended
from plane_tx.core.model import (
    ENDING,
    Executable,
    Key,
    Routing,
    Scheduled,
    Session,
    Spec,
    Token,
    own_token,
)
from plane_tx.core.record import to_labels
from plane_tx.core.registry import Registry
from plane_tx.core.routes import has_hosts_below, session_url
from plane_tx.core.spec import App, Defaults, complete
from plane_tx.core.views import milliseconds
from plane_tx.core.wire import (
    STATIC_TOKEN_CARRIES_NOTHING,
    ConnectRequest,
    ConnectResponse,
    LinkRequest,
    SpawnConfig,
)
from plane_tx.engines.interface import SpawnOrder
from plane_tx.tokens import FencingTokens, mint_id, mint_secret, mint_token


@attrs.frozen
class Policy:
    """What the configuration decides about sessions; `secure` when the proxy speaks only TLS.

    `request_images` and `request_commands` are whether a request may name one itself.
    """

    cluster: str
    control_url: str
    secure: bool = False
    host_name: str = "localhost"
    apps: Mapping[str, App] = attrs.field(factory=dict)
    defaults: Defaults = Defaults()
    limits: CapacityLimits = CapacityLimits()
    hold_seconds: float = 30.0
    engine_kind: str = "docker"
    request_images: bool = True
    request_commands: bool = True


class Admission:
    """Turns requests into sessions and sessions into answers; nothing here waits."""

    def __init__(
        self,
        policy: Policy,
        registry: Registry,
        fencing: FencingTokens,
        chronicle: Chronicle,
        check: Callable[[Executable], None],
    ) -> None:
        """Have `check` refuse what the engine could never run."""
        self._policy = policy
        self._registry = registry
        self._fencing = fencing
        self._chronicle = chronicle
        self._check = check

    def reserve(
        self,
        request: ConnectRequest,
        now: float,
        soonest: Callable[[], float | None],
        decided: Callable[[ConnectResponse], None],
    ) -> tuple[Session, ConnectResponse]:
        """A session in the registry for `request`, and the answer, which `decided` hears first.

        Key, id and place under the caps are taken in one go. Raises what `new_session`,
        `check_capacity`, which asks for the `soonest` end, and the engine's check raise.
        """
        session = self.new_session(request, now)
        self._check(session.spec.executable)
        self._check_capacity(request.user, now, soonest)
        self._registry.add(session, Scheduled(), now)
        self._registry.grants.grant(session.own_token, now)
        with self._chronicle.together():
            self._chronicle.made(session)
            response = self.answer(session, request, now, spawned=True)
            decided(response)
        return session, response

    def link(self, session: Session, request: LinkRequest, now: float) -> str:
        """A new link to the session, for the user if one is named.

        Raises `KeyHeld` for another tag, as a connect does: its id is no way around that.
        `SessionEnded` for one that is ending or gone, `InvalidRequest` as `answer` does.
        """
        if session.tag != request.tag:
            raise errors.KeyHeld(f"the session {session.id} was made under another tag")
        if session.status in ENDING:
            raise errors.SessionEnded(why_ended(session))
        return self._url(session, self._grant(session, ConnectRequest(user=request.user), now))

    def new_session(self, request: ConnectRequest, now: float) -> Session:
        """The session that `request` asks for, which nobody knows yet.

        Raises `InvalidRequest` for a cluster or an app that is not ours, a host of its own where
        there is none, and for a user or claims that a static token cannot carry.
        """
        config = request.spawn_config
        assert config is not None
        self._check_cluster(config)
        spec = complete(config, self._policy.apps, self._policy.defaults)
        self._check_host(spec)
        key = request.key.to_key() if request.key is not None else Key(f"lk-{mint_id()}")
        session_id, secret = config.id or mint_id(), mint_secret()
        static = spec.use_static_token
        if static:
            _check_carries_nothing(request)
        value = mint_token(spec.routing, static=static)
        return Session(
            id=session_id,
            key=key,
            tag=request.key.tag if request.key is not None else "",
            spec=spec,
            created_at=now,
            fencing_token=self._fencing.next(),
            own_token=own_token(value, session_id, secret, static=static),
            secret=secret,
            user=request.user,
        )

    def answer(
        self, session: Session, request: ConnectRequest, now: float, *, spawned: bool
    ) -> ConnectResponse:
        """Grant a token to the session, and say where that leads.

        Raises `InvalidRequest` for a user or claims that the session's static token cannot carry.
        """
        token = self._grant(session, request, now)
        lifetime = session.spec.limits.lifetime_limit_seconds
        expires = None if lifetime is None else milliseconds(session.created_at + lifetime)
        return ConnectResponse(
            backend_id=session.id,
            spawned=spawned,
            status=session.status.value,
            token=token.value,
            url=self._url(session, token),
            subdomain=session.spec.subdomain,
            secret_token=None if token.static else token.secret,
            status_url=f"{self._policy.control_url}/pub/b/{session.id}/status",
            drone=self._policy.host_name if spawned else None,
            expires_at=expires,
        )

    def order(self, session: Session) -> SpawnOrder:
        """What the engine is told to make, with the environment of API.md part 3."""
        environment = {
            "PORT": str(session.spec.executable.port),
            "SESSION_BACKEND_ID": session.id,
            "SESSION_BACKEND_KEY": session.key.name,
            "SESSION_BACKEND_FENCING_TOKEN": str(session.fencing_token),
            "SESSION_BACKEND_URL": self._url(session, session.own_token),
            "SESSION_BACKEND_CONTROL_URL": self._policy.control_url,
            "SESSION_BACKEND_SECRET": session.secret,
        }
        if session.own_token.static:
            environment["SESSION_BACKEND_STATIC_TOKEN"] = session.own_token.value
        executable, labels = session.spec.executable, to_labels(session)
        return SpawnOrder(session.id, executable, environment, labels, session.key)

    def _url(self, session: Session, token: Token) -> str:
        policy = self._policy
        return session_url(policy.cluster, session, token.value, secure=policy.secure)

    def _check_capacity(
        self, user: str | None, now: float, soonest: Callable[[], float | None]
    ) -> None:
        limits = self._policy.limits
        check_capacity(self._registry, limits, now, soonest)
        if user is not None:
            check_user_capacity(self._registry, limits, now, user)

    def _check_cluster(self, config: SpawnConfig) -> None:
        cluster = self._policy.cluster
        if config.cluster not in (None, cluster):
            raise errors.InvalidRequest(f"spawn_config.cluster: this server is {cluster!r}")

    def _check_host(self, spec: Spec) -> None:
        cluster = self._policy.cluster
        if has_hosts_below(cluster):
            return
        why = f"this server's cluster is {cluster!r}, and nothing can stand below an address"
        if spec.subdomain is not None:
            raise errors.InvalidRequest(f"spawn_config.subdomain: {why}: leave it out")
        if spec.routing is Routing.HOST:
            raise errors.InvalidRequest(f'spawn_config.routing: {why}: use "path"')

    def _grant(self, session: Session, request: ConnectRequest, now: float) -> Token:
        if session.own_token.static:
            _check_carries_nothing(request)
            return session.own_token
        token = Token(
            value=mint_token(session.spec.routing, static=False),
            session_id=session.id,
            secret=mint_secret(),
            user=request.user,
            claims=dict(request.auth),
            ttl_seconds=session.spec.limits.token_ttl_seconds,
        )
        self._registry.grants.grant(token, now)
        self._chronicle.granted(token, now)
        return token


def _check_carries_nothing(request: ConnectRequest) -> None:
    if request.user is not None or request.auth:
        raise errors.InvalidRequest(STATIC_TOKEN_CARRIES_NOTHING)
