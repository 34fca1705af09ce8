"""A session's server that treats an upgrade as its path says.

/101 takes it, /401, /404 and /503 refuse it, /hangup hangs up on it. After /deaf nobody can connect
any more. As a process of its own, so that its descriptors and memory are not the proxy's.
"""

from __future__ import annotations

import asyncio
import contextlib
import os

from tests.proxy.frames import switched

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


async def converse(
    listener: asyncio.Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Answer one request after the other."""
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            what = head.split(b" ", 2)[1].rpartition(b"/")[2].decode()
            if what == "hangup":
                break
            writer.write(answer(what))
            if what == "101":
                await reader.read()  # to the end; nothing is said
            if what == "deaf":
                listener.close()
            if what in ("101", "deaf"):
                break
    writer.close()


def answer(what: str) -> bytes:
    """What is said to whoever asks for this path."""
    if what == "101":
        return switched()
    if what.isdigit():
        return f"HTTP/1.1 {what} No\r\nContent-Length: 2\r\n\r\nno".encode()
    return OK


async def serve(port: int) -> None:
    """Serve until the process is ended, deaf or not."""
    listener: asyncio.Server

    def met(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> asyncio.Task[None]:
        return asyncio.ensure_future(converse(listener, reader, writer))

    listener = await asyncio.start_server(met, "127.0.0.1", port, backlog=1024)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(int(os.environ["PORT"])))
