"""The control listener as a twisted.web Site: whatever comes in passes here first."""

from __future__ import annotations

from typing import Any, cast

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from twisted.web.http import Request as HTTPRequest
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

from plane_tx.autopsies import Autopsies
from plane_tx.control.app import ControlApp
from plane_tx.control.envelope import answer_error
from plane_tx.control.guard import Access, Guard
from plane_tx.control.request import ControlChannel, ControlRequest
from plane_tx.core.errors import MalformedRequest, PlaneError
from plane_tx.core.sections import DemoConfig
from plane_tx.idempotency import Idempotency
from plane_tx.supervisor import Supervisor


def make_site(
    reactor: IReactorTime,
    supervisor: Supervisor,
    idempotency: Idempotency,
    autopsies: Autopsies,
    demo: DemoConfig,
    access: Access | None = None,
) -> Site:
    """The control listener's Site, ready to listen; `reactor` is asked for the time only."""
    routes = ControlApp(reactor, supervisor, idempotency, autopsies, demo).resource()
    access = access or Access()

    def session_secret(session_id: str) -> str | None:
        session = supervisor.registry.get(session_id)
        return None if session is None else session.secret

    return ControlSite(reactor, Door(routes, Guard(access, session_secret)), access)


class Door(Resource):
    """Decides who comes in before any route is looked at; what is not public is guarded."""

    isLeaf = True

    def __init__(self, routes: Resource, guard: Guard) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Twisted's
        self._routes = routes
        self._guard = guard

    def render(self, request: ControlRequest) -> int:
        """Let `request` in, answer it here, or have a service asked about it."""
        try:
            path = _routed_path(request)
            if not path.startswith("/pub/"):
                asked = self._guard.check(request, path)
                return self._pass(request) if asked is None else self._wait(request, asked)
            _allow_any_origin(request)
        except PlaneError as error:
            return _finish(request, answer_error(request, error))
        if request.method == b"OPTIONS":
            return _finish(request, _preflight(request))
        return self._pass(request)

    def _wait(self, request: ControlRequest, asked: Deferred[None]) -> int:
        request.notifyFinish().addErrback(lambda _gone: asked.cancel())
        asked.addCallbacks(lambda _: self._pass(request), _refuse, errbackArgs=(request,))
        asked.addErrback(_fail, request)
        return NOT_DONE_YET

    def _pass(self, request: Request) -> int:
        # Klein reads the Host of every request, to build URLs that we never ask for, and stumbles
        # over those that are no name or not there.
        request.requestHeaders.setRawHeaders("host", ["localhost"])
        return cast(int, self._routes.render(request))


class ControlSite(Site):
    """A Site that keeps no access log: users and keys stand in queries."""

    protocol = ControlChannel  # type: ignore[assignment]  # HTTP/2's go-between is left out
    requestFactory = ControlRequest
    displayTracebacks = False

    def __init__(self, reactor: IReactorTime, root: Resource, access: Access) -> None:
        super().__init__(root, reactor=reactor)  # type: ignore[no-untyped-call]  # Twisted's
        self._access = access

    def acceptableProtocols(self) -> list[bytes]:
        """No HTTP/2, also over TLS where its parts are installed: its requests are not ours."""
        return [b"http/1.1"]

    def stopFactory(self) -> None:
        """Let go of connections to the service that is asked about callers."""
        super().stopFactory()
        if self._access.forward_auth is not None:
            self._access.forward_auth.close()

    def log(self, request: HTTPRequest) -> None:
        """Write nothing."""


def _routed_path(request: Any) -> str:
    # As Klein puts it together and werkzeug reads it, so that no spelling of a path has two
    # meanings: any number of slashes at the front is one.
    joined = b"/".join(request.postpath)
    try:
        return "/" + joined.decode("utf-8").lstrip("/")
    except UnicodeDecodeError:
        raise MalformedRequest("the path is not UTF-8") from None


def _allow_any_origin(request: Request) -> None:
    request.setHeader("access-control-allow-origin", "*")
    request.setHeader(
        "vary", "origin, access-control-request-method, access-control-request-headers"
    )


def _preflight(request: Request) -> bytes:
    request.setHeader("access-control-allow-methods", "GET,POST")
    request.setHeader("access-control-allow-headers", "content-type")
    request.setHeader("content-length", "0")
    return b""


def _finish(request: Request, body: bytes) -> int:
    request.write(body)
    request.finish()
    return NOT_DONE_YET


def _refuse(failure: Failure, request: Request) -> None:
    failure.trap(PlaneError, CancelledError)
    if isinstance(failure.value, PlaneError):
        _finish(request, answer_error(request, failure.value))


def _fail(failure: Failure, request: ControlRequest) -> None:
    request.processingFailed(failure)
