"""What a session's container writes, takes of the box and listens on, as far as can be told."""

from __future__ import annotations

from contextlib import suppress

from plane_tx.core.errors import EngineUnavailable
from plane_tx.core.listeners import Listener
from plane_tx.core.model import LogLine
from plane_tx.engines.docker.client import DockerClient
from plane_tx.engines.docker.container import Container, container_name
from plane_tx.engines.docker.errors import Conflict, DockerError, NoSuchObject, telling
from plane_tx.engines.docker.removal import Removal
from plane_tx.engines.docker.stats import stats_of
from plane_tx.engines.interface import EngineStats, Tell
from plane_tx.engines.sockets import SocketTables


class Readings:
    """Asked by the session's id; each fails with `EngineUnavailable`."""

    def __init__(
        self, client: DockerClient, removal: Removal, sockets: SocketTables | None
    ) -> None:
        self._client = client
        self._removal = removal
        self._sockets = sockets

    async def logs(self, session_id: str, tail: int, since_ns: int | None) -> tuple[LogLine, ...]:
        """The last lines of its output; none where its log driver cannot be read."""
        container = await self._find(session_id)
        if container is None:
            return ()
        try:
            return await self._client.logs(container.id, tail, since_ns)
        except DockerError:
            return ()

    async def follow(self, session_id: str, tail: int, since_ns: int | None, tell: Tell) -> None:
        """Tell the same, and what comes after; return when it has ended."""
        container = await self._find(session_id)
        if container is not None:
            # One that is just being removed, or whose log driver cannot be read, has no log.
            with suppress(DockerError):
                await self._client.follow_logs(container.id, tail, since_ns, tell)

    async def stats(self, session_id: str) -> EngineStats | None:
        """What its cgroups count; None for one that does not run."""
        container = await self._find(session_id)
        if container is None:
            return None
        try:
            found = await self._client.stats(container.id)
        except (NoSuchObject, Conflict):
            return None
        except DockerError as error:
            raise EngineUnavailable(f"Docker could not tell its stats: {error.message}") from None
        return stats_of(found, container.memory_limit)

    async def listening(self, session_id: str) -> tuple[Listener, ...] | None:
        """Where its processes listen; None where their kernel's tables cannot be read here."""
        container = await self._find(session_id)
        if self._sockets is None or container is None or not container.running:
            return None
        found = await self._sockets.of_container(container.pid, container.id)
        # One that has a kernel of its own has its sockets there, and none are to be seen here.
        return found or (found if container.shares_kernel else None)

    async def _find(self, session_id: str) -> Container | None:
        with telling(f"find session {session_id}"):
            return await self._removal.find(container_name(session_id))
