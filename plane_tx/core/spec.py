"""A spawn request completed by the configuration's apps and defaults."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import attrs

from plane_tx.core.containers import GUARDED, check_leave
from plane_tx.core.errors import InvalidRequest
from plane_tx.core.hardening import Egress, Hardening, HardeningChange
from plane_tx.core.idlerule import IdleRequest
from plane_tx.core.images import Image, is_allowed
from plane_tx.core.model import (
    Credentials,
    Executable,
    Limits,
    PullPolicy,
    Readiness,
    ResourceLimits,
    Routing,
    Spec,
    Volume,
)
from plane_tx.core.strict import Seconds
from plane_tx.core.wire import ExecutableRequest, ReadinessRequest, SpawnConfig

T = TypeVar("T")

#: What a request may not say beside `app`: it is what the app is.
_FIXED_BY_APP = ("image", "command", "entrypoint", "workdir", "user")

#: How an app shuts its sessions in: a request may say it where the app does not.
_KEPT_BY_APP = ("read_only", "tmpfs", "network_name")


@attrs.frozen
class App:
    """A named executable of the configuration, with the limits it brings along.

    A variable can make any program another one (PATH, LD_PRELOAD, and one for every interpreter):
    of an app that is a command, or that reaches out of its container by one of the guarded fields,
    a request sets only those in `request_env`.
    """

    executable: ExecutableRequest = ExecutableRequest()
    max_idle_seconds: Seconds | None = None
    lifetime_limit_seconds: Seconds | None = None
    request_env: tuple[str, ...] = ()
    idle: IdleRequest | None = None
    routing: Routing = Routing.PATH
    hardening: HardeningChange = HardeningChange()


@attrs.frozen
class Defaults:
    """What a spawn_config gets for the fields it leaves out; no idle time means for ever.

    `allow_requests` names the guarded fields that it need not leave to an app, `allow_images` is
    like the images that it may name itself (none: any).
    """

    max_idle_seconds: float | None = 300.0
    startup_timeout_seconds: float = 300.0
    stop_grace_seconds: float = 10.0
    allow_requests: frozenset[str] = frozenset()
    idle: IdleRequest = IdleRequest()
    allow_images: tuple[str, ...] = ()
    runtime: str | None = None
    egress: Egress = Egress.OPEN
    hardening: Hardening = Hardening()


def complete(config: SpawnConfig, apps: Mapping[str, App], defaults: Defaults) -> Spec:
    """Fill in what `config` leaves out: from its app first, from the defaults after.

    Raises `InvalidRequest` for an app that the configuration does not name, and for a field that
    it leaves to apps.
    """
    app = _app(config.executable, apps)
    _check_leave(config.executable, app.executable, defaults.allow_requests)
    _check_image(config.executable, defaults.allow_images)
    hardening = app.hardening.of(defaults.hardening)
    _check_pids(config.executable, app.executable, hardening.pids_limit)
    wanted = _over(config.executable, app.executable)
    readiness = wanted.readiness or ReadinessRequest()
    executable = attrs.evolve(
        _executable(wanted, readiness),
        egress=_egress(config.executable, app.executable, defaults.egress),
        runtime=_given(wanted.runtime, defaults.runtime),
        hardening=hardening,
    )
    return Spec(
        executable=executable,
        limits=_limits(config, app, defaults, readiness),
        idle=(config.idle or app.idle or defaults.idle).to_rule(),
        subdomain=config.subdomain,
        use_static_token=config.use_static_token,
        routing=_routing(config, app),
        labels=dict(config.labels),
    )


def _limits(
    config: SpawnConfig, app: App, defaults: Defaults, readiness: ReadinessRequest
) -> Limits:
    return Limits(
        max_idle_seconds=_first(
            config.max_idle_seconds, app.max_idle_seconds, defaults.max_idle_seconds
        ),
        lifetime_limit_seconds=_first(config.lifetime_limit_seconds, app.lifetime_limit_seconds),
        claim_within_seconds=config.claim_within_seconds,
        startup_timeout_seconds=_given(readiness.timeout_seconds, defaults.startup_timeout_seconds),
        stop_grace_seconds=_given(config.stop_grace_seconds, defaults.stop_grace_seconds),
        token_ttl_seconds=config.token_ttl_seconds,
    )


def _routing(config: SpawnConfig, app: App) -> Routing:
    if config.routing is None and app.routing is Routing.HOST:
        for field in ("subdomain", "use_static_token"):
            if getattr(config, field):
                raise InvalidRequest(
                    f"spawn_config.{field}: the app {config.executable.app!r} says routing"
                    ' "host", which this does not go with; leave this out, or ask for "path"'
                )
    return config.routing or app.routing


def _first(*values: float | None) -> float | None:
    return next((value for value in values if value is not None), None)


def _given(value: T | None, default: T) -> T:
    return default if value is None else value


def _app(executable: ExecutableRequest, apps: Mapping[str, App]) -> App:
    where = "spawn_config.executable"
    name = executable.app
    if name is None:
        return App()
    if name not in apps:
        known = ", ".join(sorted(apps)) or "none is configured"
        raise InvalidRequest(f"{where}.app: no app {name[:64]!r}; known: {known}")
    for field in _FIXED_BY_APP:
        if getattr(executable, field) is not None:
            raise InvalidRequest(f"{where}.{field}: the app {name!r} says this; leave one out")
    app = apps[name]
    _check_kept(where, executable, app.executable)
    _check_limits(f"{where}.resource_limits", executable, app.executable)
    _check_env(f"{where}.env", executable, app)
    return app


def _check_leave(
    wanted: ExecutableRequest, base: ExecutableRequest, allowed: frozenset[str]
) -> None:
    # To say what the app says anyway is to ask for nothing.
    same = {field for field in GUARDED if getattr(wanted, field) == getattr(base, field)}
    check_leave("spawn_config.executable", wanted, allowed | same)


def _check_image(wanted: ExecutableRequest, globs: tuple[str, ...]) -> None:
    if wanted.image is None or not globs:
        return
    where = "spawn_config.executable.image"
    try:
        image = Image.parse(wanted.image)
    except ValueError as error:
        raise InvalidRequest(f"{where}: {error}") from None
    if not is_allowed(image, globs):
        raise InvalidRequest(
            f"{where}: this server runs no {str(image.in_full)!r}: name an app, or have the image"
            " added to engine.allow_images"
        )


def _check_pids(wanted: ExecutableRequest, base: ExecutableRequest, most: int) -> None:
    asked = wanted.resource_limits.pids_limit
    # What an app says is its limit: see `_check_limits`.
    if asked is None or base.resource_limits.pids_limit is not None or not most:
        return
    if not 0 < asked <= most:
        raise InvalidRequest(
            f"spawn_config.executable.resource_limits.pids_limit: this server allows {most} at"
            f" most (engine.hardening.pids_limit), and 0 is no limit; got {asked}"
        )


def _egress(wanted: ExecutableRequest, base: ExecutableRequest, default: Egress) -> Egress:
    where = "spawn_config.executable"
    if (wanted.network_name or base.network_name) is not None:
        # Whoever may name a network decides by that where it leads.
        if Egress.NONE in (wanted.egress, base.egress):
            raise InvalidRequest(f'{where}.egress: "none" does not go with a network_name')
        return Egress.OPEN
    said = base.egress or default
    if wanted.egress is Egress.OPEN and said is Egress.NONE:
        raise InvalidRequest(
            f'{where}.egress: this server says "none" here, which no request can loosen'
        )
    return wanted.egress or said


def _check_kept(where: str, wanted: ExecutableRequest, base: ExecutableRequest) -> None:
    for field in _KEPT_BY_APP:
        asked, said = getattr(wanted, field), getattr(base, field)
        if said is not None and asked is not None and asked != said:
            raise InvalidRequest(f"{where}.{field}: the app {wanted.app!r} says this; leave it out")


def _check_limits(where: str, wanted: ExecutableRequest, base: ExecutableRequest) -> None:
    said = attrs.asdict(base.resource_limits)
    for field, asked in attrs.asdict(wanted.resource_limits).items():
        most = said[field]
        # To an engine 0 is no limit at all.
        if most and asked is not None and not 0 < asked <= most:
            raise InvalidRequest(
                f"{where}.{field}: the app {wanted.app!r} allows {most:.15g} at most, and 0 is no"
                f" limit; got {asked:.15g}"
            )


def _check_env(where: str, wanted: ExecutableRequest, app: App) -> None:
    reaches_out = any(getattr(app.executable, field) for field in GUARDED)
    # To drop fewer capabilities is to have more.
    reaches_out = reaches_out or app.hardening.cap_drop is not None
    if app.executable.image is not None and not reaches_out:
        return
    for variable in sorted(wanted.env.keys() - set(app.request_env)):
        raise InvalidRequest(
            f"{where}: the app {wanted.app!r} lets no request set {variable[:64]!r}; its"
            " request_env in the configuration names those that may be set"
        )


def _over(wanted: ExecutableRequest, base: ExecutableRequest) -> ExecutableRequest:
    said = {
        field.name: getattr(wanted, field.name)
        for field in attrs.fields(ExecutableRequest)
        if getattr(wanted, field.name) is not None and field.name not in ("env", "resource_limits")
    }
    limits = attrs.asdict(wanted.resource_limits, filter=lambda _field, value: value is not None)
    return attrs.evolve(
        base,
        **said,
        env={**base.env, **wanted.env},
        resource_limits=attrs.evolve(base.resource_limits, **limits),
    )


def _executable(wanted: ExecutableRequest, readiness: ReadinessRequest) -> Executable:
    login = wanted.credentials
    return Executable(
        image=wanted.image,
        command=wanted.command,
        entrypoint=wanted.entrypoint,
        env=wanted.env,
        port=_given(wanted.port, Executable.DEFAULT_PORT),
        user=wanted.user,
        workdir=wanted.workdir,
        pull_policy=wanted.pull_policy or PullPolicy.IF_NOT_PRESENT,
        credentials=Credentials(login.username, login.password) if login else None,
        limits=ResourceLimits(**attrs.asdict(wanted.resource_limits)),
        readiness=Readiness(readiness.path, readiness.statuses),
        network_name=wanted.network_name,
        read_only=wanted.read_only or False,
        tmpfs=wanted.tmpfs or {},
        volumes=tuple(Volume(it.name, it.path, it.read_only) for it in wanted.volumes or ()),
        cap_add=wanted.cap_add or (),
        runtime=wanted.runtime,
        gpus=wanted.gpus or 0,
        mount=wanted.mount or False,
        app=wanted.app,
    )
