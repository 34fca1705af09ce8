"""The server on which the client and the command line are tried; its sessions are processes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.live import LiveServer, live_server

SERVER = '[engine]\nkind = "process"\n[defaults]\nstop_grace_seconds = 1\n'


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    with live_server(tmp_path_factory.mktemp("server"), SERVER) as server:
        yield server
