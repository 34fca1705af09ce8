"""What the first line and the fields of a head say together, and what is refused of it."""

from __future__ import annotations

import re
from collections.abc import Iterable

import attrs

from plane_tx.core.errors import BadRequest, UpstreamUnreachable
from plane_tx.core.fields import REQUEST_MARKS, WAITING, ByName, tokens_of
from plane_tx.core.messages import Fields, Framing, RequestHead, ResponseHead, keeps_alive

#: A protocol in an Upgrade header (RFC 9110 section 7.8).
_PROTOCOL = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+(/[!#$%&'*+.^_`|~0-9A-Za-z-]+)?")

#: HTTP itself under another name. Its requests would reach a session with no one to judge them:
#: any path, and any x-verified header (h2c smuggling; RFC 9113 has given the offer up).
_HTTP_AGAIN = re.compile(rb"(h[23].*|https?|tls)(/.*)?", re.IGNORECASE)

#: What may not be in a reason phrase (RFC 9112 section 4); llhttp lets all but CR and LF pass.
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")

#: A length that some read as octal: whoever is next must not read another one than we did.
_PADDED = re.compile(rb"0[0-9]+")

_VERSIONS = {b"HTTP/1.1": b"1.1", b"HTTP/1.0": b"1.0"}


def sorted_lines(
    lines: Iterable[bytes], marks: ByName[bytes]
) -> tuple[tuple[bytes, ...], list[bytes]]:
    """Those of these lines whose fields just pass, and those that a proxy must look at.

    Raises ValueError for a line that is no field.
    """
    plain: list[bytes] = []
    marked: list[bytes] = []
    for line in lines:
        name, colon, _ = line.partition(b":")
        if not colon:
            raise ValueError("a field without a colon")
        (marked if marks[name] else plain).append(line)
    return tuple(plain), marked


def marked_fields(lines: Iterable[bytes], marks: ByName[bytes]) -> Fields:
    """What the marked lines of a header say; none of its other lines can change that."""
    parted = [line.partition(b":") for line in lines]
    marked = tuple((marks[name], _value(marks[name], text)) for name, _, text in parted)
    framing, length, fault = framing_of(marked)
    # Proxy-Connection was never a standard, but llhttp heeds it.
    hops = (b"connection", b"proxy-connection")
    listed = tokens_of([value for name, value in marked if name in hops])
    return Fields(marked, None, listed, framing, length, fault)


def marked_request_fields(lines: Iterable[bytes]) -> Fields:
    """The same of a request, of which a server asks more (RFC 9112 section 3.2)."""
    fields = marked_fields(lines, REQUEST_MARKS)
    hosts = fields.values(b"host")
    fault = fields.fault
    if len(hosts) > 1:
        fault = "more than one Host header (RFC 9112 section 3.2)"
    elif any(_PADDED.fullmatch(length) for length in fields.values(b"content-length")):
        fault = "a Content-Length that begins with a 0 that could be left out"
    host, waiting = next(iter(hosts), None), next(iter(fields.values(WAITING)), None)
    return attrs.evolve(fields, host=host, fault=fault, waiting=waiting)


def _value(name: bytes, text: bytes) -> bytes:
    value = text.strip(b" \t")
    # To llhttp "chunked" and a tab is another encoding, so here it is one too.
    return value + b"\t" if name == b"transfer-encoding" and text.endswith(b"\t") else value


def framing_of(marked: Iterable[tuple[bytes, bytes]]) -> tuple[Framing | None, int, str]:
    """How a body ends, after how many bytes, and what is wrong with how that is told.

    Wrong is an encoding other than chunked, more than one length, one that whoever is next could
    read differently, and both together (RFC 9112 section 6.3). None when nothing is told.
    """
    codings = [value for name, value in marked if name == b"transfer-encoding"]
    lengths = [value for name, value in marked if name == b"content-length"]
    if codings:
        if lengths or [coding.lower() for coding in codings] != [b"chunked"]:
            return None, 0, "a Transfer-Encoding other than chunked, or a Content-Length beside it"
        return Framing.CHUNKED, 0, ""
    if not lengths:
        return None, 0, ""
    length = lengths[0]
    if len(lengths) > 1 or not length.isdigit():
        return None, 0, "a Content-Length that is not one number"
    return (Framing.LENGTH if int(length) else Framing.NONE), int(length), ""


def request_head(first: bytes, fields: Fields, plain: tuple[bytes, ...]) -> RequestHead:
    """What a request line and its fields say. Raises `BadRequest`."""
    parts = first.split(b" ")
    # One space and no other between them: what is read in two ways would be sent on in one.
    if len(parts) != 3:
        raise BadRequest("expected a method, a target and a version, with one space between them")
    method, target, spoken = parts
    version = _VERSIONS.get(spoken)
    if version is None:
        shown = spoken.decode("latin-1")[:16]
        raise BadRequest(f"{shown} is not spoken here: use HTTP/1.1")
    host = fields.host
    if fields.fault:
        raise BadRequest(f"the request has {fields.fault}")
    if host is None:
        if version == b"1.1":
            raise BadRequest("expected a Host header (RFC 9112 section 3.2)")
        host = b""
    if not target.startswith(b"/") or b"#" in target:
        target, host = _unusual_target(target, host)
    if not method.isalpha() or method == b"CONNECT":
        _check_method(method)
    framing = fields.framing or Framing.NONE
    if framing is Framing.CHUNKED and version == b"1.0":
        raise BadRequest("HTTP/1.0 knows no Transfer-Encoding (RFC 9112 section 6.1)")
    listed, upgrade = fields.listed, b""
    # Only of requests without a body: an offer may be declined (RFC 9110 section 7.8), and then no
    # one has to know where in such a request the other protocol begins.
    if b"upgrade" in listed and version == b"1.1" and framing is Framing.NONE:
        upgrade = _offered_upgrade(method, fields.values(b"upgrade"))
    # What follows an offer to upgrade is no request, even when the offer is refused.
    keep_alive = keeps_alive(version, listed) and not upgrade
    return RequestHead(method, target, version, fields, framing, host, keep_alive, upgrade, plain)


def _check_method(method: bytes) -> None:
    if method == b"CONNECT":
        raise BadRequest("this proxy opens no tunnels for CONNECT")
    if method != b"M-SEARCH":
        raise BadRequest("expected a method first in the request")


def _offered_upgrade(method: bytes, values: list[bytes]) -> bytes:
    offers = [offer.strip() for offer in b",".join(values).split(b",")]
    if any(offer.lower() == b"websocket" for offer in offers):
        return b"websocket" if method == b"GET" else b""  # RFC 6455 section 4.1
    passed = [offer for offer in offers if _PROTOCOL.fullmatch(offer)]
    return b", ".join(offer for offer in passed if not _HTTP_AGAIN.fullmatch(offer))


def _unusual_target(target: bytes, host: bytes) -> tuple[bytes, bytes]:
    if b"#" in target:
        raise BadRequest("a fragment has no place in a request (RFC 9112 section 3.2)")
    if target == b"*":
        return target, host
    scheme, separator, rest = target.partition(b"://")
    if separator and scheme.lower() in (b"http", b"https"):
        # It has the say, whatever the Host field tells (RFC 9112 section 3.2.2).
        authority = re.split(rb"[/?]", rest, maxsplit=1)[0]
        path = rest[len(authority) :]
        return path if path.startswith(b"/") else b"/" + path, authority
    raise BadRequest("expected a target that begins with '/'")


def response_head(
    method: bytes, first: bytes, fields: Fields, plain: tuple[bytes, ...]
) -> ResponseHead:
    """What a status line and its fields say, in reply to `method`. Raises `UpstreamUnreachable`."""
    spoken, _, rest = first.partition(b" ")
    code, _, reason = rest.partition(b" ")
    version = _VERSIONS.get(spoken)
    if version is None or len(code) != 3 or not code.isdigit() or code < b"100":
        raise UpstreamUnreachable(f"{first[:32]!r} is no status line of HTTP/1.1")
    if version == b"1.0" and code < b"200":
        raise UpstreamUnreachable("HTTP/1.0 knows no interim replies (RFC 9110 section 15.2)")
    if _CONTROL.search(reason):
        raise UpstreamUnreachable("the reason phrase has a control character")
    status, framing = int(code), Framing.NONE
    if method != b"HEAD" and status >= 200 and status not in (204, 304):
        if fields.fault:
            raise UpstreamUnreachable(f"the session's reply has {fields.fault}")
        framing = fields.framing or Framing.UNTIL_CLOSE
    keep_alive = keeps_alive(version, fields.listed) and framing is not Framing.UNTIL_CLOSE
    return ResponseHead(status, reason, fields, framing, keep_alive, plain)
