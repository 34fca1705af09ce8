"""The access log: a line a request, written in batches by a thread of its own.

The file is opened for each batch, so that it can be moved away at any time. What the disk does not
take, or not in time, is lost, and counted; nobody waits for it.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol as Shape

from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from plane_tx.core.access import Access
from plane_tx.core.errors import ConfigError
from plane_tx.core.measures import Measures

#: How long a line may wait for others to be written together with.
BATCH_SECONDS = 0.25

#: How many requests may wait for the disk; what ends while so many do is not logged.
MOST_WAITING = 65536

#: How long a stopping server waits for the disk.
CLOSE_SECONDS = 5.0

#: What a pipe takes in one piece (pipe(7): PIPE_BUF), so that no other line gets into one of ours.
PIECE_BYTES = 4096

#: How long the thread leaves the interpreter to the reactor between pieces: it works for less than
#: 1 ms at a time, and would else be stopped only every 5 ms (sys.getswitchinterval).
YIELD_SECONDS = 0.0001

#: The standard output of the process. Twisted puts its own log in the place of `sys.stdout`.
_STANDARD_OUTPUT = 1

#: Not blocking, for a pipe that nobody reads would hold up the start for ever.
_HOW_OPENED = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK


class Writer(Shape):
    """Where batches are written, one after the other."""

    def start(self) -> None:
        """Be ready for work."""

    def run(
        self, work: Callable[[], tuple[int, OSError | None]]
    ) -> Deferred[tuple[int, OSError | None]]:
        """Fires with what `work` returns."""

    def stop(self) -> None:
        """There is no more work, and none under way."""


class AccessLog(Service):
    """Takes in every request that has ended; `target` is a path, or `-` for standard output."""

    _log = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        writer: Writer,
        target: str,
        line: Callable[[Access], str],
        measures: Measures,
    ) -> None:
        self._reactor = reactor
        self._writer = writer
        self._target = target
        self._line = line
        self._measures = measures
        self._waiting: list[Access] = []
        self._in_hand = 0
        self._next: IDelayedCall | None = None
        self._lost = 0
        self._failing = False
        self._torn = False
        self._open = False
        self._closing: Deferred[None] | None = None
        self._deadline: IDelayedCall | None = None

    def __repr__(self) -> str:
        waiting = f"Waiting: {len(self._waiting)} | In hand: {self._in_hand}"
        return f"<AccessLog {self._target!r} [{waiting}]>"

    def startService(self) -> None:
        """Make sure that it can be written, waiting for the disk. Raises `ConfigError`."""
        super().startService()  # type: ignore[no-untyped-call]  # Twisted's Service is untyped
        try:
            with self._file() as file:
                is_lost = self._target == "-" and _is_null(file)
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or error
            raise ConfigError(
                f"the access log {self._target} cannot be written: {why}; free it, or name another"
                " file by `[proxy] access_log`"
            ) from None
        if is_lost:
            self._log.warn(
                "the access log goes to standard output, which is /dev/null, as in the background:"
                " name a file by `[proxy] access_log`"
            )
        self._writer.start()
        self._open = True

    def append(self, access: Access) -> None:
        """Log a request that has just ended."""
        if not self._open:
            return
        if len(self._waiting) + self._in_hand >= MOST_WAITING:
            self._lose(1)
            return
        access.ended = self._reactor.seconds()
        self._waiting.append(access)
        if self._next is None and not self._in_hand:
            self._next = self._reactor.callLater(BATCH_SECONDS, self._write)

    def stopService(self) -> Deferred[None]:
        """Write what waits, and what ends in this turn of the reactor; then, or when the disk does
        not take it within 5 s, let go.
        """
        super().stopService()  # type: ignore[no-untyped-call]  # as above
        if not self._open:
            return succeed(None)
        closing = self._closing = Deferred()
        self._deadline = self._reactor.callLater(CLOSE_SECONDS, self._let_go)
        # An aborted connection is lost, and its request logged, one turn later.
        self._reactor.callLater(0, self._flush)
        return closing

    def _flush(self) -> None:
        if self._next is not None:
            self._next.cancel()
        if not self._in_hand:
            self._write()

    def _write(self) -> None:
        self._next = None
        batch, self._waiting = self._waiting, []
        self._in_hand = len(batch)
        if not batch:
            self._go_on()
            return
        writing = self._writer.run(lambda: self._put(batch))
        writing.addCallback(self._written).addErrback(self._stumbled)
        writing.addCallback(lambda _: self._go_on())

    def _go_on(self) -> None:
        self._in_hand = 0
        if self._closing is not None:
            self._write() if self._waiting else self._let_go()
        elif self._waiting and self._open:
            self._next = self._reactor.callLater(BATCH_SECONDS, self._write)

    def _let_go(self) -> None:
        closing, self._closing = self._closing, None
        if closing is None:
            return
        self._open = False
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()
        if not self._in_hand:
            self._writer.stop()
        closing.callback(None)

    def _put(self, batch: list[Access]) -> tuple[int, OSError | None]:
        # In the thread: how many were written, and what kept the others from it.
        written = 0
        try:
            with self._file() as file:
                for lines in self._pieces(batch):
                    self._write_whole(file, b"".join(lines))
                    written += len(lines)
                    time.sleep(YIELD_SECONDS)
        except OSError as error:
            return written, error
        return written, None

    @contextmanager
    def _file(self) -> Iterator[int]:
        if self._target == "-":
            yield _STANDARD_OUTPUT
            return
        file = os.open(self._target, _HOW_OPENED, 0o640)
        try:
            yield file
        finally:
            os.close(file)

    def _pieces(self, batch: list[Access]) -> Iterator[list[bytes]]:
        lines: list[bytes] = []
        size = 0
        for access in batch:
            line = f"{self._line(access)}\n".encode("ascii")
            if lines and size + len(line) > PIECE_BYTES:
                yield lines
                lines, size = [], 0
            lines.append(line)
            size += len(line)
        yield lines

    def _write_whole(self, file: int, data: bytes) -> None:
        # A line that broke off, for want of room, must not run into the next one.
        rest = memoryview(b"\n" + data if self._torn else data)
        while rest:
            try:
                rest = rest[os.write(file, rest) :]
            except BlockingIOError:
                _wait_for_room(file)
            else:
                self._torn = True
        self._torn = False

    def _written(self, result: tuple[int, OSError | None]) -> None:
        written, error = result
        self._lose(self._in_hand - written)
        if error is None and (self._failing or self._lost):
            self._log.info(
                "the access log {target} is written again, without {lost} requests",
                target=self._target, lost=self._lost,
            )  # fmt: skip
            self._lost, self._failing = 0, False
        elif error is not None and not self._failing:
            self._failing = True
            self._log.error(
                "the access log {target} cannot be written: {why}. The server goes on without it"
                " until this is mended: free the disk or its rights",
                target=self._target, why=error.strerror,
            )  # fmt: skip

    def _lose(self, count: int) -> None:
        self._lost += count
        self._measures.access_log_lost += count

    def _stumbled(self, failure: Failure) -> None:
        self._lose(self._in_hand)
        self._log.failure("the access log stumbled, and goes on", failure)


def _is_null(file: int) -> bool:
    return os.path.samestat(os.fstat(file), Path(os.devnull).stat())


def _wait_for_room(file: int) -> None:
    poll = select.poll()
    poll.register(file, select.POLLOUT)
    poll.poll()
