"""What browsers ask before they send a request to another origin (Fetch: CORS-preflight)."""

from __future__ import annotations

from plane_tx.core.fields import values_of
from plane_tx.core.messages import Fields, Framing, RequestHead, ResponseHead

#: What a server answers an OPTIONS request that it knows nothing of.
_UNKNOWN = frozenset({404, 405, 501})


def is_preflight(head: RequestHead) -> bool:
    """Whether leave is asked for the request that would follow."""
    return (
        head.method == b"OPTIONS"
        and bool(values_of(head.headers, b"origin"))
        and bool(values_of(head.headers, b"access-control-request-method"))
    )


def is_unanswered(reply: ResponseHead) -> bool:
    """Whether a reply to a preflight shows that the session has no say about other origins."""
    return reply.status in _UNKNOWN and not any(
        name.lower().startswith(b"access-control-") for name, _ in reply.headers
    )


def granted(reply: ResponseHead) -> ResponseHead:
    """What takes the place of an unanswered one; the leave itself is what every reply is given."""
    return ResponseHead(204, b"No Content", Fields(), Framing.NONE, keep_alive=reply.keep_alive)
