"""Certificates are loaded anew at SIGHUP, while everything that is connected goes on."""

from __future__ import annotations

import contextlib
import http.client
import signal
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import pytest_twisted
from cryptography import x509
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import LogEvent, formatEvent, globalLogPublisher

from plane_tx.certificates import Endpoints, TLSEndpoint
from plane_tx.core.errors import ConfigError
from tests.certificate import self_signed, write_certificate, write_chain
from tests.live import PATIENCE_SECONDS, LiveServer, ask, live_server, until
from tests.proxy.frames import TEXT, frame, read, upgrade

PROCESS = '[engine]\nkind = "process"\n'

#: The group ffdhe2048 of RFC 7919.
DH_PARAMETERS = b"""-----BEGIN DH PARAMETERS-----
MIIBCAKCAQEA//////////+t+FRYortKmq/cViAnPTzx2LnFg84tNpWp4TZBFGQz
+8yTnc4kmz75fS/jY2MMddj2gbICrsRhetPfHtXV/WVhJDP1H18GbtCFY2VVPe0a
87VXE15/V8k1mE8McODmi3fipona8+/och3xWKE2rec1MKzKT0g6eXq8CrGCsyT7
YdEIqUuyyOP7uWrat2DX9GgdT0Kj3jlN9K5W7edjcrsZCwenyO4KbXCeAvzhzffi
7MA0BM0oNC9hkXL+nOmFg/+OTxIy7vKBg8P+OxtMb61zO7X8vC7CIAXFjvGDfRaD
ssbzSibBsu/6iGtCOGEoXJf//////////wIBAg==
-----END DH PARAMETERS-----
"""

#: Twisted hands pyOpenSSL its own old kinds of object.
in_process = pytest.mark.filterwarnings("ignore:Passing pyOpenSSL:DeprecationWarning")


def anyone() -> ssl.SSLContext:
    """A client that takes every certificate."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


@contextlib.contextmanager
def speaking(server: LiveServer, context: ssl.SSLContext) -> Iterator[ssl.SSLSocket]:
    plain = socket.create_connection(("127.0.0.1", server.proxy_port), PATIENCE_SECONDS)
    with plain, context.wrap_socket(plain, server_hostname="localhost") as client:
        yield client


def serial_seen(server: LiveServer) -> int:
    """The number of the certificate that a new connection is shown."""
    with speaking(server, anyone()) as client:
        shown = client.getpeercert(binary_form=True)
    return x509.load_der_x509_certificate(shown or b"").serial_number


def hang_up(server: LiveServer, said: str) -> str:
    """Send SIGHUP; the line that tells of it in the log."""
    server.process.send_signal(signal.SIGHUP)
    until(lambda: said in server.log.read_text())
    return next(line for line in server.log.read_text().splitlines() if said in line)


@contextlib.contextmanager
def log_lines() -> Iterator[list[str]]:
    """What is logged of SIGHUP meanwhile."""
    lines: list[str] = []

    def note(event: LogEvent) -> None:
        line = formatEvent(event)
        if "SIGHUP" in line:
            lines.append(line)

    globalLogPublisher.addObserver(note)
    yield lines
    globalLogPublisher.removeObserver(note)


def text_of(client: socket.socket) -> bytes:
    """The next message of a WebSocket."""
    ((_, payload),) = read(client.recv(65536))
    return bytes(payload)


@pytest.mark.parametrize("reactor", ["epoll", "asyncio"])
def test_a_renewed_certificate_is_shown_and_nobody_is_dropped(tmp_path: Path, reactor: str) -> None:
    pem = write_certificate(tmp_path)
    with live_server(tmp_path, PROCESS, reactor, tls=pem) as server:
        token = server.connect("echo")["token"]
        kept = http.client.HTTPSConnection("127.0.0.1", server.proxy_port, context=anyone())
        said = {"Host": server.cluster}
        with contextlib.closing(kept), speaking(server, anyone()) as browser:
            kept.request("GET", f"/{token}/echo", headers=said)
            before, first = kept.sock, kept.getresponse().read()
            browser.sendall(upgrade(f"/{token}/ws", server.cluster))
            greeting = browser.recv(65536)
            old = serial_seen(server)

            pem.write_bytes(self_signed(serial=2))
            hang_up(server, "has a certificate that is good until 20")
            new = serial_seen(server)
            kept.request("GET", f"/{token}/echo", headers=said)
            after, second = kept.sock, kept.getresponse().read()
            browser.sendall(frame(TEXT, b"still here", masked=True))
            echoed = text_of(browser)

    assert (old, new) == (1, 2)
    assert before is after
    assert b"/echo" in first
    assert b"/echo" in second
    assert greeting.startswith(b"HTTP/1.1 101")
    assert echoed == b"still here"


def test_with_tls_at_any_port_the_links_given_out_are_https(tmp_path: Path) -> None:
    with live_server(tmp_path, PROCESS, tls=write_certificate(tmp_path)) as server:
        url = server.connect("echo")["url"]
        log = server.log.read_text()

    assert url.startswith(f"https://{server.cluster}/")
    assert f"proxy    https://{server.cluster}" in log


def test_a_pair_that_does_not_fit_is_one_line_and_the_old_one_stays(tmp_path: Path) -> None:
    key, chain, _ = write_chain(tmp_path)
    with live_server(tmp_path, PROCESS, tls=f"{key}:certKey={chain}") as server:
        old = serial_seen(server)
        write_certificate(tmp_path).rename(chain)
        chain.write_bytes(chain.read_bytes().partition(b"-----END PRIVATE KEY-----\n")[2])

        line = hang_up(server, "keeps its certificate")
        seen = serial_seen(server)
        answered = ask("GET", f"{server.control}/pub/ready").status

    assert line.endswith("Certificate public and private keys do not match")
    assert f"ssl:{server.proxy_port}" in line
    assert (seen, answered) == (old, 200)


def test_a_server_without_tls_outlives_a_hangup(tmp_path: Path) -> None:
    with live_server(tmp_path, PROCESS) as server:
        line = hang_up(server, "SIGHUP")
        answered = ask("GET", f"{server.control}/pub/ready").status

    assert line.endswith("no endpoint has a certificate that could be loaded anew")
    assert answered == 200


def test_browsers_are_shown_the_whole_chain_and_agree_on_http_1(tmp_path: Path) -> None:
    key, chain, trusted = write_chain(tmp_path)
    browser = ssl.create_default_context(cafile=str(trusted))
    browser.set_alpn_protocols(["h2", "http/1.1"])

    with (
        live_server(tmp_path, PROCESS, tls=f"{key}:certKey={chain}") as server,
        speaking(server, browser) as client,
    ):
        agreed = client.version(), client.selected_alpn_protocol()

    assert agreed == ("TLSv1.3", "http/1.1")


def test_tls_is_no_older_than_1_2(tmp_path: Path) -> None:
    old = anyone()
    old.set_ciphers("ALL:@SECLEVEL=0")
    old.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    with pytest.warns(DeprecationWarning, match="TLSv1_1 is deprecated"):
        old.maximum_version = ssl.TLSVersion.TLSv1_1

    with (
        live_server(tmp_path, PROCESS, tls=write_certificate(tmp_path)) as server,
        pytest.raises(ssl.SSLError) as refused,
        speaking(server, old),
    ):
        pass

    assert "PROTOCOL_VERSION" in str(refused.value)


# In this process, on a description as Twisted takes it.


def raised_for(description: str) -> str:
    """What is said of an endpoint that cannot be made."""
    with pytest.raises(ConfigError) as raised:
        TLSEndpoint(None, description)
    return str(raised.value)


@in_process
@pytest.mark.parametrize(
    "said",
    [
        "privateKey={key}:certKey={chain}",
        "{key}:{chain}",
        "privateKey={key}:certKey={chain}:extraCertChain={chain}",
        "privateKey={key}:certKey={chain}:backlog=5:interface=\\:\\:1",
        "privateKey={key}:certKey={chain}:dhParameters={dh}",
        pytest.param(
            "privateKey={key}:certKey={chain}:sslmethod=TLSv1_2_METHOD",
            marks=pytest.mark.filterwarnings("ignore:Passing method:DeprecationWarning"),
        ),
    ],
)
@pytest_twisted.ensureDeferred
async def test_what_a_description_may_say_is_heeded(tmp_path: Path, said: str) -> None:
    from twisted.internet import reactor

    key, chain, _ = write_chain(tmp_path)
    dh = tmp_path / "dh.pem"
    dh.write_bytes(DH_PARAMETERS)
    description = "ssl:0:" + said.format(key=key, chain=chain, dh=dh)

    endpoint = Endpoints(reactor).endpoint(description)
    port = await endpoint.listen(Factory.forProtocol(Protocol))
    address = port.getHost()
    await port.stopListening()

    assert address.host == ("::1" if "\\:" in said else "0.0.0.0")
    assert address.port > 0


@in_process
def test_a_file_that_is_no_use_is_said_in_one_line(tmp_path: Path) -> None:
    key, chain, _ = write_chain(tmp_path)
    garbage, locked = tmp_path / "garbage", tmp_path / "locked"
    garbage.write_bytes(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    locked.write_bytes(b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n")

    said = [
        raised_for(f"ssl:0:privateKey={files}")
        for files in (
            f"{tmp_path}/none",
            f"{key}:certKey={tmp_path}/none",
            f"{key}:certKey={tmp_path}",
            f"{key}:certKey={garbage}",
            f"{garbage}:certKey={chain}",
            f"{key}:certKey={chain}:extraCertChain={key}",
            str(locked),
        )
    ]

    assert said[:3] == [
        f"{tmp_path}/none: No such file or directory",
        f"{tmp_path}/none: No such file or directory",
        f"{tmp_path}: Is a directory",
    ]
    assert said[3].startswith("no key or certificate where one was expected: ")
    assert said[4].startswith("no key or certificate where one was expected: ")
    assert "doesn't contain any valid certificates" in said[5]
    assert said[6] == f"{locked}: the key is encrypted, and there is nobody to ask"


@in_process
@pytest_twisted.ensureDeferred
async def test_what_is_asked_for_while_it_loads_is_done_after(tmp_path: Path) -> None:
    from twisted.internet import reactor

    pem = write_certificate(tmp_path)
    endpoints = Endpoints(reactor)
    endpoint = endpoints.endpoint(f"ssl:0:privateKey={pem}")
    seen = [endpoint.getContext()]
    endpoints.startService()

    with log_lines() as lines:
        endpoints.reload()
        endpoints.reload()
        await endpoints.stopService()
    seen.append(endpoint.getContext())

    assert len(set(seen)) == 2
    assert len(lines) == 2


@pytest_twisted.ensureDeferred
async def test_a_hangup_is_heeded_from_the_start_to_the_end() -> None:
    from twisted.internet import reactor

    before = signal.getsignal(signal.SIGHUP)
    endpoints = Endpoints(reactor)

    endpoints.startService()
    meanwhile = signal.getsignal(signal.SIGHUP)
    endpoints.stopService()

    assert meanwhile != before
    assert signal.getsignal(signal.SIGHUP) == before
