"""An HTTP client in memory, joined to a real Site byte by byte."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import attrs
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.web.server import Site

from tests.control import contract

LISTENER = IPv4Address("TCP", "127.0.0.1", 8080)
BROWSER = IPv4Address("TCP", "127.0.0.1", 55555)


@attrs.frozen
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Connection:
    """One connection to the site; it sends bytes and says what came back."""

    def __init__(self, site: Site, listener: object = LISTENER) -> None:
        self._protocol = site.buildProtocol(BROWSER)
        self.transport = StringTransport(listener, BROWSER)
        self.transport.abortConnection = self._aborted
        self.aborted = False
        self._asked: list[contract.Asked] = []
        self._protocol.makeConnection(self.transport)

    def send(self, data: bytes) -> None:
        self._protocol.dataReceived(data)

    def request(
        self, method: str, target: str, headers: dict[str, str] | None = None, body: bytes = b""
    ) -> None:
        lines = {"Host": "localhost:8080", **(headers or {})}
        self._asked = self._asked if self.received else []
        self._asked.append(contract.Asked(method, target, lines, body))
        if body:
            lines.setdefault("Content-Length", str(len(body)))
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items() if value)
        self.send(f"{method} {target} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + body)

    @property
    def received(self) -> bytes:
        return self.transport.value()

    @property
    def answered(self) -> bool:
        return b"\r\n\r\n" in self.received

    @property
    def answer(self) -> Answer:
        """What came back, which is as openapi.json says for the one request that was made."""
        head, _, body = self.received.partition(b"\r\n\r\n")
        status_line, *lines = head.decode("latin-1").split("\r\n")
        pairs = [line.split(": ", 1) for line in lines]
        headers = {name.lower(): value for name, value in pairs}
        assert len(headers) == len(pairs), "a header stands there twice"
        if headers.get("transfer-encoding") == "chunked":
            body = unchunked(body)
        answer = Answer(int(status_line.split(" ")[1]), headers, body)
        if len(self._asked) == 1:
            contract.check(self._asked[0], answer.status, headers, body)
        return answer

    @property
    def ended(self) -> bool:
        """Whether the chunked answer is complete."""
        return self.received.endswith(b"0\r\n\r\n")

    def hang_up(self) -> None:
        # In the order of a real transport: the producer hears of it first.
        if self.transport.producer is not None:
            self.transport.producer.stopProducing()
        self._protocol.connectionLost(Failure(ConnectionDone()))

    def stop_reading(self) -> None:
        self.transport.producer.pauseProducing()

    def read_on(self) -> None:
        self.transport.producer.resumeProducing()

    def _aborted(self) -> None:
        self.aborted = True
        self.hang_up()


def due_now(clock: Clock) -> Iterator[IDelayedCall]:
    """What goes on in the next turn of the reactor, without any time passing."""
    return (call for call in clock.getDelayedCalls() if call.getTime() <= clock.seconds())


def unchunked(data: bytes) -> bytes:
    body = b""
    while data:
        size, _, rest = data.partition(b"\r\n")
        body += rest[: int(size, 16)]
        data = rest[int(size, 16) + 2 :]
    return body


Ask = Callable[..., Answer]


def asking(site: Site) -> Ask:
    def ask(
        method: str, target: str, headers: dict[str, str] | None = None, body: Any = b""
    ) -> Answer:
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
            headers = {"Content-Type": "application/json", **(headers or {})}
        connection = Connection(site)
        connection.request(method, target, headers, body)
        while not connection.answered and any(due_now(site.reactor)):
            site.reactor.advance(0)
        return connection.answer

    return ask
