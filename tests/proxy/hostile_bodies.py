"""Request bodies and what follows them, made to be taken for something else.

`@@` stands for the token of a session.
"""

from __future__ import annotations

from tests.proxy.hostile_heads import (
    CHUNKED,
    DECOY,
    GET_X,
    HOST,
    LAST,
    POST_X,
    SMUGGLED,
    Hostile,
    get,
    passed,
    post,
    refused,
)
from tests.proxy.world import CLUSTER

_NAMED = CLUSTER.encode()

_CHUNKS = {
    "a sign": b"+5\r\nhello\r\n",
    "a minus": b"-5\r\nhello\r\n",
    "a hex prefix": b"0x5\r\nhello\r\n",
    "a space before": b" 5\r\nhello\r\n",
    "a space behind": b"5 \r\nhello\r\n",
    "a tab behind": b"5\t\r\nhello\r\n",
    "a letter": b"g\r\nhello\r\n",
    "a letter behind": b"5g\r\nhello\r\n",
    "an underscore": b"0_5\r\nhello\r\n",
    "nothing": b"\r\nhello\r\n",
    "an extension alone": b";a=b\r\nhello\r\n",
    "2^64": b"10000000000000000\r\nhello\r\n",
    "2^64 + 5": b"10000000000000005\r\nhello\r\n",
    "a size of 40 digits": b"f" * 40 + b"\r\nhello\r\n",
    "a bare LF": b"5\nhello\r\n",
    "a bare CR": b"5\rhello\r\n",
    "CR CR LF": b"5\r\r\nhello\r\n",
    "a NUL": b"5\x00\r\nhello\r\n",
    "no CRLF behind the data": b"5\r\nhello",
    "a bare LF behind the data": b"5\r\nhello\n",
    "a bare CR behind the data": b"5\r\nhello\r",
    "more than it says": b"4\r\nhello\r\n",
    "less than it says": b"6\r\nhello\r\n",
    "a bare LF in an extension": b"5;a\nb\r\nhello\r\n",
    "a bare CR in an extension": b"5;a\rb\r\nhello\r\n",
    "a NUL in an extension": b"5;a\x00\r\nhello\r\n",
    "a quote never closed": b'5;a="b\r\nhello\r\n',
    "digits beyond ASCII": b"\xd9\xa5\r\nhello\r\n",
    "a comma": b"5,5\r\nhello\r\n",
}

_ENDS = {
    "a bare LF after the last size": b"0\n\r\n",
    "a bare LF as the empty line": b"0\r\n\n",
    "a bare CR as the empty line": b"0\r\n\rx",
    "a sign": b"+0\r\n\r\n",
    "a minus": b"-0\r\n\r\n",
    "a hex prefix": b"0x0\r\n\r\n",
    "a folded trailer": b"0\r\nX-Mine: 1\r\n 2\r\n\r\n",
    "a trailer with a space before its colon": b"0\r\nX-Mine : 1\r\n\r\n",
    "a trailer without a colon": b"0\r\nX-Mine\r\n\r\n",
    "a NUL in a trailer": b"0\r\nX-Mine: \x00\r\n\r\n",
    "a bare CR in a trailer": b"0\r\nX-Mine: 1\r2\r\n\r\n",
    "a bare LF in a trailer": b"0\r\nX-Mine: 1\nX: 2\r\n\r\n",
    "a length in a trailer": b"0\r\nContent-Length: 5\r\n\r\n",
    "an encoding in a trailer": b"0\r\nTransfer-Encoding: chunked\r\n\r\n",
    "a request as a trailer": b"0\r\n" + SMUGGLED,
}

_HELLO = b"5\r\nhello\r\n"

_PASSED_CHUNKS = {
    "padded": b"0005\r\nhello\r\n" + LAST,
    "in capitals": b"A\r\nhellohello\r\n" + LAST,
    "with an extension": b"5;a=b\r\nhello\r\n" + LAST,
    "with a quoted extension": b'5;a="b c"\r\nhello\r\n' + LAST,
    "in pieces": b"2\r\nhe\r\n3\r\nllo\r\n" + LAST,
    "with many zeros at the end": _HELLO + b"0000\r\n\r\n",
    "with an extension at the end": _HELLO + b"0;a=b\r\n\r\n",
    "empty": LAST,
    "that look like a request": b"%x\r\n%s\r\n%s" % (len(DECOY), DECOY, LAST),
    "that look like the end": b"5\r\n0\r\n\r\n\r\n" + LAST,
}

_READ = {
    "in capitals": b"hellohello",
    "empty": b"",
    "that look like a request": DECOY,
    "that look like the end": b"0\r\n\r\n",
}

_NEVER_TRAILING = {
    "a host": b"Host",
    "a user": b"X-Verified-Username",
    "an address": b"X-Forwarded-For",
    "a cookie": b"Cookie",
    "an authorization": b"Authorization",
    "an upgrade": b"Upgrade",
}


def _length(number: bytes) -> bytes:
    return b"Content-Length: %s\r\n" % number


def _trailing(name: bytes) -> bytes:
    return _HELLO + b"0\r\n%s: 1\r\n\r\n" % name


_BOTH = ((POST_X, b"hello"), (b"GET /smuggled", b""))

#: What follows a whole request is a request of its own, or an error of its own.
_FOLLOWED = (
    Hostile(
        "a request behind a length", post(_length(b"5"), b"hello" + SMUGGLED), (200, 200), _BOTH
    ),
    Hostile("a request behind chunks", post(CHUNKED, _HELLO + LAST + SMUGGLED), (200, 200), _BOTH),
    Hostile(
        "a byte more than the length", post(_length(b"5"), b"hello!\r\n"), (200, 400), _BOTH[:1]
    ),
    Hostile(
        "a byte more than the chunks",
        post(CHUNKED, _HELLO + LAST + b"!\r\n"),
        (200, 400),
        _BOTH[:1],
    ),
    Hostile(
        "chunks without an encoding", post(b"", b"5\r\nhello\r\n"), (200, 400), ((POST_X, b""),)
    ),
    Hostile("a body that GET never had", get() + b"hello\r\n", (200, 400), ((GET_X, b""),)),
    Hostile("a NUL behind", get() + b"\x00", (200, 400), ((GET_X, b""),)),
    Hostile(
        "the HTTP/2 preface behind",
        get() + b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        (200, 400),
        ((GET_X, b""),),
    ),
    Hostile(
        "CL.TE behind", get() + post(_length(b"6") + CHUNKED, LAST), (200, 400), ((GET_X, b""),)
    ),
    Hostile("a response behind", get() + b"HTTP/1.1 200 OK\r\n\r\n", (200, 400), ((GET_X, b""),)),
    Hostile("a foreign token first", get(target=b"/nobody/x") + SMUGGLED, (410, 200), _BOTH[1:]),
    Hostile("/ready first", get(target=b"/ready") + SMUGGLED, (200, 200), _BOTH[1:]),
    Hostile("a refused one first", get(b"X : 1\r\n") + SMUGGLED, (400,)),
    passed("a request behind close", get(b"Connection: close\r\n") + SMUGGLED, GET_X),
    passed("a request behind HTTP/1.0", get(version=b"HTTP/1.0") + SMUGGLED, GET_X),
    passed(
        "a request behind an upgrade",
        get(b"Connection: upgrade\r\nUpgrade: x\r\n") + SMUGGLED,
        GET_X,
    ),
    passed("half a request behind", get() + SMUGGLED[:-1], GET_X),
)

_PASSED_HEADS = (
    passed("a length of 0", post(_length(b"0")), POST_X),
    passed("a length in white space", post(_length(b" \t5 \t"), b"hello"), POST_X, b"hello"),
    passed("a body of GET", get(_length(b"5")) + b"hello", GET_X, b"hello"),
    passed("a request as a body", post(_length(b"%d" % len(DECOY)), DECOY), POST_X, DECOY),
    passed("chunked in capitals", post(b"TRANSFER-ENCODING: CHUNKED\r\n", LAST), POST_X),
    passed("chunked in white space", post(b"Transfer-Encoding: \t chunked \r\n", LAST), POST_X),
    passed("chunked without a space", post(b"Transfer-Encoding:chunked\r\n", LAST), POST_X),
    passed("an encoding with an underscore", post(b"Transfer_Encoding: chunked\r\n"), POST_X),
    passed("a length with an underscore", post(b"Content_Length: 5\r\n"), POST_X),
    passed("empty lines before", b"\r\n\r\n" + get(), GET_X),
    passed("absolute form", get(target=b"http://%s/@@/x" % _NAMED), GET_X),
    passed("absolute form, https", get(target=b"https://%s/@@/x" % _NAMED), GET_X),
    passed("absolute form in capitals", get(target=b"HTTP://%s/@@/x" % _NAMED), GET_X),
    refused("a field within the target", get().replace(b" H", b"\nX: H", 1)),
    refused("two spaces before the target", get().replace(b" ", b"  ", 1)),
    refused("two spaces before the version", get().replace(b" H", b"  H", 1)),
    refused("absolute form of another host", get(target=b"http://elsewhere/@@/x"), 403),
    refused("absolute form with a user", get(target=b"http://u@%s/@@/x" % _NAMED), 403),
    passed("a target in escapes", get(target=b"/@@/x%0d%0aX:%201"), b"GET /x%0d%0aX:%201"),
    passed("a value beyond ASCII", get(b"X-Mine: \xe9\r\n"), GET_X),
    passed("an empty value", get(b"X-Mine:\r\n"), GET_X),
    passed("a tab in a value", get(b"X-Mine: 1\t2\r\n"), GET_X),
    passed("Expect", post(b"Expect: 100-continue\r\n" + _length(b"5"), b"hello"), POST_X, b"hello"),
    passed("Expect without a body", get(b"Expect: 100-continue\r\n"), GET_X),
    passed(
        "h2c",
        get(b"Connection: upgrade, http2-settings\r\nUpgrade: h2c\r\nHTTP2-Settings: A\r\n"),
        GET_X,
        b"",
        b"upgrade",
        b"connection",
        b"http2-settings",
    ),
    passed(
        "an upgrade with a length",
        post(b"Connection: upgrade\r\nUpgrade: x\r\n" + _length(b"5"), b"hello"),
        POST_X,
        b"hello",
        b"upgrade",
        b"connection",
    ),
    passed(
        "an upgrade with chunks",
        post(b"Connection: upgrade\r\nUpgrade: x\r\n" + CHUNKED, _HELLO + LAST),
        POST_X,
        b"hello",
        b"upgrade",
        b"connection",
    ),
    passed("an upgrade not in Connection", get(b"Upgrade: x\r\n"), GET_X, b"", b"upgrade"),
    passed(
        "a header listed in Connection",
        get(b"Connection: close, X-Mine\r\nX-Mine: 1\r\n"),
        GET_X,
        b"",
        b"x-mine",
        b"connection",
    ),
    passed(
        "a length listed in Connection",
        post(b"Connection: content-length\r\n" + _length(b"5"), b"hello"),
        POST_X,
        b"hello",
        b"connection",
    ),
    passed(
        "an encoding listed in Connection",
        post(b"Connection: transfer-encoding\r\n" + CHUNKED, _HELLO + LAST),
        POST_X,
        b"hello",
        b"connection",
    ),
    passed(
        "our own headers listed in Connection",
        get(b"Connection: x-forwarded-for, x-verified-secret\r\n"),
        GET_X,
    ),
    passed("the Host listed in Connection", get(b"Connection: host\r\n"), GET_X),
    passed(
        "hop-by-hop headers",
        get(b"Keep-Alive: 5\r\nProxy-Connection: keep-alive\r\nTE: trailers\r\nTrailer: a\r\n"),
        GET_X,
        b"",
        b"keep-alive",
        b"proxy-connection",
        b"te",
        b"trailer",
    ),
    refused("chunked over HTTP/1.0", b"POST /@@/x HTTP/1.0\r\n" + HOST + CHUNKED + b"\r\n" + LAST),
)

BODIES = (
    *(
        refused(f"chunk: {name}", post(CHUNKED, how + LAST + SMUGGLED))
        for name, how in _CHUNKS.items()
    ),
    *(
        refused(f"end: {name}", post(CHUNKED, _HELLO + how + SMUGGLED))
        for name, how in _ENDS.items()
    ),
    *(
        passed(f"chunks {name}", post(CHUNKED, how), POST_X, _READ.get(name, b"hello"))
        for name, how in _PASSED_CHUNKS.items()
    ),
    *(
        passed(f"trailing: {name}", post(CHUNKED, _trailing(field)), POST_X, b"hello")
        for name, field in _NEVER_TRAILING.items()
    ),
    *_FOLLOWED,
    *_PASSED_HEADS,
)
