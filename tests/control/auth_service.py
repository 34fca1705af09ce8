"""An auth service in memory: real HTTP over pipes, and the levers by which a test moves it."""

from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint
from twisted.test import iosim
from twisted.web.http import Request
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site
from zope.interface import implementer


@implementer(IStreamClientEndpoint)
class AuthService(Resource):
    """Answers `status` and `body`, or keeps who asks waiting while `holding`.

    It is its own endpoint, too.
    """

    isLeaf = True

    def __init__(self, clock: IReactorTime) -> None:
        super().__init__()
        self.status = 200
        self.body = b"whatever"
        self.headers: dict[str, str] = {}
        self.holding = False
        self.held: list[Request] = []
        self.asked: list[Request] = []
        #: What a connection fails with.
        self.down: Exception | None = None
        #: Dials that nobody answers, while it is a list.
        self.dials: list[Deferred[Any]] | None = None
        self.connected = 0
        self._pumps: list[iosim.IOPump] = []
        self._site = Site(self, reactor=clock, timeout=None)

    def connect(self, protocolFactory: Any) -> Deferred[Any]:
        if self.down is not None:
            return fail(self.down)
        if self.dials is not None:
            self.dials.append(Deferred())
            return self.dials[-1]
        self.connected += 1
        client = protocolFactory.buildProtocol(None)
        server = self._site.buildProtocol(None)
        pump = iosim.connect(
            server, iosim.FakeTransport(server, isServer=True),
            client, iosim.FakeTransport(client, isServer=False), greet=False,
        )  # fmt: skip
        self._pumps.append(pump)
        return succeed(client)

    @property
    def open(self) -> int:
        """How many connections are open."""
        return sum(not pump.serverIO.disconnected for pump in self._pumps)

    def flush(self) -> None:
        """Let everything that is on its way arrive."""
        moved = True
        while moved:
            moved = sum(pump.pump() for pump in self._pumps) > 0

    def close(self) -> None:
        """Close every connection from this side; nobody has noticed yet."""
        for pump in self._pumps:
            pump.serverIO.abortConnection()

    def render(self, request: Request) -> int:
        self.asked.append(request)
        request.sent = request.content.read()
        if self.holding:
            self.held.append(request)
        else:
            self.answer(request)
        return NOT_DONE_YET

    def answer(self, request: Request) -> None:
        request.setResponseCode(self.status)
        for name, value in self.headers.items():
            request.setHeader(name, value)
        request.write(self.body)
        request.finish()
