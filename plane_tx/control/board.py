"""GET /ctrl/board: what the dashboard shows, told once and then whatever becomes different of it.

All viewers share one look at the sessions, and one rendering of what changed. A viewer that does
not keep up is owed the ids of what changed, not the events: it gets each row once, as it is by
then. Nothing runs while nobody looks.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import attrs
from twisted.internet.defer import CancelledError, Deferred, DeferredLock, ensureDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.server import Request

from plane_tx import __version__
from plane_tx.control import sse
from plane_tx.control.request import cut
from plane_tx.core.board import Mark, mark, overview, row
from plane_tx.core.model import Limits, Session, StatusEntry
from plane_tx.core.views import milliseconds
from plane_tx.core.wire import dumps
from plane_tx.supervisor import Supervisor
from plane_tx.tokens import mint_id

T = TypeVar("T")

#: How long a change of status waits for others to be told with it.
TELL_SECONDS = 0.05

#: How often sessions are looked at for what no event tells: uses, deadlines, pulls.
SCAN_SECONDS = 1.0

#: How many sessions one turn of the reactor looks at, and how many rows it writes: each takes less
#: than half a millisecond. So much, too, is written in one turn at most, beside one last row.
LOOKED_AT = 200
ROWS = 10
MOST_BYTES = 16 * 1024

#: How long others have their turns in between.
GAP_SECONDS = 0.001

#: A viewer that does not read while so many sessions are forgotten is cut off, and begins anew.
MOST_GONE = 5000


class Board:
    """Looks at all sessions while somebody has the dashboard open, and tells every viewer."""

    _log = Logger()

    def __init__(self, clock: IReactorTime, supervisor: Supervisor) -> None:
        self._clock = clock
        self._supervisor = supervisor
        self._run = mint_id()
        self._viewers: list[_Viewer] = []
        #: Each session as all viewers know it that are owed nothing.
        self._told: dict[str, Mark] = {}
        self._changed: OrderedDict[str, None] = OrderedDict()
        #: What was told last of the server as a whole, by the name of the event.
        self._summary: dict[str, dict[str, Any]] = {}
        self._turns = DeferredLock()
        self._telling: Deferred[None] | None = None
        self._looking: Deferred[None] | None = None
        self._unwatch = _nothing

    def __repr__(self) -> str:
        return f"<Board [Viewers: {len(self._viewers)} | Told: {len(self._told)}]>"

    def answer(self, request: Request) -> bytes | Deferred[None]:
        """Answer with the board as server-sent events, which never end by themselves."""
        if request.method == b"HEAD":
            sse.prepare(request)
            return b""
        viewer = _Viewer(request, sse.EventStream(request, self._clock))
        if not self._viewers:
            self._begin()
        self._tell_summary()
        self._viewers.append(viewer)
        serving = ensureDeferred(self._serve(viewer)).addErrback(self._failed, (viewer,))

        def left(result: T) -> T:
            serving.cancel()
            self._viewers.remove(viewer)
            if not self._viewers:
                self._rest()
            return result

        return viewer.stream.ended.addBoth(left)

    def _begin(self) -> None:
        self._unwatch = self._supervisor.watch(self._moved)
        self._looking = ensureDeferred(self._look_again_and_again())
        self._looking.addErrback(self._failed, self._viewers)

    def _rest(self) -> None:
        self._unwatch()
        going_on = (self._looking, self._telling)
        self._unwatch, self._looking, self._telling = _nothing, None, None
        for work in going_on:
            if work is not None:
                work.cancel()
        self._told.clear()
        self._changed.clear()
        self._summary.clear()

    def _failed(self, failure: Failure, viewers: Iterable[_Viewer]) -> None:
        if failure.check(CancelledError):
            return
        self._log.failure("the board failed", failure)
        # A client of server-sent events comes back by itself.
        for viewer in tuple(viewers):
            viewer.stream.end()

    # To one viewer.

    async def _serve(self, viewer: _Viewer) -> None:
        """Tell all there is, and from then on what the viewer is owed for it did not keep up."""
        viewer.stream.send(sse.named_event("hello", dumps(self._hello())))
        viewer.stream.send(self._summed_up("overview"))
        viewer.owed = OrderedDict.fromkeys(self._supervisor.registry.ids())
        while True:
            while viewer.is_owed:
                held_up = viewer.stream.until_read()
                if held_up is not None:
                    await held_up
                await self._turn()
                self._pay(viewer)
            if not viewer.complete:
                viewer.complete = True
                viewer.stream.send(sse.named_event("complete", b"{}"))
            await viewer.until_owed()

    async def _turn(self) -> None:
        """Wait for a turn of the reactor in which nothing else of the board is done."""
        async with self._turns:
            await deferLater(self._clock, GAP_SECONDS)

    def _pay(self, viewer: _Viewer) -> None:
        names, viewer.events = viewer.events, {}
        for name in names:
            viewer.stream.send(self._summed_up(name))
        page = self._page(viewer.owed)
        for session_id, its in page.marks.items():
            if self._told.get(session_id) != its:
                self._note(viewer, session_id, its)
        if viewer.complete and (page.rows or viewer.gone):
            gone, viewer.gone = viewer.gone, {}
            viewer.stream.send(self._change(page, gone))
        elif page.rows:
            viewer.stream.send(sse.named_event("sessions", b'{"rows":[%b]}' % page.body))

    def _note(self, viewer: _Viewer, session_id: str, its: Mark) -> None:
        if self._viewers == [viewer]:
            self._told[session_id] = its
        else:
            # The others do not know it yet.
            self._tell_soon(session_id)

    # To all viewers.

    def _moved(self, session: Session, _entry: StatusEntry) -> None:
        self._tell_soon(session.id)

    def _tell_soon(self, session_id: str) -> None:
        self._changed[session_id] = None
        if self._telling is None:
            self._telling = ensureDeferred(self._tell_changes())
            self._telling.addErrback(self._failed, self._viewers)

    async def _tell_changes(self) -> None:
        await deferLater(self._clock, TELL_SECONDS)
        try:
            while self._changed:
                await self._turn()
                self._tell_some()
        finally:
            self._telling = None

    def _tell_some(self) -> None:
        page = self._page(self._changed)
        self._told.update(page.marks)
        for session_id in page.gone:
            self._told.pop(session_id, None)
        event = self._change(page, page.gone)
        for viewer in tuple(self._viewers):
            viewer.tell(event, page)

    def _page(self, ids: OrderedDict[str, None]) -> _Page:
        """Take from `ids` what one turn can write."""
        page, size = _Page(), 0
        while ids and len(page.rows) + len(page.gone) < ROWS and size < MOST_BYTES:
            session_id, _ = ids.popitem(last=False)
            session = self._supervisor.registry.get(session_id)
            if session is None:
                page.gone[session_id] = None
            else:
                page.marks[session_id] = mark(session)
                page.rows.append(dumps(row(session)))
                size += len(page.rows[-1])
        return page

    def _change(self, page: _Page, gone: Iterable[str]) -> bytes:
        told = (milliseconds(self._supervisor.now()), page.body, dumps(list(gone)))
        return sse.named_event("changed", b'{"time":%d,"rows":[%b],"gone":%b}' % told)

    async def _look_again_and_again(self) -> None:
        while True:
            await deferLater(self._clock, SCAN_SECONDS)
            self._tell_summary()
            for _ in self._look():
                await self._turn()

    def _look(self) -> Iterator[None]:
        """Find what became different; stops again and again for others to have their turns."""
        registry, told = self._supervisor.registry, self._told
        for count, session in enumerate(registry, 1):
            if told.get(session.id) != mark(session):
                self._tell_soon(session.id)
            if count % LOOKED_AT == 0:
                yield
        for count, session_id in enumerate(tuple(told), 1):
            if registry.get(session_id) is None:
                self._tell_soon(session_id)
            if count % LOOKED_AT == 0:
                yield

    def _tell_summary(self) -> None:
        supervisor = self._supervisor
        self._tell_event("overview", overview(supervisor.registry, supervisor.measures))
        self._tell_event("state", self._state())

    def _tell_event(self, name: str, data: dict[str, Any]) -> None:
        if self._summary.get(name) == data:
            return
        self._summary[name] = data
        for viewer in self._viewers:
            viewer.owe_event(name)

    def _summed_up(self, name: str) -> bytes:
        # By the time of now: viewers set their clocks by it.
        time = milliseconds(self._supervisor.now())
        return sse.named_event(name, dumps({"time": time, **self._summary[name]}))

    def _hello(self) -> dict[str, Any]:
        supervisor, policy = self._supervisor, self._supervisor.policy
        defaults = policy.defaults
        limits = Limits(
            max_idle_seconds=defaults.max_idle_seconds,
            startup_timeout_seconds=defaults.startup_timeout_seconds,
            stop_grace_seconds=defaults.stop_grace_seconds,
        )
        return {
            "run": self._run,
            "version": __version__,
            "time": milliseconds(supervisor.now()),
            "cluster": policy.cluster,
            **self._state(),
            "apps": [
                {
                    "name": name,
                    "image": app.executable.image,
                    "command": app.executable.command,
                    "port": app.executable.port,
                }
                for name, app in sorted(policy.apps.items())
            ],
            "images": policy.request_images,
            "commands": policy.request_commands,
            "defaults": attrs.asdict(limits),
        }

    def _state(self) -> dict[str, Any]:
        supervisor = self._supervisor
        lost = supervisor.engine_lost
        kind = supervisor.policy.engine_kind
        return {
            "engine": {"kind": kind, "ok": lost is None, "message": lost or ""},
            "draining": supervisor.draining,
        }


@attrs.define
class _Page:
    """The rows of some sessions, what tells whether they are still true, and who is gone."""

    marks: dict[str, Mark] = attrs.field(factory=dict)
    rows: list[bytes] = attrs.field(factory=list)
    gone: dict[str, None] = attrs.field(factory=dict)

    @property
    def body(self) -> bytes:
        """The rows as they stand in a list of JSON."""
        return b",".join(self.rows)


class _Viewer:
    """One who has the dashboard open, and what is yet to be told to them."""

    def __init__(self, request: Request, stream: sse.EventStream) -> None:
        self.stream = stream
        #: Whether all sessions that there were at the beginning have been told.
        self.complete = False
        self.owed: OrderedDict[str, None] = OrderedDict()
        self.gone: dict[str, None] = {}
        self.events: dict[str, None] = {}
        self._request = request
        self._waiting: Deferred[None] | None = None

    @property
    def is_owed(self) -> bool:
        """Whether there is anything to tell that could be told now."""
        return bool(self.owed or self.events or (self.gone and self.complete))

    def tell(self, change: bytes, page: _Page) -> None:
        """Tell `change`, which is what `page` holds, or owe it."""
        if self.complete and not self.is_owed and self.stream.keeps_up:
            self.stream.send(change)
            return
        self.owed.update(dict.fromkeys(page.marks))
        self.gone.update(page.gone)
        self._wake()
        if len(self.gone) > MOST_GONE:
            cut(self._request)

    def owe_event(self, name: str) -> None:
        """Owe the event of this name, as it will be by then."""
        self.events[name] = None
        self._wake()

    async def until_owed(self) -> None:
        """Wait until there is something to tell."""
        if not self.is_owed:
            self._waiting = Deferred()
            await self._waiting

    def _wake(self) -> None:
        waiting = self._waiting
        if waiting is not None and self.is_owed:
            self._waiting = None
            waiting.callback(None)


def _nothing() -> None:
    """What ends a watch that has not begun."""
