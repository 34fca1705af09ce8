"""What the proxy itself says to a client, when no session can or may."""

from __future__ import annotations

import json
import re
from functools import partial
from typing import Protocol as Shape

from plane_tx.core.errors import BadRequest, PlaneError
from plane_tx.core.fields import Headers, takes_html, values_of
from plane_tx.core.headers import Peer, cors
from plane_tx.core.messages import RequestHead, write_head
from plane_tx.core.model import HOST_TOKEN
from plane_tx.core.preflight import is_preflight
from plane_tx.core.routes import Route
from plane_tx.proxy.pages import Pages

_PHRASES = {
    200: b"OK",
    204: b"No Content",
    301: b"Moved Permanently",
    308: b"Permanent Redirect",
    400: b"Bad Request",
    403: b"Forbidden",
    408: b"Request Timeout",
    410: b"Gone",
    431: b"Request Header Fields Too Large",
    502: b"Bad Gateway",
    503: b"Service Unavailable",
    504: b"Gateway Timeout",
}

_JSON: Headers = ((b"Content-Type", b"application/json"),)

_HOST_LABEL = re.compile(HOST_TOKEN)


class Answering(Shape):
    """Something that we say, whether the connection goes on or not."""

    def __call__(self, *, close: bool) -> bytes:
        """The whole answer."""


def answer(
    status: int,
    body: bytes,
    *,
    close: bool,
    head: RequestHead | None = None,
    headers: Headers = (),
) -> bytes:
    """A whole answer of ours; a HEAD request gets its head alone."""
    lines = [
        (b"Server", b"plane-tx"),
        *headers,
        (b"Cache-Control", b"no-store"),
        *cors(headers),
    ]
    if status != 204:  # which has none (RFC 9110 section 8.6)
        lines.append((b"Content-Length", b"%d" % len(body)))
    if close:
        lines.append((b"Connection", b"close"))
    first = b"HTTP/1.1 %d %s" % (status, _PHRASES.get(status, b"Error"))
    silent = head is not None and head.method == b"HEAD"
    return write_head(first, lines) + (b"" if silent else body)


def refusal(
    error: PlaneError,
    *,
    close: bool,
    head: RequestHead | None = None,
    session_id: str = "",
    pages: Pages | None = None,
) -> bytes:
    """The answer to a request that `error` ended: one of `pages` for those who read pages, else
    JSON.

    A preflight is granted: its page could read no other answer, and will be told by the next one.
    """
    told_by = ((b"x-plane-backend-id", session_id.encode("ascii")),) if session_id else ()
    if head is not None and is_preflight(head):
        return answer(204, b"", close=close, head=head, headers=told_by)
    headers: Headers
    if pages is not None and wants_page(head):
        headers, body = pages.of(error, session_id)
    else:
        told = {"kind": error.kind, "message": str(error)}
        headers, body = _JSON, json.dumps(told).encode("utf-8") + b"\n"
    headers += told_by
    if error.retry_after_seconds is not None:
        headers += ((b"Retry-After", b"%d" % error.retry_after_seconds),)
    return answer(error.status, body, close=close, head=head, headers=headers)


def wants_page(head: RequestHead | None) -> bool:
    """Whether this is a person's browser going somewhere, rather than a program."""
    if head is None or head.method not in (b"GET", b"HEAD"):
        return False
    return takes_html(values_of(head.headers, b"accept"))


def redirect(status: int, location: str, *, close: bool, head: RequestHead) -> bytes:
    """The answer that sends a client elsewhere."""
    headers = ((b"Location", location.encode("latin-1")),)
    return answer(status, b"", close=close, head=head, headers=headers)


def is_our_own(head: RequestHead) -> bool:
    """Whether the proxy is asked itself, for a path that cannot belong to a session."""
    if head.target.partition(b"?")[0] not in (b"/", b"/ready", b"*"):
        return False
    # A session with a host of its own has every path there, `/` and `/ready` too.
    label = head.host.partition(b".")[0].decode("latin-1").lower()
    return _HOST_LABEL.fullmatch(label) is None


def own_answer(head: RequestHead, root_url: str, *, recovered: bool) -> Answering:
    """What the proxy says for itself; `root_url` is where `/` leads, if anywhere.

    Raises `BadRequest` where it has nothing to say.
    """
    if head.target.startswith(b"/ready"):
        return partial(answer, 200 if recovered else 503, b"", head=head)
    if root_url and head.target.startswith(b"/"):
        return partial(redirect, 301, root_url, head=head)
    raise BadRequest("the URL names no session")


def slash_added(head: RequestHead, route: Route, peer: Peer) -> Answering:
    """The way to the same URL with a slash behind its token."""
    _, question, query = head.target.decode("latin-1").partition("?")
    location = f"{peer.prefix.decode('ascii')}{route.prefix}/{question}{query}"
    return partial(redirect, 308, location, head=head)
