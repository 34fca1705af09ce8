"""Which engine the configuration means, and what of it that engine cannot give."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from twisted.internet.defer import Deferred

from plane_tx.core.errors import ConfigError
from plane_tx.core.hardening import Egress
from plane_tx.core.sections import EngineConfig
from plane_tx.engines.choice import engine_kind, make_engine
from plane_tx.engines.docker.engine import DockerEngine
from plane_tx.engines.process import ProcessEngine


def test_auto_means_process_where_no_docker_socket_accepts(tmp_path: Path) -> None:
    nowhere = EngineConfig(docker_socket=str(tmp_path / "docker.sock"))

    assert engine_kind(nowhere) == "process"


def test_auto_means_docker_where_its_socket_accepts(tmp_path: Path) -> None:
    somewhere = EngineConfig(docker_socket=str(tmp_path / "docker.sock"))
    with socket.socket(socket.AF_UNIX) as docker:
        docker.bind(somewhere.docker_socket)
        docker.listen()

        assert engine_kind(somewhere) == "docker"


def test_what_is_said_is_not_asked_for(tmp_path: Path) -> None:
    said = EngineConfig(kind="docker", docker_socket=str(tmp_path / "docker.sock"))

    assert engine_kind(said) == "docker"


@pytest.mark.parametrize(("kind", "made"), [("docker", DockerEngine), ("process", ProcessEngine)])
def test_the_engine_is_made_that_is_meant(kind: str, made: type) -> Deferred[None]:
    from twisted.internet import reactor

    engine = make_engine(reactor, EngineConfig(mount_base="/srv/mounts"), kind, None)

    assert isinstance(engine, made)
    return engine.close()


@pytest.mark.parametrize(
    ("config", "key"),
    [(EngineConfig(egress=Egress.NONE), "egress"), (EngineConfig(runtime="runsc"), "runtime")],
)
def test_what_processes_cannot_be_given_stops_the_start(config: EngineConfig, key: str) -> None:
    from twisted.internet import reactor

    with pytest.raises(ConfigError, match=rf"^\[engine\] {key}: only an engine of containers can"):
        make_engine(reactor, config, "process", None)


def test_a_user_that_cannot_be_stops_the_start() -> None:
    from twisted.internet import reactor

    with pytest.raises(ConfigError, match=r"^\[engine\] process_user: "):
        make_engine(reactor, EngineConfig(process_user="no-such-user"), "process", None)
