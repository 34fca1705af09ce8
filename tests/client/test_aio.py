"""The asynchronous client against the same real server."""

from __future__ import annotations

import asyncio
import tarfile
from pathlib import Path

import pytest

from plane_tx.client import AsyncClient, NotFound, SessionFailed, Unavailable
from tests.live import LiveServer, free_ports


def test_a_session_from_its_connect_to_its_end(server: LiveServer, tmp_path: Path) -> None:
    async def life() -> list[str]:
        async with AsyncClient(server.control) as client:
            session = await client.connect("echo", key="aio", user="ada")
            await client.wait_ready(session.id, 20)
            lines = client.logs(session.id, follow=True)
            first = await anext(lines)
            await client.keep_alive(session.id, 5)
            await client.revoke(session.id, "ada")
            await client.autopsy(session.id, tmp_path / "a.tar.gz")
            listed = [each.id async for each in client.list(key="aio")]
            await client.soft_terminate(session.id, wait=10)
            statuses = [update.status async for update in client.status_stream(session.id)]
            assert listed == [session.id]
            assert (await client.get(session.id)).status == "terminated"
            return [first.text, *[line.text async for line in lines], *statuses]

    told = asyncio.run(life())

    assert "listening" in told[0]
    assert told[-1] == "terminated"
    assert tarfile.is_tarfile(tmp_path / "a.tar.gz")


def test_errors_are_those_of_the_blocking_client(server: LiveServer) -> None:
    async def refused() -> None:
        async with AsyncClient(server.control) as client:
            with pytest.raises(NotFound):
                await client.why("nobody")
            session = await client.connect("echo", env={"ECHO_EXIT_AT_ONCE": "1"})
            with pytest.raises(SessionFailed):
                await client.wait_ready(session.id, 20)

    assert asyncio.run(refused()) is None


def test_nothing_that_listens_is_unavailable() -> None:
    (port,) = free_ports(1)

    async def asked() -> None:
        async with AsyncClient(f"http://127.0.0.1:{port}") as client:
            with pytest.raises(Unavailable):
                await client.undrain()

    assert asyncio.run(asked()) is None


def test_what_serves_both_is_the_same(server: LiveServer) -> None:
    async def asked() -> tuple[bool, bool, bool, str]:
        async with AsyncClient(server.control) as client:
            drained = [await client.drain(), await client.undrain(), await client.drain_status()]
            health = await client.health()
            return *(each.draining for each in drained), health.status

    assert asyncio.run(asked()) == (True, False, False, "ok")
