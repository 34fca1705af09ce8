"""An upgrade other than websocket: bytes pass as they are, both ways, until both sides end.

Nothing is known of what they mean, so an end has no words. The end of a session cuts nothing: what
it said still passes, until its connection ends or the pool finds it silent.
"""

from __future__ import annotations

from plane_tx.core.errors import IdleTimeout, UpstreamUnreachable
from plane_tx.core.fields import tokens_of, values_of
from plane_tx.core.headers import response_lines
from plane_tx.core.ledger import ConnectionKind, How
from plane_tx.core.messages import join_head
from plane_tx.proxy.connection import FLUSH_SECONDS
from plane_tx.proxy.joined import Joined, lose
from plane_tx.proxy.settings import ProxySettings
from plane_tx.proxy.upstream import STALL_SECONDS
from plane_tx.proxy.websocket import Handshake, Legs


class Tunnel(Joined):
    """Carries one."""

    _kind = ConnectionKind.TUNNEL

    def begin(self, shaken: Handshake, _legs: Legs, _settings: ProxySettings) -> None:
        """Accept the browser's offer as the session did, and pass on what came early."""
        ends = self.ends
        ends.upstream.hand_over(self)
        protocol = agreed(shaken)
        if not protocol:
            wrong = "the session's 101 does not answer the upgrade"
            self._closes(How.REFUSED, reason=wrong)
            ends.refuse(shaken.request, UpstreamUnreachable(wrong), self._reactor.seconds())
            self._part()
            return
        ends.upstream.hear_end(self.upstream_ended)
        lines = response_lines(shaken.response, self.session.id)
        lines += [b"Connection: Upgrade", b"Upgrade: " + protocol]
        ends.browser.write(join_head(b"HTTP/1.1 101 Switching Protocols", lines))
        ends.opened(self._reactor.seconds())
        self.from_browser(shaken.browser_surplus)
        self.from_upstream(shaken.upstream_surplus)

    def from_browser(self, data: bytes) -> None:
        """Pass on what the browser sent."""
        if data and self._upstream is not None and not self._parting:
            self.use.from_client(len(data), 0, self._reactor.seconds())
            if self.use.passive:
                self._touch()
            self._upstream.write(data)

    def from_upstream(self, data: bytes) -> None:
        """Pass on what the session sent."""
        if data and self._browser is not None and not self._parting:
            self.use.to_client(len(data), 0, self._reactor.seconds())
            if self.use.passive:
                self._touch()
            self._browser.write(data)

    def idle(self, _error: IdleTimeout) -> None:
        """Drop both sides; there is no way to say why."""
        if not self._parting:
            self._closes(How.IDLE)
            self._abort()

    def revoked(self) -> None:
        """Drop both sides, and what waits here for them: the token was taken back."""
        self._closes(How.REVOKED)
        self._abort()

    def end(self, _code: int, _reason: str, how: How) -> None:
        """Close both sides; there is no way to say why."""
        self._closes(how)
        self._part()

    def session_ended(self) -> None:
        """Let what it said pass, if the browser takes it in time."""
        self._watch(STALL_SECONDS)

    def _hang_up(self) -> None:
        self._timer.set(FLUSH_SECONDS, self._abort)
        for transport in (self._upstream, self._browser):
            if transport is not None:
                lose(transport)


def agreed(shaken: Handshake) -> bytes:
    """The protocol that the session's 101 names; b"" when it was not offered or cannot be meant.

    A 101 has no body (RFC 9110 section 8.6), so one that frames a body would be read in two ways.
    """
    headers = shaken.response.headers
    chosen = values_of(headers, b"upgrade")
    offered = {offer.strip().lower() for offer in shaken.request.upgrade.split(b",")}
    framed = values_of(headers, b"content-length") or values_of(headers, b"transfer-encoding")
    named = len(chosen) == 1 and chosen[0].strip().lower() in offered
    if framed or not named or b"upgrade" not in tokens_of(values_of(headers, b"connection")):
        return b""
    return chosen[0].strip()
