"""What an HTTP request of ours failed of, when Twisted's client has wrapped the reason."""

from __future__ import annotations

import os

from twisted.internet.defer import CancelledError
from twisted.internet.error import ConnectingCancelledError


def is_cancelled(error: Exception) -> bool:
    """Whether this is our own cancelling, which twisted.web wraps as well."""
    reasons = getattr(error, "reasons", ())
    return isinstance(error, ConnectingCancelledError) or any(
        reason.check(CancelledError) for reason in reasons
    )


def innermost_reason(error: BaseException) -> str:
    """The innermost reason, in few words."""
    if number := getattr(error, "osError", None):
        return os.strerror(number).lower()
    if reasons := getattr(error, "reasons", None):
        return innermost_reason(reasons[0].value)
    return str(error).rstrip(".") or type(error).__name__
