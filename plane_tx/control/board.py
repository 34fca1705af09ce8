"""GET /ctrl/board: what the dashboard shows, told once and then whatever becomes different of it.

All viewers share one look at the sessions, and one rendering of what changed. A viewer that does
not keep up is owed the ids of what changed, not the events: it gets each row once, as it is by
then. Nothing runs while nobody looks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import attrs
from twisted.internet.defer import CancelledError, Deferred, ensureDeferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
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

#: How many sessions one turn of the reactor looks at, and how many rows it writes: each takes a
#: fraction of a millisecond. So much, too, is written in one turn at most, beside one last row.
LOOKED_AT = 200
ROWS = 25
MOST_BYTES = 32 * 1024

#: How long others have their turns in between.
GAP_SECONDS = 0.002

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
        self._changed: dict[str, None] = {}
        #: What was told last of the server as a whole, and how: by the name of the event.
        self._summary: dict[str, tuple[dict[str, Any], bytes]] = {}
        self._telling: IDelayedCall | None = None
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
        if self._looking is not None:
            self._looking.cancel()
        if self._telling is not None:
            self._telling.cancel()
        self._unwatch, self._looking, self._telling = _nothing, None, None
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
        viewer.stream.send(self._summary["overview"][1])
        viewer.owed = {each.id: None for each in reversed(tuple(self._supervisor.registry))}
        while True:
            while viewer.is_owed:
                await self._turn(viewer)
                self._pay(viewer)
            if not viewer.complete:
                viewer.complete = True
                viewer.stream.send(sse.named_event("complete", b"{}"))
            await viewer.until_owed()

    async def _turn(self, viewer: _Viewer) -> None:
        """Wait until the viewer reads, and others have had their turns."""
        held_up = viewer.stream.until_read()
        if held_up is not None:
            await held_up
        await deferLater(self._clock, GAP_SECONDS)

    def _pay(self, viewer: _Viewer) -> None:
        events, viewer.events = viewer.events, {}
        for event in events.values():
            viewer.stream.send(event)
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
            self._telling = self._clock.callLater(TELL_SECONDS, self._tell_changes)

    def _tell_changes(self) -> None:
        self._telling = None
        page = self._page(self._changed)
        self._told.update(page.marks)
        for session_id in page.gone:
            self._told.pop(session_id, None)
        event = self._change(page, page.gone)
        for viewer in tuple(self._viewers):
            viewer.tell(event, page)
        if self._changed:
            self._telling = self._clock.callLater(GAP_SECONDS, self._tell_changes)

    def _page(self, ids: dict[str, None]) -> _Page:
        """Take from `ids` what one turn can write."""
        page, size = _Page(), 0
        while ids and len(page.rows) + len(page.gone) < ROWS and size < MOST_BYTES:
            session_id = next(iter(ids))
            del ids[session_id]
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
                await deferLater(self._clock, GAP_SECONDS)

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
        if name in self._summary and self._summary[name][0] == data:
            return
        time = milliseconds(self._supervisor.now())
        event = sse.named_event(name, dumps({"time": time, **data}))
        self._summary[name] = data, event
        for viewer in self._viewers:
            viewer.owe_event(name, event)

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
        self.owed: dict[str, None] = {}
        self.gone: dict[str, None] = {}
        self.events: dict[str, bytes] = {}
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

    def owe_event(self, name: str, event: bytes) -> None:
        """Owe the latest event of this name."""
        self.events[name] = event
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
