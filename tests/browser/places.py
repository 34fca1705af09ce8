"""Where sessions run in these tests: the same program as a process and as a container."""

from __future__ import annotations

import json
import subprocess
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs

from tests.live import LiveServer, ask, remove_networks

#: Starts a server, each time the same one anew.
Start = Callable[[], LiveServer]

PROGRAM = Path(__file__).with_name("program.py")

_TOLD = '["START_DELAY", "LISTEN_ON", "EXIT", "SAYS"]'

_PROCESS = f"""
[engine]
kind = "process"
[apps.program]
command = ["{{python}}", "{PROGRAM.relative_to(PROGRAM.parents[2])}"]
workdir = "."
request_env = {_TOLD}
"""

_DOCKER = """
[engine]
kind = "docker"
instance = "{instance}"
[apps.program]
image = "plane-tx-test/python"
command = ["python3", "-uc", {program}]
pull_policy = "Never"
"""


@attrs.frozen
class Place:
    """An engine, as a server's configuration names it."""

    kind: str
    conf: str
    instance: str = ""

    @property
    def adopts(self) -> bool:
        """Whether sessions go on when the server has ended."""
        return self.kind == "docker"


@contextmanager
def place(kind: str) -> Iterator[Place]:
    """One that nobody else has; what a failed test has left there is removed."""
    if kind == "process":
        yield Place(kind, _PROCESS)
        return
    instance = f"test-{uuid.uuid4().hex[:12]}"
    conf = _DOCKER.format(instance=instance, program=json.dumps(PROGRAM.read_text()))
    yield Place(kind, conf, instance)
    label = f"label=plane-tx.instance={instance}"
    listed = ["docker", "ps", "--all", "--quiet", "--filter", label]
    if left := subprocess.run(listed, capture_output=True, text=True, check=True).stdout.split():
        subprocess.run(["docker", "rm", "--force", *left], check=True, capture_output=True)
        remove_networks(instance)


def spawn(server: LiveServer, key: str, **wanted: Any) -> Any:
    """A session of the program, which need not be ready yet; `env` is what it is told."""
    env = {name: str(value) for name, value in wanted.pop("env", {}).items()}
    readiness = wanted.pop("readiness", None)
    executable = {"env": env} | ({"readiness": readiness} if readiness else {})
    return server.connect("program", key, executable=executable, **wanted)


def ready(server: LiveServer, key: str, **wanted: Any) -> Any:
    """One that is ready."""
    made = spawn(server, key, **wanted)
    server.wait_for(made["backend_id"], "ready")
    return made


def end_all(server: LiveServer) -> None:
    """End every session, and return when they have ended."""
    listed = ask("GET", f"{server.control}/ctrl/backends?limit=1000").json["backends"]
    ids = [session["backend_id"] for session in listed if session["status"] != "terminated"]
    urls = [f"{server.control}/ctrl/b/{name}/hard-terminate?wait=30" for name in ids]
    with ThreadPoolExecutor(20) as pool:
        ended = list(pool.map(lambda url: ask("POST", url).status, urls))
    assert set(ended) <= {200}
