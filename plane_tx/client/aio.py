"""The client whose methods are awaited, for asyncio."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, aclosing, closing
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import httpx

from plane_tx.client import calls, flows, models
from plane_tx.client.calls import Call, ConnectFields, ConnectOptions, Filters
from plane_tx.client.errors import PlaneClientError
from plane_tx.client.flows import Answer, Flow, Open, Patience, Read, Send, Sleep, Tell
from plane_tx.client.settings import add, new_key, sent, settings, telling, timeout

T = TypeVar("T")


class AsyncClient:
    """A server's control API, as `Client` has it, for asyncio.

    `url` and `key` are else PLANE_TX_URL and PLANE_TX_KEY, or the server of this box without a
    key. `timeout` is how many seconds the server may be silent. Every method raises a
    `PlaneClientError`: of the kind that the server names, `Unavailable` or `Unreadable`. What was
    sent in vain is sent again, by `patience`, only if that cannot do anything twice.
    """

    def __init__(
        self,
        url: str | None = None,
        key: str | None = None,
        *,
        timeout: float = 30.0,
        patience: Patience | None = None,
        verify: ssl.SSLContext | bool = True,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.settings = settings(url, key, os.environ)
        self.timeout = timeout
        self._patience = patience or Patience()
        if transport is None:
            transport = httpx.AsyncHTTPTransport(verify=verify, uds=self.settings.socket)
        # What the environment says of proxies is not for a server that is mostly on this box.
        self._http = httpx.AsyncClient(transport=transport, trust_env=False)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close what connections there are."""
        await self._http.aclose()

    async def connect(
        self,
        app: str | None = None,
        *,
        options: ConnectOptions | None = None,
        idempotency_key: str | None = None,
        **said: Unpack[ConnectFields],
    ) -> models.Session:
        """A session and a link to it: that which holds `key`, or a new one.

        What may be said is what `ConnectOptions` has. Without an `idempotency_key` there is one
        for this call, so that its retries make one session.
        """
        options = options or ConnectOptions(app=app, **said)
        key = new_key() if idempotency_key is None else idempotency_key
        return await self._call(calls.connect(options, key))

    async def get(self, session_id: str) -> models.Details:
        """All about one session."""
        return await self._call(calls.get(session_id))

    def list(self, **filters: Unpack[Filters]) -> AsyncGenerator[models.Details, None]:
        """Sessions that fit `status`, `user`, `key`, `namespace` and `labels`, newest first."""
        return self._drive(flows.every_session(filters, self._patience))

    async def why(self, session_id: str) -> models.Why:
        """Why a session is alive and what ends it next, or why it has ended."""
        return await self._call(calls.why(session_id))

    def logs(
        self,
        session_id: str,
        *,
        follow: bool = False,
        tail: int | None = None,
        since: int | None = None,
    ) -> AsyncGenerator[models.LogLine, None]:
        """The last `tail` lines (100), of those after `since` in milliseconds since the epoch.

        With `follow` all that come, too, until the session has ended.
        """
        if follow:
            return self._drive(flows.log_lines(session_id, tail, since, self._patience))
        return self._drive(flows.kept_lines(session_id, tail, since, self._patience))

    async def stats(self, session_id: str) -> models.Stats:
        """What a session takes and moves."""
        return await self._call(calls.stats(session_id))

    def stats_stream(self, session_id: str) -> AsyncGenerator[models.Stats, None]:
        """The same, every second, until it has ended."""
        return self._drive(flows.samples(session_id, self._patience))

    def stats_stream_of(self, session_ids: Iterable[str]) -> AsyncGenerator[models.Stats, None]:
        """The same of several, 50 at most, every two seconds, until all of them have ended."""
        return self._drive(flows.samples_of_many(session_ids, self._patience))

    def events(self) -> AsyncGenerator[models.Event, None]:
        """Every status that any session enters from now on."""
        return self._drive(flows.all_events(self._patience))

    def status_stream(self, session_id: str) -> AsyncGenerator[models.StatusUpdate, None]:
        """Every status of a session, from the first, and how far a pull has come."""
        return self._drive(flows.status_updates(session_id, self._patience))

    async def wait_ready(
        self,
        session_id: str,
        timeout: float | None = None,  # noqa: ASYNC109  # it is enforced by the flow
        on_update: Callable[[models.StatusUpdate], None] = lambda _: None,
    ) -> models.StatusUpdate:
        """Return when the session is ready; `on_update` is called with all that comes before.

        Raises `SessionFailed`, and `TimedOut` after so many seconds, or up to 2 more.
        """
        return await self._do(flows.ready(session_id, self._patience, timeout), on_update)

    async def keep_alive(self, session_id: str, seconds: float, reason: str = "") -> models.Lease:
        """Keep a session alive for so long without a connection; there is one lease a reason."""
        return await self._call(calls.keep_alive(session_id, seconds, reason))

    async def soft_terminate(self, session_id: str, wait: float = 0.0) -> None:
        """End a session, giving it its grace; return when it has ended, or after `wait` seconds."""
        await self._call(calls.terminate(session_id, "soft", wait))

    async def hard_terminate(self, session_id: str, wait: float = 0.0) -> None:
        """The same by force."""
        await self._call(calls.terminate(session_id, "hard", wait))

    async def revoke(self, session_id: str, user: str) -> str:
        """Take a user's links to a session back and cut what is open by them."""
        return await self._call(calls.revoke(session_id, user))

    async def link(self, session_id: str, user: str | None = None, tag: str = "") -> models.Link:
        """A new link to a session that was made under this tag."""
        return await self._call(calls.link(session_id, user, tag))

    async def drain(self) -> models.Drain:
        """Have the server take no new sessions."""
        return await self._call(calls.drain("POST"))

    async def undrain(self) -> models.Drain:
        """Have the server take new sessions again."""
        return await self._call(calls.drain("DELETE"))

    async def drain_status(self) -> models.Drain:
        """Whether the server takes new sessions."""
        return await self._call(calls.drain("GET"))

    async def autopsy(self, session_id: str, path: str | Path) -> None:
        """Write all that is known of a session into a file, a .tar.gz."""
        data = await self._do(flows.download(calls.autopsy(session_id), self._patience))
        await asyncio.to_thread(Path(path).write_bytes, data)

    async def health(self) -> models.Health:
        """How the server and its engine are."""
        return await self._call(calls.health())

    async def server_status(self) -> Mapping[str, Any]:
        """The server's version; asks with the key, where there is one."""
        return await self._call(calls.server_status())

    async def _call(self, call: Call[T]) -> T:
        return await self._do(flows.whole(call, self._patience))

    async def _do(self, flow: Flow[T], tell: Callable[[Any], None] = lambda _: None) -> T:
        result: list[T] = []

        def kept() -> Flow[None]:
            result.append((yield from flow))

        async with aclosing(self._drive(kept())) as driven:
            async for told in driven:
                tell(told)
        return result[0]

    async def _drive(self, flow: Flow[Any]) -> AsyncGenerator[Any, None]:
        with closing(flow):
            async with AsyncExitStack() as opened:
                came: Any = None
                chunks: AsyncIterator[bytes] | None = None
                error: PlaneClientError | None = None
                while True:
                    try:
                        step = flow.throw(error) if error else flow.send(came)
                    except StopIteration:
                        return
                    came = error = None
                    try:
                        match step:
                            case Tell(value):
                                yield value
                            case Sleep(seconds):
                                await asyncio.sleep(seconds)
                            case Send(call):
                                came = await self._send(call)
                            case Open(call, silence_seconds):
                                await opened.aclose()
                                came, chunks = await self._open(call, silence_seconds, opened)
                            case Read() if chunks is not None:
                                with telling(self.settings):
                                    came = await anext(chunks, b"")
                    except PlaneClientError as caught:
                        error = caught

    async def _send(self, call: Call[Any]) -> Answer:
        async with AsyncExitStack() as opened:
            head, chunks = await self._open(call, self.timeout + call.wait_seconds, opened)
            if head.status != 200:
                return head
            return Answer(200, head.headers, await self._rest(chunks))

    async def _open(
        self, call: Call[Any], silence_seconds: float, opened: AsyncExitStack
    ) -> tuple[Answer, AsyncIterator[bytes]]:
        with telling(self.settings):
            asked = self._http.stream(**sent(self.settings, call), timeout=timeout(silence_seconds))
            response = await opened.enter_async_context(asked)
        chunks = response.aiter_raw()
        body = b"" if response.status_code == 200 else await self._rest(chunks)
        return Answer(response.status_code, dict(response.headers), body), chunks

    async def _rest(self, chunks: AsyncIterator[bytes]) -> bytes:
        body = bytearray()
        with telling(self.settings):
            async for data in chunks:
                add(body, data)
        return bytes(body)
