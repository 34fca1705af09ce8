"""HTTP/1.1 without sockets: bytes in, events out, for both legs of a proxy.

Heads are parsed by llhttp (through httptools), strictly. What llhttp does not know through
httptools is decided here: which replies have no body, which request a reply answers, that a
refused upgrade has a body like any other request, and what a proxy must not let through.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import httptools

from plane_tx.core.errors import BadRequest, HeadTooLarge, PlaneError, UpstreamUnreachable
from plane_tx.core.messages import (
    END,
    LOWERED,
    Broken,
    EndOfMessage,
    Framing,
    Headers,
    RequestEvent,
    RequestHead,
    ResponseEvent,
    ResponseHead,
    Telling,
    framing_of,
    keeps_alive,
    telling,
    tokens_of,
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


_VERSIONS = {"1.1": b"1.1", "1.0": b"1.0"}


class _Reader:
    """What both parsers share: llhttp's callbacks made into a list of events."""

    def __init__(self) -> None:
        self._events: list[RequestEvent | ResponseEvent] = []
        self._line = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._in_head = False
        self._untold = 0
        self._over = False

    def on_message_begin(self) -> None:
        self._line = b""
        self._headers = []
        self._in_head = True

    def on_header(self, name: bytes, value: bytes) -> None:
        # llhttp leaves the white space after a value to us.
        trimmed = value.rstrip(b" \t")
        # To llhttp "chunked" and a tab is another encoding, which it says after the head is told.
        if trimmed != value and b"\t" in value and name.lower() == b"transfer-encoding":
            raise BadRequest("a Transfer-Encoding has a tab after it")
        self._headers.append((name, trimmed))

    def on_body(self, body: bytes) -> None:
        self._events.append(body)

    def on_message_complete(self) -> None:
        self._events.append(self._end_of_message())

    def _take_headers(self) -> Headers:
        headers, self._headers = tuple(self._headers), []
        # What came since the last event is as much as the head can be, and mostly little.
        if self._untold > MAX_HEAD_BYTES:
            size = sum(len(name) + len(value) + 4 for name, value in headers)
            if size + len(self._line) > MAX_HEAD_BYTES:
                raise HeadTooLarge(f"the head is longer than {MAX_HEAD_BYTES} bytes")
        return headers

    def _end_of_message(self) -> EndOfMessage:
        return EndOfMessage(self._take_headers()) if self._headers else END

    def _told(self, error: type[PlaneError]) -> list[RequestEvent | ResponseEvent]:
        # llhttp tells of a line when it is whole; one that never ends, in a head, between chunks or
        # in trailers, must be counted as it comes.
        if self._events:
            self._untold = 0
        elif self._untold > MAX_HEAD_BYTES:
            self._break(
                error(f"a head, or a line in a body, is longer than {MAX_HEAD_BYTES} bytes")
            )
        events, self._events = self._events, []
        return events

    def _break(self, error: PlaneError) -> None:
        self._over = True
        self._events.append(Broken(error))


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
        if self._over:
            self.surplus += data if self._upgraded else b""
            return []
        self._untold += len(data)
        self._parse(data)
        return self._told(HeadTooLarge)  # type: ignore[return-value]  # a request has no others

    def on_message_begin(self) -> None:
        """Another request; after the connection's last one llhttp is stopped here."""
        if self._over:
            raise BadRequest("nothing may follow the last request of a connection")
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """A part of the request target, from llhttp."""
        self._line += url

    def on_headers_complete(self) -> None:
        """The head is whole: refuse it or tell of it."""
        if self._upgrade_skipped:
            self._upgrade_skipped = False
        else:
            self._events.append(self._request_head())
        self._headers = []
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
        headers = self._take_headers()
        spoken = self._parser.get_http_version()
        version = _VERSIONS.get(spoken)
        if version is None:
            raise BadRequest(f"HTTP/{spoken} is not spoken here: use HTTP/1.1")
        told = telling(headers)
        listed = tokens_of(told.get(b"connection", ()))
        framing = _request_framing(version, told)
        target, host = _target_and_host(self._line, told.get(b"host", ()), version)
        method = self._parser.get_method()
        bodiless = version == b"1.1" and framing is Framing.NONE
        upgrade = b""
        if bodiless and b"upgrade" in listed:
            upgrade = _offered_upgrade(method, told.get(b"upgrade", ()))
        self._last_head = RequestHead(
            method=method,
            target=target,
            version=version,
            headers=headers if target is self._line else _with_host(headers, host),
            framing=framing,
            host=host,
            # What follows an offer to upgrade is no request, even when the offer is refused.
            keep_alive=keeps_alive(version, listed) and not upgrade,
            upgrade=upgrade,
            listed=listed,
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
            self._events.append(END)
            return
        self._parser = httptools.HttpRequestParser(self)
        self._upgrade_skipped = True
        self._parser.feed_data(_same_framing(head))
        if rest:
            self._parse(rest)


def _request_framing(version: bytes, told: Telling) -> Framing:
    try:
        framing = framing_of(told, Framing.NONE)
    except ValueError as error:
        raise BadRequest(f"the request has {error}") from None
    if framing is Framing.CHUNKED and version == b"1.0":
        raise BadRequest("HTTP/1.0 knows no Transfer-Encoding (RFC 9112 section 6.1)")
    if b"content-length" in told and _PADDED.fullmatch(told[b"content-length"][0]):
        raise BadRequest("a Content-Length begins with no 0 that could be left out")
    return framing


def _offered_upgrade(method: bytes, values: Sequence[bytes]) -> bytes:
    # Only of requests without a body: an offer may be declined (RFC 9110 section 7.8), and then no
    # one has to know where in such a request the other protocol begins.
    offers = [offer.strip() for offer in b",".join(values).split(b",")]
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


def _target_and_host(target: bytes, hosts: Sequence[bytes], version: bytes) -> tuple[bytes, bytes]:
    if len(hosts) > 1 or (not hosts and version == b"1.1"):
        raise BadRequest("expected exactly one Host header (RFC 9112 section 3.2)")
    if b"#" in target:
        raise BadRequest("a fragment has no place in a request (RFC 9112 section 3.2)")
    host = hosts[0].strip() if hosts else b""
    if target.startswith(b"/") or target == b"*":
        return target, host
    scheme, separator, rest = target.partition(b"://")
    if separator and scheme.lower() in (b"http", b"https"):
        authority = re.split(rb"[/?]", rest, maxsplit=1)[0]
        path = rest[len(authority) :]
        return path if path.startswith(b"/") else b"/" + path, authority
    raise BadRequest("expected a target that begins with '/'")


def _with_host(headers: Headers, host: bytes) -> Headers:
    # A target in absolute form has the say (RFC 9112 section 3.2.2).
    others = [header for header in headers if LOWERED[header[0]] != b"host"]
    return (*others, (b"Host", host))


class ResponseParser(_Reader):
    """Reads one reply after the other, and the interim ones before each.

    `expect` says what is asked next. A reply that follows unasked makes the connection `dirty`:
    it must not be used again. What follows a 101 is left in `surplus`.
    """

    def __init__(self, method: bytes) -> None:
        super().__init__()
        self._parser = httptools.HttpResponseParser(self)
        self._at_start = True
        self._until_close = self.dirty = False
        self._head_seen: ResponseHead | None = None
        self.surplus = b""
        self._method = method

    def expect(self, method: bytes) -> None:
        """Read the reply to a request with `method` next; the one before it must be complete."""
        if not self._at_start:
            self._parser = httptools.HttpResponseParser(self)
        self._method = method
        self._over = self._until_close = self.dirty = False
        self._head_seen = None
        self._untold = 0
        self.surplus = b""

    @property
    def keep_alive(self) -> bool:
        """Whether the connection can carry another reply after this one."""
        return self._head_seen is not None and self._head_seen.keep_alive and not self.dirty

    def feed(self, data: bytes) -> list[ResponseEvent]:
        """Take in what the upstream sent; return what it amounts to. Never raises."""
        if self._over:
            self.dirty = self.dirty or bool(data)
            return []
        self._untold += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self.surplus = data[upgrade.args[0] :]
        except httptools.HttpParserError as error:
            self._misread(error)
        return self._told(UpstreamUnreachable)  # type: ignore[return-value]  # as above

    def close(self, *, clean: bool = True) -> list[ResponseEvent]:
        """The upstream hung up: the end of a close-delimited body, or a reply cut short.

        A connection that broke, rather than being closed (`clean`), ends no body.
        """
        if self._over:
            return []
        self._over = True
        if self._until_close and clean:
            return [END]
        began = "in the middle of its reply" if self._head_seen else "without a reply"
        return [Broken(UpstreamUnreachable(f"the session hung up {began}"))]

    def on_status(self, status: bytes) -> None:
        """A part of the reason phrase, from llhttp."""
        self._line += status

    def on_message_begin(self) -> None:
        """Another message: the real reply after an interim one, or one that nobody asked for."""
        self._at_start = False
        if self._over:
            self.dirty = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The head is whole: tell of it, and of the end when nothing follows it."""
        if self._over:
            return
        head = self._response_head()
        self._events.append(head)
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
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """A message ended; an interim one has another after it."""
        if self._head_seen is not None:
            self._at_start = True
            if not self._over:
                self._end()

    def _end(self) -> None:
        self._over = True
        self._events.append(self._end_of_message())

    def _misread(self, error: httptools.HttpParserError) -> None:
        self._at_start = False
        if self._over:
            self.dirty = True
            return
        own = error.__context__
        why = own if isinstance(own, PlaneError) else error
        self._break(UpstreamUnreachable(f"the session's reply cannot be read: {why}"))

    def _response_head(self) -> ResponseHead:
        headers = self._take_headers()
        status = self._parser.get_status_code()
        if status < 100:
            raise UpstreamUnreachable(f"{status} is no status")
        if _CONTROL.search(self._line):
            raise UpstreamUnreachable("the reason phrase has a control character")
        version = self._parser.get_http_version().encode("ascii")
        told = telling(headers)
        listed = tokens_of(told.get(b"connection", ()))
        framing = Framing.NONE
        if self._method != b"HEAD" and status >= 200 and status not in (204, 304):
            try:
                framing = framing_of(told, Framing.UNTIL_CLOSE)
            except ValueError as error:
                raise UpstreamUnreachable(str(error)) from None
        return ResponseHead(
            status=status,
            reason=self._line,
            headers=headers,
            framing=framing,
            keep_alive=keeps_alive(version, listed) and framing is not Framing.UNTIL_CLOSE,
            listed=listed,
        )
