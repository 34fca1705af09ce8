"""Caddy and nginx with the files of conf/, on ports of a test's own, in front of a real server."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import os
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import attrs

from tests.certificate import self_signed
from tests.conf.served import CONF, PROCESSES, Served, stopped_at_the_end, with_places
from tests.live import PATIENCE_SECONDS, free_ports, until

CADDYFILE = CONF / "caddy" / "Caddyfile"
NGINX = CONF / "nginx" / "plane.conf"

SESSIONS, CONTROL = "sessions.example.com", "plane.example.com"

#: Where the client is, seen from the one in front: neither of the two that are trusted.
CLIENT = "127.0.0.2"

#: Caddy waits for requests in flight for as long as they take, of which a failed test leaves some.
ENDING_SECONDS = 5.0

#: What stands around a file of nginx's; its own directories are not for a test to write in.
NGINX_MAIN = """
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {folder}/client;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/plane.conf;
}}
"""


class Connection(http.client.HTTPSConnection):
    """A browser's connection: to the public name, wherever that leads."""

    def __init__(self, host: str, port: int, trusted: ssl.SSLContext) -> None:
        super().__init__(host, timeout=PATIENCE_SECONDS, context=trusted)
        self._at = "127.0.0.1", port
        self._trusted = trusted

    def connect(self) -> None:
        plain = socket.create_connection(self._at, PATIENCE_SECONDS, source_address=(CLIENT, 0))
        self.sock = self._trusted.wrap_socket(plain, server_hostname=self.host)


@attrs.frozen
class Front:
    """A server, and what stands in front of it at two ports."""

    kind: str
    server: Served
    plain_port: int
    port: int
    certificate: Path

    @property
    def folder(self) -> Path:
        return self.certificate.parent

    def trusting(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.certificate))

    def connect(self, host: str = SESSIONS) -> Connection:
        """A connection to a public name; whoever asks for it closes it."""
        return Connection(host, self.port, self.trusting())

    def spawn(self, **spawn: object) -> tuple[str, str, str]:
        """A session, for ada; its id, and host and path of its URL."""
        request = {"spawn_config": {"executable": {"app": "echo"}, **spawn}, "user": "ada"}
        made = self.server.ask_connect(request)
        assert made["url"].startswith("https://")
        host, _, path = made["url"].removeprefix("https://").partition("/")
        return made["backend_id"], host, f"/{path}"


#: What asks each program whether its file has a fault.
CHECKS = {
    "caddy": ["validate", "--adapter", "caddyfile", "--config", "{}/Caddyfile"],
    "nginx": ["-t", "-e", "{}/error.log", "-p", "{}", "-c", "{}/nginx.conf"],
}


def snippet(shipped: str) -> str:
    """The part of plane.toml in the comment at the top of a file."""
    head = itertools.takewhile(lambda line: line.startswith("#"), shipped.splitlines())
    return "\n".join(line.removeprefix("#   ") for line in head if line.startswith("#   "))


def caddy(folder: Path, ports: tuple[int, int], server: Served) -> list[str]:
    """What starts it; the second port is the one with TLS."""
    plain, secure = ports
    socket_of_its_own = f"admin unix/{folder}/admin.sock"
    places = {
        "admin unix//run/caddy/admin.sock": (
            f"{socket_of_its_own}\nhttp_port {plain}\nhttps_port {secure}\ndefault_bind 127.0.0.1"
        ),
        "/etc/plane_tx/chain.pem": f"{folder}/chain.pem",
        "/etc/plane_tx/key.pem": f"{folder}/chain.pem",
        "127.0.0.1:9090": f"127.0.0.1:{server.proxy_port}",
        "127.0.0.1:8080": f"127.0.0.1:{server.control_port}",
    }
    (folder / "Caddyfile").write_text(with_places(CADDYFILE.read_text(), places))
    return ["caddy", "run", "--adapter", "caddyfile", "--config", f"{folder}/Caddyfile"]


def nginx(folder: Path, ports: tuple[int, int], server: Served) -> list[str]:
    """What starts it; the second port is the one with TLS."""
    plain, secure = ports
    places = {
        "listen 80;": f"listen 127.0.0.1:{plain};",
        "listen [::]:80;": f"listen [::1]:{plain};",
        "listen 443 ": f"listen 127.0.0.1:{secure} ",
        "listen [::]:443 ": f"listen [::1]:{secure} ",
        "/etc/plane_tx/chain.pem": f"{folder}/chain.pem",
        "/etc/plane_tx/key.pem": f"{folder}/chain.pem",
        "127.0.0.1:9090": f"127.0.0.1:{server.proxy_port}",
        "127.0.0.1:8080": f"127.0.0.1:{server.control_port}",
    }
    (folder / "plane.conf").write_text(with_places(NGINX.read_text(), places))
    user = "user root;\n" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(user + NGINX_MAIN.format(folder=folder))
    return ["nginx", "-e", f"{folder}/error.log", "-p", str(folder), "-c", f"{folder}/nginx.conf"]


KINDS = {"caddy": (caddy, CADDYFILE), "nginx": (nginx, NGINX)}


@contextlib.contextmanager
def front_of(kind: str, folder: Path) -> Iterator[Front]:
    """The program, in front of a server that is configured as its file says."""
    control, proxy, plain, secure = free_ports(4)
    command_of, shipped = KINDS[kind]
    names = [SESSIONS, f"*.{SESSIONS}", CONTROL]
    (folder / "chain.pem").write_bytes(self_signed(also=names))
    places = {"tcp:8080": f"tcp:{control}", "tcp:9090": f"tcp:{proxy}"}
    config = with_places(snippet(shipped.read_text()), places)
    config += f"\nshutdown_seconds = 1\n[engine]\n{PROCESSES}\n"
    with stopped_at_the_end(Served(folder, config, (control, proxy))) as server:
        server.wait_until_ready()
        command = command_of(folder, (plain, secure), server)
        with running(command, folder):
            until(lambda: answers(secure))
            yield Front(kind, server, plain, secure, folder / "chain.pem")


@contextlib.contextmanager
def running(command: list[str], folder: Path) -> Iterator[None]:
    """A program until the end of this."""
    with (folder / "front.log").open("wb") as log:
        home = {**os.environ, "HOME": str(folder), "XDG_DATA_HOME": str(folder)}
        program = subprocess.Popen(command, env=home, stdout=log, stderr=log)
    try:
        yield
    finally:
        program.terminate()
        try:
            program.wait(ENDING_SECONDS)
        except subprocess.TimeoutExpired:
            program.kill()
            program.wait()


def answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), PATIENCE_SECONDS).close()
    except OSError:
        return False
    return True
