"""Request heads that two readers could read in two ways, and what may become of each.

`@@` stands for the token of a session.
"""

from __future__ import annotations

import attrs

from plane_tx.core.reader import MAX_HEAD_BYTES
from tests.proxy.world import CLUSTER

HOST = f"Host: {CLUSTER}\r\n".encode()
SMUGGLED = b"GET /@@/smuggled HTTP/1.1\r\n" + HOST + b"\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
#: It would be refused too; its length is known here.
DECOY = b"GET /admin HTTP/1.1\r\n" + HOST + b"\r\n"
LAST = b"0\r\n\r\n"


@attrs.frozen
class Hostile:
    """What a client says, what reaches a session of it, and with what it is answered.

    `forwarded` has the method and target of each request, and its body; `without` are headers
    that may not be among them.
    """

    name: str
    said: bytes
    statuses: tuple[int, ...]
    forwarded: tuple[tuple[bytes, bytes], ...] = ()
    without: tuple[bytes, ...] = ()


def refused(name: str, said: bytes, status: int = 400) -> Hostile:
    return Hostile(name, said, (status,))


def passed(name: str, said: bytes, line: bytes, body: bytes = b"", *without: bytes) -> Hostile:
    return Hostile(name, said, (200,), ((line, body),), without)


def get(more: bytes = b"", target: bytes = b"/@@/x", version: bytes = b"HTTP/1.1") -> bytes:
    return b"GET %s %s\r\n%s%s\r\n" % (target, version, HOST, more)


def post(framing: bytes, body: bytes = b"") -> bytes:
    return b"POST /@@/x HTTP/1.1\r\n%s%s\r\n%s" % (HOST, framing, body)


GET_X = b"GET /x"
POST_X = b"POST /x"

_FRAMED_TWICE = {
    "CL.TE": b"Content-Length: 6\r\n" + CHUNKED,
    "TE.CL": CHUNKED + b"Content-Length: 4\r\n",
    "CL.TE with a length of 0": b"Content-Length: 0\r\n" + CHUNKED,
    "CL.TE in capitals": b"CONTENT-LENGTH: 6\r\nTRANSFER-ENCODING: CHUNKED\r\n",
    "CL.TE, encoding of another kind": b"Content-Length: 6\r\nTransfer-Encoding: gzip\r\n",
    "CL.TE, identity": b"Content-Length: 6\r\nTransfer-Encoding: identity\r\n",
    "CL.TE, empty encoding": b"Content-Length: 6\r\nTransfer-Encoding:\r\n",
    "CL.TE, listed in Connection": (
        b"Connection: content-length\r\nContent-Length: 6\r\n" + CHUNKED
    ),
    "TE.CL, listed in Connection": (
        b"Connection: transfer-encoding\r\n" + CHUNKED + b"Content-Length: 4\r\n"
    ),
    "CL.TE, offering an upgrade": (
        b"Connection: upgrade\r\nUpgrade: x\r\nContent-Length: 6\r\n" + CHUNKED
    ),
    "CL.CL, different": b"Content-Length: 5\r\nContent-Length: 6\r\n",
    "CL.CL, alike": b"Content-Length: 5\r\nContent-Length: 5\r\n",
    "CL.CL, one of 0": b"Content-Length: 0\r\nContent-Length: 5\r\n",
    "CL.CL, one padded": b"Content-Length: 5\r\nContent-Length: 05\r\n",
    "CL.CL, in other letters": b"Content-Length: 5\r\ncontent-length: 5\r\n",
    "CL.CL, far apart": b"Content-Length: 5\r\nX-Mine: 1\r\nContent-Length: 6\r\n",
}

_CODINGS = {
    "xchunked": b"Transfer-Encoding: xchunked\r\n",
    "chunkedx": b"Transfer-Encoding: chunkedx\r\n",
    "quoted": b'Transfer-Encoding: "chunked"\r\n',
    "with a parameter": b"Transfer-Encoding: chunked;q=1\r\n",
    "identity": b"Transfer-Encoding: identity\r\n",
    "gzip": b"Transfer-Encoding: gzip\r\n",
    "gzip, chunked": b"Transfer-Encoding: gzip, chunked\r\n",
    "chunked, gzip": b"Transfer-Encoding: chunked, gzip\r\n",
    "chunked, identity": b"Transfer-Encoding: chunked, identity\r\n",
    "identity, chunked": b"Transfer-Encoding: identity, chunked\r\n",
    "chunked, chunked": b"Transfer-Encoding: chunked, chunked\r\n",
    "a comma before": b"Transfer-Encoding: ,chunked\r\n",
    "a comma after": b"Transfer-Encoding: chunked,\r\n",
    "empty": b"Transfer-Encoding:\r\n",
    "a tab behind": b"Transfer-Encoding: chunked\t\r\n",
    "a tab and a space behind": b"Transfer-Encoding: chunked\t \r\n",
    "a space and a tab behind": b"Transfer-Encoding: chunked \t\r\n",
    "white": b"Transfer-Encoding:  \t\r\n",
    "twice chunked": CHUNKED + CHUNKED,
    "chunked, then another": CHUNKED + b"Transfer-Encoding: x\r\n",
    "another, then chunked": b"Transfer-Encoding: x\r\n" + CHUNKED,
    "chunked, then identity": CHUNKED + b"Transfer-Encoding: identity\r\n",
    "space before the colon": b"Transfer-Encoding : chunked\r\n",
    "tab before the colon": b"Transfer-Encoding\t: chunked\r\n",
    "space before the name": b" Transfer-Encoding: chunked\r\n",
    "tab before the name": b"\tTransfer-Encoding: chunked\r\n",
    "vertical tab before the value": b"Transfer-Encoding: \x0bchunked\r\n",
    "form feed before the value": b"Transfer-Encoding: \x0cchunked\r\n",
    "NUL after the value": b"Transfer-Encoding: chunked\x00\r\n",
    "backspace in the value": b"Transfer-Encoding: chunked\x08\r\n",
    "no-break space after the value": b"Transfer-Encoding: chunked\xa0\r\n",
    "folded": b"Transfer-Encoding:\r\n chunked\r\n",
    "folded with a tab": b"Transfer-Encoding:\r\n\tchunked\r\n",
    "folded behind another": b"X-Mine: 1\r\n Transfer-Encoding: chunked\r\n",
    "behind a bare LF": b"X-Mine: 1\nTransfer-Encoding: chunked\r\n",
    "behind a bare CR": b"X-Mine: 1\rTransfer-Encoding: chunked\r\n",
    "ending in a bare LF": b"Transfer-Encoding: chunked\n",
    "ending in CR CR LF": b"Transfer-Encoding: chunked\r\r\n",
    "no colon": b"Transfer-Encoding chunked\r\n",
    "a parenthesis in the name": b"Transfer(Encoding: chunked\r\n",
    "a NUL in the name": b"Transfer\x00-Encoding: chunked\r\n",
    "a letter beyond ASCII in the value": b"Transfer-Encoding: chun\xe4ked\r\n",
}

_LENGTHS = {
    "plus": b"+5",
    "minus": b"-5",
    "minus zero": b"-0",
    "hexadecimal": b"0x5",
    "a letter": b"a",
    "a letter behind": b"5a",
    "a fraction": b"5.0",
    "an exponent": b"5e0",
    "an underscore": b"1_0",
    "padded": b"005",
    "padded 0": b"00",
    "a comma-listed pair": b"5, 5",
    "a comma-listed pair that differs": b"5,6",
    "a comma before": b",5",
    "a comma behind": b"5,",
    "a space between": b"5 5",
    "nothing": b"",
    "white space": b" \t ",
    "quoted": b'"5"',
    "a semicolon": b"5;",
    "2^64": b"18446744073709551616",
    "2^64 + 5": b"18446744073709551621",
    "thirty digits": b"9" * 30,
    "vertical tab": b"\x0b5",
    "NUL behind": b"5\x00",
    "folded": b"\r\n 5",
    "digits beyond ASCII": b"\xd9\xa5",
    "superscript": b"\xb2",
}

_LINES = {
    "HTTP/0.9": b"GET /@@/x\r\n\r\n",
    "HTTP/0.9 said so": get(version=b"HTTP/0.9"),
    "HTTP/1.2": get(version=b"HTTP/1.2"),
    "HTTP/2.0": get(version=b"HTTP/2.0"),
    "HTTP/2 without a minor": get(version=b"HTTP/2"),
    "HTTP/1": get(version=b"HTTP/1"),
    "HTTP/1.": get(version=b"HTTP/1."),
    "HTTP/1.10": get(version=b"HTTP/1.10"),
    "HTTP/01.1": get(version=b"HTTP/01.1"),
    "HTTP/+1.1": get(version=b"HTTP/+1.1"),
    "http/1.1": get(version=b"http/1.1"),
    "HTTP /1.1": get(version=b"HTTP /1.1"),
    "HTTPS/1.1": get(version=b"HTTPS/1.1"),
    "a space after the version": get(version=b"HTTP/1.1 "),
    "a word after the version": get(version=b"HTTP/1.1 x"),
    "two versions": get(version=b"HTTP/1.1 HTTP/1.1"),
    "the HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 40,
    "the PROXY protocol": b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n" + get(),
    "authority form": get(target=b"localhost:9090"),
    "authority form for CONNECT": b"CONNECT localhost:22 HTTP/1.1\r\n" + HOST + b"\r\n",
    "CONNECT in origin form": b"CONNECT /@@/x HTTP/1.1\r\n" + HOST + b"\r\n",
    "asterisk form": b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n",
    "asterisk form for GET": get(target=b"*"),
    "asterisk and a path": get(target=b"*/@@/x"),
    "a relative path": get(target=b"@@/x"),
    "another scheme": get(target=b"ftp://localhost:9090/@@/x"),
    "a scheme and one slash": get(target=b"http:/@@/x"),
    "a fragment": get(target=b"/@@/x#y"),
    "a space in the target": get(target=b"/@@/x y"),
    "a tab in the target": get(target=b"/@@/x\ty"),
    "a NUL in the target": get(target=b"/@@/x\x00y"),
    "a bare CR in the target": get(target=b"/@@/x\ry"),
    "a bare LF in the target": get(target=b"/@@/x\ny"),
    "DEL in the target": get(target=b"/@@/x\x7f"),
    "an escape in the target": get(target=b"/@@/x\x1b[0m"),
    "no target": b"GET  HTTP/1.1\r\n" + HOST + b"\r\n",
    "a tab for a space": b"GET\t/@@/x\tHTTP/1.1\r\n" + HOST + b"\r\n",
    "a space before the method": b" " + get(),
    "an unknown method": b"SMUGGLE /@@/x HTTP/1.1\r\n" + HOST + b"\r\n",
    "a method in small letters": b"get /@@/x HTTP/1.1\r\n" + HOST + b"\r\n",
    "a NUL in the method": b"GE\x00T /@@/x HTTP/1.1\r\n" + HOST + b"\r\n",
    "a line that ends in LF": b"GET /@@/x HTTP/1.1\n" + HOST + b"\r\n",
    "a line that ends in CR": b"GET /@@/x HTTP/1.1\r" + HOST + b"\r\n",
    "a line that ends in CR CR LF": b"GET /@@/x HTTP/1.1\r\r\n" + HOST + b"\r\n",
    "LF only": get().replace(b"\r\n", b"\n"),
    "CR only": get().replace(b"\r\n", b"\r") + b"\r\n",
}

_FIELDS = {
    "no Host": b"GET /@@/x HTTP/1.1\r\n\r\n",
    "two Hosts": get(HOST),
    "two Hosts that differ": get(b"Host: elsewhere\r\n"),
    "space before the colon": get(b"X-Mine : 1\r\n"),
    "tab before the colon": get(b"X-Mine\t: 1\r\n"),
    "a folded value": get(b"X-Mine: 1\r\n 2\r\n"),
    "a value folded with a tab": get(b"X-Mine: 1\r\n\t2\r\n"),
    "a fold before any header": b"GET /@@/x HTTP/1.1\r\n " + HOST + b"\r\n",
    "a line of spaces": get(b"X-Mine: 1\r\n  \r\n"),
    "no colon": get(b"X-Mine\r\n"),
    "no name": get(b": 1\r\n"),
    "NUL in a name": get(b"X-\x00Mine: 1\r\n"),
    "NUL in a value": get(b"X-Mine: 1\x002\r\n"),
    "bare CR in a value": get(b"X-Mine: 1\r2\r\n"),
    "bare CR before a header": get(b"X-Mine: 1\rX-Verified-Username: root\r\n"),
    "bare LF before a header": get(b"X-Mine: 1\nX-Verified-Username: root\r\n"),
    "bare LF before the empty line": get(b"X-Mine: 1\n\r\n") + SMUGGLED,
    "bare LF as the empty line": get()[:-2] + b"\n" + SMUGGLED,
    "bare CR as the empty line": get()[:-2] + b"\r" + SMUGGLED,
    "DEL in a value": get(b"X-Mine: 1\x7f2\r\n"),
    "an escape in a value": get(b"X-Mine: \x1b[2J\r\n"),
    "a bell in a value": get(b"X-Mine: \x07\r\n"),
    "vertical tab in a value": get(b"X-Mine: 1\x0b2\r\n"),
    "vertical tab in a name": get(b"X\x0bMine: 1\r\n"),
    "a space in a name": get(b"X Mine: 1\r\n"),
    "a slash in a name": get(b"X/Mine: 1\r\n"),
    "a quote in a name": get(b'"X-Mine": 1\r\n'),
    "an at sign in a name": get(b"X@Mine: 1\r\n"),
    "a letter beyond ASCII in a name": get(b"X-M\xefne: 1\r\n"),
    "a brace in a name": get(b"{X}: 1\r\n"),
}

_TOO_LONG = {
    "a long target": b"GET /@@/" + b"a" * MAX_HEAD_BYTES + b" HTTP/1.1\r\n" + HOST + b"\r\n",
    "a long value": get(b"X-Mine: " + b"a" * MAX_HEAD_BYTES + b"\r\n"),
    "a long name": get(b"a" * MAX_HEAD_BYTES + b": 1\r\n"),
    "many headers": get(b"X-Mine: 1\r\n" * (MAX_HEAD_BYTES // 10)),
    "a target without end": b"GET /@@/" + b"a" * (2 * MAX_HEAD_BYTES),
    "a value without end": b"GET /@@/x HTTP/1.1\r\nX-Mine: " + b"a" * (2 * MAX_HEAD_BYTES),
}

HEADS = (
    *(refused(name, post(how, LAST + SMUGGLED)) for name, how in _FRAMED_TWICE.items()),
    *(refused(f"TE: {name}", post(how, LAST + SMUGGLED)) for name, how in _CODINGS.items()),
    *(
        refused(f"CL: {name}", post(b"Content-Length: %s\r\n" % how, b"hello" + SMUGGLED))
        for name, how in _LENGTHS.items()
    ),
    *(refused(f"line: {name}", said) for name, said in _LINES.items()),
    *(refused(f"field: {name}", said) for name, said in _FIELDS.items()),
    *(refused(f"size: {name}", said, 431) for name, said in _TOO_LONG.items()),
)
