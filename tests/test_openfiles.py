"""The server may have as many connections as the box allows, and its sessions notice nothing."""

from __future__ import annotations

import re
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from plane_tx.openfiles import allow_many
from tests.live import ask, live_server

FEW = 600


@pytest.fixture(autouse=True)
def hard() -> Iterator[int]:
    """Few are allowed to this process meanwhile, and so to what it starts; the hard limit."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (FEW, before[1]))
    yield before[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def allowed(pid: int) -> tuple[int, int]:
    """Soft and hard limit of a process (proc(5))."""
    limits = Path(f"/proc/{pid}/limits").read_text()
    soft, most = re.search(r"^Max open files\s+(\d+)\s+(\d+)", limits, re.MULTILINE).groups()
    return int(soft), int(most)


def test_as_many_as_may_be_are_allowed_and_what_was_before_is_told(hard: int) -> None:
    before = allow_many()

    assert before == (FEW, hard)
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)


def test_a_server_has_more_than_it_was_given_and_its_sessions_have_what_it_was_given(
    tmp_path: Path, hard: int
) -> None:
    with live_server(tmp_path, '[engine]\nkind = "process"\n') as server:
        ask("GET", server.connect("whiteboard")["url"])
        (session,) = server.children()
        limits = allowed(server.process.pid), allowed(session)

    assert limits == ((hard, hard), (FEW, hard))
