"""The origin of uploads: reads a body of any length, at the speed of the kernel, and says it has.

Started as `sink.py CORE FILE`, with the port to listen on in PORT, which it writes to the file.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
from pathlib import Path

BUFFER_BYTES = 1 << 20
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


def serve(connection: socket.socket) -> None:
    """Answer one request after the other; it has a Content-Length, or no body."""
    buffer = bytearray(BUFFER_BYTES)
    with connection:
        head = b""
        while received := connection.recv(BUFFER_BYTES):
            head += received
            if b"\r\n\r\n" not in head:
                continue
            head, _, begun = head.partition(b"\r\n\r\n")
            left = length(head) - len(begun)
            while left > 0:
                count = connection.recv_into(buffer, min(left, BUFFER_BYTES))
                if not count:
                    return
                left -= count
            connection.sendall(ANSWER)
            head = b""


def length(head: bytes) -> int:
    """The Content-Length of a request; a body without one is refused by ending the connection."""
    fields = head.lower().split(b"\r\n")
    if any(field.startswith(b"transfer-encoding:") for field in fields):
        raise ValueError(f"a body without a length: {head!r}")
    said = [field for field in fields if field.startswith(b"content-length:")]
    return int(said[0].partition(b":")[2]) if said else 0


def main(core: str, file: str) -> None:
    os.sched_setaffinity(0, {int(core)})
    port = os.environ["PORT"]
    with socket.create_server(("127.0.0.1", int(port)), backlog=1024) as listener:
        Path(file).write_text(port, encoding="ascii")
        while True:
            connection, _peer = listener.accept()
            threading.Thread(target=serve, args=(connection,), daemon=True).start()


if __name__ == "__main__":
    main(*sys.argv[1:])
