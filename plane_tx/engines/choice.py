"""Which engine the configuration means, made as it says."""

from __future__ import annotations

import socket
from contextlib import closing
from typing import Any

from plane_tx.core.errors import ConfigError
from plane_tx.core.hardening import Egress
from plane_tx.core.sections import EngineConfig
from plane_tx.engines.child import Conditions
from plane_tx.engines.docker.client import DockerClient
from plane_tx.engines.docker.daemon import unix_daemon
from plane_tx.engines.docker.engine import DockerEngine
from plane_tx.engines.docker.mounts import MountDirectories
from plane_tx.engines.docker.networks import NetworkSettings
from plane_tx.engines.interface import IEngine
from plane_tx.engines.process import ProcessEngine
from plane_tx.engines.sockets import SocketTables
from plane_tx.engines.threads import threads_of
from plane_tx.engines.users import user_named

#: How long an engine socket may take to accept, when `kind = "auto"` asks whether one is there.
DETECT_SECONDS = 1.0


def engine_kind(config: EngineConfig) -> str:
    """Which engine `config` means: `auto` is docker when its socket accepts, else process."""
    if config.kind != "auto":
        return config.kind
    with closing(socket.socket(socket.AF_UNIX)) as asking:
        asking.settimeout(DETECT_SECONDS)
        try:
            asking.connect(config.docker_socket)
        except (OSError, ValueError):
            return "process"
    return "docker"


def make_engine(
    reactor: Any, config: EngineConfig, kind: str, open_files: tuple[int, int] | None
) -> IEngine:
    """The engine called `kind`.

    `open_files` are the soft and hard limit of processes, where this one has others: a program
    that uses select(2) breaks above 1024. Raises `ConfigError` for what is configured and
    the engine cannot give.
    """
    return _docker(reactor, config) if kind == "docker" else _process(reactor, config, open_files)


def _docker(reactor: Any, config: EngineConfig) -> DockerEngine:
    client = DockerClient(unix_daemon(reactor, config.docker_socket))
    base = config.mount_base
    return DockerEngine(
        reactor,
        client,
        config.instance,
        NetworkSettings(config.address, config.egress, config.inter_container),
        MountDirectories(base, threads_of(reactor)) if base else None,
        config.pull_timeout_seconds,
        SocketTables(threads_of(reactor)),
    )


def _process(
    reactor: Any, config: EngineConfig, open_files: tuple[int, int] | None
) -> ProcessEngine:
    for key, is_said in (("egress", config.egress is Egress.NONE), ("runtime", config.runtime)):
        if is_said:
            raise ConfigError(
                f"[engine] {key}: only an engine of containers can give this, and the engine is"
                " process: leave it out, or see to Docker"
            )
    ports = (config.process_first_port, config.process_last_port)
    user = user_named(config.process_user) if config.process_user else None
    conditions = Conditions(open_files, user)
    return ProcessEngine(reactor, ports, config.allow_request_commands, reactor, conditions)
