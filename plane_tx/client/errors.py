"""What a call can end with other than an answer, one class for each `kind` of the server's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar


class PlaneClientError(Exception):
    """The root of the tree.

    `kind` and `message` are the server's, `status` that of its answer or None where there was
    none, `error_id` what the server's log has it under, and `retry_after` the seconds to wait that
    it asks for.
    """

    default_kind: ClassVar[str] = "Other"

    def __init__(
        self,
        message: str,
        *,
        kind: str | None = None,
        status: int | None = None,
        error_id: str = "",
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.kind = kind or self.default_kind
        self.status = status
        self.error_id = error_id
        self.retry_after = retry_after


class InvalidRequest(PlaneClientError):
    """The request asks for something that cannot be; the message names the field."""

    default_kind = "InvalidRequest"


class Unauthorized(PlaneClientError):
    """The server wants a key, or does not know this one."""

    default_kind = "Unauthorized"


class Forbidden(PlaneClientError):
    """The key may not do this."""

    default_kind = "Forbidden"


class NotFound(PlaneClientError):
    """There is no such session."""

    default_kind = "NotFound"


class SessionEnded(PlaneClientError):
    """The session has ended, or is ending."""

    default_kind = "SessionEnded"


class KeyHeld(PlaneClientError):
    """The key's live session was made under another tag."""

    default_kind = "KeyHeld"


class KeyUnheld(PlaneClientError):
    """Nobody holds the key, and nothing was said about what to spawn."""

    default_kind = "KeyUnheldNoSpawnConfig"


class FailedToAcquireKey(PlaneClientError):
    """The chosen id, subdomain or key is taken."""

    default_kind = "FailedToAcquireKey"


class AtCapacity(PlaneClientError):
    """The server has as many sessions as it may have."""

    default_kind = "AtCapacity"


class UserAtCapacity(PlaneClientError):
    """This user has as many sessions as they may have."""

    default_kind = "UserAtCapacity"


class NoDroneAvailable(PlaneClientError):
    """The server drains, or its engine does not answer."""

    default_kind = "NoDroneAvailable"


class IdempotencyConflict(PlaneClientError):
    """This Idempotency-Key was sent with another body before."""

    default_kind = "IdempotencyConflict"


class Unavailable(PlaneClientError):
    """The server could not be reached, or the connection broke before the answer was whole."""

    default_kind = "Unavailable"


class Unreached(Unavailable):
    """There was no connection, so that nothing was sent."""


class Silent(Unavailable):
    """Nothing came for as long as this client waits."""


class Unreadable(PlaneClientError):
    """What answered is no server of this kind, or another version: the answer makes no sense."""

    default_kind = "Unreadable"


class TimedOut(PlaneClientError):
    """What was waited for did not happen in time; the session goes on."""

    default_kind = "TimedOut"


class SessionFailed(PlaneClientError):
    """The session ended before it was ready."""

    default_kind = "SessionFailed"


#: The server's kinds; one that is not here is a plain `PlaneClientError` with that kind.
BY_KIND: Mapping[str, type[PlaneClientError]] = {
    each.default_kind: each
    for each in (
        InvalidRequest,
        Unauthorized,
        Forbidden,
        NotFound,
        SessionEnded,
        KeyHeld,
        KeyUnheld,
        FailedToAcquireKey,
        AtCapacity,
        UserAtCapacity,
        NoDroneAvailable,
        IdempotencyConflict,
    )
}
