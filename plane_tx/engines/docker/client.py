"""The few Docker Engine calls we make (Engine API 1.40 to 1.47)."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import quote

from twisted.internet.defer import TimeoutError as DeferredTimeout

from plane_tx.core.model import Credentials, LogLine
from plane_tx.engines.docker.daemon import SHORT_CALL_SECONDS, Daemon
from plane_tx.engines.docker.errors import DockerError, NoSuchObject
from plane_tx.engines.docker.streams import JsonLines, LogFrames, Sink, Stream
from plane_tx.engines.interface import Tell
from plane_tx.engines.lines import Ring

#: Making and starting may wait for a slow disk.
_SLOW_CALL_SECONDS = 120.0

#: How long a log may take to be read: it is told as far as it came by then.
LOG_SECONDS = 10.0

#: How much of a log is read into memory.
MAX_LOG_CHARACTERS = 4 * 1024 * 1024

JsonObject = dict[str, Any]


class DockerClient:
    """Docker's calls by their names. Errors are those of `Daemon`."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon

    async def version(self) -> JsonObject:
        """`GET /version`."""
        return await self._daemon.version()

    @property
    def where(self) -> str:
        """The daemon's address, for messages."""
        return self._daemon.where

    async def create(self, name: str, config: JsonObject) -> str:
        """Make a container and return its id (`POST /containers/create`)."""
        made = await self._daemon.ask(
            "POST", "/containers/create", {"name": name}, config, _SLOW_CALL_SECONDS
        )
        return str(made["Id"])

    async def start(self, container: str) -> None:
        """Start a container (`POST /containers/{id}/start`)."""
        await self._daemon.ask("POST", _container(container, "start"), seconds=_SLOW_CALL_SECONDS)

    async def inspect(self, container: str) -> JsonObject:
        """All that Docker knows of a container (`GET /containers/{id}/json`)."""
        found: JsonObject = await self._daemon.ask("GET", _container(container, "json"))
        return found

    async def stop(self, container: str, seconds: int) -> None:
        """Send the stop signal, and SIGKILL after `seconds`; returns when it has ended.

        It has no time limit: some Dockers kill at once when this call is broken off.
        """
        await self._daemon.ask(
            "POST", _container(container, "stop"), {"t": str(seconds)}, seconds=None
        )

    async def kill(self, container: str) -> None:
        """Send SIGKILL; returns when it is sent (`POST /containers/{id}/kill`)."""
        await self._daemon.ask("POST", _container(container, "kill"))

    async def wait(self, container: str, condition: str) -> None:
        """Return when the container is `not-running`, or `removed`; takes as long as that does."""
        await self._daemon.ask(
            "POST", _container(container, "wait"), {"condition": condition}, seconds=None
        )

    async def remove(self, container: str) -> None:
        """Remove it by force, with its anonymous volumes (`DELETE /containers/{id}`)."""
        await self._daemon.ask(
            "DELETE", _container(container), {"force": "1", "v": "1"}, seconds=_SLOW_CALL_SECONDS
        )

    async def containers(self, labels: list[str]) -> list[JsonObject]:
        """Every container that carries all `labels`, running or not (`GET /containers/json`)."""
        found: list[JsonObject] = await self._daemon.ask(
            "GET", "/containers/json", {"all": "1", "filters": json.dumps({"label": labels})}
        )
        return found

    async def logs(
        self, container: str, tail: int, since_ns: int | None = None
    ) -> tuple[LogLine, ...]:
        """The last `tail` lines of its output (`GET /containers/{id}/logs`).

        Those from `since_ns` on, and no more than `MAX_LOG_CHARACTERS` or come in `LOG_SECONDS`:
        a log that hangs is not to keep an end from being told.
        """
        # Docker counts each piece of a long line as one.
        ring = Ring(tail, MAX_LOG_CHARACTERS)
        with suppress(DeferredTimeout):
            reading = self._logs(container, _log_query(tail, since_ns), ring.add)
            await self._daemon.within(LOG_SECONDS, reading)
        return ring.lines()

    async def follow_logs(
        self, container: str, tail: int, since_ns: int | None, tell: Tell
    ) -> None:
        """The same, and each new line, told as they come; returns when the container has ended."""
        await self._logs(container, {**_log_query(tail, since_ns), "follow": "1"}, tell)

    async def stats(self, container: str) -> JsonObject | None:
        """What it takes of the box now (`GET /containers/{id}/stats`); podman may have nothing.

        An Engine of API 1.40 does not know `one-shot` and takes two seconds for it.
        """
        found: JsonObject | None = await self._daemon.ask(
            "GET", _container(container, "stats"), {"stream": "false", "one-shot": "true"}
        )
        return found

    async def events(self, filters: Mapping[str, list[str]]) -> Stream:
        """What happens from now on, as a stream to `follow_json` (`GET /events`)."""
        query = {"filters": json.dumps(dict(filters))}
        return await self._daemon.open("GET", "/events", query, seconds=SHORT_CALL_SECONDS)

    async def follow_json(self, stream: Stream, tell: Callable[[JsonObject], None]) -> None:
        """Hand on each JSON object of a stream; returns when it ends."""
        await self._follow(stream, JsonLines(tell))

    async def networks(self, name: str) -> list[JsonObject]:
        """Every network with `name` in its name (`GET /networks`), without its containers."""
        found: list[JsonObject] = await self._daemon.ask(
            "GET", "/networks", {"filters": json.dumps({"name": [name]})}
        )
        return found

    async def create_network(self, config: JsonObject) -> None:
        """Make a network (`POST /networks/create`)."""
        await self._daemon.ask("POST", "/networks/create", None, config, _SLOW_CALL_SECONDS)

    async def has_image(self, reference: str) -> bool:
        """Whether the image is on this box (`GET /images/{name}/json`)."""
        try:
            await self._daemon.ask("GET", f"/images/{quote(reference, safe='/:@')}/json")
        except NoSuchObject:
            return False
        return True

    async def pull(
        self,
        name: str,
        tag: str,
        credentials: Credentials | None,
        tell: Callable[[JsonObject], None],
    ) -> None:
        """Pull one tag or digest, telling each line of progress (`POST /images/create`).

        An error that comes within the stream, after the 200, is a `DockerError` as well.
        """
        errors: list[str] = []

        def line(progress: JsonObject) -> None:
            if "error" in progress:
                detail = progress.get("errorDetail") or {}
                errors.append(str(detail.get("message") or progress["error"]))
            else:
                tell(progress)

        stream = await self._daemon.open(
            "POST", "/images/create", {"fromImage": name, "tag": tag}, _login(credentials)
        )
        await self.follow_json(stream, line)
        if errors:
            raise DockerError(errors[0])

    async def close(self) -> None:
        """Break off every call; returns when no connection is left."""
        await self._daemon.close()

    async def _logs(self, container: str, query: dict[str, str], tell: Tell) -> None:
        frames = LogFrames(tell)
        stream = await self._daemon.open("GET", _container(container, "logs"), query)
        await self._follow(stream, frames)
        frames.finish()

    async def _follow(self, stream: Stream, sink: Sink) -> None:
        with self._daemon.translated():
            await stream.follow(sink)


def _container(container: str, action: str = "") -> str:
    return f"/containers/{quote(container, safe='')}" + (f"/{action}" if action else "")


def _log_query(tail: int, since_ns: int | None) -> dict[str, str]:
    query = {"stdout": "1", "stderr": "1", "timestamps": "1", "tail": str(tail)}
    if since_ns is not None:
        query["since"] = f"{since_ns // 1_000_000_000}.{since_ns % 1_000_000_000:09}"
    return query


def _login(credentials: Credentials | None) -> dict[str, str]:
    if credentials is None:
        return {}
    login = {"username": credentials.username, "password": credentials.password}
    return {"X-Registry-Auth": base64.urlsafe_b64encode(json.dumps(login).encode()).decode()}
