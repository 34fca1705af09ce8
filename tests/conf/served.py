"""A real server with a configuration as it is shipped, but for ports and places."""

from __future__ import annotations

import contextlib
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tests.live import APPS, PATIENCE_SECONDS, ROOT, TWISTD, LiveServer, with_state

CONF = ROOT / "conf"

#: What is put in the place of the docker engine.
PROCESSES = 'kind = "process"'


def with_places(text: str, places: Mapping[str, str]) -> str:
    """A shipped file with ports and places of our own for its, all of which it must name."""
    for shipped, ours in places.items():
        assert shipped in text, shipped
        text = text.replace(shipped, ours)
    return text


class Served(LiveServer):
    """A server with a configuration of its own, started as `program` says; not ready yet."""

    def __init__(
        self,
        folder: Path,
        config: str,
        ports: tuple[int, int],
        program: Sequence[Path | str] = (),
        environment: Mapping[str, str] | None = None,
        passed: Sequence[int] = (),
    ) -> None:
        self.control_port, self.proxy_port = ports
        self.control = f"http://127.0.0.1:{self.control_port}"
        self.cluster = f"localhost:{self.proxy_port}"
        self.log = folder / "server.log"
        self.config = folder / "plane.toml"
        self.config.write_text(f"{config}\n{APPS}")
        command = [*program, TWISTD, "-n", "--pidfile=", "plane", "--config", self.config]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**with_state(folder), **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=passed,
            )

    def ended(self) -> str:
        """What it wrote, once it has ended by itself."""
        self.process.wait(PATIENCE_SECONDS)
        return self.log.read_text()

    def terminate(self) -> None:
        """Stop it as systemd does, and wait for the end."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.process.wait(PATIENCE_SECONDS)


@contextlib.contextmanager
def stopped_at_the_end(server: Served) -> Iterator[Served]:
    """The server, which must not have logged a traceback."""
    try:
        yield server
    finally:
        server.terminate()
    assert "Traceback" not in server.log.read_text(), server.log.read_text()
