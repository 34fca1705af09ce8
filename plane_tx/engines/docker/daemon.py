"""The Docker daemon behind its socket: requests to it, and in our words why there is no answer."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from treq.client import HTTPClient
from twisted.internet import error as net
from twisted.internet.defer import CancelledError, Deferred, gatherResults, succeed
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.interfaces import (
    IConsumer,
    IReactorTime,
    IReactorUNIX,
    IStreamClientEndpoint,
)
from twisted.web.client import (
    URI,
    Agent,
    HTTPConnectionPool,
    RequestGenerationFailed,
    RequestTransmissionFailed,
    ResponseFailed,
)
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgentEndpointFactory, IBodyProducer, IResponse
from zope.interface import implementer

from plane_tx.core import dockerapi
from plane_tx.core.errors import ConfigError, EngineUnavailable
from plane_tx.engines.docker.errors import NotDocker, error_for
from plane_tx.engines.docker.streams import Stream, parsed
from plane_tx.failures import innermost_reason, is_cancelled

T = TypeVar("T")

#: How long a call that Docker answers at once may take, in seconds.
SHORT_CALL_SECONDS = 30.0

_CONNECT_SECONDS = 5
_LONGEST_PATH = 107
_KEEP_ALIVE_SECONDS = 30

_FOREIGN = (
    net.ConnectError,
    net.ConnectingCancelledError,
    net.ConnectionClosed,
    net.UserError,
    RequestGenerationFailed,
    RequestTransmissionFailed,
    ResponseFailed,
)

#: How many bytes are read from one connection in one turn of the reactor (`bufferSize` of Twisted's
#: transports): a log of short lines costs a hundred times its copying.
MOST_AT_ONCE = 1024


@implementer(IAgentEndpointFactory, IStreamClientEndpoint)
class _Connections:
    """Every connection to the daemon, so that closing leaves none behind."""

    def __init__(self, endpoint: IStreamClientEndpoint) -> None:
        self._endpoint = endpoint
        self._open: list[Any] = []
        self.closed = False

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        """All URIs lead to the one daemon."""
        return self

    def connect(self, protocolFactory: Any) -> Deferred[Any]:
        """Connect, and remember the connection."""
        # Two lines in the log for each connection are of no use to anybody.
        protocolFactory.noisy = False
        connecting: Deferred[Any] = self._endpoint.connect(protocolFactory)
        return connecting.addCallback(self._opened)

    def _opened(self, protocol: Any) -> Any:
        self._open = [one for one in self._open if one.state != "CONNECTION_LOST"]
        self._open.append(protocol)
        protocol.transport.bufferSize = MOST_AT_ONCE
        if self.closed:
            protocol.abort()
            raise net.ConnectionAborted
        return protocol

    def close(self) -> Deferred[Any]:
        """End them all, idle or at work; fires when the last is gone."""
        self.closed = True
        return gatherResults([protocol.abort() for protocol in self._open])


@implementer(IBodyProducer)
class _Whole:
    """A request's body, written at once: treq's own producer would ask for the global reactor."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self.length = len(body)

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        """Write all of it."""
        consumer.write(self._body)
        return succeed(None)

    def pauseProducing(self) -> None:
        """Everything is written already."""

    def resumeProducing(self) -> None:
        """Everything is written already."""

    def stopProducing(self) -> None:
        """Everything is written already."""


class Daemon:
    """One Docker daemon, reached over one endpoint; `where` names it in messages.

    The API version is agreed on with the first call, and again after the daemon was away.
    Every call fails with `EngineUnavailable` when there is no answer, and with a `DockerError`
    when the answer is an error.
    """

    def __init__(self, clock: IReactorTime, endpoint: IStreamClientEndpoint, where: str) -> None:
        self._clock = clock
        # treq asks for a reactor, of which it uses no more than the clock.
        self._reactor: Any = clock
        self._where = where
        self._api: str | None = None
        self._connections = _Connections(endpoint)
        self._pool = HTTPConnectionPool(clock)
        self._pool.maxPersistentPerHost = 8
        self._pool.cachedConnectionTimeout = _KEEP_ALIVE_SECONDS
        agent = Agent.usingEndpointFactory(clock, self._connections, self._pool)
        self._http = HTTPClient(agent, data_to_body_producer=_Whole)

    @property
    def where(self) -> str:
        """The daemon's address, for messages."""
        return self._where

    async def version(self) -> dict[str, Any]:
        """Docker's versions (`GET /version`); the API version is agreed on anew."""
        found: dict[str, Any] = await self._timed(self._ask("GET", "/version"), SHORT_CALL_SECONDS)
        self._api = self._agreed(found)
        return found

    async def ask(
        self,
        method: str,
        path: str,
        params: Mapping[str, str] | None = None,
        body: object = None,
        seconds: float | None = SHORT_CALL_SECONDS,
    ) -> Any:
        """Make a call and return the JSON it is answered by, if any.

        `seconds` bounds the whole call; with None only the connecting is bounded.
        """
        prefix = await self._prefix()
        return await self._timed(self._ask(method, prefix + path, params, body), seconds)

    async def open(
        self,
        method: str,
        path: str,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        seconds: float | None = None,
    ) -> Stream:
        """Make a call whose answer is a stream, which is to begin within `seconds`.

        With None only the connecting has a time limit.
        """
        prefix = await self._prefix()
        asking = self._send(method, prefix + path, params, headers=headers)
        return Stream(await self._timed(asking, seconds))

    async def within(self, seconds: float, call: Coroutine[Deferred[Any], Any, T]) -> T:
        """Wait for `call`, and break it off with Twisted's `TimeoutError` after `seconds`."""
        return await Deferred.fromCoroutine(call).addTimeout(seconds, self._clock)

    async def close(self) -> None:
        """Break off every call and stream; fires when no connection is left."""
        closing = gatherResults([self._connections.close(), self._pool.closeCachedConnections()])
        await closing

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Foreign errors become ours here, and nowhere else."""
        try:
            yield
        except _FOREIGN as error:
            if is_cancelled(error):
                raise CancelledError from None
            self._api = None
            raise self._unavailable(error) from None
        except NotDocker as error:
            raise EngineUnavailable(
                f"what answers at {self._where} is not Docker ({error}): set [engine] docker_socket"
            ) from None

    async def _prefix(self) -> str:
        if self._api is None:
            await self.version()
        return f"/v{self._api}"

    def _agreed(self, found: Mapping[str, Any]) -> str:
        try:
            newest = dockerapi.parse(found.get("ApiVersion", "0.0"))
            oldest = dockerapi.parse(found.get("MinAPIVersion", "0.0"))
        except (ValueError, AttributeError) as error:
            with self.translated():
                raise NotDocker(f"it tells no versions: {error}") from None
        agreed = dockerapi.agreed(oldest, newest)
        if agreed is None:
            raise EngineUnavailable(
                f"Docker at {self._where} speaks API {dockerapi.dotted(oldest)} to"
                f" {dockerapi.dotted(newest)}, this server {dockerapi.dotted(dockerapi.OLDEST)} to"
                f" {dockerapi.dotted(dockerapi.NEWEST)}: upgrade the older one"
            )
        return dockerapi.dotted(agreed)

    async def _timed(self, call: Any, seconds: float | None) -> Any:
        if seconds is None:
            return await call
        try:
            return await self.within(seconds, call)
        except DeferredTimeout:
            self._api = None
            raise EngineUnavailable(
                f"Docker at {self._where} did not answer within {seconds:g} s: look at its log"
            ) from None

    async def _ask(
        self,
        method: str,
        path: str,
        params: Mapping[str, str] | None = None,
        body: object = None,
    ) -> Any:
        response = await self._send(method, path, params, body)
        content = await self._content(response)
        with self.translated():
            return parsed(content) if content else None

    async def _send(
        self,
        method: str,
        path: str,
        params: Mapping[str, str] | None = None,
        body: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> IResponse:
        if self._connections.closed:
            raise EngineUnavailable(f"the connection to Docker at {self._where} was closed")
        extra: dict[str, Any] = {} if body is None else {"json": body}
        with self.translated():
            response: IResponse = await self._http.request(
                method,
                f"http://docker{path}",
                params=dict(params or {}),
                headers=Headers({name: [value] for name, value in (headers or {}).items()}),
                allow_redirects=False,
                unbuffered=True,
                reactor=self._reactor,
                **extra,
            )
        if response.code >= 300:
            raise error_for(response.code, _message(await self._content(response)))
        return response

    async def _content(self, response: IResponse) -> bytes:
        parts: list[bytes] = []
        with self.translated():
            await Stream(response).follow(parts.append)
        return b"".join(parts)

    def _unavailable(self, error: Exception) -> EngineUnavailable:
        cure = "start it"
        if getattr(error, "osError", None) == errno.EACCES:
            cure = "let this user use the socket (usually by the group docker)"
        return EngineUnavailable(
            f"Docker does not answer at {self._where} ({innermost_reason(error)}): {cure},"
            " or set [engine] docker_socket"
        )


def unix_daemon(reactor: IReactorUNIX, path: str) -> Daemon:
    """The daemon behind the unix socket at `path`.

    Raises `ConfigError` for a path that no socket can have.
    """
    if len(os.fsencode(path)) > _LONGEST_PATH:
        raise ConfigError(
            f"[engine] docker_socket: expected at most {_LONGEST_PATH} bytes, got {path!r}"
        )
    endpoint = UNIXClientEndpoint(reactor, path, timeout=_CONNECT_SECONDS)
    return Daemon(IReactorTime(reactor), endpoint, path)


def _message(content: bytes) -> str:
    """Docker's own words from an error's body."""
    try:
        return str(json.loads(content)["message"])
    except (ValueError, KeyError, TypeError):
        return content.decode("utf-8", "replace")
