"""Where a session listens is read from the kernel's tables, and never what the box listens on."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

import pytest
from twisted.internet.defer import Deferred, maybeDeferred

from plane_tx.core.listeners import Listener
from plane_tx.engines.proc import PROC
from plane_tx.engines.sockets import (
    SocketTables,
    _Process,
    container_listeners,
    group_listeners,
)
from tests.engines.fake_docker import show_process, socket_table
from tests.recording_engine import now

T = TypeVar("T")

ID = "ab" * 32
PORT_3000 = "00000000:0BB8"


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """What the kernel tells of a container whose first process is 77."""
    show_process(tmp_path, 77, ID, (PORT_3000,))
    return tmp_path


@pytest.fixture
def port() -> Iterator[int]:
    """A port that this process listens on."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        yield server.getsockname()[1]


def test_a_container_listens_where_its_network_says(proc: Path) -> None:
    assert container_listeners(proc, 77, ID) == (Listener("0.0.0.0", 3000),)


def test_both_families_count(proc: Path) -> None:
    everywhere = f"{'0' * 32}:1F90"
    (proc / "77/net/tcp6").write_text(socket_table([everywhere]))

    found = container_listeners(proc, 77, ID)

    assert found == (Listener("0.0.0.0", 3000), Listener("::", 8080))


@pytest.mark.parametrize("other", ["cd" * 32, "ab" * 16, "", "docker"])
def test_a_process_of_somebody_else_is_none_of_the_containers(proc: Path, other: str) -> None:
    assert container_listeners(proc, 77, other) is None


def test_a_container_on_the_network_of_the_box_is_not_told(proc: Path) -> None:
    (proc / "77/net/tcp").unlink()
    os.link(proc / "self/net/tcp", proc / "77/net/tcp")

    assert container_listeners(proc, 77, ID) is None


@pytest.mark.parametrize("gone", ["77/cgroup", "77/net/tcp", "self/net/tcp"])
def test_what_cannot_be_read_is_not_known(proc: Path, gone: str) -> None:
    (proc / gone).unlink()

    assert container_listeners(proc, 77, ID) is None


def test_a_container_of_another_box_is_not_known(proc: Path) -> None:
    assert container_listeners(proc, 78, ID) is None
    assert container_listeners(proc, 0, ID) is None


def test_our_own_process_is_no_containers() -> None:
    assert container_listeners(PROC, os.getpid(), ID) is None


def test_processes_on_one_network_are_seen_to_share_it() -> None:
    with _Process(PROC / str(os.getpid())) as process:
        assert process.shares_network_of(PROC / "self")


def test_a_group_listens_where_its_own_sockets_are(port: int) -> None:
    found = group_listeners(PROC, os.getpgrp())

    assert Listener("127.0.0.1", port) in found


def test_a_group_that_is_gone_is_not_known() -> None:
    assert group_listeners(PROC, 1 << 30) is None


@pytest.mark.parametrize(
    ("error", "found"), [(PermissionError, None), (FileNotFoundError, ()), (ProcessLookupError, ())]
)
def test_hidden_sockets_are_not_known_and_those_of_who_has_just_ended_are_none(
    monkeypatch: pytest.MonkeyPatch, error: type[OSError], found: tuple[()] | None
) -> None:
    scandir = os.scandir

    def hidden(path: Any) -> Any:
        if str(path).endswith("/fd"):
            raise error
        return scandir(path)

    monkeypatch.setattr(os, "scandir", hidden)

    assert group_listeners(PROC, os.getpgrp()) == found


def test_a_group_is_not_known_where_the_kernel_shows_no_tables(tmp_path: Path) -> None:
    (tmp_path / "50").mkdir()
    (tmp_path / "50/stat").write_text(Path("/proc/self/stat").read_text())

    assert group_listeners(tmp_path, os.getpgrp()) is None


def test_they_are_read_where_work_may_block(proc: Path) -> None:
    done = []

    def in_thread(work: Callable[[], T]) -> Deferred[T]:
        done.append(work)
        return maybeDeferred(work)

    tables = SocketTables(in_thread, proc)

    assert now(tables.of_container(77, ID)) == (Listener("0.0.0.0", 3000),)
    assert now(tables.of_group(1 << 30)) is None
    assert len(done) == 2
