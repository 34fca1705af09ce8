"""What a session's container writes and takes of the box, as far as Docker can tell."""

from __future__ import annotations

from contextlib import suppress

from plane_tx.core.errors import EngineUnavailable
from plane_tx.core.model import LogLine
from plane_tx.engines.docker.client import DockerClient
from plane_tx.engines.docker.container import Container, container_name
from plane_tx.engines.docker.errors import Conflict, DockerError, NoSuchObject, telling
from plane_tx.engines.docker.removal import Removal
from plane_tx.engines.docker.stats import stats_of
from plane_tx.engines.interface import EngineStats, Tell


class Readings:
    """Asked by the session's id; each fails with `EngineUnavailable`."""

    def __init__(self, client: DockerClient, removal: Removal) -> None:
        self._client = client
        self._removal = removal

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

    async def _find(self, session_id: str) -> Container | None:
        with telling(f"find session {session_id}"):
            return await self._removal.find(container_name(session_id))
