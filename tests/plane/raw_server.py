"""A session's server that knows no HTTP to speak of: it shows heads, echoes bytes, turns deaf."""

import asyncio
import os

SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"


async def main():
    async def serve(reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        if b"\nupgrade: echo" in head.lower():
            await echo(reader, writer)
        else:
            if head.startswith(b"GET /deaf "):
                server.close()
            answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(head)
            writer.write(answer + (b"" if head.startswith(b"HEAD ") else head))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", int(os.environ["PORT"]))
    await asyncio.Event().wait()


async def echo(reader, writer):
    writer.write(SWITCHED)
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.write(b"bye")


asyncio.run(main())
