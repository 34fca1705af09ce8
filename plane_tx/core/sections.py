"""What each section of the configuration file holds, every key with its default."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from plane_tx.core.apikeys import ApiKey, KeyFile
from plane_tx.core.connect import CapacityLimits
from plane_tx.core.hardening import Addressing, Egress, Hardening, HardeningChange
from plane_tx.core.idlerule import IdleRequest
from plane_tx.core.model import Routing
from plane_tx.core.spec import App, Defaults
from plane_tx.core.strict import Count, Port, Seconds
from plane_tx.core.wire import ExecutableFields, ExecutableRequest


@attrs.frozen
class ControlConfig:
    """The control listener; with keys or forward auth it may be open to the network."""

    endpoint: tuple[str, ...] = ("tcp:8080:interface=127.0.0.1",)
    url: str = ""
    api_keys: tuple[ApiKey | KeyFile, ...] = ()
    forward_auth: str = ""


@attrs.frozen
class ProxyConfig:
    """The proxy listener; `cluster` is what session URLs are built from."""

    endpoint: tuple[str, ...] = ("tcp:9090:interface=127.0.0.1",)
    redirect_endpoint: tuple[str, ...] = ()
    cluster: str = "localhost:9090"
    trusted_proxies: tuple[str, ...] = ()
    hold_seconds: Seconds = Seconds(30.0)
    root_redirect_url: str = ""
    ws_ping_seconds: Seconds = Seconds(30.0)
    max_message_bytes: Count = Count(0)
    idle_timeout_seconds: Seconds = Seconds(0.0)
    shutdown_seconds: Seconds = Seconds(10.0)
    access_log: str = ""
    access_log_format: str = "json"


@attrs.frozen
class EngineConfig:
    """What runs sessions."""

    kind: str = "auto"
    docker_socket: str = "/var/run/docker.sock"
    instance: str = "default"
    process_first_port: Port = Port(20000)
    process_last_port: Port = Port(29999)
    allow_request_commands: bool = False
    process_user: str = ""
    mount_base: str = ""
    pull_timeout_seconds: Seconds = Seconds(1800.0)
    allow_requests: tuple[str, ...] = ()
    allow_images: tuple[str, ...] = ()
    runtime: str = ""
    egress: Egress = Egress.OPEN
    address: Addressing = Addressing.AUTO
    inter_container: bool = False
    hardening: Hardening = Hardening()


@attrs.frozen
class DefaultsConfig:
    """Limits for spawn_configs that name none; `max_idle_seconds = 0` means never."""

    max_idle_seconds: Seconds = Seconds(300.0)
    startup_timeout_seconds: Seconds = Seconds(300.0)
    stop_grace_seconds: Seconds = Seconds(10.0)
    idle: IdleRequest = IdleRequest()

    def to_defaults(self, engine: EngineConfig) -> Defaults:
        """The same, with no idle limit said as None, and what `engine` says of every session."""
        return Defaults(
            max_idle_seconds=self.max_idle_seconds or None,
            startup_timeout_seconds=self.startup_timeout_seconds,
            stop_grace_seconds=self.stop_grace_seconds,
            allow_requests=frozenset(engine.allow_requests),
            idle=self.idle,
            allow_images=engine.allow_images,
            runtime=engine.runtime or None,
            egress=engine.egress,
            hardening=engine.hardening,
        )


@attrs.frozen
class LimitsConfig:
    """How much one box takes on; 0 means no limit."""

    max_sessions: Count = Count(0)
    max_sessions_per_user: Count = Count(0)
    max_starting: Count = Count(8)

    def to_limits(self) -> CapacityLimits:
        """The same, for those who decide."""
        return CapacityLimits(self.max_sessions, self.max_sessions_per_user, self.max_starting)


@attrs.frozen
class StateConfig:
    """Where the server keeps what outlives it; "" means where the system keeps such things."""

    dir: str = ""


@attrs.frozen
class PagesConfig:
    """What browsers are shown where no session answers."""

    waiting: bool = True
    logs: bool = False
    dir: str = ""


@attrs.frozen
class DemoConfig:
    """What GET /demo joins; there is no such page without an app."""

    app: str = ""
    key: str = "demo"


@attrs.frozen(kw_only=True)
class AppConfig(ExecutableFields):
    """A named executable, as it stands in the file."""

    request_env: tuple[str, ...] = ()
    max_idle_seconds: Seconds | None = None
    lifetime_limit_seconds: Seconds | None = None
    idle: IdleRequest | None = None
    routing: Routing = Routing.PATH
    hardening: HardeningChange = HardeningChange()

    def to_app(self) -> App:
        """The same as an executable, its limits, and what of it a request may set."""
        values = attrs.asdict(self, recurse=False)
        beside = [field.name for field in attrs.fields(App) if field.name != "executable"]
        brought = {name: values.pop(name) for name in beside}
        return App(ExecutableRequest(**values), **brought)


@attrs.frozen
class Config:
    """Everything that can be configured; every key has a default."""

    control: ControlConfig = ControlConfig()
    proxy: ProxyConfig = ProxyConfig()
    engine: EngineConfig = EngineConfig()
    defaults: DefaultsConfig = DefaultsConfig()
    limits: LimitsConfig = LimitsConfig()
    state: StateConfig = StateConfig()
    pages: PagesConfig = PagesConfig()
    demo: DemoConfig = DemoConfig()
    apps: Mapping[str, AppConfig] = attrs.field(factory=dict)
