"""An example as a person has it: started by its one command, stopped by Ctrl-C."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import uuid
from pathlib import Path

from plane_tx.client import Client
from tests.live import (
    PATIENCE_SECONDS,
    ROOT,
    ask,
    free_ports,
    heed_interrupts,
    remove_networks,
    until,
    with_state,
)

#: How long the image may take to build where nothing of it is cached.
BUILD_SECONDS = 900.0

#: What the images are built on here; see tests/provision.sh.
BASE = "plane-tx-test/pip"

#: What Chromium says of the waiting page, which a demo link may lead to first. That page lets no
#: test evaluate anything in it: wait for a selector of the session's own page.
BOOTS = r"status of 503"


class Example:
    """`make example-NAME` with ports, an instance and a state of its own, below `folder`.

    It can be started again after `interrupt`, at the same addresses: what runs in containers goes
    on meanwhile, as for anyone who presses Ctrl-C.
    """

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.control_port, self.proxy_port, self._app_port = free_ports(3)
        self.control = f"http://127.0.0.1:{self.control_port}"
        self.proxy = f"http://localhost:{self.proxy_port}"
        self.demo = f"{self.control}/demo"
        self.app = f"http://localhost:{self._app_port}"  # where its app.py serves, if it has one
        self.client = Client(self.control)
        self._instance = f"test-{uuid.uuid4().hex[:12]}"
        self._folder = folder
        self._output = folder / "output.txt"
        self._config = folder / "plane.toml"
        self._config.write_text(self._moved((ROOT / "examples" / name / "plane.toml").read_text()))
        self._process: subprocess.Popen[bytes] | None = None

    def _moved(self, conf: str) -> str:
        """The example's configuration, where nobody else is."""
        conf = conf.replace("tcp:8080:", f"tcp:{self.control_port}:")
        conf = conf.replace("tcp:9090:", f"tcp:{self.proxy_port}:")
        conf = conf.replace("localhost:9090", f"localhost:{self.proxy_port}")
        conf = re.sub(r"^instance = .*\n", "", conf, flags=re.MULTILINE)
        before, kind, after = conf.partition('kind = "docker"\n')
        assert kind, f"{self.name}: its instance cannot be named"
        return f'{before}{kind}instance = "{self._instance}"\n{after}'

    @property
    def output(self) -> str:
        """All that its command has written since it was last started."""
        return self._output.read_text()

    def start(self) -> None:
        """Run its command, and return when it serves."""
        command = ["make", f"example-{self.name}", f"ON={BASE}", f"CONFIG={self._config}"]
        # The classic builder is what any Docker has, buildx or not.
        environment = {**with_state(self._folder), "DOCKER_BUILDKIT": "0"}
        environment |= {"PLANE_URL": self.control, "PORT": str(self._app_port)}
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                process_group=0,
                preexec_fn=heed_interrupts,  # noqa: PLW1509  # it takes no lock
            )
        until(self._serves_or_ended, BUILD_SECONDS)
        assert self._process.poll() is None, self.output

    def _serves_or_ended(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            return True
        try:
            return ask("GET", f"{self.control}/pub/ready").status == 200
        except OSError:
            return False

    def interrupt(self) -> None:
        """Press Ctrl-C, and return when all that the command started has ended, cleanly."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGINT)
        self._process.wait(PATIENCE_SECONDS)
        until(lambda: not _exists(self._process.pid))
        assert "Traceback" not in self.output, self.output

    def containers(self) -> list[str]:
        """The ids of the containers there are of its sessions."""
        label = f"label=plane-tx.instance={self._instance}"
        command = ["docker", "ps", "--all", "--quiet", "--filter", label]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()

    def end_sessions(self) -> None:
        """End every session by force, and return when they have ended."""
        for session in self.client.list():
            if session.status != "terminated":
                self.client.hard_terminate(session.id, wait=30)

    def remove(self) -> None:
        """Leave nothing, whatever state a failed test has left it in."""
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        if left := self.containers():
            subprocess.run(["docker", "rm", "--force", *left], check=True, capture_output=True)
        remove_networks(self._instance)
        self.client.close()


def _exists(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
