"""What there is to see: balls on moving stripes, and a pen for each viewer.

Put your own renderer here. All that the server asks for is `draw`, which gives a picture in any
format that browsers decode; from a GPU or a simulation that would be a JPEG.
"""

import random
import struct
import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from itertools import chain
from math import isqrt

WIDTH, HEIGHT = 640, 360

# A byte of a picture is a place in this palette: stripes, the balls, then the pens.
STRIPES, BALL, PENS = (0, 1), 2, range(3, 9)
PALETTE = ["1b2029", "222936", "a2adbd", "ff6b76", "ffab4a", "55d092", "7ba4ff", "c08bf5", "eef2f7"]

STRIPE = 32
# Each line of a PNG begins with how it is filtered, which here is not at all.
UNFILTERED = b"\0"
LINES = [
    UNFILTERED + bytes(STRIPES[(x + shift) // STRIPE % 2] for x in range(WIDTH))
    for shift in range(2 * STRIPE)
]

BALLS, BALL_RADIUS, PEN_RADIUS = 12, 14, 20
PULL, FASTEST = 0.02, 12.0


@dataclass
class Pen:
    """Where a viewer points."""

    colour: int
    x: int = WIDTH // 2
    y: int = HEIGHT // 2
    pressed: bool = False


@dataclass
class Ball:
    x: float = field(default_factory=lambda: random.uniform(0, WIDTH))
    y: float = field(default_factory=lambda: random.uniform(0, HEIGHT))
    dx: float = field(default_factory=lambda: random.uniform(-4, 4))
    dy: float = field(default_factory=lambda: random.uniform(-4, 4))

    def move(self, pens: Collection[Pen]) -> None:
        """Go on for one frame, drawn to the pens that are pressed, and back at the walls."""
        for pen in pens:
            if pen.pressed:
                self.dx += PULL * (pen.x - self.x)
                self.dy += PULL * (pen.y - self.y)
        self.x, self.dx = bounced(self.x + self.dx, self.dx, WIDTH)
        self.y, self.dy = bounced(self.y + self.dy, self.dy, HEIGHT)


def bounced(place: float, speed: float, size: int) -> tuple[float, float]:
    speed = min(max(speed, -FASTEST), FASTEST)
    if place < 0:
        return 0, abs(speed)
    if place > size:
        return size, -abs(speed)
    return place, speed


class Scene:
    """The balls, and how far the stripes have moved."""

    def __init__(self) -> None:
        self.balls = [Ball() for _ in range(BALLS)]
        self.shift = 0

    def move(self, pens: Collection[Pen]) -> None:
        """Go on for one frame."""
        self.shift += 1
        for ball in self.balls:
            ball.move(pens)

    def draw(self, pens: Collection[Pen]) -> bytes:
        """The picture of this moment, as a PNG."""
        shifted = (LINES[(y + self.shift) % len(LINES)] for y in range(HEIGHT))
        lines = bytearray(chain.from_iterable(shifted))
        for ball in self.balls:
            draw_disc(lines, round(ball.x), round(ball.y), BALL_RADIUS, BALL)
        for pen in pens:
            draw_disc(lines, pen.x, pen.y, PEN_RADIUS, pen.colour)
        return png(lines)


def draw_disc(lines: bytearray, x: int, y: int, radius: int, colour: int) -> None:
    """Fill a disc, line by line: slices are fast, single bytes are not."""
    for line in range(max(y - radius, 0), min(y + radius + 1, HEIGHT)):
        half = isqrt(radius * (radius + 1) - (line - y) ** 2)
        left, right = max(x - half, 0), min(x + half + 1, WIDTH)
        start = line * (WIDTH + 1) + len(UNFILTERED)
        lines[start + left : start + right] = bytes([colour]) * (right - left)


def png(lines: bytes | bytearray) -> bytes:
    """A picture of the palette's colours; the lowest level of zlib is the fastest by far."""
    head = struct.pack("!IIBBBBB", WIDTH, HEIGHT, 8, 3, 0, 0, 0)
    palette = bytes.fromhex("".join(PALETTE))
    parts = [
        (b"IHDR", head),
        (b"PLTE", palette),
        (b"IDAT", zlib.compress(lines, 1)),
        (b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chain.from_iterable(chunk(*each) for each in parts))


def chunk(kind: bytes, data: bytes) -> Iterator[bytes]:
    yield struct.pack("!I", len(data)) + kind
    yield data + struct.pack("!I", zlib.crc32(kind + data))
