"""Forward auth: another service is asked about every call, as Plane's `--forward-auth` does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

from twisted.internet import error as net
from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import (
    URI,
    Agent,
    HTTPConnectionPool,
    RequestGenerationFailed,
    RequestTransmissionFailed,
    ResponseFailed,
    ResponseNeverReceived,
)
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgentEndpointFactory, IResponse
from zope.interface import implementer

from plane_tx.core.errors import AuthServiceUnavailable, Unauthorized
from plane_tx.core.fields import tokens_of, values_of
from plane_tx.core.headers import passing
from plane_tx.failures import innermost_reason, is_cancelled

#: How long a call waits to be let in, its turn to be asked about included.
ANSWER_SECONDS = 10.0

#: How many questions are out at a time.
MOST_AT_ONCE = 32

#: How much of an answer's body is thrown away before its connection is.
MOST_BODY_BYTES = 64 * 1024

# Shorter than servers keep connections themselves (Node.js: 5 s), so that few are lost to a race.
_KEEP_ALIVE_SECONDS = 4

_PATH = b"x-original-path"

#: The body is not sent along, so nothing is said of it.
_OF_THE_BODY = frozenset({b"content-encoding", b"content-length", b"content-type", b"expect"})

# Frameworks that make variables of headers cannot tell these from hyphens.
_HYPHENS = bytes.maketrans(b"_.", b"--")

_DIED_UNHEARD = (RequestTransmissionFailed, ResponseNeverReceived)
_FOREIGN = (
    *_DIED_UNHEARD,
    RequestGenerationFailed,
    ResponseFailed,
    net.ConnectBindError,
    net.ConnectError,
    net.ConnectingCancelledError,
    net.ConnectionClosed,
    net.DNSLookupError,
)


class ForwardAuth:
    """The service that lets calls in, or not; it may be slow, gone or talkative."""

    def __init__(self, clock: IReactorTime, endpoint: IStreamClientEndpoint, url: str) -> None:
        """Ask at `url` by connections to `endpoint`."""
        self._clock = clock
        self._url = url.encode("ascii")
        self._slots = DeferredSemaphore(MOST_AT_ONCE)
        self._pool = HTTPConnectionPool(clock)
        self._pool.maxPersistentPerHost = MOST_AT_ONCE
        self._pool.cachedConnectionTimeout = _KEEP_ALIVE_SECONDS
        # It would repeat some methods only; a question may always be asked again.
        self._pool.retryAutomatically = False
        # Not treq: its client has one jar of cookies for all, so that a cookie that the service
        # sets for one caller would be sent with the calls of others.
        self._agent = Agent.usingEndpointFactory(clock, _Always(endpoint), self._pool)

    def __repr__(self) -> str:
        out = self._slots.limit - self._slots.tokens
        return f"<ForwardAuth [Asked: {out} | Waiting: {len(self._slots.waiting)}]>"

    def ask(self, method: bytes, path: str, headers: Headers) -> Deferred[None]:
        """Fire when the service lets a call of `path` in, given as it is routed.

        Fails with `Unauthorized` when it does not, with `AuthServiceUnavailable` when it gives no
        answer in time. Cancelling takes the question back.
        """
        asked = Deferred.fromCoroutine(self._ask(method, question(headers, path)))
        return asked.addTimeout(ANSWER_SECONDS, self._clock, _too_late)

    def close(self) -> None:
        """Let go of the connections that nothing is asked on."""
        self._pool.closeCachedConnections()

    async def _ask(self, method: bytes, headers: Headers) -> None:
        async with self._slots:
            with _translated():
                status = await self._status(method, headers)
        if not 200 <= status < 300:
            raise Unauthorized(f"the auth service refuses this call: it answers {status}")

    async def _status(self, method: bytes, headers: Headers) -> int:
        try:
            return await self._once(method, headers)
        except _DIED_UNHEARD as error:
            if is_cancelled(error):
                raise
            # Most likely a kept connection, which the service closed at the same moment.
            return await self._once(method, headers)

    async def _once(self, method: bytes, headers: Headers) -> int:
        response: IResponse = await self._agent.request(method, self._url, headers)
        body = _ThrownAway()
        response.deliverBody(body)
        await body.done
        return int(response.code)


def forward_auth_at(reactor: Any, url: str) -> ForwardAuth:
    """The service at `url`, which is an http:// one."""
    uri = URI.fromBytes(url.encode("ascii"))
    endpoint = HostnameEndpoint(reactor, uri.host.strip(b"[]"), uri.port, timeout=ANSWER_SECONDS)
    return ForwardAuth(reactor, endpoint, url)


def question(headers: Headers, path: str) -> Headers:
    """What the service is told of a call: its headers, and where it would lead (plane.md 1.8).

    The path is the one that is routed, encoded again: no spelling of it has two meanings.
    """
    told = tuple((name, value) for name, values in headers.getAllRawHeaders() for value in values)
    asked = Headers()
    for name, value in passing(told, tokens_of(values_of(told, b"connection"))):
        if not _is_dropped(name.lower()):
            asked.addRawHeader(name, value)
    asked.setRawHeaders(_PATH, [_original(path)])
    return asked


def _is_dropped(name: bytes) -> bool:
    forged = name.translate(_HYPHENS) == _PATH
    return forged or name in _OF_THE_BODY or name.startswith(b"proxy-")


def _original(path: str) -> bytes:
    if path == "/ctrl" or path.startswith("/ctrl/"):
        path = path.removeprefix("/ctrl") or "/"
    return quote(path, safe="/!$&'()*+,;=:@~").encode("ascii")


@implementer(IAgentEndpointFactory, IStreamClientEndpoint)
class _Always:
    """The one endpoint, whatever the URI, and without a line in the log for each connection."""

    def __init__(self, endpoint: IStreamClientEndpoint) -> None:
        self._endpoint = endpoint

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        """The way to the service."""
        return self

    def connect(self, protocolFactory: Any) -> Deferred[Any]:
        """Connect to the service."""
        protocolFactory.noisy = False
        return self._endpoint.connect(protocolFactory)


class _ThrownAway(Protocol):
    """A body that nobody reads; `done` fires at its end, or when it is too long to wait for."""

    def __init__(self) -> None:
        self._left = MOST_BODY_BYTES
        self._over = False
        self.done: Deferred[None] = Deferred(self._hang_up)

    def dataReceived(self, data: bytes) -> None:
        """Forget it."""
        self._left -= len(data)
        if self._left < 0 and not self._over:
            self._hang_up(self.done)
            self.done.callback(None)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Be done, however it ended: the status came before it."""
        if not self._over:
            self._over = True
            self.done.callback(None)

    def _hang_up(self, _done: Deferred[None]) -> None:
        self._over = True
        if self.transport is not None:
            self.transport.loseConnection()


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except _FOREIGN as error:
        if is_cancelled(error):
            raise CancelledError from None
        raise AuthServiceUnavailable(
            f"the auth service does not answer ({innermost_reason(error)}): start it, or set"
            " [control] forward_auth"
        ) from None


def _too_late(_result: object, seconds: float) -> None:
    raise AuthServiceUnavailable(
        f"the auth service did not answer within {seconds:g} s: look at its log"
    )
