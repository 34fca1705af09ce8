"""What a hostile session may say for a reply, and what its client may be told."""

from __future__ import annotations

import attrs

from plane_tx.core.reader import MAX_HEAD_BYTES

CHUNKED = b"Transfer-Encoding: chunked\r\n"
LAST = b"0\r\n\r\n"
#: A reply that would go to whoever asks next.
POISON = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"


@attrs.frozen
class Reply:
    """What a session says; the status and body of what its client reads, which is cut at 0.

    `kept` is whether the session's connection may be used again.
    """

    name: str
    said: bytes
    status: int = 502
    body: bytes = b""
    method: str = "GET"
    hangs_up: bool = False
    kept: bool = False


def ok(more: bytes, body: bytes = b"", status: bytes = b"200 OK") -> bytes:
    return b"HTTP/1.1 %s\r\n%s\r\n%s" % (status, more, body)


def length(number: bytes) -> bytes:
    return b"Content-Length: %s\r\n" % number


_TWO = length(b"2")

_UNREADABLE = {
    "TE.CL": ok(CHUNKED + _TWO, LAST),
    "CL.TE": ok(_TWO + CHUNKED, LAST),
    "CL.CL, different": ok(_TWO + length(b"3"), b"ok!"),
    "CL.CL, alike": ok(_TWO + _TWO, b"ok"),
    "CL, comma-listed": ok(length(b"2, 2"), b"ok"),
    "CL, signed": ok(length(b"+2"), b"ok"),
    "CL, negative": ok(length(b"-2"), b"ok"),
    "CL, hexadecimal": ok(length(b"0x2"), b"ok"),
    "CL, empty": ok(length(b""), b"ok"),
    "CL, 2^64": ok(length(b"18446744073709551616"), b"ok"),
    "TE, another": ok(b"Transfer-Encoding: gzip\r\n", b"ok"),
    "TE, two": ok(b"Transfer-Encoding: gzip, chunked\r\n", LAST),
    "TE, chunked twice": ok(CHUNKED + CHUNKED, LAST),
    "TE, chunked and then another": ok(b"Transfer-Encoding: chunked, gzip\r\n", b"ok"),
    "TE, xchunked": ok(b"Transfer-Encoding: xchunked\r\n", LAST),
    "TE, space before the colon": ok(b"Transfer-Encoding : chunked\r\n", LAST),
    "TE, a tab behind": ok(b"Transfer-Encoding: chunked\t\r\n", LAST),
    "TE, folded": ok(b"Transfer-Encoding:\r\n chunked\r\n", LAST),
    "LF only": ok(_TWO, b"ok").replace(b"\r\n", b"\n"),
    "a status line that ends in LF": b"HTTP/1.1 200 OK\n" + _TWO + b"\r\nok",
    "a status line that ends in CR": b"HTTP/1.1 200 OK\r" + _TWO + b"\r\nok",
    "bare LF in a head": ok(b"X-Mine: 1\nSet-Cookie: a=b\r\n" + _TWO, b"ok"),
    "bare CR in a head": ok(b"X-Mine: 1\rSet-Cookie: a=b\r\n" + _TWO, b"ok"),
    "bare CR in the reason": ok(_TWO, b"ok", b"200 O\rK"),
    "NUL in the reason": ok(_TWO, b"ok", b"200 O\x00K"),
    "NUL in a value": ok(b"X-Mine: \x00\r\n" + _TWO, b"ok"),
    "NUL in a name": ok(b"X-\x00Mine: 1\r\n" + _TWO, b"ok"),
    "an escape in a value": ok(b"X-Mine: \x1b[2J\r\n" + _TWO, b"ok"),
    "an escape in the reason": ok(_TWO, b"ok", b"200 \x1b[2J"),
    "DEL in a value": ok(b"X-Mine: \x7f\r\n" + _TWO, b"ok"),
    "space before the colon": ok(b"X-Mine : 1\r\n" + _TWO, b"ok"),
    "a folded value": ok(b"X-Mine: 1\r\n 2\r\n" + _TWO, b"ok"),
    "no colon": ok(b"X-Mine\r\n" + _TWO, b"ok"),
    "a space in a name": ok(b"X Mine: 1\r\n" + _TWO, b"ok"),
    "a status of two digits": ok(_TWO, b"ok", b"20 OK"),
    "a status of four digits": ok(_TWO, b"ok", b"2000 OK"),
    "a status of 0": ok(_TWO, b"ok", b"000 OK"),
    "a status of 99": ok(_TWO, b"ok", b"099 OK"),
    "a status of letters": ok(_TWO, b"ok", b"abc OK"),
    "HTTP/2": ok(_TWO, b"ok").replace(b"/1.1", b"/2"),
    "HTTP/9.9": ok(_TWO, b"ok").replace(b"/1.1", b"/9.9"),
    "no HTTP": b"ok\r\n\r\n",
    "HTTP/0.9": b"<p>ok</p>",
    "a request": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "TLS": b"\x15\x03\x01\x00\x02\x02\x46",
    "a long value": ok(b"X-Mine: " + b"a" * MAX_HEAD_BYTES + b"\r\n" + _TWO, b"ok"),
    "many headers": ok(b"X-Mine: 1\r\n" * (MAX_HEAD_BYTES // 10) + _TWO, b"ok"),
    "a long reason": ok(_TWO, b"ok", b"200 " + b"a" * MAX_HEAD_BYTES),
    "a head without end": b"HTTP/1.1 200 OK\r\nX-Mine: " + b"a" * (2 * MAX_HEAD_BYTES),
    "a 101 that nobody asked for": ok(b"Connection: upgrade\r\nUpgrade: x\r\n", b"", b"101 X"),
    "an interim reply with a length and a body": ok(length(b"44"), POISON, b"150 X"),
    "an interim reply with chunks": ok(CHUNKED, b"2\r\nok\r\n" + LAST, b"199 X") + POISON,
    "an interim reply with a NUL": ok(b"X: \x00\r\n", b"", b"103 X") + POISON,
}

_CUT_CHUNKS = {
    "a sign": b"+2\r\nok\r\n" + LAST,
    "a hex prefix": b"0x2\r\nok\r\n" + LAST,
    "a letter": b"g\r\nok\r\n" + LAST,
    "no size": b"\r\nok\r\n" + LAST,
    "2^64": b"10000000000000000\r\nok\r\n" + LAST,
    "a bare LF": b"2\nok\r\n" + LAST,
    "more than it says": b"1\r\nok\r\n" + LAST,
    "less than it says": b"3\r\nok\r\n" + LAST,
    "a NUL in an extension": b"2;\x00\r\nok\r\n" + LAST,
    "a bare LF in a trailer": b"2\r\nok\r\n0\r\nX: 1\nY: 2\r\n\r\n",
    "a bare LF at the end": b"2\r\nok\r\n0\r\n\n",
    "a reply for a trailer": b"2\r\nok\r\n0\r\n" + POISON,
    "a length in a trailer": b"2\r\nok\r\n0\r\nContent-Length: 5\r\n\r\n",
}

_HUNG_UP = {
    "before a length's end": (ok(length(b"3"), b"ok"), 0),
    "in a chunk": (ok(CHUNKED, b"3\r\nok"), 0),
    "before the last chunk": (ok(CHUNKED, b"2\r\nok\r\n"), 0),
    "in the last chunk": (ok(CHUNKED, b"2\r\nok\r\n0\r\n"), 0),
    "in a trailer": (ok(CHUNKED, b"2\r\nok\r\n0\r\nX: 1\r\n"), 0),
    "in a head": (b"HTTP/1.1 200 OK\r\nX-Mine: 1", 502),
    "in a status line": (b"HTTP/1.1 20", 502),
    "behind an interim reply": (ok(b"", b"", b"103 Early Hints"), 502),
    "without a word": (b"", 502),
}

_FOLLOWED = (
    Reply("a reply behind a length", ok(_TWO, b"ok") + POISON, 200, b"ok"),
    Reply("a byte behind a length", ok(_TWO, b"ok!"), 200, b"ok"),
    Reply("a NUL behind a length", ok(_TWO, b"ok\x00"), 200, b"ok"),
    Reply("a reply behind chunks", ok(CHUNKED, b"2\r\nok\r\n" + LAST) + POISON, 200, b"ok"),
    Reply("a byte behind chunks", ok(CHUNKED, b"2\r\nok\r\n" + LAST + b"!"), 200, b"ok"),
    Reply("an interim reply behind", ok(_TWO, b"ok") + ok(b"", b"", b"103 X"), 200, b"ok"),
    Reply("half a reply behind", ok(_TWO, b"ok") + POISON[:9], 200, b"ok"),
    Reply("a body of a length of 0", ok(length(b"0"), b"ok"), 200),
    Reply("a 204 with a body", ok(_TWO, b"ok", b"204 No"), 204),
    Reply("a 204 with chunks", ok(CHUNKED, b"2\r\nok\r\n" + LAST, b"204 No"), 204),
    Reply("a 304 with a body", ok(_TWO, b"ok", b"304 Not"), 304),
    Reply("a 304 with a reply behind", ok(b"", b"", b"304 Not") + POISON, 304),
    Reply("HEAD with a body", ok(_TWO, b"ok"), 200, b"", "HEAD"),
    Reply("HEAD with chunks", ok(CHUNKED, b"2\r\nok\r\n" + LAST), 200, b"", "HEAD"),
    Reply("HEAD with a reply behind", ok(_TWO) + POISON, 200, b"", "HEAD"),
    Reply("a reply that ends with its connection", ok(b"") + POISON, 200, POISON, hangs_up=True),
    Reply(
        "close, and a reply behind", ok(b"Connection: close\r\n" + _TWO, b"ok") + POISON, 200, b"ok"
    ),
    Reply(
        "HTTP/1.0, and a reply behind",
        b"HTTP/1.0 200 OK\r\n" + _TWO + b"\r\nok" + POISON,
        200,
        b"ok",
    ),
)

_SOUND = (
    Reply("a length", ok(_TWO, b"ok"), 200, b"ok", kept=True),
    Reply("chunks", ok(CHUNKED, b"2;a=b\r\nok\r\n" + LAST), 200, b"ok", kept=True),
    Reply(
        "a flood of interim replies",
        ok(b"", b"", b"103 X") * 2000 + ok(_TWO, b"ok"),
    ),
    Reply(
        "a few interim replies",
        ok(b"", b"", b"103 X") * 20 + ok(_TWO, b"ok"),
        200,
        b"ok",
        kept=True,
    ),
    Reply(
        "a length in an interim reply",
        ok(_TWO, b"", b"103 X") + ok(_TWO, b"ok"),
        200,
        b"ok",
        kept=True,
    ),
    Reply("a length with a 204", ok(_TWO, b"", b"204 No"), 204, kept=True),
    Reply("a length with a 304", ok(_TWO, b"", b"304 Not"), 304, kept=True),
    Reply("a length for HEAD", ok(_TWO), 200, b"", "HEAD", kept=True),
    Reply("a reply for a body", ok(length(b"%d" % len(POISON)), POISON), 200, POISON, kept=True),
    Reply(
        "a reply in escapes",
        ok(b"Location: /%0d%0a%0d%0aHTTP/1.1\r\n" + _TWO, b"ok"),
        200,
        b"ok",
        kept=True,
    ),
)

REPLIES = (
    *(Reply(name, said) for name, said in _UNREADABLE.items()),
    *(Reply(f"chunk: {name}", ok(CHUNKED, how), 0) for name, how in _CUT_CHUNKS.items()),
    *(
        Reply(f"hung up {when}", said, status, hangs_up=True)
        for when, (said, status) in _HUNG_UP.items()
    ),
    *_FOLLOWED,
    *_SOUND,
)
