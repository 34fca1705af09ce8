"""A preflight on its way to a session that may know nothing of them: then we grant it."""

from __future__ import annotations

from collections.abc import Sequence

from plane_tx.core.messages import ResponseEvent, ResponseHead
from plane_tx.core.preflight import granted, is_unanswered
from plane_tx.proxy.exchange import Exchange


class Preflight(Exchange):
    """Carries one; a 404, 405 or 501 that has nothing to say of CORS becomes a 204."""

    def reply(self, events: Sequence[ResponseEvent]) -> None:
        """Pass on what the session says, or drop it once it shows that it has no say."""
        for place, event in enumerate(events):
            if isinstance(event, ResponseHead) and is_unanswered(event):
                super().reply([*events[:place], granted(event)])
                self._drop_upstream()  # what it goes on to say is for nobody
                self._finish(self._supervisor.now())
                return
        super().reply(events)
