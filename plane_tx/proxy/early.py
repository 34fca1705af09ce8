"""A client's connection that came before the server knew again what an earlier run had left."""

from __future__ import annotations

from functools import partial

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from plane_tx.core.errors import PlaneError, SessionNotReady, UnknownToken
from plane_tx.core.messages import RequestEvent, RequestHead
from plane_tx.proxy.answers import is_our_own
from plane_tx.proxy.client import ClientConnection
from plane_tx.proxy.connection import STOPPING


class EarlyClientConnection(ClientConnection):
    """Holds a request whose link nobody knows: the engine may yet tell of its session.

    As long as any request is held; from then on it is like any other connection.
    """

    _held: Deferred[None] | None = None

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection is no more, and nothing waits for it."""
        super().connectionLost(reason)
        self._let_go()

    def go_away(self) -> None:
        """The server stops: say so to whoever waits."""
        if self._held is not None:
            self._let_go()
            self._events.clear()
            self.refuse(SessionNotReady(STOPPING))
        super().go_away()

    def _takes(self, event: RequestEvent) -> bool:
        return self._held is None and super()._takes(event)

    def _begin(self, head: RequestHead) -> None:
        supervisor = self._proxy.supervisor
        if supervisor.recovered or not self._is_unknown(head):
            super()._begin(head)
            return
        self._events.appendleft(head)
        self._held = supervisor.when_recovered()
        self._held.addCallbacks(lambda _: self._go_on(), partial(self._give_up, head))

    def _is_unknown(self, head: RequestHead) -> bool:
        if is_our_own(head):
            return False
        try:
            self.way.find(
                self._proxy.supervisor.registry, self._proxy.cluster, head.host, head.target
            )
        except UnknownToken:
            return True
        except PlaneError:
            return False  # it is refused, whatever the engine tells
        return False

    def _go_on(self) -> None:
        self._held = None
        self.upstream_ready()

    def _give_up(self, head: RequestHead, failure: Failure) -> None:
        self._held = None
        if failure.check(CancelledError):
            return
        self._events.popleft()
        error = SessionNotReady(
            "the server was restarted, and its engine has not told yet what it runs: try again in a"
            " moment"
        )
        self._say(head, partial(self._proxy.refusal, error, head=head), error.kind)
        self.upstream_ready()

    def _let_go(self) -> None:
        if self._held is not None:
            self._held.cancel()

    def _client_ended(self) -> None:
        if self._held is None:
            super()._client_ended()
        else:
            self._heard_all = True
            self._watching().half_closed()
