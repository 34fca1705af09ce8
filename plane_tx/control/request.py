"""Requests of the control listener: bounded, and always answered in the envelope."""

from __future__ import annotations

from io import BytesIO
from typing import BinaryIO, cast

from twisted.internet.interfaces import IDelayedCall, IReactorTime, ITCPTransport
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel
from twisted.web.server import Request

from plane_tx.control.envelope import answer_error, answer_failure, unreadable
from plane_tx.core.errors import BodyTooLarge, MalformedRequest

#: The largest body that is read.
MOST_BODY_BYTES = 1024 * 1024

#: How long the rest of a refused body is thrown away before the connection is cut.
LINGER_SECONDS = 5.0


def body_of(request: Request) -> bytes:
    """The body that came with `request`."""
    content = cast(BinaryIO, request.content)
    content.seek(0)
    return content.read()


def has_body(request: Request) -> bool:
    """Whether a body came with `request`."""
    return cast(BytesIO, request.content).getbuffer().nbytes > 0


def cut(request: Request) -> None:
    """Close the connection of `request` at once, whatever its client has not read."""
    cast(ITCPTransport, request.transport).abortConnection()


class ControlRequest(Request):
    """A request whose body is bounded, and whose every failure is answered in the envelope."""

    defaultContentType = None
    #: Who calls: the name of its key, `session:ID` for a session, or "" where nobody has a name.
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
        # twisted.web answers for `*` itself, without asking who calls; we have nothing there.
        path = b"/*" if path == b"*" else path
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


class ControlChannel(HTTPChannel):
    """HTTP/1.1 as twisted.web reads it; what it refuses is answered in the envelope as well."""

    _refused = False

    def lineLengthExceeded(self, line: bytes) -> None:
        """Refuse a line that does not come to its end."""
        self._respondToBadRequestAndDisconnect()

    # The one place where twisted.web answers by itself; it has no public name.
    def _respondToBadRequestAndDisconnect(self) -> None:
        # There may be an answer already, to a body that was too large.
        answered = any(request.startedWriting for request in self.requests)
        if not self._refused and not answered:
            most = f"a head of {self.totalHeadersSize} bytes and {self.maxHeaders} headers at most"
            error = MalformedRequest(f"this cannot be read as HTTP/1.1 with {most}")
            cast(ITCPTransport, self.transport).write(unreadable(error))
        self._refused = True
        self.loseConnection()  # type: ignore[no-untyped-call]  # Twisted's
