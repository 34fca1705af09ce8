"""What browsers are told while their session boots, by a page at once and by news of it after."""

from __future__ import annotations

from collections.abc import Iterable

from twisted.internet.defer import CancelledError, Deferred, ensureDeferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from plane_tx.core.errors import EngineUnavailable, StillBooting
from plane_tx.core.explain import why_not_ready
from plane_tx.core.fields import values_of
from plane_tx.core.messages import RequestHead
from plane_tx.core.model import LogLine, Session, Status, StatusEntry, Terminated
from plane_tx.core.pages import sentence
from plane_tx.core.waiting import (
    LINES_TOLD,
    Told,
    boots,
    elapsed_in_words,
    estimate_in_words,
    phase_in_full,
    title,
    told,
)
from plane_tx.proxy.answers import wants_page
from plane_tx.proxy.connection import Timer
from plane_tx.reactor import INetworkReactor
from plane_tx.supervisor import Supervisor
from plane_tx.waiters import Waiters

#: How long somebody waits for news at most.
POLL_SECONDS = 20.0

#: How often what may have come on (a pull, the log) is looked at; a new status is told at once.
BEAT_SECONDS = 0.25

#: How many beats there are between two looks at the engine: for its log, and for why it waits.
LOOK_BEATS = 4

#: How many beats a session is watched on when nobody waits for it: they mostly come again.
LINGER_BEATS = 20

#: The statuses of a session that can have written nothing yet.
_UNMADE = frozenset({Status.SCHEDULED, Status.LOADING})


class Meanwhile:
    """Tells who waits for which session how far it is; each session is watched once for all.

    Without `pages` nobody is shown any: every request is held.
    """

    def __init__(
        self, reactor: INetworkReactor, supervisor: Supervisor, *, pages: bool, logs: bool
    ) -> None:
        self._reactor = reactor
        self._supervisor = supervisor
        self._pages = pages
        self._logs = logs
        self._watched: dict[str, _Watched] = {}
        self._unwatch = supervisor.watch(self._moved)

    def __len__(self) -> int:
        return len(self._watched)

    def close(self) -> None:
        """Watch nothing any more; nobody is to wait by now."""
        self._unwatch()
        for watched in tuple(self._watched.values()):
            watched.end()

    def page(self, head: RequestHead, session: Session) -> StillBooting | None:
        """What a request to a session that boots is answered at once; None for one to hold."""
        if not self._pages or not _is_navigation(head):
            return None
        watched = self._watched.get(session.id)
        now = self._supervisor.now()
        known = self.told(session) if watched is None else watched.told
        shown = {
            "title": title(known.since),
            "told": known.as_json(now),
            "phase": sentence(phase_in_full(session) if known.pull else known.phase),
            "elapsed": elapsed_in_words(known.since, now),
            "estimate": estimate_in_words(known.estimate, known.boot_since, now),
        }
        return StillBooting(why_not_ready(session), shown)

    def news(self, session: Session, version: str) -> Deferred[Told]:
        """What there is to tell of `session` once that is another than `version`; after 20 s in
        any case, and at once when it does not boot. Cancelling leaves only this one out.
        """
        if not boots(session):
            return succeed(self.told(session))
        watched = self._watched.get(session.id)
        if watched is None:
            watched = self._watched[session.id] = _Watched(self._reactor, self, session)
            watched.begin()
        return watched.wait(version)

    def told(
        self, session: Session, lines: Iterable[LogLine] = (), hint: str | None = None
    ) -> Told:
        """What there is to tell of `session` now."""
        state = session.state
        if self._logs and isinstance(state, Terminated):
            lines = state.log_tail
        return told(session, self._supervisor.registry.estimates.of(session), lines, hint)

    async def lines(self, session: Session) -> tuple[LogLine, ...]:
        """The last lines of what it wrote, if they may be shown. Raises `EngineUnavailable`."""
        if not self._logs or session.status in _UNMADE:
            return ()
        return await self._supervisor.logs(session, LINES_TOLD, None)

    async def hint(self, session: Session) -> str | None:
        """Why its server does not answer yet, where that is known."""
        return await self._supervisor.why_not_answering(session)

    def forget(self, session: Session) -> None:
        """Nobody waits for it any more."""
        del self._watched[session.id]

    def _moved(self, session: Session, _entry: StatusEntry) -> None:
        watched = self._watched.get(session.id)
        if watched is not None:
            watched.tell()


class _Watched:
    """One session that somebody waits for: what is told of it, and when it is looked at anew.

    It ends with the boot, or some time after the last has left.
    """

    _log = Logger()

    def __init__(self, reactor: INetworkReactor, meanwhile: Meanwhile, session: Session) -> None:
        self.told = meanwhile.told(session)
        self._meanwhile = meanwhile
        self._session = session
        self._waiters: Waiters[Told] = Waiters(reactor)
        self._timer = Timer(reactor)
        self._beats = self._deserted = 0
        self._looking: Deferred[None] | None = None
        self._ended = False
        self._lines: tuple[LogLine, ...] = ()
        self._hint: str | None = None

    def begin(self) -> None:
        """Look at the session from now on."""
        self._look()
        self._timer.set(BEAT_SECONDS, self._beat)

    def wait(self, version: str) -> Deferred[Told]:
        """As `Meanwhile.news`."""
        if self.told.version != version:
            return succeed(self.told)
        waiting = self._waiters.wait(self._session.id, POLL_SECONDS, TimeoutError)
        return waiting.addErrback(self._nothing_new)

    def tell(self) -> None:
        """Tell everyone who waits what there is to tell now, if that is news."""
        now = self._meanwhile.told(self._session, self._lines, self._hint)
        if now != self.told:
            self.told = now
            self._waiters.settle(self._session.id, now)
        if not boots(self._session):
            self.end()

    def end(self) -> None:
        """Look at it no more; whoever waits was told."""
        if self._ended:
            return
        self._ended = True
        self._timer.clear()
        self._meanwhile.forget(self._session)
        if self._looking is not None:
            self._looking.cancel()

    def _nothing_new(self, failure: Failure) -> Told:
        failure.trap(TimeoutError)
        return self.told

    def _beat(self) -> None:
        self._beats += 1
        self._deserted = 0 if self._waiters else self._deserted + 1
        if self._deserted > LINGER_BEATS:
            self.end()
            return
        with self._log.failuresHandled("a session that boots could not be looked at"):
            if self._waiters and self._beats % LOOK_BEATS == 0:
                self._look()
            self.tell()
        if not self._ended:
            self._timer.set(BEAT_SECONDS, self._beat)

    def _look(self) -> None:
        if self._looking is None:
            looking = ensureDeferred(self._look_at_engine())
            if not looking.called:
                self._looking = looking
            looking.addBoth(self._looked)

    async def _look_at_engine(self) -> None:
        self._lines = await self._meanwhile.lines(self._session)
        self._hint = await self._meanwhile.hint(self._session)

    def _looked(self, result: Failure | None) -> None:
        self._looking = None
        if result is None:
            if not self._ended:
                self.tell()
        elif not result.check(CancelledError, EngineUnavailable):
            self._log.failure("a session that boots could not be looked at", result)


def _is_navigation(head: RequestHead) -> bool:
    """Whether a browser goes there, to show what it finds (Fetch Metadata, Sec-Fetch-Mode)."""
    if head.method != b"GET" or head.upgrade or not wants_page(head):
        return False
    modes = values_of(head.headers, b"sec-fetch-mode")
    return all(mode.lower() == b"navigate" for mode in modes)
