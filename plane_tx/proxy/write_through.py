"""A TCP transport whose `write` sends at once what the kernel takes, instead of a turn later."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Sequence
from typing import Any

from twisted.internet import tcp
from twisted.internet.interfaces import ITransport
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.python.failure import Failure

#: How much is read at once, and how much of what is long.
SHORT_READ = tcp.Connection.bufferSize
LONG_READ = 262144

#: How many pieces are sent in one go at most (sendmsg(2), IOV_MAX).
MOST_PIECES = 1024

#: By these errors the kernel takes nothing now, and the connection goes on.
_NO_ROOM = (errno.EAGAIN, errno.EWOULDBLOCK, errno.ENOBUFS)

# By default glibc maps room of more than 128 KiB anew for each read, and unmaps it, which takes
# longer than all else; until a larger block was freed once, which raises that bound for good
# (mallopt(3), M_MMAP_THRESHOLD).
bytearray(4 * LONG_READ)


class _WriteThrough(tcp.Connection):
    """Sends from `write` itself while nothing is queued; the rest is Twisted's own buffer.

    An ordinary transport queues every write, asks the poller when it may send, and sends in the
    next turn of the reactor: two system calls and a turn more for each reply.
    """

    #: The most bytes that ever waited here after a write, for the kernel took no more.
    most_queued = 0

    def write(self, data: bytes) -> None:
        """Send `data`, or queue what the kernel does not take of it; keeps the order."""
        if self._may_send():
            try:
                sent = self.socket.send(data)
            except OSError as error:
                if self._breaks(error):
                    return
                sent = 0
            if sent == len(data):
                return
            data = data[sent:]
        self._queue(data)

    def writeSequence(self, iovec: Iterable[bytes | memoryview]) -> None:
        """The same with several pieces, joined only where the kernel does not take all."""
        pieces, sent = list(iovec), 0
        if len(pieces) > MOST_PIECES:
            self.write(b"".join(pieces))
            return
        if self._may_send():
            try:
                sent = self.socket.sendmsg(pieces)
            except OSError as error:
                if self._breaks(error):
                    return
            if sent == sum(map(len, pieces)):
                return
        self._queue(b"".join(pieces)[sent:])

    def _may_send(self) -> bool:
        # Whatever is unusual is Twisted's: its own write knows what to do with it.
        return not (
            self.dataBuffer
            or self._tempDataBuffer
            or self.disconnecting
            or not self.connected
            or self._aborting
            or self._writeDisconnecting
            or self._writeDisconnected
            or self.TLS
        )

    def _queue(self, data: bytes) -> None:
        super().write(data)  # type: ignore[no-untyped-call]  # Twisted's is untyped
        # Sent in part, `dataBuffer` begins `offset` bytes before what waits.
        queued = len(self.dataBuffer) - self.offset + self._tempDataLen
        self.most_queued = max(self.most_queued, queued)

    def _breaks(self, error: OSError) -> bool:
        """Whether by `error` of a write the connection is over, which is told in the next turn."""
        if error.errno in _NO_ROOM:
            return False
        # The error is told once: whoever reads next would be told of an orderly end.
        self.stopReading()  # type: ignore[no-untyped-call]  # as above
        reactor: Any = self.reactor  # every one can tell the time, which its type does not say
        reactor.callLater(0, self._broke)
        return True

    def _broke(self) -> None:
        self.connectionLost(Failure(CONNECTION_LOST))


class _Server(_WriteThrough, tcp.Server):
    """An accepted connection that writes through."""

    def doRead(self) -> Any:
        """Read what has come, and give it to the protocol, as Twisted's own does."""
        try:
            data = self.socket.recv(SHORT_READ)
        except BlockingIOError:
            return None
        except OSError:
            return CONNECTION_LOST
        if not data:
            return CONNECTION_DONE
        self.protocol.dataReceived(data)
        return None


class _Client(_WriteThrough, tcp.Client):
    """A dialled connection that writes through, and reads more at once while there is more.

    Replies may be long, and one that is follows another. So the room for that is kept over one
    read that was short, such as the last of a reply.
    """

    _was_short = False

    def _broke(self) -> None:
        # The kernel still has what came before: the answer, perhaps, to an upload of which the
        # session wants no more. Once is enough for that, and bounds what is kept here.
        try:
            if self.connected and not self._aborting and (data := self._left()):
                self.protocol.dataReceived(data)
        finally:
            super()._broke()

    def _left(self) -> bytes:
        try:
            return self.socket.recv(LONG_READ)
        except OSError:
            return b""

    def doRead(self) -> Any:
        """Read what has come, and give it to the protocol, as Twisted's own does."""
        try:
            data = self.socket.recv(self.bufferSize)
        except BlockingIOError:
            return None
        except OSError:
            return CONNECTION_LOST
        if not data:
            return CONNECTION_DONE
        if len(data) >= SHORT_READ:
            self.bufferSize, self._was_short = LONG_READ, False
        elif self.bufferSize != SHORT_READ:
            if self._was_short:
                self.bufferSize = SHORT_READ
            self._was_short = True
        self.protocol.dataReceived(data)
        return None


_KINDS: dict[type, type] = {tcp.Server: _Server, tcp.Client: _Client}


def write_through(transport: ITransport) -> None:
    """Let an open TCP connection write through from now on; any other transport stays as it is.

    Endpoints and reactors make transports of their own classes and have no say in which, so the
    class of one that exists is changed.
    """
    connection: Any = transport
    connection.__class__ = _KINDS.get(type(transport), type(transport))


def write_pieces(transport: ITransport, pieces: Sequence[bytes | memoryview]) -> None:
    """Write `pieces` one behind the other; the last, if it is a view, is not copied for that."""
    if isinstance(pieces[-1], memoryview) and isinstance(transport, _WriteThrough):
        transport.writeSequence(pieces)
    else:
        transport.write(b"".join(pieces))
