"""A real server with a session whose server is tests/proxy/bulk.py, and what its clients need."""

from __future__ import annotations

import re
import socket
import ssl
from pathlib import Path
from urllib.parse import urlsplit

from tests.live import LiveServer
from tests.proxy.bulk import read_head
from tests.proxy.frames import KEY

CONF = """
[engine]
kind = "process"
[apps.bulk]
command = ["{python}", "tests/proxy/bulk.py"]
workdir = "."
"""

MIB = 1024 * 1024


class Memory:
    """What a server has in memory, in bytes, since it was watched."""

    def __init__(self, server: LiveServer) -> None:
        self._place = Path(f"/proc/{server.process.pid}")
        (self._place / "clear_refs").write_text("5")  # the peak begins anew
        self._before = self._read("VmRSS")

    def grown(self) -> int:
        """By how much it is larger now."""
        return self._read("VmRSS") - self._before

    def peaked(self) -> int:
        """By how much it was larger at the worst moment."""
        return self._read("VmHWM") - self._before

    def _read(self, name: str) -> int:
        found = re.search(rf"{name}:\s+(\d+) kB", (self._place / "status").read_text())
        assert found
        return int(found[1]) * 1024


class Session:
    """The session, and connections to it by way of the proxy."""

    def __init__(self, server: LiveServer, *, secure: bool = False) -> None:
        self.server = server
        self._context = _trusting() if secure else None
        made = server.connect("bulk")
        self.id = made["backend_id"]
        server.wait_for(self.id, "ready")
        self._path = urlsplit(made["url"]).path

    def head(self, line: str, more: str = "") -> bytes:
        """A request; `line` has neither token nor version."""
        method, what = line.split()
        lines = f"{method} {self._path}{what} HTTP/1.1\r\nHost: {self.server.cluster}\r\n"
        return f"{lines}{more}\r\n".encode()

    def open(self) -> socket.socket:
        """A connection that holds little by itself."""
        end = socket.socket()
        end.settimeout(60)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 262_144)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 262_144)
        end.connect(("127.0.0.1", self.server.proxy_port))
        return self._context.wrap_socket(end) if self._context else end

    def ask(self, line: str, more: str = "") -> socket.socket:
        """A connection on which this was asked."""
        end = self.open()
        end.sendall(self.head(line, more))
        return end

    def switch(self, what: str, protocol: str) -> tuple[socket.socket, bytes]:
        """A connection that speaks another protocol from here on, and what came early of that."""
        more = f"Connection: Upgrade\r\nUpgrade: {protocol}\r\n"
        if protocol == "websocket":
            more += f"Sec-WebSocket-Key: {KEY.decode()}\r\nSec-WebSocket-Version: 13\r\n"
        end = self.ask(f"GET {what}", more)
        head, early = read_head(end)
        assert head.startswith(b"HTTP/1.1 101 "), head
        return end, early

    def go(self) -> None:
        """Let whoever is stuck in the session's server go on."""
        with self.ask("GET go") as end:
            read_head(end)


def _trusting() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
