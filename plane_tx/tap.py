"""Builds the parts from the configuration and joins them into one service; decides nothing."""

from __future__ import annotations

import gc
import os
import socket
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from twisted.application.service import MultiService, Service
from twisted.internet.defer import Deferred, ensureDeferred, maybeDeferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import IListeningPort, IProtocolFactory
from twisted.logger import Logger
from twisted.python import usage
from twisted.python.failure import Failure

from plane_tx.accesslog import AccessLog
from plane_tx.activation import Readiness, check_for_this_box
from plane_tx.admission import Policy
from plane_tx.autopsies import Autopsies
from plane_tx.certificates import Endpoints
from plane_tx.chronicle import USES_SECONDS
from plane_tx.clock import keep_time
from plane_tx.configuration import path_of, read_config, read_keys
from plane_tx.control.forward_auth import forward_auth_at
from plane_tx.control.guard import Access
from plane_tx.control.site import make_site
from plane_tx.core.access import FORMATS
from plane_tx.core.config import control_url, is_secure, own_origin, proxy_url, state_dir
from plane_tx.core.errors import ConfigError
from plane_tx.core.forwarded import trusted_proxies
from plane_tx.core.measures import Measures
from plane_tx.core.sections import Config, ProxyConfig
from plane_tx.engines.choice import engine_kind, make_engine
from plane_tx.idempotency import Idempotency
from plane_tx.journal import Journal
from plane_tx.keptfiles import KeptFiles
from plane_tx.lag import LagMeter
from plane_tx.openfiles import allow_many
from plane_tx.poll import poll_plainly
from plane_tx.proxy.factory import ProxyFactory
from plane_tx.proxy.pages import own_pages, read_pages
from plane_tx.proxy.redirect import RedirectFactory
from plane_tx.proxy.settings import ProxySettings
from plane_tx.reaper import Reaper
from plane_tx.recovery import RECONCILE_SECONDS
from plane_tx.state import StateDirectory
from plane_tx.supervisor import Supervisor
from plane_tx.thread import OwnThread
from plane_tx.upkeep import Upkeep

#: How long a stopping server waits for its journal.
CLOSE_SECONDS = 5.0


class Options(usage.Options):
    """What `twistd plane` takes on its command line."""

    optParameters: ClassVar[list[list[Any]]] = [
        ["config", "c", None, "A TOML file; conf/plane.toml lists every key. [default: none]"]
    ]


class StartRefused(SystemExit, Exception):
    """Ends the start with one line on the terminal, and status 1.

    It is an Exception too, because twistd reports only those to the process that waits for a server
    which goes into the background; at a plain SystemExit that one would wait for ever.
    """


class Listener(Service):
    """One face on its endpoints; what cannot be listened on ends the start with one line."""

    def __init__(
        self,
        endpoints: Endpoints,
        key: str,
        descriptions: tuple[str, ...],
        factory: IProtocolFactory,
    ) -> None:
        self._endpoints = endpoints
        self._key = key
        self._descriptions = descriptions
        self._factory = factory
        self._ports: list[IListeningPort] = []

    def privilegedStartService(self) -> None:
        """Listen before twistd gives up its rights."""
        for description in self._descriptions:
            try:
                listening = self._endpoints.endpoint(description).listen(self._factory)
            except ConfigError as error:
                refused = f"plane: {self._key}: {description!r} is no endpoint: {error}"
                raise StartRefused(refused) from None
            # Known at once for TCP, TLS, unix and systemd sockets; an exit that a callback raised
            # would never leave its Deferred.
            failed: list[Failure] = []
            listening.addCallbacks(self._ports.append, failed.append)
            if failed:
                raise StartRefused(_cannot_listen(failed[0], self._key, description))

    def stopService(self) -> Deferred[None]:
        """Stop listening."""
        super().stopService()  # type: ignore[no-untyped-call]  # Twisted's Service is untyped
        return ensureDeferred(self._stop())

    async def _stop(self) -> None:
        ports, self._ports = self._ports, []
        for port in ports:
            await port.stopListening()  # type: ignore[misc]  # a Deferred for every real port


class ProxyListener(Listener):
    """A listener of the proxy's; when it stops it parts with its clients too."""

    def __init__(
        self,
        endpoints: Endpoints,
        key: str,
        descriptions: tuple[str, ...],
        factory: ProxyFactory | RedirectFactory,
    ) -> None:
        super().__init__(endpoints, key, descriptions, factory)
        self._proxy = factory

    async def _stop(self) -> None:
        await super()._stop()
        await self._proxy.close()


class InOrder(MultiService):
    """Services that stop one after the other, the last one first.

    A plain MultiService stops all at once: sessions would be gone while clients are still served.
    """

    _log = Logger()

    def stopService(self) -> Deferred[None]:
        """Stop them all; one that fails is logged and passed over."""
        Service.stopService(self)
        return ensureDeferred(self._stop_in_order())

    async def _stop_in_order(self) -> None:
        for service in reversed(list(self)):
            stopped = maybeDeferred(service.stopService)
            await stopped.addErrback(partial(self._log.failure, "a part failed to stop"))


class Conduct(Service):
    """The supervisor as a service."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor

    def startService(self) -> None:
        """Begin to listen to the engine."""
        super().startService()  # type: ignore[no-untyped-call]  # as above
        self._supervisor.start()

    def stopService(self) -> Deferred[None]:
        """Let go of the engine, and of every session that cannot outlive us."""
        super().stopService()  # type: ignore[no-untyped-call]  # as above
        return ensureDeferred(self._supervisor.close())


class Remembering(InOrder):
    """The parts, on top of their journal: open before one starts, closed when all have stopped."""

    def __init__(self, reactor: Any, directory: str, instance: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # as above
        self._reactor = reactor
        self._state = StateDirectory(directory, instance)
        self.autopsies = KeptFiles(self._state.journal_path.with_suffix(".autopsies"))
        self._thread = OwnThread(reactor, "journal")
        self.journal = Journal(self._state.journal_path, self._thread.run)

    def startService(self) -> None:
        """Open the journal, then start the parts; what cannot be opened ends the start."""
        # All that is made meanwhile stays: to look through it for what is gone, again and again,
        # would take twice the time of making it.
        gc.disable()
        try:
            self._start()
        finally:
            gc.enable()

    def _start(self) -> None:
        # Not earlier: a server that twistd sends into the background is another process till then.
        try:
            self._state.claim()
            self.journal.open(self._reactor.seconds())
            self._thread.start()
            super().startService()  # type: ignore[no-untyped-call]  # as above
        except ConfigError as error:
            self._state.release()
            raise StartRefused(f"plane: {error}") from None

    def stopService(self) -> Deferred[None]:
        """Stop the parts, then close the journal; one that hangs is given up after 5 s."""
        return ensureDeferred(self._stop())

    async def _stop(self) -> None:
        await super().stopService()
        try:
            await self.journal.close().addTimeout(CLOSE_SECONDS, self._reactor)
        except DeferredTimeout:
            # Its thread goes with this process, as does the lock on the directory.
            self._log.error(
                "the journal is not written within {seconds:g} s: the server ends without that;"
                " look at the disk",
                seconds=CLOSE_SECONDS,
            )
        else:
            self._thread.stop()
            self._state.release()


class Greeting(Service):
    """Says where to go once everything listens."""

    _log = Logger()

    def __init__(self, config: Config, engine: str) -> None:
        self._config = config
        self._engine = engine

    def startService(self) -> None:
        """Say it."""
        super().startService()  # type: ignore[no-untyped-call]  # as above
        self._log.info("engine   {engine}", engine=self._engine)
        self._log.info("control  {url}", url=control_url(self._config))
        self._log.info("proxy    {url}", url=proxy_url(self._config))
        if self._config.demo.app:
            self._log.info("try it   {url}/demo", url=control_url(self._config))


def _cannot_listen(failure: Failure, key: str, description: str) -> str:
    reason = getattr(failure.value, "socketError", None) or failure.value
    what = getattr(reason, "strerror", None) or reason
    return (
        f"plane: {key}: cannot listen on {description!r}: {what}; name another endpoint in the"
        " configuration, or stop what has this one"
    )


def make_policy(config: Config, engine_kind: str) -> Policy:
    """What `config` decides about sessions that an engine of this kind runs."""
    containers = engine_kind != "process"
    return Policy(
        cluster=config.proxy.cluster,
        control_url=control_url(config),
        secure=is_secure(config),
        host_name=socket.gethostname(),
        apps={name: app.to_app() for name, app in config.apps.items()},
        defaults=config.defaults.to_defaults(config.engine),
        limits=config.limits.to_limits(),
        hold_seconds=config.proxy.hold_seconds,
        engine_kind=engine_kind,
        request_images=containers,
        request_commands=containers or config.engine.allow_request_commands,
    )


def make_proxy_settings(config: Config, folder: Path) -> ProxySettings:
    """What `config` decides about the proxy."""
    proxy, pages = config.proxy, config.pages
    return ProxySettings(
        root_redirect_url=proxy.root_redirect_url,
        ws_ping_seconds=proxy.ws_ping_seconds,
        max_message_bytes=proxy.max_message_bytes,
        idle_timeout_seconds=proxy.idle_timeout_seconds,
        shutdown_seconds=proxy.shutdown_seconds,
        trusted_proxies=trusted_proxies(proxy.trusted_proxies),
        waiting_page=pages.waiting,
        waiting_logs=pages.logs,
        pages=read_pages(path_of(pages.dir, folder)) if pages.dir else own_pages(),
    )


def make_access_log(
    reactor: Any, config: ProxyConfig, folder: Path, measures: Measures
) -> AccessLog | None:
    """Where requests are logged, if anywhere."""
    target, line = config.access_log, FORMATS[config.access_log_format]
    if not target:
        return None
    path = target if target == "-" else str(path_of(target, folder))
    return AccessLog(reactor, OwnThread(reactor, "access log"), path, line, measures)


def make_access(reactor: Any, config: Config, folder: Path) -> Access:
    """Who may call, as `config` says. With nobody to ask, the endpoint must be this box's own."""
    url = config.control.forward_auth
    access = Access(
        keys=read_keys(config.control, folder),
        forward_auth=forward_auth_at(reactor, url) if url else None,
        own_origin=own_origin(config),
    )
    if not access.keys and access.forward_auth is None:
        check_for_this_box(reactor, config.control.endpoint)
    return access


def assemble(
    reactor: Any, config: Config, folder: Path, open_files: tuple[int, int] | None = None
) -> MultiService:
    """Everything, joined and not started; parts stop in the reverse order.

    `folder` has the files that `config` names, `open_files` limits (soft, hard) process sessions.
    """
    kind = engine_kind(config.engine)
    whole = Remembering(reactor, state_dir(config, os.environ), config.engine.instance)
    engine = make_engine(reactor, config.engine, kind, open_files)
    supervisor = Supervisor(reactor, engine, make_policy(config, kind), whole.journal)
    idempotency = Idempotency(reactor, whole.journal)
    worker = OwnThread(reactor, "autopsies")
    autopsies = Autopsies(reactor, engine, supervisor, whole.autopsies, worker)
    access_log = make_access_log(reactor, config.proxy, folder, supervisor.measures)
    proxy = ProxyFactory(reactor, supervisor, make_proxy_settings(config, folder), access_log)
    redirect = RedirectFactory(reactor, config.proxy.cluster, access_log)
    access = make_access(reactor, config, folder)
    site = make_site(reactor, supervisor, idempotency, autopsies, config.demo, access)
    endpoints = Endpoints(reactor, folder.absolute(), OwnThread(reactor, "certificates"))
    for part in (
        *filter(None, [access_log]),
        endpoints,
        autopsies,
        Conduct(supervisor),
        idempotency,
        Reaper(reactor, supervisor),
        Upkeep(reactor, RECONCILE_SECONDS, supervisor.recovery.begin_if_at_rest),
        Upkeep(reactor, USES_SECONDS, supervisor.chronicle.write_uses),
        LagMeter(reactor, supervisor.measures),
        ProxyListener(endpoints, "proxy.endpoint", config.proxy.endpoint, proxy),
        ProxyListener(
            endpoints, "proxy.redirect_endpoint", config.proxy.redirect_endpoint, redirect
        ),
        Listener(endpoints, "control.endpoint", config.control.endpoint, site),
        Greeting(config, kind),
        Readiness(reactor, os.environ),
    ):
        part.setServiceParent(whole)
    return whole


def makeService(options: Options) -> MultiService:
    """What twistd runs. A configuration that does not fit ends the start with one line."""
    from twisted.internet import reactor

    # What was imported stays as long as the server: a full collection would look at all of it
    # again each time, and hold up the reactor meanwhile.
    reactor.callWhenRunning(gc.freeze)
    reactor.callWhenRunning(poll_plainly, reactor)
    keep_time(reactor)
    path = options["config"]
    try:
        config = read_config(path)
        return assemble(reactor, config, Path(path or "").parent, allow_many())
    except ConfigError as error:
        raise StartRefused(f"plane: {error}") from None
