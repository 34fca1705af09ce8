"""The two kinds of stream Docker sends, lines of JSON and frames of output, and how one is read."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, execute, fail
from twisted.internet.error import ConnectionAborted
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.iweb import IResponse

from plane_tx.engines.docker.errors import NotDocker

#: No line of JSON of Docker's is near this; more is not Docker, and must not fill the memory.
_MAX_JSON_LINE = 1 << 20

#: What is kept of one line of a session's output, in bytes.
MAX_LOG_LINE = 16 * 1024

_FRAME = struct.Struct(">BxxxI")


def parsed(data: bytes) -> Any:
    """The JSON of `data`; raises `NotDocker` when it is something else."""
    try:
        return json.loads(data)
    except ValueError as error:
        raise NotDocker(str(error)) from None


class JsonLines:
    """Takes bytes as they come and hands each line's JSON object to `tell`."""

    def __init__(self, tell: Callable[[dict[str, Any]], None]) -> None:
        self._tell = tell
        self._rest = b""

    def __call__(self, data: bytes) -> None:
        """Take the next bytes; raises `NotDocker` for what is not JSON."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > _MAX_JSON_LINE:
            raise NotDocker("a line without an end")
        for line in lines:
            if line.strip():
                self._tell(parsed(line))


class LogLines:
    """Takes a container's output as bytes and gathers its lines.

    Without a terminal Docker sends frames: one byte says stdout or stderr, four the length.
    Both streams' lines come in the order in which they were ended.
    """

    def __init__(self, *, tty: bool) -> None:
        self._tty = tty
        self._rest = b""
        self._partial: dict[int, bytes] = {}
        self._lines: list[str] = []

    def __call__(self, data: bytes) -> None:
        """Take the next bytes."""
        if self._tty:
            self._output(1, data)
        else:
            self._frames(self._rest + data)

    def finish(self) -> tuple[str, ...]:
        """All lines, oldest first; what came after the last line break is a line too."""
        self._lines += [_text(partial) for partial in self._partial.values() if partial]
        self._partial.clear()
        return tuple(self._lines)

    def _frames(self, data: bytes) -> None:
        while len(data) >= _FRAME.size:
            stream, length = _FRAME.unpack_from(data)
            end = _FRAME.size + length
            if len(data) < end:
                break
            self._output(stream, data[_FRAME.size : end])
            data = data[end:]
        self._rest = data

    def _output(self, stream: int, data: bytes) -> None:
        first, *others = data.split(b"\n")
        partial = (self._partial.get(stream, b"") + first)[:MAX_LOG_LINE]
        for line in others:
            self._lines.append(_text(partial))
            partial = line[:MAX_LOG_LINE]
        self._partial[stream] = partial


def _text(line: bytes) -> str:
    return line.decode("utf-8", "replace").removesuffix("\r")


class Stream:
    """A response whose body has not been read yet; it waits, and holds its sender back."""

    def __init__(self, response: IResponse) -> None:
        self._response = response
        self._body: _Body | None = None

    def follow(self, sink: Callable[[bytes], None]) -> Deferred[None]:
        """Hand the body to `sink` as it comes; fires at its end, or with why it broke off.

        Cancelling it hangs up. A sink that raises ends it with that error.
        """
        if self._body is not None:
            return fail(ConnectionAborted())
        return self._deliver(sink).done

    def hang_up(self) -> None:
        """End it, followed or not yet; after its end this does nothing."""
        body = self._body
        if body is None:
            body = self._deliver(lambda _data: None)
            body.done.addErrback(lambda _hung_up: None)
        body.hang_up()

    def _deliver(self, sink: Callable[[bytes], None]) -> _Body:
        self._body = body = _Body(sink)
        self._response.deliverBody(body)
        return body


class _Body(Protocol):
    """A response's body on its way into a sink."""

    def __init__(self, sink: Callable[[bytes], None]) -> None:
        self._sink = sink
        self.done: Deferred[None] = Deferred(lambda _done: self.hang_up())

    def dataReceived(self, data: bytes) -> None:
        """Hand on a piece; what the sink raises ends it."""
        execute(self._sink, data).addErrback(self._failed)

    def _failed(self, failure: Failure) -> None:
        if not self.done.called:
            self.done.errback(failure)
        self.hang_up()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Tell how it ended; Docker 20.10 ends some bodies by closing, without a length."""
        if self.done.called:
            return
        if reason.check(ResponseDone, PotentialDataLoss):
            self.done.callback(None)
        else:
            self.done.errback(reason)

    def hang_up(self) -> None:
        """Close the connection, unless the body has come to its end."""
        if self.transport is not None:
            self.transport.loseConnection()
