"""HTTP/1.1 without sockets: bytes in, events out, for both legs of a proxy.

Heads are parsed by llhttp (through httptools), strictly. What llhttp does not know through
httptools is decided here: which replies have no body, which request a reply answers, that a
refused upgrade has a body like any other request, and what a proxy must not let through.
"""

from __future__ import annotations

import re

import httptools

from plane_tx.core.errors import BadRequest, HeadTooLarge, PlaneError, UpstreamUnreachable
from plane_tx.core.messages import (
    Broken,
    EndOfMessage,
    Framing,
    Headers,
    RequestEvent,
    RequestHead,
    ResponseEvent,
    ResponseHead,
    framing_of,
    keeps_alive,
    tokens_of,
    values_of,
)

#: The longest head we read, request line and headers together; trailers may be as long.
MAX_HEAD_BYTES = 65536

#: A protocol in an Upgrade header (RFC 9110 section 7.8).
_PROTOCOL = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+(/[!#$%&'*+.^_`|~0-9A-Za-z-]+)?")

#: HTTP itself under another name. Its requests would reach a session with no one to judge them:
#: any path, and any x-verified header (h2c smuggling; RFC 9113 has given the offer up).
_HTTP_AGAIN = re.compile(rb"(h[23].*|https?|tls)(/.*)?", re.IGNORECASE)


#: What may not be in a reason phrase (RFC 9112 section 4); llhttp lets all but CR and LF pass.
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")

#: A length that some read as octal: whoever is next must not read another one than we did.
_PADDED = re.compile(rb"\s*0[0-9]+\s*")


class _Head:
    """Gathers what llhttp tells of one head, and refuses one that is too long."""

    def __init__(self) -> None:
        self.line = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.size = 0

    def add(self, name: bytes, value: bytes) -> None:
        self.size += len(name) + len(value) + 4
        # llhttp leaves the white space after a value to us.
        self.headers.append((name, value.rstrip(b" \t")))
        self.check()

    def check(self) -> None:
        if self.size + len(self.line) > MAX_HEAD_BYTES:
            raise HeadTooLarge(f"the head is longer than {MAX_HEAD_BYTES} bytes")


class _Reader:
    """What both parsers share: llhttp's callbacks made into a list of events."""

    def __init__(self) -> None:
        self._events: list[RequestEvent | ResponseEvent] = []
        self._head = _Head()
        self._in_head = False
        self._untold = 0
        self._over = False

    def on_message_begin(self) -> None:
        self._head = _Head()
        self._in_head = True

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head.add(name, value)

    def on_body(self, body: bytes) -> None:
        self._events.append(body)

    def on_message_complete(self) -> None:
        self._events.append(EndOfMessage(tuple(self._head.headers)))

    def _count_untold(self, fed: int, error: type[PlaneError]) -> None:
        # llhttp tells of a line when it is whole; one that never ends, in a head, between chunks or
        # in trailers, must be counted as it comes.
        self._untold = 0 if self._events else self._untold + fed
        if self._untold > MAX_HEAD_BYTES:
            self._break(
                error(f"a head, or a line in a body, is longer than {MAX_HEAD_BYTES} bytes")
            )

    def _break(self, error: PlaneError) -> None:
        self._over = True
        self._events.append(Broken(error))

    def _take_events(self) -> list[RequestEvent | ResponseEvent]:
        events, self._events = self._events, []
        return events


class RequestParser(_Reader):
    """Reads the requests of one client connection, one after the other.

    After `Broken`, after a request that ends the connection, and after an offer to upgrade
    nothing more is parsed; what follows an offer gathers in `surplus`.
    """

    def __init__(self) -> None:
        super().__init__()
        self._parser = httptools.HttpRequestParser(self)
        self._upgrade_skipped = False
        self._upgraded = False
        self.surplus = b""

    @property
    def mid_head(self) -> bool:
        """Whether a head has begun and is not complete."""
        return self._in_head

    def feed(self, data: bytes) -> list[RequestEvent]:
        """Take in what the client sent; return what it amounts to. Never raises."""
        if self._upgraded:
            self.surplus += data
        if not self._over:
            self._parse(data)
            if not self._over:
                self._count_untold(len(data), HeadTooLarge)
        return self._take_events()  # type: ignore[return-value]  # a request parser has no others

    def on_message_begin(self) -> None:
        """Another request; after the connection's last one llhttp is stopped here."""
        if self._over:
            raise BadRequest("nothing may follow the last request of a connection")
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """A part of the request target, from llhttp."""
        self._head.line += url
        self._head.check()

    def on_headers_complete(self) -> None:
        """The head is whole: refuse it or tell of it."""
        if self._upgrade_skipped:
            self._upgrade_skipped = False
        else:
            self._events.append(self._request_head())
        self._head = _Head()
        self._in_head = False

    def on_message_complete(self) -> None:
        """A message ended; nothing more is read when it was the connection's last."""
        if self._parser.should_upgrade():
            return
        super().on_message_complete()
        self._over = not self._last_head.keep_alive

    def _parse(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._offered(data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            if not self._over:
                self._break(_cause_of(error))

    def _request_head(self) -> RequestHead:
        headers = tuple(self._head.headers)
        version = self._parser.get_http_version().encode("ascii")
        if version not in (b"1.1", b"1.0"):
            raise BadRequest(f"HTTP/{version.decode('ascii')} is not spoken here: use HTTP/1.1")
        try:
            framing = framing_of(headers, Framing.NONE)
        except ValueError as error:
            raise BadRequest(f"the request has {error}") from None
        if _PADDED.fullmatch(next(iter(values_of(headers, b"content-length")), b"")):
            raise BadRequest("a Content-Length begins with no 0 that could be left out")
        if framing is Framing.CHUNKED and version == b"1.0":
            raise BadRequest("HTTP/1.0 knows no Transfer-Encoding (RFC 9112 section 6.1)")
        target, host = _target_and_host(self._head.line, headers, version)
        method = self._parser.get_method()
        bodiless = version == b"1.1" and framing is Framing.NONE
        upgrade = _offered_upgrade(method, headers) if bodiless else b""
        self._last_head = RequestHead(
            method=method,
            target=target,
            version=version,
            headers=headers,
            framing=framing,
            host=host,
            # What follows an offer to upgrade is no request, even when the offer is refused.
            keep_alive=keeps_alive(version, headers) and not upgrade,
            upgrade=upgrade,
        )
        if method == b"CONNECT":
            raise BadRequest("this proxy opens no tunnels for CONNECT")
        return self._last_head

    def _offered(self, rest: bytes) -> None:
        # llhttp stops at any offer to upgrade. Where it is not passed on, the request goes on as if
        # it had not been made (RFC 9110 section 7.8), body and all.
        head = self._last_head
        if head.upgrade:
            self._over = self._upgraded = True
            self.surplus = rest
            self._events.append(EndOfMessage())
            return
        self._parser = httptools.HttpRequestParser(self)
        self._upgrade_skipped = True
        self._parser.feed_data(_same_framing(head))
        if rest:
            self._parse(rest)


def _offered_upgrade(method: bytes, headers: Headers) -> bytes:
    # Only of requests without a body: an offer may be declined (RFC 9110 section 7.8), and then no
    # one has to know where in such a request the other protocol begins.
    if b"upgrade" not in tokens_of(headers, b"connection"):
        return b""
    offers = [offer.strip() for offer in b",".join(values_of(headers, b"upgrade")).split(b",")]
    if any(offer.lower() == b"websocket" for offer in offers):
        return b"websocket" if method == b"GET" else b""  # RFC 6455 section 4.1
    passed = [offer for offer in offers if _PROTOCOL.fullmatch(offer)]
    return b", ".join(offer for offer in passed if not _HTTP_AGAIN.fullmatch(offer))


def _cause_of(error: httptools.HttpParserError) -> PlaneError:
    # What our own callbacks raise comes wrapped; it knows its status, llhttp's words do not.
    own = error.__context__
    if isinstance(own, PlaneError):
        return own
    if "PRI" in str(error):
        return BadRequest("HTTP/2 is not spoken here: use HTTP/1.1")
    return BadRequest(f"the request cannot be read: {error}")


def _same_framing(head: RequestHead) -> bytes:
    lines = [
        b"%s: %s\r\n" % (name, value)
        for name, value in head.headers
        if name.lower() in (b"content-length", b"transfer-encoding")
    ]
    after = b"keep-alive" if head.keep_alive else b"close"
    lines.append(b"Connection: %s\r\n" % after)
    return b"POST / HTTP/%s\r\n%s\r\n" % (head.version, b"".join(lines))


def _target_and_host(target: bytes, headers: Headers, version: bytes) -> tuple[bytes, bytes]:
    hosts = values_of(headers, b"host")
    if len(hosts) > 1 or (not hosts and version == b"1.1"):
        raise BadRequest("expected exactly one Host header (RFC 9112 section 3.2)")
    if b"#" in target:
        raise BadRequest("a fragment has no place in a request (RFC 9112 section 3.2)")
    host = hosts[0].strip() if hosts else b""
    scheme, separator, rest = target.partition(b"://")
    if separator and scheme.lower() in (b"http", b"https"):
        authority = re.split(rb"[/?]", rest, maxsplit=1)[0]
        path = rest[len(authority) :]
        return path if path.startswith(b"/") else b"/" + path, authority
    if not target.startswith(b"/") and target != b"*":
        raise BadRequest("expected a target that begins with '/'")
    return target, host


class ResponseParser(_Reader):
    """Reads the one reply to a request with `method`, and the interim ones before it.

    A reply that follows unasked makes the connection `dirty`: it must not be used again. What
    follows a 101 is left in `surplus`.
    """

    def __init__(self, method: bytes) -> None:
        super().__init__()
        self._method = method
        self._parser = httptools.HttpResponseParser(self)
        self._until_close = False
        self._head_seen: ResponseHead | None = None
        self.surplus = b""
        self.dirty = False

    @property
    def keep_alive(self) -> bool:
        """Whether the connection can carry another reply after this one."""
        return self._head_seen is not None and self._head_seen.keep_alive and not self.dirty

    def feed(self, data: bytes) -> list[ResponseEvent]:
        """Take in what the upstream sent; return what it amounts to. Never raises."""
        if self._over:
            self.dirty = self.dirty or bool(data)
            return []
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self.surplus = data[upgrade.args[0] :]
        except httptools.HttpParserError as error:
            self._misread(error)
        if not self._over:
            self._count_untold(len(data), UpstreamUnreachable)
        return self._take_events()  # type: ignore[return-value]  # a response parser has no others

    def close(self, *, clean: bool = True) -> list[ResponseEvent]:
        """The upstream hung up: the end of a close-delimited body, or a reply cut short.

        A connection that broke, rather than being closed (`clean`), ends no body.
        """
        if self._over:
            return []
        self._over = True
        if self._until_close and clean:
            return [EndOfMessage()]
        began = "in the middle of its reply" if self._head_seen else "without a reply"
        return [Broken(UpstreamUnreachable(f"the session hung up {began}"))]

    def on_status(self, status: bytes) -> None:
        """A part of the reason phrase, from llhttp."""
        self._head.line += status
        self._head.check()

    def on_message_begin(self) -> None:
        """Another message: the real reply after an interim one, or one that nobody asked for."""
        if self._over:
            self.dirty = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The head is whole: tell of it, and of the end when nothing follows it."""
        if self._over:
            return
        head = self._response_head()
        self._events.append(head)
        self._head = _Head()
        self._in_head = False
        if head.interim:
            return
        self._head_seen = head
        self._until_close = head.framing is Framing.UNTIL_CLOSE
        if head.framing is Framing.NONE:
            self._end()

    def on_body(self, body: bytes) -> None:
        """A part of the body; after the end it is what nobody asked for."""
        if self._over:
            self.dirty = True
        elif self._head_seen is None:
            # llhttp knows that of 100, 102 and 103 only; what passed here would be read as a reply.
            raise UpstreamUnreachable("an interim reply has no body")
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """A message ended; an interim one has another after it."""
        if self._head_seen is not None and not self._over:
            self._end()

    def _end(self) -> None:
        self._over = True
        self._events.append(EndOfMessage(tuple(self._head.headers)))

    def _misread(self, error: httptools.HttpParserError) -> None:
        if self._over:
            self.dirty = True
            return
        own = error.__context__
        why = own if isinstance(own, PlaneError) else error
        self._break(UpstreamUnreachable(f"the session's reply cannot be read: {why}"))

    def _response_head(self) -> ResponseHead:
        headers = tuple(self._head.headers)
        status = self._parser.get_status_code()
        if status < 100:
            raise UpstreamUnreachable(f"{status} is no status")
        if _CONTROL.search(self._head.line):
            raise UpstreamUnreachable("the reason phrase has a control character")
        version = self._parser.get_http_version().encode("ascii")
        framing = Framing.NONE
        if self._method != b"HEAD" and status >= 200 and status not in (204, 304):
            try:
                framing = framing_of(headers, Framing.UNTIL_CLOSE)
            except ValueError as error:
                raise UpstreamUnreachable(str(error)) from None
        elif 100 <= status < 200 and status != 101:
            # It has no body (RFC 9110 section 8.6), whatever length a client might read there.
            headers = tuple(header for header in headers if header[0].lower() != b"content-length")
        return ResponseHead(
            status=status,
            reason=self._head.line,
            headers=headers,
            framing=framing,
            keep_alive=keeps_alive(version, headers) and framing is not Framing.UNTIL_CLOSE,
        )
