"""Certificates are loaded anew at SIGHUP, while everything that is connected goes on."""

from __future__ import annotations

import base64
import contextlib
import http.client
import os
import pty
import signal
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.internet.testing import MemoryReactor
from twisted.internet.threads import deferToThread
from twisted.logger import LogEvent, formatEvent, globalLogPublisher

from plane_tx import certificates
from plane_tx.certificates import Endpoints, TLSEndpoint
from plane_tx.core.errors import ConfigError
from plane_tx.thread import OwnThread
from tests.certificate import key_pem, self_signed, signed, write_certificate, write_chain
from tests.live import PATIENCE_SECONDS, LiveServer, ask, live_server, until
from tests.proxy.frames import TEXT, frame, read, upgrade

PROCESS = '[engine]\nkind = "process"\n'

#: Group 14 of RFC 3526, which OpenSSL takes only when it is told to.
DH_PARAMETERS = b"""-----BEGIN DH PARAMETERS-----
MIIBCAKCAQEA///////////JD9qiIWjCNMTGYouA3BzRKQJOCIpnzHQCC76mOxOb
IlFKCHmONATd75UZs806QxswKwpt8l8UN0/hNW1tUcJF5IW1dmJefsb0TELppjft
awv/XLb0Brft7jhr+1qJn6WunyQRfEsf5kkoZlHs5Fs9wgB8uKFjvwWY2kg2HFXT
mmkWP6j9JM9fg2VdI9yjrZYcYvNWIIVSu57VKQdwlpZtZww1Tkq8mATxdGwIyhgh
fDKQXkYuNs474553LBgOhgObJ4Oi7Aeij7XFXfBvTFLJ3ivL9pVYFxg5lUl86pVq
5RXSJhiY+gUQFXKOWoqsqmj//////////wIBAg==
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
def speaking(
    server: LiveServer, context: ssl.SSLContext, name: str = "localhost"
) -> Iterator[ssl.SSLSocket]:
    plain = socket.create_connection(("127.0.0.1", server.proxy_port), PATIENCE_SECONDS)
    with plain, context.wrap_socket(plain, server_hostname=name) as client:
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


def test_a_wildcard_certificate_behind_tls_serves_every_name_and_is_renewed(tmp_path: Path) -> None:
    names = ("*.sessions.example.com",)
    pem = tmp_path / "wildcard.pem"
    pem.write_bytes(self_signed(also=names))
    trusting = ssl.create_default_context(cafile=str(pem))
    with live_server(tmp_path, PROCESS, tls=f"tls:{pem}") as server:
        link = server.connect("echo", subdomain="sub")["url"]
        asked = f"GET /{link.rsplit('/', 2)[1]}/echo HTTP/1.1\r\nHost: sub.{server.cluster}\r\n\r\n"
        with speaking(server, trusting, "sub.sessions.example.com") as client:
            client.sendall(asked.encode())
            answer = client.recv(65536)
        pem.write_bytes(self_signed(serial=2, also=names))
        hang_up(server, "has a certificate that is good until 20")
        renewed = ssl.create_default_context(cafile=str(pem))
        with speaking(server, renewed, "another.sessions.example.com") as client:
            shown = client.getpeercert()

    assert link.startswith(f"https://sub.{server.cluster}/")
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert (shown or {})["serialNumber"] == "02"


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


def test_a_server_without_tls_ends_with_the_terminal_it_is_run_from(tmp_path: Path) -> None:
    terminal, its_end = pty.openpty()
    server = LiveServer(tmp_path, PROCESS, stdin=its_end)
    os.close(its_end)
    server.wait_until_ready()

    server.process.send_signal(signal.SIGHUP)
    ended = server.process.wait(PATIENCE_SECONDS)
    os.close(terminal)

    assert ended == -signal.SIGHUP


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
        TLSEndpoint(None, description, Path())
    return str(raised.value)


def shaken(address: tuple[str, int], version: int, ciphers: bytes) -> tuple[list[int], bytes]:
    """The numbers of the certificates that a handshake shows, and all that the server says in it.

    There are no numbers when it fails.
    """
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_min_proto_version(version)
    context.set_max_proto_version(version)
    context.set_cipher_list(ciphers)
    context.set_tmp_ecdh(ec.SECP256R1())  # it knows no other group by name
    client = SSL.Connection(context)
    client.set_connect_state()
    heard = b""
    with socket.create_connection(address, PATIENCE_SECONDS) as plain:
        while True:
            try:
                client.do_handshake()
                break
            except SSL.WantReadError:
                plain.sendall(client.bio_read(65536))
                heard += (more := plain.recv(65536))
                client.bio_write(more)
            except SSL.Error:
                return [], heard
    chain = client.get_peer_cert_chain(as_cryptography=True)
    return [certificate.serial_number for certificate in chain], heard


def shaken_with(address: tuple[str, int]) -> dict[str, Any]:
    """The certificates shown in each version, and whether the group is that of DH_PARAMETERS."""
    # The first number of the file, which cryptography reads no more.
    prime = base64.b64decode(b"".join(DH_PARAMETERS.splitlines()[1:-1]))[9:265]
    older, _ = shaken(address, SSL.TLS1_2_VERSION, b"ECDHE-RSA-AES128-GCM-SHA256")
    newer, _ = shaken(address, SSL.TLS1_3_VERSION, b"ALL")
    _, heard = shaken(address, SSL.TLS1_2_VERSION, b"DHE-RSA-AES128-GCM-SHA256")
    return {"1.2": older, "1.3": newer, "group": prime in heard}


@in_process
@pytest.mark.parametrize(
    ("said", "host", "heeded"),
    [
        ("privateKey={key}:certKey={chain}", "0.0.0.0", {}),
        ("{key}:{chain}", "0.0.0.0", {}),
        (
            "privateKey={key}:certKey={chain}:extraCertChain={extra}",
            "0.0.0.0",
            {"1.2": [1, 2], "1.3": [1, 2]},
        ),
        ("privateKey={key}:certKey={chain}:backlog=5:interface=\\:\\:1", "::1", {}),
        (
            "privateKey={key}:certKey={chain}:dhParameters={dh}",
            "0.0.0.0",
            {"group": True},
        ),
        pytest.param(
            "privateKey={key}:certKey={chain}:sslmethod=TLSv1_2_METHOD",
            "0.0.0.0",
            {"1.3": []},
            marks=pytest.mark.filterwarnings("ignore:Passing method:DeprecationWarning"),
        ),
    ],
)
@pytest_twisted.ensureDeferred
async def test_what_a_description_may_say_is_heeded(
    tmp_path: Path, said: str, host: str, heeded: dict[str, Any]
) -> None:
    from twisted.internet import reactor

    files = {name: tmp_path / f"{name}.pem" for name in ("key", "chain", "extra", "dh")}
    own = rsa.generate_private_key(65537, 2048)
    files["key"].write_bytes(key_pem(own))
    files["chain"].write_bytes(signed("localhost", own, "between", own))
    files["extra"].write_bytes(signed("between", own, "root", own, serial=2))
    files["dh"].write_bytes(DH_PARAMETERS)

    endpoint = endpoints_at(reactor, tmp_path).endpoint("ssl:0:" + said.format(**files))
    port = await endpoint.listen(Factory.forProtocol(Protocol))
    address = port.getHost()
    seen = await deferToThread(shaken_with, (host, address.port))
    await port.stopListening()

    assert address.host == host
    assert seen == {"1.2": [1], "1.3": [1], "group": False, **heeded}


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
        f"{tmp_path}: a directory, where one file was expected",
    ]
    assert said[3].startswith("no key or certificate where one was expected: ")
    assert said[4].startswith("no key or certificate where one was expected: ")
    assert "doesn't contain any valid certificates" in said[5]
    assert said[6] == f"{locked}: the key is encrypted, and there is nobody to ask"


class Hanging:
    """A thread whose disk does not answer."""

    def start(self) -> None:
        self.stopped = False
        self.given: Deferred[object] = Deferred()

    def run(self, work: Callable[[], object]) -> Deferred[object]:
        return self.given

    def stop(self) -> None:
        self.stopped = True


@pytest.fixture
def hangup() -> Iterator[None]:
    """Whatever is done at SIGHUP, it is as before in the end."""
    before = signal.getsignal(signal.SIGHUP)
    yield
    signal.signal(signal.SIGHUP, before)


def endpoints_at(reactor: object, folder: Path) -> Endpoints:
    return Endpoints(reactor, folder, OwnThread(reactor, "test"))


@in_process
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    assert raised_for(f"ssl:0:privateKey={pipe}") == f"{pipe}: not a regular file"


@in_process
@pytest.mark.parametrize(("renewals", "reads"), [(0, 1), (1, 2)])
def test_what_is_renewed_while_it_is_read_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, renewals: int, reads: int
) -> None:
    read = renewing(tmp_path, monkeypatch, renewals)

    TLSEndpoint(None, "ssl:0", tmp_path)

    assert len(read) == reads


@in_process
def test_what_is_renewed_without_end_is_no_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    renewing(tmp_path, monkeypatch, 9)

    with pytest.raises(ConfigError, match="its files change while they are read"):
        TLSEndpoint(None, "ssl:0", tmp_path)


def renewing(folder: Path, monkeypatch: pytest.MonkeyPatch, times: int) -> list[str]:
    """What Twisted was asked to read; as it has, the first so many times, the file is another."""
    pem, read, real = write_certificate(folder), [], certificates.serverFromString

    def reading(reactor: object, description: str) -> object:
        endpoint = real(reactor, description)
        read.append(description)
        if len(read) <= times:
            pem.write_bytes(self_signed(serial=len(read)))
        return endpoint

    monkeypatch.setattr(certificates, "serverFromString", reading)
    return read


@in_process
def test_a_queue_is_long_enough_for_a_burst_on_every_kind_of_listener(tmp_path: Path) -> None:
    reactor = MemoryReactor()
    endpoints = endpoints_at(reactor, tmp_path)
    write_certificate(tmp_path)

    for description in ("tcp:80", "tcp:80:backlog=5", "ssl:443", f"unix:{tmp_path}/s"):
        endpoints.endpoint(description).listen(Factory())

    assert [server[2] for server in reactor.tcpServers] == [4096, 5]
    assert [server[3] for server in reactor.sslServers] == [4096]
    assert [server[2] for server in reactor.unixServers] == [4096]


@pytest.mark.parametrize("description", ["carrier-pigeon:1", "haproxy:tcp:a"])
def test_what_twisted_does_not_understand_is_said_without_python(
    tmp_path: Path, description: str
) -> None:
    with pytest.raises(
        ConfigError, match=r"^expected tcp:, tcp6:, ssl:, tls: or unix:, or what another"
    ):
        endpoints_at(MemoryReactor(), tmp_path).endpoint(description)


@in_process
@pytest.mark.usefixtures("hangup")
@pytest_twisted.ensureDeferred
async def test_what_is_asked_for_while_it_loads_is_done_after(tmp_path: Path) -> None:
    from twisted.internet import reactor

    write_certificate(tmp_path)
    endpoints = endpoints_at(reactor, tmp_path)
    endpoint = endpoints.endpoint("ssl:0")
    seen = [endpoint.getContext()]
    endpoints.startService()

    with log_lines() as lines:
        endpoints.reload()
        endpoints.reload()
        while len(lines) < 2:
            await deferLater(reactor, 0.01)
    seen.append(endpoint.getContext())
    endpoints.stopService()

    assert len(set(seen)) == 2
    assert len(lines) == 2


@in_process
@pytest.mark.usefixtures("hangup")
def test_a_disk_that_hangs_does_not_keep_the_server_from_stopping(tmp_path: Path) -> None:
    write_certificate(tmp_path)
    thread = Hanging()
    endpoints = Endpoints(MemoryReactor(), tmp_path, thread)
    endpoints.endpoint("ssl:0")
    endpoints.startService()
    endpoints.reload()

    stopping = endpoints.stopService()

    assert stopping is None
    assert thread.given.called
    assert not thread.stopped


@pytest.mark.usefixtures("hangup")
@pytest.mark.parametrize(
    ("terminal", "tls", "heeded"),
    [(False, False, True), (False, True, True), (True, True, True), (True, False, False)],
)
@in_process
def test_a_hangup_is_heeded_unless_it_is_the_end_of_the_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, terminal: bool, tls: bool, heeded: bool
) -> None:
    write_certificate(tmp_path)
    ours, its = pty.openpty()
    with Path(os.devnull).open() as null:
        monkeypatch.setattr(certificates, "_STANDARD_INPUT", its if terminal else null.fileno())
        endpoints = endpoints_at(MemoryReactor(), tmp_path)
        before = signal.getsignal(signal.SIGHUP)

        endpoints.privilegedStartService()
        if tls:
            endpoints.endpoint("ssl:0")
        endpoints.startService()
        meanwhile = signal.getsignal(signal.SIGHUP)
        endpoints.stopService()
    os.close(ours)
    os.close(its)

    assert (meanwhile != before) == heeded
    assert signal.getsignal(signal.SIGHUP) == (signal.SIG_IGN if heeded else before)


@pytest.mark.usefixtures("hangup")
@pytest_twisted.ensureDeferred
async def test_a_hangup_before_the_start_is_over_and_after_the_end_does_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from twisted.internet import reactor

    monkeypatch.setattr(certificates, "_STANDARD_INPUT", -1)
    endpoints = endpoints_at(reactor, tmp_path)

    with log_lines() as lines:
        endpoints.privilegedStartService()
        os.kill(os.getpid(), signal.SIGHUP)
        await deferLater(reactor, 0)
        endpoints.startService()
        endpoints.stopService()
        os.kill(os.getpid(), signal.SIGHUP)
        await deferLater(reactor, 0)

    assert lines == []
