"""What a container tells of what happened to it: Docker's account of it, and the end of its log."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import DeferredSemaphore
from twisted.logger import Logger

from plane_tx.core.autopsy import HIDDEN, hide_values
from plane_tx.core.errors import EngineUnavailable
from plane_tx.core.model import LogLine
from plane_tx.core.record import RECORD_LABEL
from plane_tx.engines.docker.client import DockerClient
from plane_tx.engines.docker.container import INSTANCE_LABEL
from plane_tx.engines.docker.errors import DockerError, NoSuchObject
from plane_tx.engines.interface import Remains
from plane_tx.engines.lines import REMAINS_LINES, left_behind

#: How many containers are read at the same time: each may have megabytes to tell.
READ_AT_ONCE = 4


class Coroner:
    """Reads what is left of one instance's containers, a few at a time."""

    _log = Logger()

    def __init__(self, client: DockerClient, instance: str) -> None:
        self._client = client
        self._instance = instance
        self._places = DeferredSemaphore(READ_AT_ONCE)

    async def examine(self, container: str) -> Remains | None:
        """All there is of a container; None when it is gone, or not this instance's own.

        Fails with `EngineUnavailable` or `DockerError`.
        """
        await self._places.acquire()
        try:
            account = await self._client.inspect(container)
            if (account["Config"].get("Labels") or {}).get(INSTANCE_LABEL) != self._instance:
                return None
            return Remains(shown(account), left_behind(await self._lines(account["Id"])))
        except NoSuchObject:
            return None
        finally:
            self._places.release()

    async def examine_if_possible(self, container: str) -> Remains | None:
        """The same; what cannot be read is no more to be had, and never fails."""
        try:
            return await self.examine(container)
        except (EngineUnavailable, DockerError) as error:
            self._log.warn(
                "could not read what is left of {container}: {error}",
                container=container,
                error=error,
            )
            return None

    async def _lines(self, container: str) -> tuple[LogLine, ...]:
        try:
            return await self._client.logs(container, REMAINS_LINES)
        except NoSuchObject:
            raise
        except DockerError:
            # Some log drivers cannot be read.
            return ()


def shown(account: Mapping[str, Any]) -> dict[str, Any]:
    """Docker's account of a container (`GET /containers/{id}/json`) without any secret of ours.

    The values of its environment are hidden, and the record that we keep in its labels.
    """
    config = dict(account.get("Config") or {})
    config["Env"] = hide_values(config.get("Env") or ())
    labels = dict(config.get("Labels") or {})
    if RECORD_LABEL in labels:
        labels[RECORD_LABEL] = HIDDEN
    config["Labels"] = labels
    return {**account, "Config": config}
