"""What our own waiting page asks: the proxy answers it, whatever becomes of the session."""

from __future__ import annotations

from functools import partial

from plane_tx.core.use import Use, UseKind
from plane_tx.core.waiting import Told, boots
from plane_tx.proxy.answers import answer
from plane_tx.proxy.exchange import Exchange


class Poll(Exchange):
    """Waits for news of its session, which never sees it; a hold while it waits."""

    def start(self) -> None:
        """Answer at once when there is news, or nothing to wait for; else as soon as there is."""
        if boots(self.session):
            hold = UseKind.HOLD
            self._use = self._supervisor.begin_use(self.session, hold, self.visit, self._revoked)
        version = (self.head.fields.waiting or b"").decode("latin-1")
        news = self._carrier.meanwhile.news(self.session, version)
        self._await(news.addCallback(self._tell))

    def _tell(self, told: Told) -> None:
        self._waiting = None
        now = self._supervisor.now()
        body = told.as_json(now).encode("ascii") + b"\n"
        self._over(now)
        headers = (
            (b"Content-Type", b"application/json"),
            (b"x-plane-backend-id", self.session.id.encode("ascii")),
        )
        self._client.answer(partial(answer, 200, body, head=self.head, headers=headers))

    def _remember(self, use: Use, now: float) -> None:
        """Not among its session's requests: it has none from us."""
