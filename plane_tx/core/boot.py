"""How long each phase of a session's boot took."""

from __future__ import annotations

import attrs

from plane_tx.core.model import Session, Status


@attrs.frozen
class BootSeconds:
    """The phases of one boot in seconds; None for one that has not ended, or was not seen.

    `pull` looks up and fetches the image, `create` makes the container, `start` starts it, and
    `ready` waits for its server to answer. Of a session that an earlier run made they are what the
    journal tells.
    """

    pull: float | None = None
    create: float | None = None
    start: float | None = None
    ready: float | None = None


def boot_seconds(session: Session) -> BootSeconds:
    """The phases of this session's boot, as far as they have come."""
    loading = session.entered(Status.LOADING)
    if loading is None:
        return BootSeconds()
    creating = session.entered(Status.STARTING)
    waiting = session.entered(Status.WAITING)
    began = session.start_began
    return BootSeconds(
        pull=_between(loading, creating),
        create=_between(creating, began),
        start=_between(began, waiting),
        ready=_between(waiting, session.entered(Status.READY)),
    )


def _between(began: float | None, ended: float | None) -> float | None:
    return None if began is None or ended is None else ended - began
