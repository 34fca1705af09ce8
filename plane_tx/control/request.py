"""A request of the control listener: bounded, and always answered in the envelope."""

from __future__ import annotations

from io import BytesIO
from typing import BinaryIO, cast

from twisted.internet.interfaces import IDelayedCall, IReactorTime, ITCPTransport
from twisted.python.failure import Failure
from twisted.web.server import Request

from plane_tx.control.envelope import answer_error, answer_failure
from plane_tx.core.errors import BodyTooLarge

#: The largest body that is read.
MOST_BODY_BYTES = 1024 * 1024

#: How long the rest of a refused body is thrown away before the connection is cut.
LINGER_SECONDS = 5.0


def body_of(request: Request) -> bytes:
    """The body that came with `request`."""
    content = cast(BinaryIO, request.content)
    content.seek(0)
    return content.read()


def cut(request: Request) -> None:
    """Close the connection of `request` at once, whatever its client has not read."""
    cast(ITCPTransport, request.transport).abortConnection()


class ControlRequest(Request):
    """A request whose body is bounded, and whose every failure is answered in the envelope."""

    defaultContentType = None
    #: The name of the API key that it came with; "" where there are no keys.
    caller = ""
    _linger: IDelayedCall | None = None

    def gotLength(self, length: int | None) -> None:
        """Make room for the body; one that is announced too large is refused at once."""
        self.content = self._body = BytesIO()
        if length is not None and length > MOST_BODY_BYTES:
            self._refuse_body()

    def handleContentChunk(self, data: bytes) -> None:
        """Keep a piece of the body, unless that is too large or refused already."""
        if self._linger is not None:
            return
        if self._body.tell() + len(data) > MOST_BODY_BYTES:
            self._refuse_body()
        else:
            self._body.write(data)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """Answer, now that all is here."""
        if self._linger is not None:
            self.channel.loseConnection()
            return
        # twisted.web takes the position for the body's length, and parses forms where there is
        # one: we have no forms.
        self._body.seek(0)
        super().requestReceived(command, path, version)  # type: ignore[no-untyped-call]  # Twisted's

    def write(self, data: bytes) -> None:
        """Write the head if it is not written yet, then `data`."""
        if not self.startedWriting:
            self.responseHeaders.setRawHeaders("server", ["plane-tx"])
        super().write(data)  # type: ignore[no-untyped-call]  # Twisted's

    def processingFailed(self, reason: Failure) -> Failure:
        """Answer what no route was there to answer for."""
        self.write(answer_failure(self, reason))
        self.finish()  # type: ignore[no-untyped-call]  # Twisted's
        return reason

    def connectionLost(self, reason: Failure) -> None:
        """Let go of everything: the client is gone."""
        if self._linger is not None and self._linger.active():
            self._linger.cancel()
        super().connectionLost(reason)  # type: ignore[no-untyped-call]  # Twisted's

    def _refuse_body(self) -> None:
        # Answered before the rest of the body comes, which may be long or wait for leave to come.
        # Not closed at once: that would reset the connection, and the answer would be lost.
        self.content = self._body = BytesIO()
        self.requestHeaders.removeHeader("expect")
        self.clientproto = b"HTTP/1.1"
        self.responseHeaders.setRawHeaders("connection", ["close"])
        self.write(answer_error(self, BodyTooLarge(f"the body is over {MOST_BODY_BYTES} bytes")))
        clock: IReactorTime = self.channel.factory.reactor
        self._linger = clock.callLater(LINGER_SECONDS, cut, self)
