"""The server's own image: no rights, beside its sessions, and the same after a restart."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import yaml

from tests.conf.served import CONF, with_places
from tests.live import APPS, DOCKER_SOCKET, ROOT, ask, free_ports, remove_networks, until

IMAGE = "plane-tx-test/server"
INSTANCE = NAME = f"plane-tx-test-server-{os.getpid()}"

#: What `docker run` calls the keys of a service; a key that is missing here fails the test.
OPTIONS = {
    "network_mode": "--network",
    "group_add": "--group-add",
    "volumes": "--volume",
    "tmpfs": "--tmpfs",
    "cap_drop": "--cap-drop",
    "security_opt": "--security-opt",
    "restart": "--restart",
    "stop_grace_period": "--stop-timeout",
    "read_only": "--read-only",
}

pytestmark = pytest.mark.docker


def docker(*arguments: object) -> str:
    done = subprocess.run(
        ["docker", *map(str, arguments)], cwd=ROOT, env={**os.environ, "DOCKER_BUILDKIT": "0"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def options_of(service: dict[str, Any]) -> Iterator[str]:
    """A service of a compose file as options of `docker run`."""
    for key, value in service.items():
        if key in ("image", "build"):
            continue
        for each in value if isinstance(value, list) else [value]:
            said = each.removesuffix("s") if key == "stop_grace_period" else each
            yield f"{OPTIONS[key]}={str(said).lower() if said is True else said}"


@attrs.frozen
class Contained:
    """A server in a container."""

    control: str

    def is_healthy(self) -> bool:
        return docker("inspect", "--format={{.State.Health.Status}}", NAME) == "healthy"

    def connect(self) -> Any:
        """Join the session of a key, or have it made."""
        spawn = {"executable": {"app": "docker-busybox"}}
        request = {"key": {"name": "k"}, "spawn_config": spawn}
        return ask("POST", f"{self.control}/ctrl/connect", request).json

    def end_all(self) -> None:
        for each in ask("GET", f"{self.control}/ctrl/backends").json["backends"]:
            ask("POST", f"{self.control}/ctrl/b/{each['backend_id']}/hard-terminate?wait=20", {})


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Contained]:
    docker(
        "build", "--build-arg=BASE=plane-tx-test/pip", f"--tag={IMAGE}",
        "--file=conf/docker/Dockerfile", ".",
    )  # fmt: skip
    control, proxy = free_ports(2)
    config = tmp_path_factory.mktemp("server") / "plane.toml"
    config.write_text(
        f'[control]\nendpoint = "tcp:{control}:interface=127.0.0.1"\n'
        f'[proxy]\nendpoint = "tcp:{proxy}:interface=127.0.0.1"\ncluster = "localhost:{proxy}"\n'
        + with_places(
            (CONF / "docker" / "plane.toml").read_text(),
            {"[engine]": f'[engine]\ninstance = "{INSTANCE}"'},
        )
        + APPS
    )
    places = {
        "${DOCKER_GROUP:?say which: stat -c %g /var/run/docker.sock}": str(
            Path(DOCKER_SOCKET).stat().st_gid
        ),
        "- /var/run/docker.sock:": f"- {DOCKER_SOCKET}:",
        "- state:": f"- {NAME}:",
        "# - ./plane.toml:": f"- {config}:",
    }
    text = with_places((CONF / "docker" / "compose.yaml").read_text(), places)
    options = options_of(yaml.safe_load(text)["services"]["plane_tx"])
    running = Contained(f"http://127.0.0.1:{control}")
    # The last word on restarts is ours: one that a test run leaves behind is not to come back.
    ours = ["--restart=no", "--health-interval=1s", f"--env=PLANE_TX_URL={running.control}"]
    docker("run", "--detach", f"--name={NAME}", *options, *ours, IMAGE)
    try:
        until(running.is_healthy)
        yield running
        running.end_all()
    finally:
        docker("rm", "--force", NAME)
        docker("volume", "rm", "--force", NAME)
        remove_networks(INSTANCE)


def test_a_session_is_spawned_beside_the_server_and_reached(server: Contained) -> None:
    made = server.connect()

    answer = ask("GET", made["url"])

    assert (answer.status, answer.body) == (200, b"here\n")
    assert "are reached at their own addresses" in docker("logs", NAME)


def test_the_server_has_no_rights_but_those_of_the_socket(server: Contained) -> None:
    status = docker("exec", NAME, "cat", "/proc/1/status").splitlines()
    told = dict(line.split(":\t", 1) for line in status)

    assert told["Uid"].split("\t") == ["10001"] * 4
    assert told["CapBnd"] == "0" * 16
    assert told["NoNewPrivs"] == "1"


def test_a_session_and_its_link_are_the_same_after_a_restart(server: Contained) -> None:
    before = server.connect()

    docker("restart", NAME)
    until(server.is_healthy)
    after = server.connect()

    assert after["backend_id"] == before["backend_id"]
    assert after["spawned"] is False
    assert ask("GET", before["url"]).status == 200


def test_the_command_line_is_there(server: Contained) -> None:
    made = server.connect()

    listed = json.loads(docker("exec", NAME, "plane-tx", "ls", "--json").splitlines()[0])

    assert made["backend_id"] in json.dumps(listed)


def test_nothing_is_in_the_image_that_is_not_of_the_server(server: Contained) -> None:
    found = docker("exec", NAME, "ls", "-A", "/usr/src/plane_tx").split()

    assert set(found) <= {
        "LICENSE", "README.md", "build", "constraints.txt", "plane_tx", "plane_tx.egg-info",
        "pyproject.toml", "requirements.txt", "setup.cfg", "twistd_plugins",
    }  # fmt: skip
