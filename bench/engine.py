"""The Docker Engine as it is: one spawn costs a create, a start, a look at where, and a connect."""

from __future__ import annotations

import http.client
import json
import os
import socket
import time
from collections.abc import Mapping
from contextlib import closing
from typing import Any

import attrs

#: The image that tests/provision.sh makes of Debian's busybox.
IMAGE = "plane-tx-test/busybox"

#: Where the containers' server listens.
PORT = 8080

#: By this label one run finds the containers that the Engine made for it; no server of ours does.
LABEL = "plane-tx-bench"

#: How long anything may take before the run ends.
PATIENCE_SECONDS = 60.0

#: What is between two tries to connect.
_PAUSE_SECONDS = 0.001

_REQUEST = b"GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n"

#: What inspect tells of a container and the next one must not have: it follows from its id.
_ITS_OWN = ("Hostname", "Labels")


def where_docker_is() -> str:
    """The path of the Engine's socket."""
    host = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    return host.removeprefix("unix://")


class _Socket(http.client.HTTPConnection):
    """A connection to a unix socket, kept alive."""

    def __init__(self, path: str) -> None:
        super().__init__("docker", timeout=PATIENCE_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


@attrs.frozen
class Refused(Exception):
    """An answer of the Engine's that is no success."""

    status: int
    body: bytes


class Engine:
    """The Engine on one connection; the calls wait."""

    def __init__(self, path: str) -> None:
        self._socket = _Socket(path)

    def close(self) -> None:
        self._socket.close()

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """Make a call. Raises `Refused`, and OSError when nobody answers."""
        said = None if body is None else json.dumps(body)
        self._socket.request(method, path, said, {"Content-Type": "application/json"})
        answer = self._socket.getresponse()
        content = answer.read()
        if answer.status >= 300:
            raise Refused(answer.status, content)
        return json.loads(content) if content else None

    def spawn(self, name: str, body: Mapping[str, Any]) -> float:
        """Make a container and start it; the seconds until the first byte of its server's."""
        began = time.perf_counter()
        made = self.ask("POST", f"/containers/create?name={name}", body)["Id"]
        self.ask("POST", f"/containers/{made}/start")
        address = address_of(self.ask("GET", f"/containers/{made}/json"))
        await_first_byte(address, "/", "session")
        return time.perf_counter() - began

    def body_of(self, container: str, run: str) -> dict[str, Any]:
        """The body that makes another container just like this one, labelled with the run."""
        return body_like(self.ask("GET", f"/containers/{container}/json"), run)

    def remove_all(self, label: str) -> None:
        """Remove every container that carries `label`; returns when they are gone."""
        filters = json.dumps({"label": [label]}, separators=(",", ":"))
        for found in self.ask("GET", f"/containers/json?all=1&filters={filters}"):
            self.ask("DELETE", f"/containers/{found['Id']}?force=1&v=1")


def missing(path: str) -> str | None:
    """What is missing of the Engine and its image, in a sentence."""
    try:
        with closing(Engine(path)) as engine:
            engine.ask("GET", f"/images/{IMAGE}/json")
    except Refused:
        return f"the bench needs the image {IMAGE} (tests/provision.sh makes it)"
    except OSError as error:
        return f"the bench needs a Docker Engine at {path}: {error}"
    return None


def body_like(found: Mapping[str, Any], run: str) -> dict[str, Any]:
    """The body of a create that leads to what inspect `found`, but that it is this run's own."""
    config = {name: value for name, value in found["Config"].items() if name not in _ITS_OWN}
    return {**config, "HostConfig": found["HostConfig"], "Labels": {LABEL: run}}


def address_of(found: Mapping[str, Any]) -> tuple[str, int]:
    """Where the server of what inspect `found` is reached: where it is published, if it is."""
    network = found["NetworkSettings"]
    for binding in (network["Ports"] or {}).get(f"{PORT}/tcp") or ():
        return binding["HostIp"], int(binding["HostPort"])
    (attached,) = network["Networks"].values()
    return attached["IPAddress"], PORT


def first_byte(address: tuple[str, int], path: str, host: str) -> bytes:
    """The first bytes of an answer, none of one that did not come."""
    try:
        with socket.create_connection(address, PATIENCE_SECONDS) as connection:
            connection.sendall(_REQUEST % (path.encode(), host.encode()))
            return connection.recv(64)
    except ConnectionError:
        return b""


def await_first_byte(address: tuple[str, int], path: str, host: str) -> None:
    """Return when a server answers there."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not first_byte(address, path, host):
        if time.monotonic() > deadline:
            raise SystemExit(f"bench: nobody answers at {address}")
        time.sleep(_PAUSE_SECONDS)
