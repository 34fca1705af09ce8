"""The client that blocks until the answer is there."""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing
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


class Client:
    """A server's control API. One client may be used by several threads.

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
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.settings = settings(url, key, os.environ)
        self.timeout = timeout
        self._patience = patience or Patience()
        if transport is None:
            transport = httpx.HTTPTransport(verify=verify, uds=self.settings.socket)
        # What the environment says of proxies is not for a server that is mostly on this box.
        self._http = httpx.Client(transport=transport, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close what connections there are."""
        self._http.close()

    def connect(
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
        return self._call(calls.connect(options, key))

    def get(self, session_id: str) -> models.Details:
        """All about one session."""
        return self._call(calls.get(session_id))

    def list(self, **filters: Unpack[Filters]) -> Generator[models.Details, None, None]:
        """Sessions that fit `status`, `user`, `key`, `namespace` and `labels`, newest first."""
        return self._drive(flows.every_session(filters, self._patience))

    def why(self, session_id: str) -> models.Why:
        """Why a session is alive and what ends it next, or why it has ended."""
        return self._call(calls.why(session_id))

    def logs(
        self,
        session_id: str,
        *,
        follow: bool = False,
        tail: int | None = None,
        since: int | None = None,
    ) -> Generator[models.LogLine, None, None]:
        """The last `tail` lines (100), of those after `since` in milliseconds since the epoch.

        With `follow` all that come, too, until the session has ended.
        """
        if follow:
            return self._drive(flows.log_lines(session_id, tail, since, self._patience))
        return self._drive(flows.kept_lines(session_id, tail, since, self._patience))

    def stats(self, session_id: str) -> models.Stats:
        """What a session takes and moves."""
        return self._call(calls.stats(session_id))

    def stats_stream(self, session_id: str) -> Generator[models.Stats, None, None]:
        """The same, every second, until it has ended."""
        return self._drive(flows.samples(session_id, self._patience))

    def stats_stream_of(self, session_ids: Iterable[str]) -> Generator[models.Stats, None, None]:
        """The same of several, 50 at most, every two seconds, until all of them have ended."""
        return self._drive(flows.samples_of_many(session_ids, self._patience))

    def events(self) -> Generator[models.Event, None, None]:
        """Every status that any session enters from now on."""
        return self._drive(flows.all_events(self._patience))

    def status_stream(self, session_id: str) -> Generator[models.StatusUpdate, None, None]:
        """Every status of a session, from the first, and how far a pull has come."""
        return self._drive(flows.status_updates(session_id, self._patience))

    def wait_ready(
        self,
        session_id: str,
        timeout: float | None = None,
        on_update: Callable[[models.StatusUpdate], None] = lambda _: None,
    ) -> models.StatusUpdate:
        """Return when the session is ready; `on_update` is called with all that comes before.

        Raises `SessionFailed`, and `TimedOut` after so many seconds, or up to 2 more.
        """
        return self._do(flows.ready(session_id, self._patience, timeout), on_update)

    def keep_alive(self, session_id: str, seconds: float, reason: str = "") -> models.Lease:
        """Keep a session alive for so long without a connection; there is one lease a reason."""
        return self._call(calls.keep_alive(session_id, seconds, reason))

    def soft_terminate(self, session_id: str, wait: float = 0.0) -> None:
        """End a session, giving it its grace; return when it has ended, or after `wait` seconds."""
        self._call(calls.terminate(session_id, "soft", wait))

    def hard_terminate(self, session_id: str, wait: float = 0.0) -> None:
        """The same by force."""
        self._call(calls.terminate(session_id, "hard", wait))

    def revoke(self, session_id: str, user: str) -> str:
        """Take a user's links to a session back and cut what is open by them."""
        return self._call(calls.revoke(session_id, user))

    def link(self, session_id: str, user: str | None = None, tag: str = "") -> models.Link:
        """A new link to a session that was made under this tag."""
        return self._call(calls.link(session_id, user, tag))

    def drain(self) -> models.Drain:
        """Have the server take no new sessions."""
        return self._call(calls.drain("POST"))

    def undrain(self) -> models.Drain:
        """Have the server take new sessions again."""
        return self._call(calls.drain("DELETE"))

    def drain_status(self) -> models.Drain:
        """Whether the server takes new sessions."""
        return self._call(calls.drain("GET"))

    def autopsy(self, session_id: str, path: str | Path) -> None:
        """Write all that is known of a session into a file, a .tar.gz."""
        data = self._do(flows.download(calls.autopsy(session_id), self._patience))
        Path(path).write_bytes(data)

    def health(self) -> models.Health:
        """How the server and its engine are."""
        return self._call(calls.health())

    def server_status(self) -> Mapping[str, Any]:
        """The server's version; asks with the key, where there is one."""
        return self._call(calls.server_status())

    def _call(self, call: Call[T]) -> T:
        return self._do(flows.whole(call, self._patience))

    def _do(self, flow: Flow[T], tell: Callable[[Any], None] = lambda _: None) -> T:
        with closing(self._drive(flow)) as driven:
            while True:
                try:
                    told = next(driven)
                except StopIteration as stop:
                    result: T = stop.value
                    return result
                tell(told)

    def _drive(self, flow: Flow[T]) -> Generator[Any, None, T]:
        with closing(flow), ExitStack() as opened:
            came: Any = None
            chunks: Iterator[bytes] = iter(())
            error: PlaneClientError | None = None
            while True:
                try:
                    step = flow.throw(error) if error else flow.send(came)
                except StopIteration as stop:
                    result: T = stop.value
                    return result
                came = error = None
                try:
                    match step:
                        case Tell(value):
                            yield value
                        case Sleep(seconds):
                            time.sleep(seconds)
                        case Send(call):
                            came = self._send(call)
                        case Open(call, silence_seconds):
                            opened.close()
                            came, chunks = self._open(call, silence_seconds, opened)
                        case Read():
                            with telling(self.settings):
                                came = next(chunks, b"")
                except PlaneClientError as caught:
                    error = caught

    def _send(self, call: Call[Any]) -> Answer:
        with ExitStack() as opened:
            head, chunks = self._open(call, self.timeout + call.wait_seconds, opened)
            return head if head.status != 200 else Answer(200, head.headers, self._rest(chunks))

    def _open(
        self, call: Call[Any], silence_seconds: float, opened: ExitStack
    ) -> tuple[Answer, Iterator[bytes]]:
        with telling(self.settings):
            asked = self._http.stream(**sent(self.settings, call), timeout=timeout(silence_seconds))
            response = opened.enter_context(asked)
        chunks = response.iter_raw()
        body = b"" if response.status_code == 200 else self._rest(chunks)
        return Answer(response.status_code, dict(response.headers), body), chunks

    def _rest(self, chunks: Iterator[bytes]) -> bytes:
        body = bytearray()
        with telling(self.settings):
            for data in chunks:
                add(body, data)
        return bytes(body)
