"""The server of a small IDE: its page, and for each WebSocket a language server of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path

from aiohttp import WSMsgType, web

#: Any language server that speaks over its standard input and output will do.
LANGUAGE_SERVER = ("pylsp",)

HERE = Path(__file__).parent
FILES = {"/": "index.html", "/ide.js": "ide.js", "/lsp.js": "lsp.js", "/plane.js": "plane.js"}
MESSAGE_LIMIT = 4 * 1024 * 1024
HEADERS = {
    "Cache-Control": "no-cache",
    "Referrer-Policy": "no-referrer",  # the URL of a session is a secret
    "X-Content-Type-Options": "nosniff",
}


async def show(request: web.Request) -> web.FileResponse:
    return web.FileResponse(HERE / FILES[request.path], headers=HEADERS)


async def talk(request: web.Request) -> web.WebSocketResponse:
    """Have a browser and a language server talk: a message of a WebSocket is one of LSP."""
    socket = web.WebSocketResponse(max_msg_size=MESSAGE_LIMIT)
    await socket.prepare(request)
    pipe = asyncio.subprocess.PIPE
    server = await asyncio.create_subprocess_exec(*LANGUAGE_SERVER, stdin=pipe, stdout=pipe)
    answers = asyncio.create_task(pass_answers(server.stdout, socket))
    try:
        async for message in socket:
            if message.type is WSMsgType.TEXT:
                data = message.data.encode()
                server.stdin.write(b"Content-Length: %d\r\n\r\n%s" % (len(data), data))
                await server.stdin.drain()
    except ConnectionError:  # the language server has ended
        pass
    finally:
        with contextlib.suppress(ProcessLookupError):
            server.kill()
        await server.wait()
        await answers  # which end where its output does
    return socket


async def pass_answers(output: asyncio.StreamReader, socket: web.WebSocketResponse) -> None:
    """Send what the language server says; at its end, have the page come back for another one."""
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            head = await output.readuntil(b"\r\n\r\n")
            fields = dict(line.split(b": ", 1) for line in head.split(b"\r\n") if line)
            body = await output.readexactly(int(fields[b"Content-Length"]))
            await socket.send_str(body.decode())
    await socket.close(code=1011, message=b"the language server has ended")


def main() -> None:
    app = web.Application()
    app.add_routes([web.get(path, show) for path in FILES])
    app.add_routes([web.get("/lsp", talk)])
    web.run_app(app, port=int(os.environ["PORT"]), access_log=None, shutdown_timeout=1)


if __name__ == "__main__":
    main()
