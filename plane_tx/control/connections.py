"""GET /ctrl/b/{id}/connections: a session's WebSockets and tunnels, and how each was closed."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.web.server import Request

from plane_tx.control.envelope import answer
from plane_tx.core.model import Session
from plane_tx.core.views import MOST_USES, connection
from plane_tx.core.wire import dumps

#: How many connections one turn of the reactor writes down: each takes about 0.01 ms.
TOLD = 50


async def answer_connections(
    request: Request, clock: IReactorTime, session: Session, now: float
) -> bytes:
    """Answer with those of `session` at `now`, newest first; of the open ones `MOST_USES`."""
    ledger = session.connections
    count, closed = len(ledger.open), ledger.closed[::-1]
    # What is open now may be closed in a later turn; what is closed stays as it is.
    opened = [connection(each, now) for each in islice(reversed(ledger.open), MOST_USES)]
    body = b'{"backend_id":%b,"open_count":%d,"open":[%b],"closed":[%b]}' % (
        dumps(session.id),
        count,
        await _written(clock, opened),
        await _written(clock, (connection(each, now) for each in closed)),
    )
    return answer(request, "application/json", body)


async def _written(clock: IReactorTime, told: Iterable[dict[str, Any]]) -> bytes:
    written: list[bytes] = []
    for each in told:
        written.append(dumps(each))
        if len(written) % TOLD == 0:
            await deferLater(clock, 0)
    return b",".join(written)
