"""Everything that can go wrong, each error with the status it is answered by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from plane_tx.core.model import LogLine


class PlaneError(Exception):
    """The root of the tree: `kind` is the contract, the message is a sentence for people."""

    kind: ClassVar[str] = "Other"
    status: ClassVar[int] = 500
    retry_after_seconds: int | None = None


class ConfigError(PlaneError):
    """The configuration names something unknown, or gives it a value that is not allowed."""

    kind = "ConfigError"


class InvalidRequest(PlaneError):
    """A request that is well formed but asks for something that cannot be."""

    kind = "InvalidRequest"
    status = 422


class MalformedRequest(InvalidRequest):
    """A body that is not JSON, or a URL part that cannot be read."""

    status = 400


class BodyTooLarge(InvalidRequest):
    """A body over the limit of the control listener."""

    status = 413


class UnsupportedContentType(InvalidRequest):
    """A body that does not say it is JSON."""

    status = 415


class Unauthorized(PlaneError):
    """A caller that did not say who it is, or whom nobody knows."""

    kind = "Unauthorized"
    status = 401


class AuthServiceUnavailable(PlaneError):
    """The service that is asked about every call did not answer."""

    status = 502


class Forbidden(PlaneError):
    """A caller that may not do this: one without the scope, or a web page on a developer's box."""

    kind = "Forbidden"
    status = 403


class IdempotencyConflict(PlaneError):
    """An Idempotency-Key that was sent with another body before."""

    kind = "IdempotencyConflict"
    status = 422


class NotFound(PlaneError):
    """Something asked for by name that does not exist."""

    kind = "NotFound"
    status = 404


class MethodNotAllowed(PlaneError):
    """A path that exists, asked with a method that it does not know."""

    kind = "InvalidRequest"
    status = 405


class KeyHeld(PlaneError):
    """The key's live session was made under another tag."""

    kind = "KeyHeld"
    status = 409


class KeyUnheldNoSpawnConfig(PlaneError):
    """Nothing to join, and nothing said about what to spawn."""

    kind = "KeyUnheldNoSpawnConfig"
    status = 409


class FailedToAcquireKey(PlaneError):
    """The chosen id, subdomain or key is taken."""

    kind = "FailedToAcquireKey"
    status = 409


class AtCapacity(PlaneError):
    """The server's own limit on sessions is reached."""

    kind = "AtCapacity"
    status = 503

    def __init__(self, message: str, retry_after_seconds: int) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class UserAtCapacity(PlaneError):
    """One user's limit on sessions is reached."""

    kind = "UserAtCapacity"
    status = 429

    def __init__(self, message: str, retry_after_seconds: int) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class EngineUnavailable(PlaneError):
    """What runs sessions does not answer; Plane's name for having nowhere to run one."""

    kind = "NoDroneAvailable"
    status = 503
    retry_after_seconds = 5


class Draining(PlaneError):
    """The server takes no new sessions; Plane's name for having nowhere to run one."""

    kind = "NoDroneAvailable"
    status = 503
    retry_after_seconds = 30


class JournalError(PlaneError):
    """What has to outlive the server could not be written down."""

    status = 503
    retry_after_seconds = 5


class SpawnFailed(PlaneError):
    """The engine answered, and could not make this session."""

    kind = "SpawnFailed"


class EndedAtOnce(SpawnFailed):
    """The session was made, and ended before anyone could learn where it listens."""

    def __init__(
        self,
        message: str,
        exit_code: int | None,
        log_tail: tuple[LogLine, ...],
        *,
        oom: bool = False,
    ) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.log_tail = log_tail
        self.oom = oom


class ImageUnavailable(SpawnFailed):
    """The image is not on this box and could not be pulled."""

    kind = "ImageUnavailable"


class ProxyRefusal(PlaneError):
    """A request the proxy answers itself, because no session can or may."""


class BadRequest(ProxyRefusal):
    """A request that cannot be read, or that could be read in two ways."""

    kind = "BadRequest"
    status = 400


class HeadTooLarge(ProxyRefusal):
    """A request head over the limit."""

    kind = "HeadTooLarge"
    status = 431


class HeadTimeout(ProxyRefusal):
    """A request head that did not arrive in time."""

    kind = "HeadTimeout"
    status = 408


class WrongHost(ProxyRefusal):
    """A Host that is not this cluster, or not where this session lives."""

    kind = "WrongHost"
    status = 403


class UnknownToken(ProxyRefusal):
    """A link to no session that this server knows."""

    kind = "UnknownToken"
    status = 410


class SessionEnded(ProxyRefusal):
    """A link to a session that has ended, or is ending."""

    kind = "SessionEnded"
    status = 410


class SessionNotReady(ProxyRefusal):
    """A session still booting when the hold ran out."""

    kind = "SessionNotReady"
    status = 503
    retry_after_seconds = 2


class StillBooting(SessionNotReady):
    """A session that boots, for a browser: `shown` is what its waiting page begins with."""

    def __init__(self, message: str, shown: Mapping[str, str]) -> None:
        super().__init__(message)
        self.shown = shown


class IdleTimeout(ProxyRefusal):
    """A request or a reply of which no byte has come for too long."""

    kind = "IdleTimeout"
    status = 504


class UpstreamUnreachable(ProxyRefusal):
    """A ready session that did not answer as HTTP."""

    kind = "UpstreamUnreachable"
    status = 502
