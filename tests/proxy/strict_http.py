"""A second reader of HTTP/1.1, which knows no leniency: what it takes has one meaning only."""

from __future__ import annotations

import re

import attrs

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_REQUEST_LINE = re.compile(rb"(%s) ([!-~]+) HTTP/1\.1" % _TOKEN)
_STATUS_LINE = re.compile(rb"HTTP/1\.1 ([1-5][0-9]{2}) [\t -~\x80-\xff]*")
_FIELD = re.compile(rb"(%s):[\t ]*([\t -~\x80-\xff]*?)[\t ]*" % _TOKEN)
_LENGTH = re.compile(rb"0|[1-9][0-9]{0,17}")
_CHUNK_SIZE = re.compile(rb"[1-9a-f][0-9a-f]{0,7}")


@attrs.frozen
class Message:
    """A whole message: its first line, its headers by lower-case name, its body, its trailers."""

    first: bytes
    fields: dict[bytes, list[bytes]]
    body: bytes = b""
    trailers: dict[bytes, list[bytes]] = attrs.Factory(dict)

    @property
    def status(self) -> int:
        return int(self.first.split(b" ")[1])


def read_request(data: bytes) -> tuple[Message, bytes] | None:
    """The first request and what follows it; None when it is not whole, an error when unclear."""
    head = _read_head(data, _REQUEST_LINE)
    if head is None:
        return None
    message, rest = head
    assert len(message.fields.get(b"host", ())) == 1, "not one Host"
    connection = message.fields.get(b"connection", [])
    assert connection == ([b"Upgrade"] if b"upgrade" in message.fields else []), connection
    return _read_body(message, rest, bounded=True)


def read_response(data: bytes, method: bytes = b"GET") -> tuple[Message, bytes] | None:
    """The first response, to a request with `method`, and what follows it; likewise."""
    head = _read_head(data, _STATUS_LINE)
    if head is None:
        return None
    message, rest = head
    _framing(message)
    if method == b"HEAD" or message.status < 200 or message.status in (204, 304):
        return message, rest
    return _read_body(message, rest, bounded=False)


def _read_head(data: bytes, first_line: re.Pattern[bytes]) -> tuple[Message, bytes] | None:
    head, end, rest = data.partition(b"\r\n\r\n")
    if not end:
        return None
    first, *lines = head.split(b"\r\n")
    assert first_line.fullmatch(first), first
    return Message(first, _fields(lines)), rest


def _fields(lines: list[bytes]) -> dict[bytes, list[bytes]]:
    fields: dict[bytes, list[bytes]] = {}
    for line in lines:
        match = _FIELD.fullmatch(line)
        assert match, line
        fields.setdefault(match[1].lower(), []).append(match[2])
    return fields


def _framing(message: Message) -> list[bytes]:
    lengths = message.fields.get(b"content-length", [])
    codings = message.fields.get(b"transfer-encoding", [])
    assert len(lengths) + len(codings) <= 1, "framed twice"
    assert not codings or codings == [b"chunked"], codings
    assert not lengths or _LENGTH.fullmatch(lengths[0]), lengths
    return lengths or codings


def _read_body(message: Message, rest: bytes, *, bounded: bool) -> tuple[Message, bytes] | None:
    framing = _framing(message)
    if framing == [b"chunked"]:
        return _read_chunks(message, rest)
    assert framing or bounded, "an end that is not told"
    length = int(framing[0]) if framing else 0
    if len(rest) < length:
        return None
    return attrs.evolve(message, body=rest[:length]), rest[length:]


def _read_chunks(message: Message, rest: bytes) -> tuple[Message, bytes] | None:
    body = b""
    while not rest.startswith(b"0\r\n"):
        line, end, rest = rest.partition(b"\r\n")
        if not end:
            return None
        assert _CHUNK_SIZE.fullmatch(line), line
        size = int(line, 16)
        if len(rest) < size + 2:
            return None
        assert rest[size : size + 2] == b"\r\n", "a chunk longer than it says"
        body += rest[:size]
        rest = rest[size + 2 :]
    trailers, end, rest = rest[1:].partition(b"\r\n\r\n")
    if not end:
        return None
    fields = _fields(trailers.split(b"\r\n")[1:])
    return attrs.evolve(message, body=body, trailers=fields), rest
