"""The origin of what is proxied, as sessions of a real server: nginx with files, a sink of uploads.

Our server is thus started here; the other proxies are led to the same two processes.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs

from bench.processes import LOAD_CORE, SERVER_CORE, on_core
from tests.live import LiveServer, ask, live_server

#: The lengths of two files of the origin, which are their names; a third is as long as one likes.
SMALL, MIDDLE = 1024, 100 * 1024

#: For nginx, origin and proxy alike: as many connections as the files that a process may open. When
#: fewer than a sixteenth are free it drops those on which nobody has asked for anything yet.
NGINX = """
{user}worker_processes 1;
worker_rlimit_nofile 20000;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 19900; }}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    default_type application/octet-stream;
    keepalive_timeout 1h;
    keepalive_requests 1000000000;
    client_max_body_size 0;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
{http}
}}
"""

SESSIONS = """
[engine]
kind = "process"
[defaults]
max_idle_seconds = 0.0
[apps.files]
command = ["sh", "-c", '''sed "s/@PORT@/$PORT/" {folder}/template.conf >{folder}/nginx.conf
    echo $PORT >{folder}/port
    exec taskset -c {core} nginx -e {folder}/error.log -c {folder}/nginx.conf''']
[apps.uploads]
command = ["{{python}}", "bench/sink.py", "{core}", "{folder}/uploads"]
workdir = "."
"""


@attrs.frozen
class Origin:
    """Where the files and the sink of uploads are, and under which URLs our server has them."""

    ours: LiveServer
    files: Path
    files_port: int
    uploads_port: int
    our_files: str
    our_uploads: str


def nginx_conf(folder: Path, http: str) -> str:
    """A configuration for nginx with its files in `folder`; `http` is the inside of that block."""
    # Started as root it would run as nobody, who may not read what we write.
    user = "user root;\n" if os.geteuid() == 0 else ""
    return NGINX.format(user=user, folder=folder, http=http)


@contextmanager
def scratch() -> Iterator[Path]:
    """A directory in memory, if there is such a place, that goes with the block."""
    memory = Path("/dev/shm")
    folder = tempfile.mkdtemp(prefix="plane-bench-", dir=memory if memory.is_dir() else None)
    try:
        yield Path(folder)
    finally:
        shutil.rmtree(folder)


def _write_files(files: Path, large: int) -> None:
    files.mkdir()
    for size in (SMALL, MIDDLE):
        (files / str(size)).write_bytes(os.urandom(size))
    with (files / str(large)).open("wb") as sparse:
        sparse.truncate(large)


@contextmanager
def origin(folder: Path, large: int) -> Iterator[Origin]:
    """Our server with both sessions, each ready; `large` bytes are in the third file."""
    home = folder / "origin"
    home.mkdir()
    files = home / "files"
    _write_files(files, large)
    site = f"server {{ listen 127.0.0.1:@PORT@ backlog=4096; root {files}; }}"
    (home / "template.conf").write_text(nginx_conf(home, site), encoding="utf-8")
    with (
        on_core(SERVER_CORE),
        live_server(home, SESSIONS.format(folder=home, core=LOAD_CORE)) as ours,
    ):
        urls = [session_url(ours, app) for app in ("files", "uploads")]
        ports = [int((home / name).read_text(encoding="ascii")) for name in ("port", "uploads")]
        yield Origin(ours, files, *ports, *urls)


def session_url(ours: LiveServer, app: str) -> str:
    """The URL of a new session, as one user of it has it, when it is ready."""
    asked = {
        "key": {"name": app},
        "user": "ada",
        "auth": {"role": "editor"},
        "spawn_config": {"executable": {"app": app}},
    }
    made = ask("POST", f"{ours.control}/ctrl/connect", asked).json
    ours.wait_for(made["backend_id"], "ready")
    return str(made["url"]).rstrip("/")
