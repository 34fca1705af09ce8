"""WebSocket handshakes and frames, made and read by hand."""

import base64
import hashlib

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
MASK = b"\x01\x02\x03\x04"

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


def upgrade(target, host="localhost:9090", more="", key=KEY):
    return (
        f"GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: keep-alive, Upgrade\r\n"
        f"Upgrade: WebSocket\r\nSec-WebSocket-Key: {key.decode()}\r\n"
        f"Sec-WebSocket-Version: 13\r\n{more}\r\n"
    ).encode()


def accept_of(key=KEY):
    guid = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
    return base64.b64encode(hashlib.sha1(key + guid).digest())


def switched(more=b"", accept=None):
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + (accept or accept_of()) + b"\r\n" + more + b"\r\n"
    )


def frame(opcode, payload=b"", *, masked=False, fin=True):
    size = len(payload)
    first = (0x80 if fin else 0) | opcode
    flag = 0x80 if masked else 0
    if size < 126:
        head = bytes((first, flag | size))
    elif size < 65536:
        head = bytes((first, flag | 126)) + size.to_bytes(2, "big")
    else:
        head = bytes((first, flag | 127)) + size.to_bytes(8, "big")
    if not masked:
        return head + payload
    return head + MASK + unmask(payload, MASK)


def unmask(payload, key):
    size = len(payload)
    mask = (key * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(mask, "big")).to_bytes(size, "big")


def close(code, reason=b"", *, masked=False):
    return frame(CLOSE, code.to_bytes(2, "big") + reason, masked=masked)


def read(data):
    """The whole frames in `data`: (opcode, payload unmasked)."""
    found = []
    while data:
        opcode, second = data[0] & 0x0F, data[1]
        size, at = second & 0x7F, 2
        if size > 125:
            wide = 2 if size == 126 else 8
            size, at = int.from_bytes(data[2 : 2 + wide], "big"), 2 + wide
        key, at = (data[at : at + 4], at + 4) if second & 0x80 else (b"", at)
        payload, data = data[at : at + size], data[at + size :]
        found.append((opcode, unmask(payload, key) if key else payload))
    return found
