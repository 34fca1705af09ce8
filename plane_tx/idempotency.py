"""Does what is asked under one Idempotency-Key once, and answers it as often as it is asked."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from plane_tx.core.errors import JournalError, PlaneError
from plane_tx.core.idempotency import Answer, Answers, check_same
from plane_tx.flights import Flight
from plane_tx.journal import Journal

#: How often answers that are too old to be given are deleted, from memory and journal.
FORGET_SECONDS = 60.0


#: Does what is asked, and calls what it is given with the answer, once.
Make = Callable[[Callable[[bytes], None]], Awaitable[object]]


class _Asked:
    """What is being done under a key, for which body, and whether nobody waits for it."""

    def __init__(self, digest: bytes) -> None:
        self.digest = digest
        self.work: Deferred[bytes] = Deferred()
        self.deserted = False
        self._flight = Flight(self.work, self._desert)

    def wait(self) -> Deferred[bytes]:
        """Fires with what the work comes to; whoever is cancelled leaves alone."""
        self.deserted = False
        return self._flight.wait()

    def _desert(self) -> None:
        self.deserted = True


class Idempotency(Service):
    """Remembers the answers of 24 hours, those of earlier runs too once it has started.

    What is in flight is deleted by its own end; an answer by the running service, which looks every
    minute for what is too old, or by a newer one when there are too many.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime, journal: Journal) -> None:
        self._clock = clock
        self._journal = journal
        self._answers = Answers()
        self._in_flight: dict[tuple[str, str], _Asked] = {}
        self._loop = LoopingCall(self._forget)
        self._loop.clock = clock

    def __repr__(self) -> str:
        return f"<Idempotency [In flight: {len(self._in_flight)} | Answers: {len(self._answers)}]>"

    def startService(self) -> None:
        """Take up the answers of earlier runs from the open journal, and begin to forget."""
        super().startService()  # type: ignore[no-untyped-call]  # Twisted's Service is untyped
        for answer in self._journal.take_answers():
            self._answers.keep(answer)
        self._loop.start(FORGET_SECONDS)

    def stopService(self) -> None:
        """Forget no more."""
        super().stopService()  # type: ignore[no-untyped-call]  # as above
        if self._loop.running:
            self._loop.stop()

    def once(
        self, caller: str, key: str, digest: bytes, make: Make
    ) -> Deferred[tuple[bytes, bool]]:
        """Fire with the answer that `make` gives, and whether an earlier request has caused it.

        `make` is called before this returns, unless the answer is known or being made. It calls
        what it is given with its answer as soon as that is decided, in the same turn in which it
        records what the answer tells of: a restart then knows both or neither. Fires when `make`
        has returned; fails as `make` does, and the next request calls its own. Cancelling stops the
        waiting only. Raises `IdempotencyConflict` when `key` came with another body within 24
        hours.
        """
        kept = self._answers.find(caller, key, digest, self._clock.seconds())
        if kept is not None:
            return succeed((kept, True))
        asked = self._in_flight.get((caller, key))
        if asked is not None:
            check_same(asked.digest, digest)
            return asked.wait().addCallback(lambda body: (body, True))
        asked = self._in_flight[caller, key] = _Asked(digest)
        answered = asked.wait().addCallback(lambda body: (body, False))
        Deferred.fromCoroutine(self._make(caller, key, asked, make)).chainDeferred(asked.work)
        return answered

    def _forget(self) -> None:
        # An error that left here would end the loop for good.
        with self._log.failuresHandled("old answers could not be forgotten"):
            old = self._answers.forget_old(self._clock.seconds())
            self._journal.forget_answers(old).addErrback(_journal_has_said_so)

    async def _make(self, caller: str, key: str, asked: _Asked, make: Make) -> bytes:
        decided: list[Answer] = []

        def decide(body: bytes) -> None:
            answer = Answer(caller, key, asked.digest, body, self._clock.seconds())
            decided.append(answer)
            self._journal.record_answer(answer).addErrback(_journal_has_said_so)

        try:
            await make(decide)
        except Exception as error:
            self._journal.forget_answers(decided).addErrback(_journal_has_said_so)
            if asked.deserted and not isinstance(error, PlaneError):
                self._log.failure("a request that its caller has left failed")
            raise
        finally:
            del self._in_flight[caller, key]
        (answer,) = decided
        excess = self._answers.keep(answer)
        self._journal.forget_answers(excess).addErrback(_journal_has_said_so)
        return answer.body


def _journal_has_said_so(failure: Failure) -> None:
    failure.trap(JournalError)
