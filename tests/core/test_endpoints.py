"""A description is read as Twisted reads it, and in doubt it is open to everyone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plane_tx.core.endpoints import (
    as_ssl,
    complaint,
    http_url,
    is_loopback,
    kind_of,
    tls_files,
    with_backlog,
    with_files_below,
)

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
    ("endpoint", "same"),
    [
        ("tls:a.pem", r"ssl:port=443:interface=\:\::privateKey=a.pem:certKey=a.pem"),
        ("TLS:a.pem:8443:50:::1", "tls:a.pem:8443:50:::1"),
        (
            "tls:a.pem:8443:50:1.2.3.4",
            "ssl:port=8443:interface=1.2.3.4:backlog=50:privateKey=a.pem:certKey=a.pem",
        ),
        ("TLS:path=/a\\:b:port=1", r"ssl:port=1:interface=\:\::privateKey=/a\:b:certKey=/a\:b"),
        ("tls:", "tls:"),
        ("tls:a.pem:x", "tls:a.pem:x"),
        ("ssl:443", "ssl:443"),
        ("tcp:80", "tcp:80"),
    ],
)
def test_a_tls_description_means_what_an_ssl_one_does(endpoint: str, same: str) -> None:
    assert as_ssl(endpoint) == same


@pytest.mark.parametrize(
    ("endpoint", "files"),
    [
        ("ssl:443", ("server.pem", "server.pem")),
        ("ssl:443:privateKey=k", ("k", "k")),
        ("ssl:443:privateKey=k:certKey=c:interface=127.0.0.1", ("k", "c")),
        ("ssl:certKey=c:privateKey=/a=b/k\\:1:port=443", ("/a=b/k:1", "c")),
        ("ssl:443:k:c", ("k", "c")),
        ("ssl:443:k:extraCertChain=x", ("k", "k", "x")),
        ("ssl:443:k:c:TLS_METHOD::50:x:d", ("k", "c", "x", "d")),
    ],
)
def test_a_description_tells_the_files_of_its_certificate(
    endpoint: str, files: tuple[str, ...]
) -> None:
    assert tls_files(endpoint) == files


@pytest.mark.parametrize(
    ("endpoint", "kind"), [("tcp:80", "tcp"), ("ssl:1:k", "ssl"), ("", ""), ("unix", "unix")]
)
def test_what_stands_before_the_first_colon_is_the_kind(endpoint: str, kind: str) -> None:
    assert kind_of(endpoint) == kind


@pytest.mark.parametrize(
    ("endpoint", "said"),
    [
        ("", 'expected "tcp:PORT:interface=ADDRESS" or another'),
        ("tcp:80\\", 'expected "tcp:PORT:interface=ADDRESS" or another'),
        ("tcp:\n80", 'expected "tcp:PORT:interface=ADDRESS" or another'),
        ("tcp", "it has no port"),
        ("unix", "it has no address"),
        ("unix:", "address: expected a path, got ''"),
        ("tcp:abc", "port: expected a port from 0 to 65535, got 'abc'"),
        ("tcp:65536", "port: expected a port from 0 to 65535, got '65536'"),
        ("tcp:\u0661", "port: expected a port from 0 to 65535"),
        ("tcp:80:backlog=x", "backlog: expected a number, got 'x'"),
        ("tcp:80:::5", "tcp: takes port, interface, backlog, and nothing more"),
        ("tcp:80:port=81", "port is said twice"),
        ("tcp:80:interface=a:interface=b", "interface is said twice"),
        ("tcp:80:privateKey=k", "tcp: has no 'privateKey', only port, interface, backlog"),
        ("ssl:443:key=k", "ssl: has no 'key', only port, privateKey, certKey,"),
        ("ssl:443:k:c:FOO", "sslmethod: expected \"TLSv1_2_METHOD\", got 'FOO'"),
        ("unix:/x:mode=9", 'mode: expected an octal number, like "660", got'),
        ("unix:/x:lockfile=no", "lockfile: expected 0 or 1, got 'no'"),
    ],
)
def test_what_twisted_would_stumble_over_is_said_in_words(endpoint: str, said: str) -> None:
    assert complaint(endpoint).startswith(said)


@pytest.mark.parametrize(
    "endpoint",
    [
        *LOOPBACK,
        "tcp:0",
        "tcp:80:",
        "ssl:443:k:c:TLSv1_2_METHOD::5",
        "systemd:x=y",
        "haproxy:tcp:80",
    ],
)
def test_nothing_is_said_of_what_twisted_may_take(endpoint: str) -> None:
    assert complaint(endpoint) == ""


@pytest.mark.parametrize(
    ("endpoint", "more"),
    [
        ("tcp:80", ":backlog=4096"),
        ("tcp6:80", ":backlog=4096"),
        ("ssl:443:k:c", ":backlog=4096"),
        ("unix:/x:mode=660", ":backlog=4096"),
        ("tcp:80:backlog=5", ""),
        ("tcp:80::5", ""),
        ("tcp6:80:5", ""),
        ("unix:/x:660:5", ""),
        ("systemd:domain=INET:index=0", ""),
    ],
)
def test_a_queue_is_as_long_as_said_or_long_enough(endpoint: str, more: str) -> None:
    assert with_backlog(endpoint) == endpoint + more


@pytest.mark.parametrize(
    ("endpoint", "files"),
    [
        ("ssl:443", ("/etc/p:x/server.pem", "/etc/p:x/server.pem")),
        ("ssl:443:k\\=1:c\\:2", ("/etc/p:x/k=1", "/etc/p:x/c:2")),
        ("ssl:443:privateKey=/k:certKey=../c", ("/k", "/etc/p:x/../c")),
        ("ssl:443:k:extraCertChain=x", ("/etc/p:x/k", "/etc/p:x/k", "/etc/p:x/x")),
    ],
)
def test_files_of_a_certificate_are_found_beside_the_configuration(
    endpoint: str, files: tuple[str, ...]
) -> None:
    assert tls_files(with_files_below(endpoint, "/etc/p:x")) == files


def test_what_is_no_file_is_kept_when_files_are_found() -> None:
    endpoint = "ssl:443:k:c:TLS_METHOD:\\:\\:1:5"

    assert with_files_below(endpoint, "/d") == (
        "ssl:port=443:privateKey=/d/k:certKey=/d/c:sslmethod=TLS_METHOD:interface=\\:\\:1:backlog=5"
    )
