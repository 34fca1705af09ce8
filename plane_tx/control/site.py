"""The control listener as a twisted.web Site: whatever comes in passes here first."""

from __future__ import annotations

from typing import Any, cast

from twisted.internet.interfaces import IReactorTime
from twisted.web.http import Request as HTTPRequest
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

from plane_tx.control import guard
from plane_tx.control.app import ControlApp
from plane_tx.control.envelope import answer_error
from plane_tx.control.request import ControlRequest
from plane_tx.core.config import DemoConfig
from plane_tx.core.errors import MalformedRequest, PlaneError
from plane_tx.idempotency import Idempotency
from plane_tx.supervisor import Supervisor


def make_site(
    reactor: IReactorTime, supervisor: Supervisor, idempotency: Idempotency, demo: DemoConfig
) -> Site:
    """The control listener's Site, ready to listen; `reactor` is asked for the time only."""
    routes = ControlApp(reactor, supervisor, idempotency, demo).resource()
    return ControlSite(reactor, Door(routes))


class Door(Resource):
    """Decides who comes in before any route is looked at; what is not public is guarded."""

    isLeaf = True

    def __init__(self, routes: Resource) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Twisted's
        self._routes = routes

    def render(self, request: Request) -> int:
        """Let `request` in, or answer it here."""
        try:
            path = _routed_path(request)
            if path.startswith("/pub/"):
                _allow_any_origin(request)
            else:
                _check(request, path)
        except PlaneError as error:
            return _finish(request, answer_error(request, error))
        if path.startswith("/pub/") and request.method == b"OPTIONS":
            return _finish(request, _preflight(request))
        # Klein reads the Host of every request, to build URLs that we never ask for, and stumbles
        # over those that are no name or not there.
        request.requestHeaders.setRawHeaders("host", ["localhost"])
        return cast(int, self._routes.render(request))


class ControlSite(Site):
    """A Site that keeps no access log: users and keys stand in queries."""

    requestFactory = ControlRequest
    displayTracebacks = False

    def __init__(self, reactor: IReactorTime, root: Resource) -> None:
        super().__init__(root, reactor=reactor)  # type: ignore[no-untyped-call]  # Twisted's

    def log(self, request: HTTPRequest) -> None:
        """Write nothing."""


def _check(request: Request, path: str) -> None:
    guard.check_caller(request)
    if path == "/demo":
        guard.check_visit(request)
    elif path.startswith("/ctrl/"):
        guard.check_fetched_at_home(request)


def _routed_path(request: Any) -> str:
    # Exactly as Klein puts it together, so that no spelling of a path has two meanings.
    joined = b"/".join(request.postpath)
    try:
        return (joined if joined.startswith(b"/") else b"/" + joined).decode("utf-8")
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
