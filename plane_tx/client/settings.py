"""Which server is called and as whom, and what httpx is told of each request."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import attrs
import httpx

from plane_tx.client.calls import Call
from plane_tx.client.errors import InvalidRequest, Silent, Unavailable, Unreached, Unreadable

#: Where a server listens that nobody configured otherwise.
DEFAULT_URL = "http://127.0.0.1:8080"

#: What no answer of ours exceeds.
MOST_BYTES = 64 * 1024 * 1024

CONNECT_SECONDS = 5.0

_UNIX = "unix:"
_SECRET = re.compile(r"[!-~]+")


@attrs.frozen
class Settings:
    """A server's URL, without a slash at its end, and an API key.

    `socket` is the path of its unix socket where it has one.
    """

    url: str
    key: str | None = attrs.field(default=None, repr=False)
    socket: str | None = None

    @property
    def where(self) -> str:
        """The server, for people."""
        return self.socket or self.url


def settings(url: str | None, key: str | None, environ: Mapping[str, str]) -> Settings:
    """What was said, else what PLANE_TX_URL and PLANE_TX_KEY say.

    A URL is http(s)://host[:port][/path], or unix:PATH. Raises `InvalidRequest`.
    """
    url = url or environ.get("PLANE_TX_URL") or DEFAULT_URL
    key = (key or environ.get("PLANE_TX_KEY") or "").strip() or None
    if key is not None and not _SECRET.fullmatch(key):
        raise InvalidRequest("the API key has characters that no key has")
    path = url.removeprefix(_UNIX)
    if path != url and path and "\0" not in path:
        return Settings("http://localhost", key, path)
    if not _is_plain(url):
        # It is not shown: a login may stand in it.
        raise InvalidRequest("the URL of the server: expected http(s)://host[:port], or unix:PATH")
    return Settings(url.rstrip("/"), key)


def _is_plain(url: str) -> bool:
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, UnicodeError):
        return False
    more = parsed.userinfo or parsed.query or parsed.fragment
    port = parsed.port is None or 0 < parsed.port < 65_536
    return parsed.scheme in ("http", "https") and bool(parsed.host) and port and not more


def new_key() -> str:
    """An Idempotency-Key that nobody else sends."""
    return str(uuid.uuid4())


def sent(settings: Settings, call: Call[Any]) -> dict[str, Any]:
    """What httpx makes a request of."""
    # Compressed, a small answer could be a large one.
    headers = {"Accept": "application/json", "Accept-Encoding": "identity", **call.headers}
    if settings.key is not None:
        headers["Authorization"] = f"Bearer {settings.key}"
    if call.body is not None:
        headers["Content-Type"] = "application/json"
    return {
        "method": call.method,
        "url": settings.url + call.path,
        "params": list(call.query),
        "headers": headers,
        "content": call.body,
    }


def timeout(silence_seconds: float) -> httpx.Timeout:
    """How long each part of a request may take without a byte."""
    return httpx.Timeout(silence_seconds, connect=CONNECT_SECONDS)


@contextmanager
def telling(settings: Settings) -> Iterator[None]:
    """Raise `Unavailable` for whatever went wrong on the way there and back."""
    try:
        yield
    except httpx.ReadTimeout:
        raise Silent(f"{settings.where} was silent for too long") from None
    except (httpx.ConnectTimeout, httpx.PoolTimeout):
        raise _unreached(settings, "no connection in time") from None
    except httpx.ConnectError as error:
        raise _unreached(settings, str(error)) from None
    except (httpx.HTTPError, httpx.StreamError) as error:
        told = str(error) or type(error).__name__
        raise Unavailable(f"the connection to {settings.where} broke: {told}") from None


def _unreached(settings: Settings, reason: str) -> Unreached:
    return Unreached(
        f"{settings.where} cannot be reached ({reason}): is the server running, and does"
        " PLANE_TX_URL say where its control API is?"
    )


def add(body: bytearray, data: bytes) -> None:
    """Add what came next to `body`. Raises `Unreadable` where that is too much."""
    if len(body) + len(data) > MOST_BYTES:
        raise Unreadable(f"the answer is longer than {MOST_BYTES} bytes")
    body += data
