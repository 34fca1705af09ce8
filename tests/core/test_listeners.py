"""The kernel's tables of TCP sockets are read as they are meant, whatever stands in them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plane_tx.core.listeners import Listener, Row, listeners, rows

HEAD = (
    "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout"
    " inode\n"
)
REST = "00000000:00000000 00:00000000 00000000  1000        0"


def row(local: str, state: str = "0A", inode: int = 7) -> str:
    return f"   0: {local} 00000000:0000 {state} {REST} {inode} 1 0000000000000000 100 0 0 10 0\n"


@pytest.mark.parametrize(
    ("local", "byteorder", "listener"),
    [
        ("0100007F:1F90", "little", Listener("127.0.0.1", 8080)),
        ("7F000001:1F90", "big", Listener("127.0.0.1", 8080)),
        ("00000000:0050", "little", Listener("0.0.0.0", 80)),
        ("020012AC:0BB8", "little", Listener("172.18.0.2", 3000)),
        ("00000000000000000000000000000000:0050", "little", Listener("::", 80)),
        ("00000000000000000000000001000000:0050", "little", Listener("::1", 80)),
        ("00000000000000000000000000000001:0050", "big", Listener("::1", 80)),
        ("0000000000000000FFFF00000100007F:0050", "little", Listener("127.0.0.1", 80)),
        ("B80D0120000000000000000001000000:0050", "little", Listener("2001:db8::1", 80)),
    ],
)
def test_an_address_is_read_as_its_kernel_writes_it(
    local: str, byteorder: str, listener: Listener
) -> None:
    assert list(rows(HEAD + row(local), byteorder)) == [Row(listener, 7)]


def test_only_what_listens_counts() -> None:
    states = [f"{state:02X}" for state in range(1, 13)]
    table = HEAD + "".join(row("00000000:0050", state, int(state, 16)) for state in states)

    assert [each.inode for each in rows(table, "little")] == [0x0A]


@pytest.mark.parametrize(
    "line",
    [
        "",
        HEAD,
        row("0100007F:1F90")[:60],
        row("0100007F"),
        row("01007F:1F90"),
        row("0100007F:XY"),
        row("zz00007F:1F90"),
        row("0000000000000000:1F90"),
    ],
)
def test_a_line_that_is_no_row_is_passed_over(line: str) -> None:
    assert list(rows(line + "\n" + row("0100007F:0050"), "little")) == [
        Row(Listener("127.0.0.1", 80), 7)
    ]


@given(st.text())
def test_no_text_breaks_the_reading(text: str) -> None:
    assert all(isinstance(each, Row) for each in rows(text))


def test_each_listener_is_told_once_by_port_and_dockers_resolver_never() -> None:
    hosts = [("0.0.0.0", 3000), ("::", 80), ("0.0.0.0", 80), ("127.0.0.11", 40000), ("::", 80)]

    told = listeners(Row(Listener(*each), 0) for each in hosts)

    assert told == (Listener("0.0.0.0", 80), Listener("::", 80), Listener("0.0.0.0", 3000))


@pytest.mark.parametrize(
    ("host", "is_loopback", "is_everywhere", "shown"),
    [
        ("0.0.0.0", False, True, "0.0.0.0:80"),
        ("::", False, True, "[::]:80"),
        ("127.0.0.1", True, False, "127.0.0.1:80"),
        ("127.1.2.3", True, False, "127.1.2.3:80"),
        ("::1", True, False, "[::1]:80"),
        ("172.18.0.2", False, False, "172.18.0.2:80"),
    ],
)
def test_a_listener_knows_who_reaches_it(
    host: str, is_loopback: bool, is_everywhere: bool, shown: str
) -> None:
    listener = Listener(host, 80)

    assert (listener.is_loopback, listener.is_everywhere) == (is_loopback, is_everywhere)
    assert str(listener) == shown
