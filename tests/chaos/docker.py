"""Docker without a proxy before it: what truly runs, harm by hand, and a daemon of one's own."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import attrs

from plane_tx.core.record import RECORD_LABEL
from plane_tx.engines.docker.container import INSTANCE_LABEL, session_named
from tests.live import Answer, DockerConnection, until

#: What the sessions of the suite are made of.
IMAGE = "plane-tx-test/python"


@attrs.frozen
class Contained:
    """A container of ours."""

    id: str
    session_id: str
    key: str
    state: str

    @property
    def runs(self) -> bool:
        return self.state in ("running", "paused")


class Docker:
    """Docker's API at a unix socket, spoken plainly."""

    def __init__(self, path: str, instance: str) -> None:
        self.path = path
        self._instance = instance

    def ask(self, method: str, path: str) -> Answer:
        with contextlib.closing(DockerConnection(self.path)) as connection:
            connection.request(method, path)
            return Answer(connection.getresponse())

    def answers(self) -> bool:
        try:
            return self.ask("GET", "/_ping").status == 200
        except OSError:
            return False

    def containers(self) -> list[Contained]:
        """All containers of the instance, in one snapshot."""
        wanted = json.dumps({"label": [f"{INSTANCE_LABEL}={self._instance}"]})
        listed = self.ask("GET", f"/containers/json?all=1&filters={quote(wanted)}").json
        return [_contained(each) for each in listed if each["Names"]]

    def process_of(self, container: str) -> int:
        """The pid of the first process in it; 0 when none runs."""
        found = self.ask("GET", f"/containers/{container}/json")
        return found.json["State"]["Pid"] if found.status == 200 else 0

    def do(self, what: str, container: str) -> int:
        """`kill`, `pause`, `unpause` or `stop` a container; Docker's status."""
        return self.ask("POST", f"/containers/{container}/{what}").status

    def account(self, container: str) -> str:
        """What Docker tells of a container's state, addresses and last words."""
        found = self.ask("GET", f"/containers/{container}/json")
        if found.status != 200:
            return f"Docker answers {found.status}: {found.body!r}"
        told = found.json
        logged = self.ask("GET", f"/containers/{container}/logs?stdout=1&stderr=1&tail=5").body
        networks = [each["IPAddress"] for each in told["NetworkSettings"]["Networks"].values()]
        return f"{told['State']}, {networks}, {told['NetworkSettings']['Ports']}, {logged!r}"

    def remove_all(self) -> None:
        """Remove what the instance has made: its containers and its networks."""
        for each in self.containers():
            self.ask("DELETE", f"/containers/{each.id}?force=1&v=1")
        for network in (f"plane-tx-{self._instance}", f"plane-tx-{self._instance}-internal"):
            self.ask("DELETE", f"/networks/{network}")


def _contained(listed: Any) -> Contained:
    record = json.loads(listed["Labels"][RECORD_LABEL])
    key = f"{record['namespace']}/{record['name']}"
    return Contained(listed["Id"], session_named(listed["Names"][0]), key, listed["State"])


class OwnDaemon:
    """A dockerd that only we use: it may be killed. Needs a network namespace of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.path = str(folder / "docker.sock")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *, spare: bool) -> None:
        """Start it and wait until it answers; with `spare` running containers go on."""
        command = ["dockerd", f"--live-restore={str(spare).lower()}"]
        command += ["--host", f"unix://{self.path}", "--pidfile", self._folder / "docker.pid"]
        command += ["--data-root", self._folder / "data", "--exec-root", self._folder / "exec"]
        (self._folder / "docker.pid").unlink(missing_ok=True)
        self._bury_forgotten()
        with (self._folder / "dockerd.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        until(Docker(self.path, "").answers, 60)

    def load(self, image: str, source: str) -> None:
        """Take an image over from another daemon, at the socket `source`."""
        saving = subprocess.Popen(
            ["docker", "--host", f"unix://{source}", "save", image], stdout=subprocess.PIPE
        )
        subprocess.run(
            ["docker", "--host", f"unix://{self.path}", "load", "--quiet"],
            stdin=saving.stdout, stdout=subprocess.DEVNULL, check=True,
        )  # fmt: skip
        assert saving.wait() == 0

    def kill(self) -> None:
        """SIGKILL; its containers do not notice."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def _bury_forgotten(self) -> None:
        # Docker 20.10 forgets a container that it was just starting when it was killed: with live
        # restore the process goes on, and its address is given to the next container too. Nobody
        # who asks Docker can see that, so it is not for the server to mend.
        for shim, container in _shims():
            if not self._remembers(container):
                for each in [shim, *_children(shim)]:
                    # It may end by itself meanwhile: a shim does, once its container has ended.
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(each, signal.SIGKILL)

    def _remembers(self, container: str) -> bool:
        file = self._folder / "data/containers" / container / "config.v2.json"
        return file.exists() and bool(json.loads(file.read_text())["State"]["Running"])

    def remove(self) -> None:
        """Kill it, and delete what it has stored."""
        self.kill()
        shutil.rmtree(self._folder / "data", ignore_errors=True)


def _shims() -> Iterator[tuple[int, str]]:
    """The processes that hold containers of any daemon here, each with its container's id."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (process / "cmdline").read_bytes().decode().split("\0")
            if words[0].endswith("containerd-shim-runc-v2") and "-id" in words:
                yield int(process.name), words[words.index("-id") + 1]


def _children(process: int) -> list[int]:
    """The children of all threads of a process; none once it has ended."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{process}/task").glob("*/children"):
            found += map(int, task.read_text().split())
    return found
