"""The rows of plane.md part 7 that concern the proxy, each asked of a real server over loopback."""

from __future__ import annotations

import contextlib
import http.client
import json
import signal
import socket
import ssl
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.certificate import write_certificate
from tests.live import PATIENCE_SECONDS, Answer, LiveServer, ask, free_ports, live_server, until
from tests.proxy.frames import TEXT, frame, read, upgrade

PROCESS = """
[engine]
kind = "process"
[apps.raw]
command = ["{python}", "tests/plane/raw_server.py"]
workdir = "."
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    with live_server(tmp_path_factory.mktemp("plain"), PROCESS) as running:
        yield running


class Secure:
    """A server with TLS on its proxy and a plain endpoint that leads there."""

    def __init__(self, server: LiveServer, pem: Path, plain_port: int) -> None:
        self.server = server
        self.plain = f"http://localhost:{plain_port}"
        self.context = ssl.create_default_context(cafile=str(pem))

    def ask(self, path: str) -> Answer:
        connection = http.client.HTTPSConnection(
            "localhost", self.server.proxy_port, timeout=PATIENCE_SECONDS, context=self.context
        )
        with contextlib.closing(connection):
            connection.request("GET", path)
            return Answer(connection.getresponse())


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secure]:
    folder = tmp_path_factory.mktemp("secure")
    pem = write_certificate(folder)
    (plain_port,) = free_ports(1)
    conf = f'redirect_endpoint = "tcp:{plain_port}:interface=127.0.0.1"\n{PROCESS}'
    with live_server(folder, conf, tls=pem) as running:
        yield Secure(running, pem, plain_port)


def connect(server: LiveServer, body: dict[str, Any]) -> Any:
    """POST /ctrl/connect as a client written for Plane does."""
    answer = ask("POST", f"{server.control}/ctrl/connect", body)
    assert answer.status == 200, answer.body
    return answer.json


ECHO = {"executable": {"app": "echo"}}


@pytest.fixture(scope="module")
def made(server: LiveServer) -> Any:
    """One session that many rows share."""
    auth = {"role": "näme"}
    return connect(
        server, {"key": {"name": "k"}, "spawn_config": ECHO, "user": "ann", "auth": auth}
    )


def echoed(answer: Answer) -> dict[str, str]:
    """The headers that the session saw, names in lower case."""
    assert answer.status == 200, answer.body
    return {name.lower(): value for name, value in answer.json["headers"]}


def at(server: LiveServer, path: str, host: str = "") -> Answer:
    return ask("GET", f"http://{server.cluster}{path}", headers={"Host": host or server.cluster})


@contextlib.contextmanager
def speaking(server: LiveServer) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", server.proxy_port), PATIENCE_SECONDS) as client:
        yield client


def until_closed(client: socket.socket) -> bytes:
    return b"".join(iter(lambda: client.recv(65536), b""))


def exactly(client: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size and (more := client.recv(size - len(data))):
        data += more
    return data


def head_from(client: socket.socket) -> bytes:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += client.recv(1)
    return head


# plane-tests


def test_row_proxy_root_no_redirect(server: LiveServer) -> None:
    answer = at(server, "/")

    assert answer.status == 400
    assert answer.headers["Location"] is None


def test_row_proxy_root_redirect(tmp_path: Path) -> None:
    conf = f'root_redirect_url = "https://example.com/home"\n{PROCESS}'
    with live_server(tmp_path, conf) as running:
        answer = at(running, "/")

    assert answer.status == 301
    assert answer.headers["Location"] == "https://example.com/home"


@pytest.mark.parametrize("token", ["x", "A" * 43, "s." + "A" * 43, "favicon.ico"])
def test_row_proxy_bad_bearer_token(server: LiveServer, token: str) -> None:
    assert at(server, f"/{token}/").status == 410


def test_row_proxy_backend_unreachable(server: LiveServer) -> None:
    raw = server.connect("raw")

    before = ask("GET", f"{raw['url']}deaf")
    answer = ask("GET", raw["url"])

    assert before.status == 200
    assert answer.status == 502
    assert answer.headers["x-plane-backend-id"] == raw["backend_id"]


def test_row_proxy_backend_accepts(server: LiveServer, made: Any) -> None:
    seen = ask("GET", f"{made['url']}echo").json

    assert (seen["method"], seen["path"]) == ("GET", "/echo")


def test_row_proxy_static_token(server: LiveServer) -> None:
    static = server.connect("raw", use_static_token=True)

    answer = ask("GET", f"{static['url']}foobar")

    assert static["token"].startswith("s.")
    assert answer.body.startswith(f"GET /{static['token']}/foobar HTTP/1.1\r\n".encode())


@pytest.fixture(scope="module")
def homed(server: LiveServer) -> Any:
    return connect(server, {"spawn_config": {**ECHO, "subdomain": "home"}})


def test_row_proxy_expected_subdomain_not_present(server: LiveServer, homed: Any) -> None:
    path = f"/{homed['token']}/"

    assert at(server, path).status == 403
    assert at(server, path, f"other.{server.cluster}").status == 403
    assert at(server, path, "home.example.com").status == 403


def test_row_proxy_expected_subdomain_is_present(server: LiveServer, homed: Any) -> None:
    assert at(server, f"/{homed['token']}/", f"home.{server.cluster}").status == 200


def test_row_subdomains(server: LiveServer, made: Any, homed: Any) -> None:
    assert made["url"] == f"http://{server.cluster}/{made['token']}/"
    assert homed["url"] == f"http://home.{server.cluster}/{homed['token']}/"
    assert homed["subdomain"] == "home"


def test_row_proxy_backend_passes_forwarded_headers(made: Any) -> None:
    seen = echoed(ask("GET", f"{made['url']}echo", headers={"X-Forwarded-For": "1.2.3.4"}))

    assert seen["x-forwarded-for"] == "127.0.0.1"
    assert seen["x-forwarded-proto"] == "http"


def test_row_proxy_returns_backend_id_in_header(made: Any) -> None:
    assert ask("GET", made["url"]).headers["x-plane-backend-id"] == made["backend_id"]


def test_row_proxy_marks_backend_as_recently_active(server: LiveServer) -> None:
    mine = server.connect("echo", key="active")
    before = server.wait_for(mine["backend_id"], "ready")["idle_since"]

    ask("GET", f"{mine['url']}echo")
    after = server.session(mine["backend_id"])

    assert after["connections"] == []
    assert after["idle_since"] > before


def test_row_proxy_marks_websocket_backend_as_active(server: LiveServer, made: Any) -> None:
    with speaking(server) as client:
        client.sendall(upgrade(f"/{made['token']}/ws", server.cluster))
        head_from(client)
        open_now = server.session(made["backend_id"])
    until(lambda: not server.session(made["backend_id"])["connections"])

    assert [each["kind"] for each in open_now["connections"]] == ["websocket"]
    assert open_now["idle_since"] is None
    assert server.session(made["backend_id"])["idle_since"] is not None


CORS = {
    "access-control-allow-origin": "*",
    "access-control-allow-methods": "*",
    "access-control-allow-headers": "*, Authorization",
}


def cors_of(answer: Answer) -> dict[str, str]:
    said = {name.lower(): value for name, value in answer.headers.items()}
    return {name: value for name, value in said.items() if name.startswith("access-control-")}


def test_row_proxy_gone_request_has_cors_headers(server: LiveServer) -> None:
    answer = at(server, "/gone/")

    assert answer.status == 410
    assert cors_of(answer) == CORS


def test_row_proxy_valid_request_has_cors_headers(made: Any) -> None:
    assert cors_of(ask("GET", made["url"])) == CORS
    assert cors_of(ask("GET", f"{made['url']}headers?Access-Control-Allow-Origin=me")) == {
        "access-control-allow-origin": "me"
    }


def test_row_proxy_fake_verified_headers_are_stripped(made: Any) -> None:
    forged = {"x-verified-blah": "1", "X-Verified-Username": "root", "x-other": "kept"}

    seen = echoed(ask("GET", f"{made['url']}echo", headers=forged))

    assert "x-verified-blah" not in seen
    assert seen["x-verified-username"] == "ann"
    assert seen["x-other"] == "kept"


def test_row_proxy_plane_headers_are_set(made: Any) -> None:
    seen = echoed(ask("GET", f"{made['url']}echo/a/b/c/"))

    assert seen["x-verified-username"] == "ann"
    assert json.loads(seen["x-verified-user-data"]) == {"role": "näme"}
    assert seen["x-verified-secret"] == made["secret_token"]
    assert seen["x-verified-path"] == f"/{made['token']}/echo/a/b/c/"
    assert seen["x-verified-backend"] == made["backend_id"]


def test_row_proxy_not_ready(tmp_path: Path) -> None:
    conf = f'[engine]\nkind = "docker"\ndocker_socket = "{tmp_path}/nowhere.sock"\n'
    running = LiveServer(tmp_path, conf)
    try:
        running.wait_until_listening()
        answer = at(running, "/ready")
    finally:
        running.interrupt()

    assert answer.status == 503


def test_rows_proxy_ready_and_proxy_becomes_ready(server: LiveServer) -> None:
    assert at(server, "/ready").status == 200


def test_row_proxy_error_response_includes_server_header(server: LiveServer) -> None:
    answer = at(server, "/gone/")

    assert answer.status == 410
    assert answer.headers["Server"] == "plane-tx"


def test_row_proxy_valid_response_includes_server_header(made: Any) -> None:
    answer = ask("GET", f"{made['url']}headers?Server=theirs")

    assert answer.headers["Server"] == "theirs"
    assert answer.headers["Via"] == "1.1 plane-tx"


# dynamic-proxy/tests


def refused(server: LiveServer) -> bool:
    try:
        socket.create_connection(("127.0.0.1", server.proxy_port)).close()
    except ConnectionRefusedError:
        return True
    return False


def test_row_graceful(tmp_path: Path) -> None:
    answer, farewell = heard_while_stopping(tmp_path, None)

    assert b'"body": "halfhalf"' in answer
    assert farewell.endswith(b"the server is stopping")


def test_row_graceful_https(tmp_path: Path) -> None:
    answer, farewell = heard_while_stopping(tmp_path, write_certificate(tmp_path))

    assert b'"body": "halfhalf"' in answer
    assert farewell.endswith(b"the server is stopping")


def heard_while_stopping(folder: Path, pem: Path | None) -> tuple[bytes, bytes]:
    """What an upload is answered that goes on while the server stops, and what a WebSocket is."""
    with live_server(folder, f"shutdown_seconds = 60\n{PROCESS}", tls=pem) as running:
        mine = running.connect("echo")
        with open_connection(running, pem) as upload, open_connection(running, pem) as browser:
            upload.sendall(
                f"POST /{mine['token']}/echo HTTP/1.1\r\nHost: {running.cluster}\r\n"
                "Content-Length: 8\r\n\r\nhalf".encode()
            )
            browser.sendall(upgrade(f"/{mine['token']}/ws", running.cluster))
            head_from(browser)
            until(lambda: len(running.session(mine["backend_id"])["connections"]) == 2)

            running.process.send_signal(signal.SIGTERM)
            until(lambda: refused(running))
            farewell = until_closed(browser)
            upload.sendall(b"half")
            answer = until_closed(upload)
        running.process.wait(PATIENCE_SECONDS)

    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"\r\nConnection: close\r\n" in answer
    return answer, farewell


def open_connection(server: LiveServer, pem: Path | None) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", server.proxy_port), PATIENCE_SECONDS)
    if pem is None:
        return client
    context = ssl.create_default_context(cafile=str(pem))
    return context.wrap_socket(client, server_hostname="localhost")


def test_row_hello_world_http(made: Any) -> None:
    seen = echoed(ask("GET", f"{made['url']}echo"))

    assert (seen["x-forwarded-for"], seen["x-forwarded-proto"]) == ("127.0.0.1", "http")


def test_row_https_test(secure: Secure) -> None:
    mine = secure.server.connect("echo")

    seen = echoed(secure.ask(f"/{mine['token']}/echo"))

    assert (seen["x-forwarded-for"], seen["x-forwarded-proto"]) == ("127.0.0.1", "https")
    assert seen["x-forwarded-port"] == str(secure.server.proxy_port)


@pytest.mark.parametrize(
    ("asked", "location"),
    [
        pytest.param("", "/", id="test_https_redirect"),
        pytest.param("/", "/", id="test_https_redirect_with_slash_path"),
        pytest.param("/foo/bar", "/foo/bar", id="test_https_redirect_with_path"),
        pytest.param("/foo?a=b&c=d", "/foo?a=b&c=d", id="test_https_redirect_with_query_params"),
    ],
)
def test_rows_test_https_redirect(secure: Secure, asked: str, location: str) -> None:
    answer = ask("GET", f"{secure.plain}{asked}")

    assert answer.status == 308
    assert answer.headers["Location"] == f"https://{secure.server.cluster}{location}"


def test_row_test_https_redirect_leads_to_the_session(secure: Secure) -> None:
    mine = secure.server.connect("echo")

    location = ask("GET", f"{secure.plain}/{mine['token']}/echo").headers["Location"]
    answer = secure.ask(location.removeprefix(f"https://{secure.server.cluster}"))

    assert answer.json["path"] == "/echo"


@pytest.mark.parametrize(
    ("version", "more", "kept"),
    [
        ("1.1", "", True),
        ("1.1", "Connection: close\r\n", False),
        ("1.0", "", False),
        ("1.0", "Connection: keep-alive\r\n", True),
    ],
)
def test_row_test_http1(server: LiveServer, made: Any, version: str, more: str, kept: bool) -> None:
    request = (
        f"GET /{made['token']}/echo HTTP/{version}\r\nHost: {server.cluster}\r\n{more}\r\n"
    ).encode()
    with speaking(server) as client:
        client.sendall(request)
        head = head_from(client)
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        exactly(client, length)
        if kept:
            client.sendall(request)
        second = client.recv(9)

    assert head.startswith(b"HTTP/1.1 200 ")
    assert second == (b"HTTP/1.1 " if kept else b"")


def test_row_test_http2(server: LiveServer) -> None:
    with speaking(server) as client:
        client.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")
        answer = until_closed(client)

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"HTTP/2 is not spoken here: use HTTP/1.1" in answer


def test_row_test_proxy_simple_request(made: Any) -> None:
    answer = ask("GET", f"{made['url']}echo")

    assert (answer.status, answer.json["method"], answer.json["body"]) == (200, "GET", "")


def test_row_test_proxy_simple_post(made: Any) -> None:
    seen = ask("POST", f"{made['url']}echo").json

    assert (seen["method"], seen["path"]) == ("POST", "/echo")


def test_row_test_proxy_path_and_query(made: Any) -> None:
    seen = ask("GET", f"{made['url']}echo/a%2Fb//c?x=%20y&z=?&&").json

    assert seen["path"] == "/echo/a%2Fb//c?x=%20y&z=?&&"


def test_row_test_proxy_headers(server: LiveServer, made: Any) -> None:
    added = {
        *("x-verified-path", "x-verified-backend", "x-verified-secret", "x-verified-username"),
        *("x-verified-user-data", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host"),
        *("x-forwarded-port", "x-forwarded-prefix", "via"),
    }

    seen = echoed(ask("GET", f"{made['url']}echo", headers={"X-One": "1", "Cookie": "a=b"}))

    assert {name: seen[name] for name in set(seen) - added} == {
        "host": server.cluster,
        "accept-encoding": "identity",
        "x-one": "1",
        "cookie": "a=b",
    }


def test_row_test_proxy_body(made: Any) -> None:
    seen = ask("PUT", f"{made['url']}echo", b"hello")

    assert seen.json["body"] == "hello"
    assert echoed(seen)["content-length"] == "5"


def test_row_test_websocket_echo(server: LiveServer, made: Any) -> None:
    with speaking(server) as client:
        client.sendall(upgrade(f"/{made['token']}/ws", server.cluster))
        head = head_from(client)
        client.sendall(frame(TEXT, b"hello", masked=True))
        heard = exactly(client, len(frame(TEXT, b"hello")))

    assert head.startswith(b"HTTP/1.1 101 ")
    assert read(heard) == [(TEXT, b"hello")]


@pytest.fixture(scope="module")
def raw(server: LiveServer) -> Any:
    return server.connect("raw")


def offer(server: LiveServer, raw: Any, protocol: str = "echo") -> bytes:
    return (
        f"GET /{raw['token']}/ HTTP/1.1\r\nHost: {server.cluster}\r\n"
        f"Connection: Upgrade\r\nUpgrade: {protocol}\r\n\r\n"
    ).encode()


def test_row_test_upgrade(server: LiveServer, raw: Any) -> None:
    with speaking(server) as client:
        client.sendall(offer(server, raw) + b"early ")
        head = head_from(client)
        early = exactly(client, 6)
        client.sendall(b"\x00late")
        late = exactly(client, 5)
        open_now = server.session(raw["backend_id"])["connections"]
        client.shutdown(socket.SHUT_WR)
        rest = until_closed(client)
    until(lambda: not server.session(raw["backend_id"])["connections"])

    assert head.startswith(b"HTTP/1.1 101 ")
    assert b"\r\nUpgrade: echo\r\n" in head
    assert (early, late, rest) == (b"early ", b"\x00late", b"bye")
    assert len(open_now) == 1


def test_row_test_upgrade_is_over_when_its_client_vanishes(server: LiveServer, raw: Any) -> None:
    with speaking(server) as client:
        client.sendall(offer(server, raw))
        head_from(client)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    until(lambda: not server.session(raw["backend_id"])["connections"])

    assert server.session(raw["backend_id"])["status"] == "ready"


def test_row_test_upgrade_is_cut_when_its_session_ends(server: LiveServer) -> None:
    mine = server.connect("raw")
    with speaking(server) as client:
        client.sendall(offer(server, mine))
        head_from(client)
        ask("POST", f"{server.control}/ctrl/b/{mine['backend_id']}/hard-terminate")
        rest = until_closed(client)

    assert rest == b""


def test_row_test_upgrade_offers_no_h2c(server: LiveServer, raw: Any) -> None:
    with speaking(server) as client:
        client.sendall(offer(server, raw, "h2c"))
        head = head_from(client)

    assert head.startswith(b"HTTP/1.1 200 ")
