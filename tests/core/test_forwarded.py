"""Whose word about a client is believed, and what is made of it."""

import pytest

from plane_tx.core.forwarded import HOPS, UNIX, TrustedProxies, trusted_proxies
from plane_tx.core.headers import Peer

TRUSTED = trusted_proxies(["10.0.0.0/8", "192.0.2.1", "2001:db8::/32"])
PROXY = Peer("10.0.0.1", secure=False)


def behind(*headers, peer=PROXY, trusted=TRUSTED):
    return trusted.client_of(peer, headers)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("10.255.0.1", True),
        ("192.0.2.1", True),
        ("192.0.2.2", False),
        ("::ffff:10.0.0.1", True),
        ("2001:db8::1", True),
        ("2001:db9::1", False),
        ("unix", False),
        ("nonsense", False),
        ("", False),
    ],
)
def test_those_are_trusted_that_were_named(address, expected):
    assert TRUSTED.trusts(address) is expected


def test_nobody_is_trusted_unless_named():
    assert not TrustedProxies().trusts("127.0.0.1")


def test_unix_sockets_are_trusted_by_that_name():
    assert trusted_proxies([UNIX]).trusts(UNIX)


@pytest.mark.parametrize("entry", ["::ffff:10.0.0.0/104", "::ffff:10.0.0.1", "::ffff:0:0/96"])
def test_an_ipv4_network_may_be_written_as_ipv6_has_it(entry):
    trusted = trusted_proxies([entry])

    assert trusted.trusts("10.0.0.1")
    assert trusted.trusts("::ffff:10.0.0.1")
    assert not trusted.trusts("2001:db8::1")


@pytest.mark.parametrize("entry", ["", "localhost", "10.0.0.1/8", "10.0.0.0/33", "Unix", "1.2.3"])
def test_what_is_neither_address_nor_network_is_refused(entry):
    with pytest.raises(ValueError, match=r"does not appear|has host bits|permitted"):
        trusted_proxies([entry])


def test_of_anyone_else_nothing_is_believed():
    stranger = Peer("203.0.113.9", secure=True)

    told = behind((b"X-Forwarded-For", b"1.2.3.4"), (b"X-Forwarded-Host", b"a"), peer=stranger)

    assert told == stranger


@pytest.mark.parametrize(
    ("said", "client", "chain"),
    [
        ([], "10.0.0.1", b"10.0.0.1"),
        ([b"203.0.113.9"], "203.0.113.9", b"203.0.113.9, 10.0.0.1"),
        ([b"1.1.1.1, 203.0.113.9"], "203.0.113.9", b"1.1.1.1, 203.0.113.9, 10.0.0.1"),
        ([b"1.1.1.1", b"203.0.113.9 ,10.9.9.9"], "203.0.113.9",
         b"1.1.1.1, 203.0.113.9, 10.9.9.9, 10.0.0.1"),
        ([b"10.2.2.2, 10.9.9.9"], "10.2.2.2", b"10.2.2.2, 10.9.9.9, 10.0.0.1"),
        ([b"203.0.113.9:4711"], "203.0.113.9", b"203.0.113.9:4711, 10.0.0.1"),
        ([b"[2001:db9::7]:80"], "2001:db9::7", b"[2001:db9::7]:80, 10.0.0.1"),
        ([b"2001:db9::7"], "2001:db9::7", b"2001:db9::7, 10.0.0.1"),
        ([b"unknown, 10.9.9.9"], "10.9.9.9", b"unknown, 10.9.9.9, 10.0.0.1"),
        ([b"\xff"], "10.0.0.1", b"\xff, 10.0.0.1"),
        ([b" , "], "10.0.0.1", b"10.0.0.1"),
    ],
)  # fmt: skip
def test_the_client_is_the_last_one_that_is_no_proxy_of_ours(said, client, chain):
    told = behind(*((b"x-forwarded-for", value) for value in said))

    assert (told.address, told.chain) == (client, chain)


def test_a_unix_socket_adds_no_address():
    trusted = trusted_proxies([UNIX])

    told = behind(
        (b"X-Forwarded-For", b"203.0.113.9"), peer=Peer(UNIX, secure=False), trusted=trusted
    )

    assert (told.address, told.chain) == ("203.0.113.9", b"203.0.113.9")


@pytest.mark.parametrize(
    ("said", "own", "expected"),
    [
        (b"https", False, True),
        (b"HTTPS", False, True),
        (b"wss", False, True),
        (b"http", True, False),
        (b"https, http", True, False),
        (b"http, https", False, True),
        (b"gopher", True, True),
        (b"", False, False),
    ],
)
def test_whether_the_client_came_by_tls_is_what_the_proxy_says(said, own, expected):
    told = behind((b"X-Forwarded-Proto", said), peer=Peer("10.0.0.1", own))

    assert told.secure is expected


def test_host_port_and_prefix_are_the_last_ones_for_those_before_may_be_the_client_s_own():
    told = behind(
        (b"X-Forwarded-Host", b"forged.example, app.example.com:8443"),
        (b"X-Forwarded-Port", b"1"),
        (b"X-Forwarded-Port", b"8443"),
        (b"X-Forwarded-Prefix", b"/forged, /plane/a/"),
    )

    assert (told.host, told.port, told.prefix) == (b"app.example.com:8443", b"8443", b"/plane/a")


def test_only_the_last_hops_are_looked_at():
    said = b",".join([b"203.0.113.9"] + [b"10.0.0.9"] * HOPS)

    told = behind((b"X-Forwarded-For", said))

    assert told.address == "10.0.0.9"
    assert told.chain == b", ".join([b"10.0.0.9"] * HOPS + [b"10.0.0.1"])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"X-Forwarded-Host", b"a b"),
        (b"X-Forwarded-Host", b"a/b"),
        (b"X-Forwarded-Host", b"user@a"),
        (b"X-Forwarded-Port", b"https"),
        (b"X-Forwarded-Prefix", b"plane"),
        (b"X-Forwarded-Prefix", b"//evil.example"),
        (b"X-Forwarded-Prefix", b"/a?b"),
        (b"X-Forwarded-Prefix", b"/"),
        (b"X_Forwarded_Host", b"a"),
    ],
)
def test_what_does_not_look_like_it_is_passed_over(name, value):
    told = behind((name, value))

    assert (told.host, told.port, told.prefix) == (b"", b"", b"")
