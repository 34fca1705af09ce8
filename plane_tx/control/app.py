"""The routes: each parses, asks the supervisor, and renders."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib.resources import files
from typing import Any, cast

from klein import Klein
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.web.iweb import IRequest
from twisted.web.resource import Resource
from twisted.web.server import Request
from werkzeug import exceptions

from plane_tx import __version__
from plane_tx.autopsies import Autopsies
from plane_tx.control import cluster, guard, listing, logs, webfiles
from plane_tx.control.board import Board
from plane_tx.control.connect import answer_connect, answer_link
from plane_tx.control.connections import answer_connections
from plane_tx.control.demo import visit
from plane_tx.control.envelope import (
    accepts_html,
    answer,
    answer_error,
    answer_failure,
    answer_json,
)
from plane_tx.control.events import EventFeed
from plane_tx.control.feed import StatusFeed
from plane_tx.control.health import answer_health, answer_ready
from plane_tx.control.logs import LogFeed
from plane_tx.control.metrics import CONTENT_TYPE, SupervisorCollector
from plane_tx.control.query import Query
from plane_tx.control.request import ControlRequest, body_of
from plane_tx.control.stats import StatsFeed, parse_ids
from plane_tx.control.webfiles import WebFiles
from plane_tx.core import views, wire
from plane_tx.core.errors import MethodNotAllowed, NotFound, PlaneError
from plane_tx.core.model import Session
from plane_tx.core.sections import DemoConfig
from plane_tx.core.why import why
from plane_tx.idempotency import Idempotency
from plane_tx.supervisor import Supervisor

#: The longest that a terminate waits for the end.
MOST_WAIT_SECONDS = 3600.0

#: How wide the list of routes sets their paths.
_WIDTH = 30

#: The contract of this listener, as it is served.
_OPENAPI = files("plane_tx.control").joinpath("openapi.json").read_bytes()

#: What Klein takes for an answer: all of it, or what fires when it was written.
Answer = bytes | Deferred[Any]


class ControlApp:
    """What the control listener serves; who may call is decided before a request gets here."""

    app = Klein()

    def __init__(
        self,
        clock: IReactorTime,
        supervisor: Supervisor,
        idempotency: Idempotency,
        autopsies: Autopsies,
        demo: DemoConfig,
    ) -> None:
        self._clock = clock
        self._supervisor = supervisor
        self._idempotency = idempotency
        self._autopsies = autopsies
        self._demo = demo
        self._feed = StatusFeed(clock, supervisor)
        self._events = EventFeed(clock, supervisor)
        self._logs = LogFeed(clock, supervisor, self._feed)
        self._stats = StatsFeed(clock, supervisor)
        self._collector = SupervisorCollector(supervisor)
        self._board = Board(clock, supervisor)
        self._web = WebFiles(webfiles.FOLDER)

    def __repr__(self) -> str:
        return f"<ControlApp {self._feed!r} {self._events!r} {self._board!r}>"

    def resource(self) -> Resource:
        """The routes as a leaf of twisted.web."""
        return cast(Resource, self.app.resource())

    @app.route("/", methods=["GET"])
    def contents(self, request: Request) -> bytes:
        """The dashboard, where HTML is accepted; else this list."""
        request.setHeader("vary", "accept")
        if accepts_html(request):
            return self._web.answer(request, webfiles.INDEX)
        lines = [f"plane-tx {__version__}", "", *_contents(demo=bool(self._demo.app))]
        return answer(request, "text/plain; charset=utf-8", ("\n".join(lines) + "\n").encode())

    @app.route("/openapi.json", methods=["GET"])
    def openapi(self, request: Request) -> bytes:
        """All of this in full, as an OpenAPI 3.1 document."""
        return answer(request, "application/json", _OPENAPI)

    @app.route("/web/<name>", methods=["GET"])
    def web_file(self, request: Request, name: str) -> bytes:
        """A file of the dashboard."""
        return self._web.answer(request, name)

    @app.route("/web/vendor/<name>", methods=["GET"])
    def vendored_file(self, request: Request, name: str) -> bytes:
        """A file of the dashboard that others wrote."""
        return self._web.answer(request, f"vendor/{name}")

    @app.route("/demo", methods=["GET"])
    async def visit_demo(self, request: Request) -> bytes:
        """Go to the session of the demo app."""
        return await visit(request, self._supervisor, self._demo)

    @app.route("/ctrl/status", methods=["GET"])
    def status(self, request: Request) -> bytes:
        """Whether the server is up, and its version."""
        return answer_json(request, {"status": "ok", "version": __version__, "hash": ""})

    @app.route("/ctrl/connect", methods=["POST"])
    async def connect(self, request: Request) -> bytes:
        """Join the session of a key, or have one made; once for each Idempotency-Key."""
        return await answer_connect(ours(request), self._supervisor, self._idempotency)

    @app.route("/ctrl/backends", methods=["GET"])
    async def sessions(self, request: Request) -> bytes:
        """Sessions, newest first; ?status= user= key= namespace= label=k=v limit= after="""
        page = listing.Listing(self._supervisor.registry, listing.parse_wanted(request.uri))
        told: list[bytes] = []
        for found in page.slices():
            told += [wire.dumps(self._told(session)) for session in found]
            await deferLater(self._clock, 0)
        body = b'{"backends":[%b],"next":%b}' % (b",".join(told), wire.dumps(page.next))
        return answer(request, "application/json", body)

    @app.route("/ctrl/b/<session_id>", methods=["GET"])
    def session(self, request: Request, session_id: str) -> bytes:
        """All about one session."""
        return answer_json(request, self._told(self._supervisor.get(session_id)))

    @app.route("/ctrl/b/<session_id>/soft-terminate", methods=["POST"])
    async def soft_terminate(self, request: Request, session_id: str) -> bytes:
        """End a session and give it its grace; ?wait=seconds answers when it has ended."""
        return await self._terminate(request, session_id, self._supervisor.soft_terminate)

    @app.route("/ctrl/b/<session_id>/hard-terminate", methods=["POST"])
    async def hard_terminate(self, request: Request, session_id: str) -> bytes:
        """End a session by force; ?wait=seconds answers when it has ended."""
        return await self._terminate(request, session_id, self._supervisor.hard_terminate)

    @app.route("/ctrl/b/<session_id>/why", methods=["GET"])
    def why(self, request: Request, session_id: str) -> bytes:
        """Why a session is still running and what ends it next; or why it ended."""
        told = why(self._supervisor.get(session_id), self._supervisor.now())
        return answer_json(request, told)

    @app.route("/ctrl/b/<session_id>/connections", methods=["GET"])
    async def connections(self, request: Request, session_id: str) -> bytes:
        """A session's WebSockets and tunnels, open and closed, and why each was closed."""
        session = self._supervisor.get(session_id)
        return await answer_connections(request, self._clock, session, self._supervisor.now())

    @app.route("/ctrl/b/<session_id>/logs", methods=["GET"])
    def logs(self, request: Request, session_id: str) -> Answer:
        """What a session writes; ?tail=lines since=ms follow=true"""
        session = self._supervisor.get(session_id)
        wanted = logs.parse_wanted(request)
        if wanted.follow:
            return self._logs.follow(request, session, wanted)
        return self._logs.answer(request, session, wanted)

    @app.route("/ctrl/b/<session_id>/stats", methods=["GET"])
    def stats(self, request: Request, session_id: str) -> Answer:
        """What a session takes of the box, and moves; ?stream=true tells it every second"""
        session = self._supervisor.get(session_id)
        if Query(request.uri, "stream").flag("stream"):
            return self._stats.stream(request, session)
        return self._stats.answer(request, session)

    @app.route("/ctrl/stats", methods=["GET"])
    def stats_of_many(self, request: Request) -> Answer:
        """The same of several sessions, every two seconds; ?id= id= stream=true"""
        found = map(self._supervisor.registry.get, parse_ids(request.uri))
        return self._stats.stream_many(request, filter(None, found))

    @app.route("/ctrl/b/<session_id>/autopsy.tar.gz", methods=["GET"])
    async def autopsy(self, request: Request, session_id: str) -> bytes:
        """All that tells what happened to a session, living or ended, as an archive."""
        archive = await self._autopsies.archive(session_id)
        name = f'attachment; filename="{session_id}.tar.gz"'
        request.setHeader("content-disposition", name)
        return answer(request, "application/gzip", archive)

    @app.route("/ctrl/b/<session_id>/keepalive", methods=["POST"])
    async def keep_alive(self, request: Request, session_id: str) -> bytes:
        """Keep a session alive for a time without a connection; it may ask that itself."""
        guard.check_is_json(request)
        wanted = wire.parse_keep_alive(body_of(request))
        until = self._supervisor.keep_alive(session_id, wanted.seconds, wanted.reason)
        told = {
            "backend_id": session_id,
            "reason": wanted.reason,
            "until": None if until is None else views.milliseconds(until),
        }
        await self._supervisor.recorded()
        return answer_json(request, told)

    @app.route("/ctrl/b/<session_id>/link", methods=["POST"])
    async def link(self, request: Request, session_id: str) -> bytes:
        """A new link to a session."""
        return await answer_link(request, self._supervisor, session_id)

    @app.route("/ctrl/b/revoke", methods=["POST"])
    async def revoke(self, request: Request) -> bytes:
        """Take back a user's links to a session, and cut what is open by them."""
        guard.check_is_json(request)
        wanted = wire.parse_revoke(body_of(request))
        count = self._supervisor.revoke(wanted.backend_id, wanted.user)
        await self._supervisor.recorded()
        return answer_json(request, f"Revoked {count} token{'' if count == 1 else 's'}.")

    @app.route("/ctrl/events", methods=["GET"])
    def events(self, request: Request) -> Answer:
        """Every new status of every session as it comes, as server-sent events."""
        return self._events.answer(request)

    @app.route("/ctrl/board", methods=["GET"])
    def board(self, request: Request) -> Answer:
        """What the dashboard shows, and every change of it, as server-sent events."""
        return self._board.answer(request)

    @app.route("/ctrl/drain", methods=["GET"])
    def drain_state(self, request: Request) -> bytes:
        """Whether new sessions are refused, and how many live yet."""
        return answer_json(request, self._drain_state())

    @app.route("/ctrl/drain", methods=["POST"])
    def drain(self, request: Request) -> bytes:
        """Refuse new sessions, and go on with those that live."""
        return answer_json(request, self._drain(wanted=True))

    @app.route("/ctrl/drain", methods=["DELETE"])
    def undrain(self, request: Request) -> bytes:
        """Take new sessions again."""
        return answer_json(request, self._drain(wanted=False))

    @app.route("/ctrl/c/<cluster_name>/state", methods=["GET"])
    def cluster_state(self, request: Request, cluster_name: str) -> bytes:
        """What Plane tells of a cluster."""
        return answer_json(request, cluster.state(self._supervisor, cluster_name))

    @app.route("/ctrl/c/<cluster_name>/d/<drone>/drain", methods=["POST"])
    def drain_drone(self, request: Request, cluster_name: str, drone: str) -> bytes:
        """The same as /ctrl/drain, in Plane's words."""
        cluster.check_drone(self._supervisor, cluster_name, drone)
        return answer_json(request, {"updated": self._supervisor.drain(True)})

    @app.route("/metrics", methods=["GET"])
    def metrics(self, request: Request) -> bytes:
        """What the server counts, for Prometheus."""
        return answer(request, CONTENT_TYPE, self._collector.exposition())

    @app.route("/pub/b/<session_id>/status", methods=["GET"])
    def session_status(self, request: Request, session_id: str) -> bytes:
        """Where a session is in its life."""
        session = self._supervisor.get(session_id)
        return answer_json(request, views.last_status(session))

    @app.route("/pub/b/<session_id>/status-stream", methods=["GET"])
    def status_stream(self, request: Request, session_id: str) -> Answer:
        """The same as it changes, as server-sent events."""
        return self._feed.answer(request, self._supervisor.get(session_id))

    @app.route("/pub/health", methods=["GET"])
    async def health(self, request: Request) -> bytes:
        """Whether the server and its engine are well."""
        return await answer_health(request, self._clock, self._supervisor)

    @app.route("/pub/ready", methods=["GET"])
    async def ready(self, request: Request) -> bytes:
        """Whether sessions can be asked for yet."""
        return await answer_ready(request, self._clock, self._supervisor)

    @app.handle_errors(PlaneError)
    def refuse(self, request: IRequest, failure: Failure) -> bytes:
        """Answer what we refuse."""
        assert isinstance(failure.value, PlaneError)
        return answer_error(ours(request), failure.value)

    @app.handle_errors(exceptions.HTTPException)
    def no_such_route(self, request: IRequest, failure: Failure) -> bytes:
        """Answer what no route takes."""
        error: PlaneError = NotFound("there is nothing here: GET / lists what there is")
        if isinstance(failure.value, exceptions.MethodNotAllowed):
            allowed = ", ".join(sorted(failure.value.valid_methods or ()))
            request.setHeader("allow", allowed)
            error = MethodNotAllowed(f"this path does not know that method: it takes {allowed}")
        return answer_error(ours(request), error)

    @app.handle_errors(Exception)
    def fail(self, request: IRequest, failure: Failure) -> bytes:
        """Answer what should not have happened."""
        return answer_failure(ours(request), failure)

    def _drain(self, *, wanted: bool) -> dict[str, object]:
        return {"updated": self._supervisor.drain(wanted), **self._drain_state()}

    def _drain_state(self) -> dict[str, object]:
        supervisor = self._supervisor
        return {"draining": supervisor.draining, "sessions": supervisor.registry.live_count}

    def _told(self, session: Session) -> dict[str, object]:
        return views.session(session, self._supervisor.deadlines(session))

    async def _terminate(
        self, request: Request, session_id: str, end: Callable[[str, str], None]
    ) -> bytes:
        seconds = Query(request.uri, "wait").seconds("wait", MOST_WAIT_SECONDS)
        end(session_id, _who(request))
        session = self._supervisor.get(session_id)
        await self._supervisor.recorded()
        if seconds:
            await self._supervisor.ended_soon(session, seconds)
        return answer_json(request, None)


def _who(request: Request) -> str:
    """Whoever asks, as those read it who wonder why a session ended."""
    caller = ours(request).caller
    peer = getattr(request.getClientAddress(), "host", "a unix socket")
    return f"the API key {caller!r} from {peer}" if caller else f"a caller from {peer}"


def ours(request: IRequest) -> ControlRequest:
    """The same, as what it is."""
    assert isinstance(request, ControlRequest)
    return request


def _contents(*, demo: bool) -> list[str]:
    routes = []
    for rule in ControlApp.app.url_map.iter_rules():
        if rule.rule == "/demo" and not demo:
            continue
        method = next(iter((rule.methods or set()) - {"GET", "HEAD", "OPTIONS"}), "GET")
        path = re.sub("<(.*?)>", r"{\1}", rule.rule.replace("session_id", "id"))
        routes.append(f"{method:6} {path:{_WIDTH}} {getattr(ControlApp, rule.endpoint).__doc__}")
    return routes
