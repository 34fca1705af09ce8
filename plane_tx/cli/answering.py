"""Looks at a server that runs: whether it answers, its engine, its clock, and our key."""

from __future__ import annotations

import os
from collections.abc import Iterator
from email.utils import parsedate_to_datetime

import httpx

from plane_tx.cli.findings import Finding, bad, ok, warn
from plane_tx.cli.texts import span
from plane_tx.client import (
    Client,
    Forbidden,
    PlaneClientError,
    Unauthorized,
    Unavailable,
)

#: Clocks that differ by more make leases and expiries mean something else than was meant.
MOST_SKEW_SECONDS = 5.0


def server(client: Client, *, may_be_down: bool) -> Iterator[Finding]:
    """Whether the server answers; one that `may_be_down` need not."""
    where = client.settings.where
    try:
        health = client.health()
    except Unavailable as error:
        cure = "start it (twistd plane --config FILE), or say where it is: --url, PLANE_TX_URL"
        made = warn if may_be_down else bad
        yield made("control API", str(error), cure)
        return
    except PlaneClientError:
        cure = "say where the control listener is (--url, PLANE_TX_URL); the proxy is another port"
        yield bad("control API", f"what answers at {where} is no plane_tx server", cure)
        return
    yield ok("control API", f"the server answers at {where}")
    if health.engine.ok:
        yield ok("server's engine", health.engine.message)
    else:
        cure = "start the engine; the server takes it up by itself"
        yield bad("server's engine", health.engine.message, cure)
    yield key(client)


def key(client: Client) -> Finding:
    """Whether the server knows the API key, where it wants one."""
    try:
        told = client.server_status()
    except Unauthorized:
        if client.settings.key is None:
            cure = "set PLANE_TX_KEY, or name a file with the key: --key-file FILE"
            return bad("API key", "the server wants an API key, and there is none", cure)
        cure = "set PLANE_TX_KEY to a secret in [control] api_keys, and restart the server"
        return bad("API key", "the server does not know this API key", cure)
    except Forbidden as error:
        cure = "use a key with the scope read or admin, and the server's own name in --url"
        return warn("API key", f"the server does not let this caller read: {error}", cure)
    except PlaneClientError as error:
        return bad("API key", f"the server could not be asked: {error}", "look at the server's log")
    return ok("API key", f"the server (version {told.get('version')}) lets this caller read")


def date_of(client: Client) -> str | None:
    """The server's clock as its answers tell it, or None."""
    try:
        transport = httpx.HTTPTransport(uds=client.settings.socket)
        with httpx.Client(transport=transport, timeout=5.0, trust_env=False) as asking:
            date: str | None = asking.head(f"{client.settings.url}/pub/health").headers.get("date")
    except (httpx.HTTPError, OSError):
        return None
    return date


def clock(date: str | None, now: float) -> Iterator[Finding]:
    """Whether the server's clock, an HTTP date, is ours; `now` in seconds since the epoch."""
    try:
        theirs = parsedate_to_datetime(date or "").timestamp()
    except (ValueError, OverflowError, OSError):
        return
    skew = abs(theirs - now)
    if skew <= MOST_SKEW_SECONDS:
        yield ok("clock", "the server's clock and ours agree")
        return
    which = "ahead of" if theirs > now else "behind"
    cure = "let both boxes keep time: timedatectl set-ntp true"
    yield bad("clock", f"the server's clock is {span(skew)} {which} ours", cure)


def environment_url() -> str | None:
    """Where PLANE_TX_URL says that the server is."""
    return os.environ.get("PLANE_TX_URL") or None
