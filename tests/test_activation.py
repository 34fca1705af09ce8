"""Sockets that systemd opened are found, judged by where they listen, and served once."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from twisted.internet import endpoints
from twisted.internet.interfaces import IReactorCore
from twisted.internet.testing import MemoryReactor
from twisted.python.systemd import ListenFDs

from plane_tx.activation import PassedSockets, Readiness, check_for_this_box
from plane_tx.core.errors import ConfigError

Pass = Callable[..., None]


@pytest.fixture
def systemd(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pass]:
    """Has Twisted find these sockets as if systemd had passed them, each by its name."""
    kept: list[socket.socket] = []

    def passed(**sockets: socket.socket) -> None:
        kept.extend(sockets.values())
        numbers = [each.fileno() for each in sockets.values()]
        found = ListenFDs(numbers, list(sockets))
        monkeypatch.setattr(endpoints._SystemdParser, "_sddaemon", found)

    yield passed
    for each in kept:
        each.close()


def at(address: str, family: int = socket.AF_INET) -> socket.socket:
    return socket.create_server((address, 0), family=family)


def unix(path: Path) -> socket.socket:
    made = socket.socket(socket.AF_UNIX)
    made.bind(str(path))
    made.listen()
    return made


def refusal(description: str) -> str:
    with pytest.raises(ConfigError) as caught:
        check_for_this_box(MemoryReactor(), [description])
    return str(caught.value)


def test_a_socket_is_found_by_its_name(systemd: Pass) -> None:
    first, second = at("127.0.0.1"), at("127.0.0.1")
    systemd(first=first, second=second)

    found = PassedSockets(MemoryReactor()).endpoint("systemd:domain=INET:name=second")

    assert found.fileno == second.fileno()


def test_a_socket_serves_once(systemd: Pass) -> None:
    systemd(control=at("127.0.0.1"))
    sockets = PassedSockets(MemoryReactor())
    sockets.endpoint("systemd:domain=INET:name=control")

    with pytest.raises(ConfigError, match=r"^another endpoint has this socket"):
        sockets.endpoint("systemd:domain=INET:index=0")


@pytest.mark.parametrize(
    "description",
    [
        "systemd:domain=INET:name=other",
        "systemd:domain=INET:index=1",
        "systemd:domain=INET",
        "systemd:domain=NONE:name=control",
        "systemd:x=y",
        "carrier-pigeon:1",
    ],
)
def test_a_socket_that_was_not_passed_is_one_line(systemd: Pass, description: str) -> None:
    systemd(control=at("127.0.0.1"))

    with pytest.raises(ConfigError, match=r"^systemd passed no such socket: write .systemd:dom"):
        PassedSockets(MemoryReactor()).endpoint(description)


def test_a_socket_of_another_kind_is_named(systemd: Pass, tmp_path: Path) -> None:
    systemd(control=unix(tmp_path / "s"))

    with pytest.raises(ConfigError, match=r"is of another kind: write domain=UNIX$"):
        PassedSockets(MemoryReactor()).endpoint("systemd:domain=INET:name=control")


def test_nobody_can_connect_to_a_socket_that_does_not_listen(systemd: Pass) -> None:
    systemd(control=socket.socket(socket.AF_INET, socket.SOCK_DGRAM))

    with pytest.raises(ConfigError, match=r"^nobody can connect to it: write ListenStream= in"):
        PassedSockets(MemoryReactor()).endpoint("systemd:domain=INET:name=control")


def test_what_is_no_socket_is_said(systemd: Pass) -> None:
    gone = at("127.0.0.1")
    systemd(control=gone)
    os.close(gone.detach())

    with pytest.raises(ConfigError, match=r"^what systemd passed is no socket: Bad file"):
        PassedSockets(MemoryReactor()).endpoint("systemd:domain=INET:name=control")


def test_only_a_socket_that_others_reach_is_refused(systemd: Pass, tmp_path: Path) -> None:
    systemd(
        here=at("127.0.0.2"), six=at("::1", socket.AF_INET6), path=unix(tmp_path / "s"),
        all=at("0.0.0.0"), all_six=at("::", socket.AF_INET6),
    )  # fmt: skip

    check_for_this_box(
        MemoryReactor(),
        ["systemd:domain=INET:name=here", "systemd:domain=INET6:name=six",
         "systemd:domain=UNIX:name=path", "tcp:80"],
    )  # fmt: skip

    said = (
        'control.endpoint: "systemd:domain=INET{}:name={}" is open to the network, where api_keys'
    )
    assert refusal("systemd:domain=INET:name=all").startswith(said.format("", "all"))
    assert refusal("systemd:domain=INET6:name=all_six").startswith(said.format("6", "all_six"))


def test_what_is_said_of_a_socket_does_not_make_it_closed(systemd: Pass) -> None:
    systemd(all=at("0.0.0.0"))

    assert "is open to the network" in refusal("systemd:domain=UNIX:name=all")


def test_a_socket_of_a_machine_below_is_open(systemd: Pass) -> None:
    beside = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
    systemd(beside=beside)

    assert "is open to the network" in refusal("systemd:domain=VSOCK:name=beside")


def test_a_control_socket_that_is_not_there_is_named_with_its_key(systemd: Pass) -> None:
    systemd()

    said = refusal("systemd:domain=INET:name=control")

    assert said.startswith(
        "control.endpoint: 'systemd:domain=INET:name=control' is no endpoint: sy"
    )


class Turning(MemoryReactor):
    """A reactor that begins to turn when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.begun: list[Callable[[], object]] = []

    def callWhenRunning(self, what: Callable[..., object], *args: object) -> None:
        self.begun.append(lambda: what(*args))


def listener(address: str) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    made.bind(address)
    made.setblocking(False)
    return made


@pytest.mark.parametrize("shown", ["@plane-tx-test-{}", "{}"])
def test_systemd_is_told_once_the_reactor_turns(tmp_path: Path, shown: str) -> None:
    address = shown.format(os.getpid() if "@" in shown else tmp_path / "notify")
    reactor = Turning()

    with listener(address.replace("@", "\0")) as systemd:
        environ = {"NOTIFY_SOCKET": address}
        readiness = Readiness(IReactorCore(reactor), environ)
        readiness.startService()
        with pytest.raises(BlockingIOError):
            systemd.recv(64)
        for begin in reactor.begun:
            begin()
        told = systemd.recv(64)
        readiness.stopService()
        last = systemd.recv(64)

    assert (told, last, environ) == (b"READY=1", b"STOPPING=1", {})


@pytest.mark.parametrize("environ", [{}, {"NOTIFY_SOCKET": "/nowhere/notify"}])
def test_without_anybody_who_listens_nothing_is_told(environ: dict[str, str]) -> None:
    reactor = Turning()
    readiness = Readiness(IReactorCore(reactor), environ)

    readiness.startService()
    for begin in reactor.begun:
        begin()

    assert readiness.stopService() is None
