"""What leads to a session: POST /ctrl/connect, and POST /ctrl/b/{id}/link."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import attrs
from twisted.web.server import Request

from plane_tx.control import guard
from plane_tx.control.envelope import answer, answer_json
from plane_tx.control.request import ControlRequest, body_of
from plane_tx.core import wire
from plane_tx.core.errors import InvalidRequest
from plane_tx.core.idempotency import body_digest, parse_key
from plane_tx.core.wire import ConnectResponse
from plane_tx.idempotency import Idempotency
from plane_tx.supervisor import Supervisor


async def answer_connect(
    request: ControlRequest, supervisor: Supervisor, idempotency: Idempotency
) -> bytes:
    """Answer a connect; one with an Idempotency-Key as it was answered the first time."""
    guard.check_is_json(request)
    body = body_of(request)
    wanted = wire.parse_connect(body)

    async def connected(decide: Callable[[bytes], None]) -> ConnectResponse:
        def decided(response: ConnectResponse) -> None:
            decide(wire.dumps(attrs.asdict(response)))

        return await supervisor.connect(wanted, decided)

    key = idempotency_key(request)
    if key is None:
        response = await supervisor.connect(wanted)
        return answer_json(request, attrs.asdict(response))
    caller = idempotency_scope(request)
    told, again = await idempotency.once(caller, key, body_digest(body), connected)
    if again:
        request.responseHeaders.setRawHeaders("idempotency-replayed", ["true"])
    return answer(request, "application/json", told)


async def answer_link(request: Request, supervisor: Supervisor, session_id: str) -> bytes:
    """Answer with a new link to a session."""
    guard.check_is_json(request)
    wanted = wire.parse_link(body_of(request))
    return answer_json(request, {"url": await supervisor.link(session_id, wanted)})


def idempotency_key(request: Request) -> str | None:
    """The Idempotency-Key that came with `request`; None without one. Raises `InvalidRequest`."""
    said = request.requestHeaders.getRawHeaders(b"idempotency-key", [])
    if len(said) > 1:
        raise InvalidRequest("Idempotency-Key: expected once")
    return parse_key(said[0]) if said else None


def idempotency_scope(request: ControlRequest) -> str:
    """Whose Idempotency-Keys these are: the API key's, or those of what the caller came with.

    An auth service tells callers apart by what they send; an answer, which holds a link, must not
    go to another who sends the same key.
    """
    if request.caller:
        return request.caller
    said = [
        value
        for name in (b"authorization", b"cookie")
        for value in request.requestHeaders.getRawHeaders(name, [])
    ]
    return hashlib.sha256(repr(said).encode("ascii")).hexdigest() if said else ""
