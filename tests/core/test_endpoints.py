"""A description is read as Twisted reads it, and in doubt it is open to everyone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plane_tx.core.endpoints import http_url, is_loopback, kind_of, tls_files

LOOPBACK = [
    "tcp:8080:interface=127.0.0.1",
    "tcp:interface=127.0.0.1:port=8080",
    "tcp:8080:backlog=5:interface=127.1.2.3",
    "tcp:8080:interface=localhost",
    "tcp:8080:interface=\\:\\:1",
    "tcp6:8080:interface=\\:\\:1",
    "ssl:8080:privateKey=a=b.pem:interface=127.0.0.1",
    "unix:/run/plane.sock",
    "unix:address=/run/plane.sock:mode=600",
]
OPEN = [
    "",
    ":",
    "tcp",
    "tcp:8080",
    "tcp:8080:",
    "tcp:8080:interface=",
    "tcp:8080:interface=0.0.0.0",
    "tcp:8080:interface=127.0.0.1.evil",
    "tcp:8080:interface=127.0.0.1 ",
    "tcp:8080:interface=127.1",
    "tcp:8080:interface=127.0.0.999",
    "tcp:8080:interface=localhost.evil.com",
    "tcp:8080:interface=::1",
    # The last one wins.
    "tcp:8080:interface=127.0.0.1:interface=0.0.0.0",
    "tcp:8080:interface=0.0.0.0:interface=127.0.0.1",
    "tcp:8080:interface=127.0.0.1:interfac\\e=0.0.0.0",
    # Looks like an argument, and is the value or the name of another.
    "tcp:8080:interface=0.0.0.0\\:interface=127.0.0.1",
    "tcp:8080:x\\:interface=127.0.0.1",
    "tcp:8080:x=interface=127.0.0.1",
    "tcp:8080:xinterface=127.0.0.1",
    "tcp:8080:interface\\=127.0.0.1",
    "tcp:interface=127.0.0.1:8080:0.0.0.0",
    "tcp:8080:0.0.0.0:interface=127.0.0.1",
    "tcp:8080:interface=127.0.0.1\\",
    "tcp6:8080",
    "tcp6:8080:interface=\\:\\:",
    "tcp6:8080:interface=\\:\\:ffff\\:10.0.0.1",
    "ssl:8080:interface=0.0.0.0",
    "systemd:domain=INET:index=0",
    "systemd:domain=INET:index=0:interface=127.0.0.1",
    "haproxy:tcp:8080:interface=127.0.0.1",
    "tls:8080:interface=127.0.0.1",
    "unixy:/x",
    "TCP:8080:interface=127.0.0.1",
    " tcp:8080:interface=127.0.0.1",
]


@pytest.mark.parametrize("endpoint", LOOPBACK)
def test_what_only_this_box_can_reach_is_loopback(endpoint: str) -> None:
    assert is_loopback(endpoint)


@pytest.mark.parametrize("endpoint", OPEN)
def test_anything_else_is_open(endpoint: str) -> None:
    assert not is_loopback(endpoint)


pieces = st.sampled_from([
    "tcp", "tcp6", "ssl", "unix", ":", "=", "\\", "interface", "127.0.0.1", "0.0.0.0", "8080",
    "localhost", "\\:\\:1", "backlog", " ", "",
])  # fmt: skip


@given(
    st.lists(pieces).map("".join)
    | st.lists(pieces).map(lambda more: "tcp:8080:interface=127.0.0.1" + "".join(more))
)
def test_twisted_reads_a_loopback_endpoint_as_we_do(endpoint: str) -> None:
    from twisted.internet.endpoints import _parse

    if not is_loopback(endpoint):
        return
    (kind, *_), named = _parse(endpoint)

    assert kind == "unix" or named["interface"] in {"127.0.0.1", "localhost", "::1"}


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        ("tcp:80", "http://127.0.0.1:80"),
        ("tcp:port=80:interface=127.0.0.2", "http://127.0.0.2:80"),
        ("tcp6:80:interface=\\:\\:1", "http://[::1]:80"),
        ("ssl:443:interface=127.0.0.1", "https://127.0.0.1:443"),
        ("unix:/run/plane.sock", "http://localhost"),
    ],
)
def test_a_url_says_where_a_listener_is_found(endpoint: str, url: str) -> None:
    assert http_url(endpoint) == url


@pytest.mark.parametrize(
    ("endpoint", "files"),
    [
        ("ssl:443", ("server.pem", "server.pem")),
        ("ssl:443:privateKey=k", ("k", "k")),
        ("ssl:443:privateKey=k:certKey=c:interface=127.0.0.1", ("k", "c")),
        ("ssl:certKey=c:privateKey=/a=b/k\\:1:port=443", ("/a=b/k:1", "c")),
        ("ssl:443:k:c", ("k", "c")),
        ("ssl:443:k:extraCertChain=x", ("k", "k")),
    ],
)
def test_a_description_tells_the_files_of_its_certificate(
    endpoint: str, files: tuple[str, str]
) -> None:
    assert tls_files(endpoint) == files


@pytest.mark.parametrize(
    ("endpoint", "kind"), [("tcp:80", "tcp"), ("ssl:1:k", "ssl"), ("", ""), ("unix", "unix")]
)
def test_what_stands_before_the_first_colon_is_the_kind(endpoint: str, kind: str) -> None:
    assert kind_of(endpoint) == kind
