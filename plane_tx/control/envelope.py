"""Answers: JSON, and errors in the one envelope that every client can read."""

from __future__ import annotations

import html
from http import HTTPStatus

from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.server import Request

from plane_tx.core.errors import InvalidRequest, MalformedRequest, PlaneError, Unauthorized
from plane_tx.core.fields import takes_html
from plane_tx.core.routes import hide_tokens
from plane_tx.core.wire import dumps
from plane_tx.tokens import mint_id

_log = Logger()

#: What paths in the log begin with; another could be a link that went astray, token and all.
_OUR_PATHS = (b"/ctrl/", b"/pub/")


def answer(request: Request, content_type: str, body: bytes, status: int = 200) -> bytes:
    """Prepare `request` to be answered with `body`, which is returned."""
    # Twisted's own phrases end before 422.
    request.setResponseCode(status, HTTPStatus(status).phrase.encode("ascii"))
    request.setHeader("content-type", content_type)
    request.setHeader("content-length", str(len(body)))
    # Answers hold tokens and states, and both are out of date at once.
    request.setHeader("cache-control", "no-store")
    request.setHeader("x-content-type-options", "nosniff")
    return body


def answer_json(request: Request, data: object, status: int = 200) -> bytes:
    """Prepare `request` to be answered with `data` as JSON."""
    return answer(request, "application/json", dumps(data), status)


def accepts_html(request: Request) -> bool:
    """Whether a page is what `request` asks for, where there is one."""
    return takes_html(request.requestHeaders.getRawHeaders(b"accept", []))


def answer_error(request: Request, error: PlaneError) -> bytes:
    """Prepare `request` to be answered with `error`, as a page where a person reads it.

    The answer and the line in the log carry the same id.
    """
    error_id = mint_id()
    report = _log.error if error.status >= 500 else _log.warn
    report(
        "{status} {kind} {id}: {asked}{message}",
        status=error.status,
        kind=error.kind,
        id=error_id,
        asked=_asked(request),
        message=_loggable(error),
    )
    if error.retry_after_seconds is not None:
        request.setHeader("retry-after", str(error.retry_after_seconds))
    if isinstance(error, Unauthorized):
        request.setHeader("www-authenticate", "Bearer")
    return _told(request, error_id, error)


def unreadable(error: MalformedRequest) -> bytes:
    """A whole answer to what is no request; the connection is to be closed after it."""
    error_id = mint_id()
    _log.warn("{status} {kind} {id}: unread", status=error.status, kind=error.kind, id=error_id)
    body = dumps(_envelope(error_id, error))
    return (
        b"HTTP/1.1 400 Bad Request\r\nserver: plane-tx\r\ncontent-type: application/json\r\n"
        b"cache-control: no-store\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%b"
    ) % (len(body), body)


def answer_failure(request: Request, failure: Failure) -> bytes:
    """Prepare `request` to be answered with the news that we failed; the log alone says how."""
    error_id = mint_id()
    _log.failure("500 Other {id}: {asked}", failure=failure, id=error_id, asked=_asked(request))
    error = PlaneError(f"the server failed at this; its log says why, under {error_id}")
    return _told(request, error_id, error)


def _told(request: Request, error_id: str, error: PlaneError) -> bytes:
    if _is_for_a_person(request):
        sentence = html.escape(f"{error} ({error_id})")
        body = f"<!doctype html><title>{error.status}</title><p>{sentence}</p>\n"
        return answer(request, "text/html; charset=utf-8", body.encode("utf-8"), error.status)
    return answer_json(request, _envelope(error_id, error), error.status)


def _envelope(error_id: str, error: PlaneError) -> dict[str, str]:
    return {"id": error_id, "kind": error.kind, "message": str(error)}


def _is_for_a_person(request: Request) -> bool:
    return request.path == b"/demo" and accepts_html(request)


def _asked(request: Request) -> str:
    caller: str = getattr(request, "caller", "")
    by = f" by {caller!r}" if caller else ""
    path: bytes | None = request.path
    if path is None or not path.startswith(_OUR_PATHS):
        return f"elsewhere{by}"
    return f"{request.method.decode('ascii')} {hide_tokens(path.decode('latin-1'))!r}{by}"


def _loggable(error: PlaneError) -> str:
    # The message of an InvalidRequest quotes the body, where logins and secrets stand.
    return "" if isinstance(error, InvalidRequest) else f": {hide_tokens(str(error))!r}"
