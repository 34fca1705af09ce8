"""Removing containers, at once or, where Docker cannot now, as soon as it can."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from plane_tx.core.errors import EngineUnavailable
from plane_tx.engines.docker.client import DockerClient
from plane_tx.engines.docker.container import INSTANCE_LABEL, Container
from plane_tx.engines.docker.errors import Conflict, DockerError, NoSuchObject

RETRY_SECONDS = 5.0


class Removal:
    """Removes containers of one instance; never one of somebody else's that has the same name."""

    _log = Logger()

    def __init__(self, clock: IReactorTime, client: DockerClient, instance: str) -> None:
        self._clock = clock
        self._client = client
        self._instance = instance
        self._leftovers: set[str] = set()
        self._retrying: IDelayedCall | Deferred[None] | None = None
        self._closed = False

    async def find(self, container: str) -> Container | None:
        """The container of this id or name, if it is there and this instance's own."""
        try:
            found = Container.parse(await self._client.inspect(container))
        except NoSuchObject:
            return None
        return found if found.labels.get(INSTANCE_LABEL) == self._instance else None

    async def remove(self, container: str) -> None:
        """Return when nothing of the container is left.

        Fails with `EngineUnavailable` or `DockerError`.
        """
        found = await self.find(container)
        if found is None:
            return
        try:
            await self._client.remove(found.id)
        except NoSuchObject:
            return
        except Conflict:
            # Somebody else is removing it already.
            await self._removed(found.id)

    async def remove_in_time(self, container: str) -> None:
        """Remove it now, or later if that fails; never fails."""
        try:
            await self.remove(container)
        except (EngineUnavailable, DockerError) as error:
            self._log.warn(
                "could not remove {container} yet: {error}", container=container, error=error
            )
            self._leftovers.add(container)
            self._retry_later()

    def close(self) -> None:
        """Give up on what could not be removed."""
        self._closed = True
        if self._retrying is not None:
            self._retrying.cancel()
            self._retrying = None

    async def _removed(self, container: str) -> None:
        try:
            await self._client.wait(container, "removed")
        except NoSuchObject:
            return

    def _retry_later(self) -> None:
        if self._retrying is None and not self._closed:
            self._retrying = self._clock.callLater(RETRY_SECONDS, self._retry)

    def _retry(self) -> None:
        leftovers, self._leftovers = self._leftovers, set()
        self._retrying = None
        for container in leftovers:
            Deferred.fromCoroutine(self.remove_in_time(container))
