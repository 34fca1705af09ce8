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
from cryptography import x509

from tests.certificate import self_signed, write_certificate, write_chain
from tests.live import PATIENCE_SECONDS, LiveServer, ask, live_server, until
from tests.proxy.frames import TEXT, frame, read, upgrade

PROCESS = '[engine]\nkind = "process"\n'

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
