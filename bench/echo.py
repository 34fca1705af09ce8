"""The origin of WebSockets: an echo server, as the session of a real server of ours, and its load.

Both are small C programs, compiled when a bench begins: see websocket.py for why.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs

from bench.origin import Origin, session_url
from bench.processes import LOAD_CORE, SERVER_CORE, on_core
from tests.live import live_server

HERE = Path(__file__).parent

ECHO = """
[engine]
kind = "process"
[defaults]
max_idle_seconds = 0.0
[apps.echo-server]
command = ["sh", "-c", '''echo $PORT $$ >{folder}/echo
    exec taskset -c {core} {program} $PORT''']
"""


@attrs.frozen
class Programs:
    """Where the compiled programs are."""

    echo: Path
    load: Path


def compiled(folder: Path) -> Programs:
    """Both programs, in this folder."""
    programs = Programs(folder / "wsecho", folder / "wsload")
    for program in (programs.echo, programs.load):
        source = str(HERE / f"{program.name}.c")
        command = ["gcc", "-O3", "-Wall", "-Wextra", "-Werror", "-o", str(program), source]
        run = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
        if run.returncode:
            needed = "Debian: apt-get install gcc libc6-dev"
            raise SystemExit(f"bench: {source} does not compile ({needed}):\n{run.stderr}")
    return programs


@attrs.frozen
class Echo:
    """The origin, on which everything leads to the echo server, and the process of that."""

    origin: Origin
    pid: int

    @property
    def url(self) -> str:
        """Where it is without a proxy."""
        return f"http://127.0.0.1:{self.origin.files_port}"


@contextmanager
def echo(folder: Path, program: Path) -> Iterator[Echo]:
    """Our server with an echo server as its only session, ready."""
    home = folder / "origin"
    home.mkdir()
    conf = ECHO.format(folder=home, core=LOAD_CORE, program=program)
    with on_core(SERVER_CORE), live_server(home, conf) as ours:
        url = session_url(ours, "echo-server")
        port, pid = map(int, (home / "echo").read_text(encoding="ascii").split())
        yield Echo(Origin(ours, home, port, port, url, url), pid)
