"""A pixel stream: a scene drawn 30 times a second, for everyone who has the page open.

It stays live by one rule: a viewer who has not yet shown the last frames gets no further one. What
cannot be shown in time is dropped and counted, never queued, so that what comes next is fresh.
"""

import asyncio
import json
import os
import signal
import struct
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from itertools import cycle
from pathlib import Path

from scene import HEIGHT, PENS, WIDTH, Pen, Scene
from websockets.asyncio.server import ServerConnection, broadcast, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

RATE = 30
# Three frames on their way at once hide a round trip of up to three thirtieths of a second.
IN_FLIGHT = 3
# Before each picture: its number, how many this viewer missed, and the round trip in milliseconds.
HEADER = struct.Struct("!IIf")
MESSAGE_LIMIT = 256

HERE = Path(__file__).parent
FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/plane.js": ("plane.js", "text/javascript; charset=utf-8"),
}


@dataclass(eq=False)
class Viewer:
    """Someone who watches: what was sent and not yet shown, and the pen they hold."""

    connection: ServerConnection
    pen: Pen
    dropped: int = 0
    round_trip: float = 0.0
    sent: dict[int, float] = field(default_factory=dict)  # when, by the frame's number

    @property
    def has_room(self) -> bool:
        return len(self.sent) < IN_FLIGHT

    def show(self, number: int, picture: bytes, now: float) -> None:
        """Send a frame at once: what waits in the connection is bounded by what is in flight."""
        header = HEADER.pack(number, self.dropped, self.round_trip * 1000)
        broadcast([self.connection], header + picture)
        self.sent[number] = now

    def heed(self, message: str | bytes, now: float) -> None:
        """Do what the page says; raise ValueError for what makes no sense."""
        match json.loads(message):
            case {"type": "shown", "frame": int(number)} if number in self.sent:
                self.round_trip = now - self.sent.pop(number)
            case {"type": "shown"}:
                pass  # of the connection before this one
            case {"type": "pointer", "x": int(x), "y": int(y), "pressed": bool(pressed)}:
                self.pen.x, self.pen.y = min(max(x, 0), WIDTH), min(max(y, 0), HEIGHT)
                self.pen.pressed = pressed
            case {"type": "colour", "colour": int(colour)} if 0 <= colour < len(PENS):
                self.pen.colour = PENS[colour]
            case _:
                raise ValueError("there is no such message")


class Studio:
    """The scene, and everyone who watches it."""

    def __init__(self) -> None:
        self.scene = Scene()
        self.number = 0
        self.viewers: set[Viewer] = set()
        self.watched = asyncio.Event()
        self.colours = cycle(PENS)

    async def run(self) -> None:
        """Draw frames at the rate while somebody watches; what comes late is not made up for."""
        clock = asyncio.get_running_loop().time
        due = clock()
        while True:
            await self.watched.wait()
            self.tick(clock())
            due = max(due + 1 / RATE, clock())
            await asyncio.sleep(due - clock())

    def tick(self, now: float) -> None:
        """Go on by one frame, and send it to those who have room for it."""
        self.number += 1
        pens = [viewer.pen for viewer in self.viewers]
        self.scene.move(pens)
        ready = [viewer for viewer in self.viewers if viewer.has_room]
        for viewer in self.viewers.difference(ready):
            viewer.dropped += 1
        if ready:
            picture = self.scene.draw(pens)
        for viewer in ready:
            viewer.show(self.number, picture, now)

    async def serve(self, connection: ServerConnection) -> None:
        """Have a viewer for as long as the connection lasts."""
        viewer = Viewer(connection, Pen(next(self.colours)))
        self.viewers.add(viewer)
        self.watched.set()
        clock = asyncio.get_running_loop().time
        try:
            with suppress(ConnectionClosed):
                async for message in connection:
                    viewer.heed(message, clock())
        except ValueError:
            await connection.close(1008)
        finally:
            self.viewers.discard(viewer)
            if not self.viewers:
                self.watched.clear()


def answer(_connection: ServerConnection, request: Request) -> Response | None:
    """The page and its module; nothing for the WebSocket, which then opens."""
    path = request.path.partition("?")[0]
    if path == "/ws":
        return None
    if path not in FILES:
        return Response(404, HTTPStatus.NOT_FOUND.phrase, Headers({"Content-Length": "0"}))
    name, kind = FILES[path]
    body = (HERE / name).read_bytes()
    headers = Headers(
        {
            "Content-Type": kind,
            "Content-Length": str(len(body)),
            "Cache-Control": "no-store",
            "Referrer-Policy": "no-referrer",  # the URL of a session is a secret
            "Connection": "close",
        }
    )
    return Response(200, "OK", headers, b"" if request.method == "HEAD" else body)


async def main(port: int) -> None:
    """Serve until SIGTERM or SIGINT."""
    task = asyncio.current_task()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    studio = Studio()
    # A PNG is compressed already; to do it again would only cost time.
    listening = serve(
        studio.serve, "0.0.0.0", port, process_request=answer, compression=None,
        max_size=MESSAGE_LIMIT,
    )  # fmt: skip
    with suppress(asyncio.CancelledError):
        async with listening:
            print(f"pixels: listening on port {port}", flush=True)
            await studio.run()


if __name__ == "__main__":
    port = os.environ.get("PORT", "")
    if not port.isdigit():
        sys.exit("pixels: set PORT to the port to listen on, for example PORT=8080")
    asyncio.run(main(int(port)))
