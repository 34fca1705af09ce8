"""The server that the suite does harm to: a twistd process at the same addresses each time."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path
from typing import Any

from tests.chaos.docker import IMAGE
from tests.live import ROOT, TWISTD, ask, free_ports, until, with_state

CONF = """
[control]
endpoint = "tcp:{control}:interface=127.0.0.1"
[proxy]
endpoint = "tcp:{proxy}:interface=127.0.0.1"
cluster = "localhost:{proxy}"
hold_seconds = 10.0
idle_timeout_seconds = 5.0
ws_ping_seconds = 5.0
shutdown_seconds = 2.0
[engine]
kind = "docker"
docker_socket = "{docker}"
instance = "{instance}"
[defaults]
max_idle_seconds = {idle}
startup_timeout_seconds = 20.0
stop_grace_seconds = 2.0
[apps.chaos]
image = "{image}"
command = ["python3", "-uc", {program}]
pull_policy = "Never"
resource_limits = {{ memory_limit_bytes = 67108864, pids_limit = 128 }}
"""

#: A file whose text libfaketime adds to the clock (`+30s`), read anew each second.
_CLOCK = "clock"
_FAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)


def clock_can_step() -> bool:
    """Whether Debian's libfaketime is here."""
    return _FAKETIME is not None


class Server:
    """`twistd plane` on a Docker socket; its state and its log stay when it is started again."""

    def __init__(self, folder: Path, docker: str, instance: str, idle_seconds: float) -> None:
        self.control_port, self.proxy_port = free_ports(2)
        self.control = f"http://127.0.0.1:{self.control_port}"
        self.log = folder / "server.log"
        self.state = folder / "state"
        self.state.mkdir(exist_ok=True)
        self.generation = 0
        self.up = False
        self._folder = folder
        self._read = 0
        self._process: subprocess.Popen[bytes] | None = None
        program = Path(__file__).with_name("session.py").read_text()
        (folder / "plane.toml").write_text(
            CONF.format(
                control=self.control_port,
                proxy=self.proxy_port,
                docker=docker,
                instance=instance,
                idle=idle_seconds,
                image=IMAGE,
                program=json.dumps(program),
            )
        )

    def start(self) -> None:
        """Start it, and return when it listens."""
        command = [TWISTD, "-n", "--pidfile=", "plane", "--config", self._folder / "plane.toml"]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=ROOT, env=self._environment(), stdout=log, stderr=log
            )
        until(lambda: self._process.poll() is not None or self._listens(), 60)
        assert self._process.poll() is None, self.log.read_text()[-4000:]
        self.generation += 1
        self.up = True

    def kill(self) -> None:
        """SIGKILL: no last word."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """SIGTERM, as an upgrade does."""
        self._end(signal.SIGTERM)

    def step_clock(self, seconds: int) -> None:
        """From within a second on the time of day is off by so much; elapsed time is not."""
        (self._folder / _CLOCK).write_text(f"{seconds:+d}s\n")

    def sessions(self) -> dict[str, Any]:
        """What GET /ctrl/backends tells, by id."""
        found, after = [], ""
        while after is not None:
            url = f"{self.control}/ctrl/backends?limit=1000&after={after}".removesuffix("&after=")
            page = ask("GET", url).json
            found, after = found + page["backends"], page["next"]
        return {each["backend_id"]: each for each in found}

    def rss_bytes(self) -> int:
        return self._status("VmRSS") * 1024

    def open_files(self) -> int:
        return len(list(Path(f"/proc/{self._process.pid}/fd").iterdir()))

    def died(self) -> bool:
        """Whether it has ended of itself."""
        return self.up and self._process.poll() is not None

    def news(self) -> str:
        """What it has logged since the last call."""
        with self.log.open("rb") as log:
            log.seek(self._read)
            text = log.read()
        self._read += len(text)
        return text.decode("utf-8", "replace")

    def _status(self, field: str) -> int:
        for line in Path(f"/proc/{self._process.pid}/status").read_text().splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1])
        return 0

    def _end(self, number: int) -> None:
        self.up = False
        self._process.send_signal(number)
        self._process.wait(60)

    def _listens(self) -> bool:
        try:
            return ask("GET", f"{self.control}/pub/ready").status in (200, 503)
        except OSError:
            return False

    def _environment(self) -> dict[str, str]:
        environment = {**with_state(self._folder), "PYTHONUNBUFFERED": "1"}
        if (self._folder / _CLOCK).exists():
            environment |= {
                "LD_PRELOAD": str(_FAKETIME),
                "FAKETIME_TIMESTAMP_FILE": str(self._folder / _CLOCK),
                "FAKETIME_CACHE_DURATION": "1",
                "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            }
        return environment
