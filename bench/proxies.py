"""The proxies that are measured side by side, on one core and with one origin for all."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path

import attrs

from bench.origin import SMALL, Origin, nginx_conf
from bench.processes import SERVER_CORE, on_core, with_children
from bench.report import BUFFERED, CADDY, CHP, HAPROXY, NGINX, OURS, SPLICED, TWISTED
from tests.live import ask, free_ports, until


@attrs.frozen
class Proxy:
    """A running proxy: its processes, and the URLs under which it has the files and the sink."""

    name: str
    pids: Sequence[int]
    files: str
    uploads: str


#: In full: connections to the origin are kept; how bodies pass is put in front.
NGINX_HTTP = """
    upstream files {{ server 127.0.0.1:{files}; keepalive 600; keepalive_requests 1000000000; }}
    upstream uploads {{ server 127.0.0.1:{uploads}; keepalive 8; }}
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_set_header Host $http_host;
    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    proxy_set_header X-Forwarded-Proto $scheme;
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{ proxy_pass http://files; }}
        location /upload {{ proxy_pass http://uploads; }}
    }}
"""

#: Answers and bodies pass as they come.
UNBUFFERED = """
    proxy_buffering off;
    proxy_request_buffering off;
"""

#: Upgrades pass to the origin, and stay when nothing is said.
NGINX_TUNNEL = """
    proxy_http_version 1.1;
    proxy_set_header Upgrade $http_upgrade;
    proxy_set_header Connection upgrade;
    proxy_set_header Host $http_host;
    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    proxy_set_header X-Forwarded-Proto $scheme;
    proxy_read_timeout 1h;
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{ proxy_pass http://127.0.0.1:{files}; }}
    }}
"""

#: Room for 10 000 idle connections, which it would else deny itself with 20 000 files.
HAPROXY_CONF = """
global
    nbthread 1
    maxconn 10500
    no strict-limits
defaults
    mode http
    option forwardfor
    timeout connect 10s
    timeout client 1h
    timeout server 1h
    timeout http-keep-alive 1h
frontend front
    bind 127.0.0.1:{port} backlog 4096
    use_backend uploads if {{ path_beg /upload }}
    default_backend files
backend files
    http-reuse always
    server files 127.0.0.1:{files}
backend uploads
    server uploads 127.0.0.1:{uploads}
"""

#: In both backends and in front the kernel may move bodies from socket to socket.
SPLICE = "    option splice-auto\n"

CADDY_CONF = """
{{
    admin off
    auto_https off
    servers {{
        timeouts {{
            idle 1h
        }}
    }}
}}
http://127.0.0.1:{port} {{
    bind 127.0.0.1
    handle /upload* {{
        reverse_proxy 127.0.0.1:{uploads}
    }}
    handle {{
        reverse_proxy 127.0.0.1:{files} {{
            flush_interval -1
            transport http {{
                keepalive_idle_conns_per_host 600
            }}
        }}
    }}
}}
"""

#: Who may add a route to configurable-http-proxy, which listens on loopback alone.
CHP_TOKEN = "bench"

CHP_VERSION = "5.3.0"

#: Where npm puts it, once.
CACHE = (
    Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    / "plane_tx"
    / "bench"
    / CHP_VERSION
)

#: The port that a proxy listens on, and one more for its administration.
Ports = tuple[int, int]


def _written(path: Path, template: str, origin: Origin, port: int) -> str:
    text = template.format(port=port, files=origin.files_port, uploads=origin.uploads_port)
    path.write_text(text, encoding="utf-8")
    return str(path)


def _nginx(
    program: str,
    folder: Path,
    origin: Origin,
    ports: Ports,
    http: str = UNBUFFERED + NGINX_HTTP,
) -> list[str]:
    conf = _written(folder / "http.conf", http, origin, ports[0])
    whole = folder / "nginx.conf"
    whole.write_text(nginx_conf(folder, f"include {conf};"), encoding="utf-8")
    return [program, "-e", f"{folder}/error.log", "-c", str(whole)]


def _haproxy(program: str, folder: Path, origin: Origin, ports: Ports, how: str = "") -> list[str]:
    text = HAPROXY_CONF.replace("    mode http\n", "    mode http\n" + how)
    conf = _written(folder / "haproxy.cfg", text, origin, ports[0])
    return [program, "-q", "-db", "-f", conf]


def _caddy(program: str, folder: Path, origin: Origin, ports: Ports) -> list[str]:
    conf = _written(folder / "Caddyfile", CADDY_CONF, origin, ports[0])
    return [program, "run", "--adapter", "caddyfile", "--config", conf]


def _chp(program: str, folder: Path, origin: Origin, ports: Ports) -> list[str]:
    listen, administration = ports
    command = [program, "--ip=127.0.0.1", f"--port={listen}", "--log-level=error"]
    command += ["--api-ip=127.0.0.1", f"--api-port={administration}"]
    command += ["--keep-alive-timeout=3600000"]
    return [*command, f"--default-target=http://127.0.0.1:{origin.files_port}"]


def _chp_route(origin: Origin, ports: Ports) -> None:
    """Lead uploads to the sink, which no option of the command line does."""
    url = f"http://127.0.0.1:{ports[1]}/api/routes/upload"
    target = {"target": f"http://127.0.0.1:{origin.uploads_port}"}
    answer = ask("POST", url, target, {"Authorization": f"token {CHP_TOKEN}"})
    if answer.status != 201:
        raise SystemExit(f"bench: {CHP} does not take a route: {answer.status} {answer.body!r}")


def _chp_program() -> str | None:
    """Where configurable-http-proxy is; npm is asked for it the first time."""
    program = CACHE / "node_modules" / ".bin" / CHP
    if not program.exists() and shutil.which("npm") is not None:
        CACHE.mkdir(parents=True, exist_ok=True)
        npm = ["npm", "install", "--silent", "--no-fund", "--no-audit", "--prefix", str(CACHE)]
        subprocess.run([*npm, f"{CHP}@{CHP_VERSION}"], check=False)
    return str(program) if program.exists() else None


def _twisted(program: str, folder: Path, origin: Origin, ports: Ports) -> list[str]:
    servers = str(Path(__file__).with_name("servers.py"))
    return [program, servers, "reverse", str(ports[0]), str(origin.files_port)]


def _nothing(origin: Origin, ports: Ports) -> None: ...


@attrs.frozen
class Kind:
    """A proxy that may be here: how it is found, asked for its version, started and prepared."""

    name: str
    cure: str
    program: Callable[[], str | None]
    version: tuple[str, ...]
    command: Callable[[str, Path, Origin, Ports], list[str]]
    prepare: Callable[[Origin, Ports], None] = _nothing


_nginx_here, _haproxy_here = partial(shutil.which, "nginx"), partial(shutil.which, "haproxy")

_NGINX = Kind(NGINX, "apt-get install nginx-light", _nginx_here, ("-v",), _nginx)
_HAPROXY = Kind(HAPROXY, "apt-get install haproxy", _haproxy_here, ("-v",), _haproxy)
_CHP = Kind(CHP, "apt-get install npm", _chp_program, ("--version",), _chp, _chp_route)

#: For HTTP.
KINDS = (
    _NGINX,
    attrs.evolve(_NGINX, name=BUFFERED, command=partial(_nginx, http=NGINX_HTTP)),
    _HAPROXY,
    attrs.evolve(_HAPROXY, name=SPLICED, command=partial(_haproxy, how=SPLICE)),
    Kind(CADDY, "apt-get install caddy", partial(shutil.which, "caddy"), ("version",), _caddy),
    _CHP,
    Kind(
        TWISTED,
        "pip install twisted",
        lambda: sys.executable,
        ("-c", "import twisted; print(twisted.__version__)"),
        _twisted,
    ),
)

#: For WebSockets.
TUNNELS = (attrs.evolve(_NGINX, command=partial(_nginx, http=NGINX_TUNNEL)), _HAPROXY, _CHP)


def named(kind: Kind) -> str:
    """The name of a proxy with the version that is here, or how to get it."""
    program = kind.program()
    if program is None:
        return f"{kind.name} is left out, for it is not here ({kind.cure})"
    told = subprocess.run([program, *kind.version], capture_output=True, text=True, check=True)
    found = re.search(r"\d+\.\d+[.\d]*", told.stdout + told.stderr)
    return f"{kind.name} {found.group().rstrip('.') if found else 'of unknown version'}"


@contextmanager
def _running(kind: Kind, program: str, folder: Path, origin: Origin) -> Iterator[Proxy]:
    """A proxy that answers."""
    folder.mkdir()
    listen, administration = free_ports(2)
    ports = (listen, administration)
    environment = {
        **os.environ, "GOMAXPROCS": "1", "NODE_ENV": "production", "HOME": str(folder),
        "XDG_DATA_HOME": str(folder), "CONFIGPROXY_AUTH_TOKEN": CHP_TOKEN,
    }  # fmt: skip
    command = kind.command(program, folder, origin, ports)
    log = folder / "output.log"
    with log.open("wb") as output, on_core(SERVER_CORE):
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
    url = f"http://127.0.0.1:{listen}"

    def answers() -> bool:
        if process.poll() is not None:
            raise SystemExit(f"bench: {kind.name} did not start: {log.read_text()}")
        with suppress(OSError):
            return ask("GET", f"{url}/{SMALL}").status == 200
        return False

    try:
        until(answers)
        kind.prepare(origin, ports)
        yield Proxy(kind.name, with_children(process.pid), url, f"{url}/upload")
    finally:
        process.terminate()
        process.wait()


@contextmanager
def proxies(folder: Path, origin: Origin, kinds: Iterable[Kind]) -> Iterator[list[Proxy]]:
    """Ours, and those of these kinds that are installed, all of them running."""
    ours = Proxy(OURS, (origin.ours.process.pid,), origin.our_files, origin.our_uploads)
    with ExitStack() as stack:
        found = [ours]
        for kind in kinds:
            program = kind.program()
            if program is not None:
                here = folder / re.sub(r"\W+", "-", kind.name)
                found.append(stack.enter_context(_running(kind, program, here, origin)))
        yield found
