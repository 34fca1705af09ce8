"""How long sessions take to boot, learnt from those that did."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable

import attrs

from plane_tx.core.model import Executable, Session, Status

#: How many boots of one image are remembered, and of how many images.
BOOTS_KEPT = 20
NAMES_KEPT = 500

#: From fewer nothing is concluded.
LEAST_BOOTS = 2


@attrs.frozen
class Estimate:
    """What the last boots of an image took, in seconds from `starting` to `ready`.

    None when too few were seen to say; `boots` is how many were.
    """

    usually: float | None = None
    at_most: float | None = None
    boots: int = 0


class Estimates:
    """The last boots by image, or by app or command where there is none.

    Of too many names the one that is forgotten was neither learnt of nor asked for the longest.
    """

    def __init__(self) -> None:
        self._boots: OrderedDict[str, deque[float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._boots)

    def learn(self, session: Session) -> None:
        """Take in how long this session took to boot; one that never was ready tells nothing."""
        ready, starting = session.entered(Status.READY), session.entered(Status.STARTING)
        if ready is None or starting is None:
            return
        # One that took longer than it may went on while no server ran to end it.
        if not 0 <= ready - starting <= session.spec.limits.startup_timeout_seconds:
            return
        name = _name_of(session.spec.executable)
        boots = self._boots.setdefault(name, deque(maxlen=BOOTS_KEPT))
        boots.append(ready - starting)
        self._boots.move_to_end(name)
        if len(self._boots) > NAMES_KEPT:
            self._boots.popitem(last=False)

    def learn_all(self, sessions: Iterable[Session]) -> None:
        """Take in how long each of these took, in the order in which they were ready."""
        for session in sorted(sessions, key=lambda each: each.entered(Status.READY) or 0.0):
            self.learn(session)

    def of(self, session: Session) -> Estimate:
        """What a boot of this session may take."""
        name = _name_of(session.spec.executable)
        boots = self._boots.get(name)
        if boots is None:
            return Estimate()
        self._boots.move_to_end(name)
        if len(boots) < LEAST_BOOTS:
            return Estimate(boots=len(boots))
        ordered, middle = sorted(boots), len(boots) // 2
        usually = (ordered[middle] + ordered[~middle]) / 2
        return Estimate(usually, ordered[-1], len(boots))


def _name_of(executable: Executable) -> str:
    return executable.image or executable.app or " ".join(executable.command or ())
