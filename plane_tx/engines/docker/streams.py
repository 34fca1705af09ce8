"""The two kinds of stream Docker sends, lines of JSON and frames of output, and how one is read."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable
from datetime import datetime
from typing import Any, cast

from twisted.internet.defer import Deferred, fail
from twisted.internet.error import ConnectionAborted
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.iweb import IResponse

from plane_tx.core.model import LogStream
from plane_tx.engines.docker.errors import NotDocker
from plane_tx.engines.interface import Tell
from plane_tx.engines.lines import Cutter

#: No line of JSON of Docker's is near this; more is not Docker, and must not fill the memory.
_MAX_JSON_LINE = 1 << 20

#: No message of a log of Docker's is near this: its drivers cut them at 16 KiB, plugins at 1 MB.
_MAX_FRAME = 1 << 21

#: What takes the bytes of a stream; a Deferred says that it can take no more until that fires.
Sink = Callable[[bytes], Deferred[None] | None]

_FRAME = struct.Struct(">BxxxI")

#: What the first byte of a frame says (moby pkg/stdcopy); in 3 Docker complains, not the session.
_STREAMS = {1: LogStream.STDOUT, 2: LogStream.STDERR, 3: None}

_STAMP = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)")


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


class LogFrames:
    """Takes a container's output as bytes and hands each line to `tell`.

    It comes in frames: one byte says stdout or stderr, four the length. Each holds one message of
    the log, which is a line or, of a long one, a piece, and begins with the time (`timestamps=1`).
    The output of a terminal has no frames; a session has none.
    """

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._rest = b""
        self._wait: Deferred[None] | None = None
        self._cutters = {stream: Cutter(stream) for stream in LogStream}

    def __call__(self, data: bytes) -> Deferred[None] | None:
        """Take the next bytes; raises `NotDocker` for what are no frames, and what `tell` does.

        The result is that of the last line that there was something to wait for.
        """
        self._wait = None
        data = self._rest + data
        start = 0
        while len(data) >= start + _FRAME.size:
            stream, length = _FRAME.unpack_from(data, start)
            if stream not in _STREAMS or length > _MAX_FRAME:
                raise NotDocker("its log has no frames")
            begin, end = start + _FRAME.size, start + _FRAME.size + length
            if len(data) < end:
                break
            self._message(_STREAMS[stream], data[begin:end])
            start = end
        self._rest = data[start:]
        return self._wait

    def finish(self) -> None:
        """The log has ended: what came after the last line break is a line too."""
        for cutter in self._cutters.values():
            if (line := cutter.unfinished()) is not None:
                self._tell(line)

    def _message(self, stream: LogStream | None, message: bytes) -> None:
        if stream is None:
            return
        stamp, _, text = message.partition(b" ")
        for line in self._cutters[stream].cut(text, nanoseconds(stamp)):
            self._wait = self._tell(line) or self._wait


def nanoseconds(stamp: bytes) -> int | None:
    """A time of RFC 3339 in nanoseconds since epoch; None when it is none."""
    match = _STAMP.fullmatch(stamp)
    if match is None:
        return None
    moment, fraction, zone = match.groups(b"")
    seconds = int(datetime.fromisoformat((moment + zone).decode()).timestamp())
    return seconds * 1_000_000_000 + int(fraction.ljust(9, b"0"))


class Stream:
    """A response whose body has not been read yet; it waits, and holds its sender back."""

    def __init__(self, response: IResponse) -> None:
        self._response = response
        self._body: _Body | None = None

    def follow(self, sink: Sink) -> Deferred[None]:
        """Hand the body to `sink` as it comes; fires at its end, or with why it broke off.

        Cancelling it hangs up. A sink that raises ends it with that error. While a Deferred that
        it returned has not fired, the sender is held back.
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

    def _deliver(self, sink: Sink) -> _Body:
        self._body = body = _Body(sink)
        self._response.deliverBody(body)
        return body


class _Body(Protocol):
    """A response's body on its way into a sink."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._waits = 0
        self.done: Deferred[None] = Deferred(lambda _done: self.hang_up())

    def dataReceived(self, data: bytes) -> None:
        """Hand on a piece; what the sink raises ends it."""
        try:
            wait = self._sink(data)
        except Exception:  # noqa: BLE001  # whatever it raises is what the follower is told
            self._failed(Failure())
            return
        if wait is not None:
            self._waits += 1
            self._producer.pauseProducing()
            wait.addCallback(lambda _: self._read_on())

    @property
    def _producer(self) -> IPushProducer:
        # A response's body comes from one (TransportProxyProducer); after its end it does nothing.
        return cast("IPushProducer", self.transport)

    def _read_on(self) -> None:
        self._waits -= 1
        if not self._waits:
            self._producer.resumeProducing()

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
