"""Where WebSocket frames begin and end in a stream of bytes, read from their headers alone.

RFC 6455 section 5. Payloads are neither copied nor judged. Control frames, at most 139 bytes each,
are held until they are whole, so that a frame of ours can stand between any two; and so are, where
a tracker knows what noise is, the first bytes of small texts. A control frame that says it is
longer breaks the protocol; it passes like data, for its receiver to judge.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import attrs

CLOSE, PING, PONG = 0x8, 0x9, 0xA

#: A text of more bytes than this is never noise.
NOISE_BYTES = 512

#: How many frames are read in one go: thousands of empty ones would take the reactor's time.
MOST_AT_ONCE = 256

#: How many bytes of a text are looked at to tell whether it is noise.
PEEK_BYTES = 64

_FIN = 0x80
_CONTROL = 0x08
_WHOLE_TEXT = 0x81  # FIN, no RSV bit (so not compressed), opcode 1
_MASKED = 0x80
_MOST_OF_CONTROL = 125

# By the second byte of a frame: the size of its header, and of all of it when it is short (else 0).
_HEADER_SIZES = tuple(
    2 + {126: 2, 127: 8}.get(second & 0x7F, 0) + (4 if second & _MASKED else 0)
    for second in range(256)
)
_SHORT_SIZES = tuple(
    header + (second & 0x7F) if second & 0x7F < 126 else 0
    for second, header in enumerate(_HEADER_SIZES)
)

# First bytes of the frames that are a message each, and of those that can never be noise.
_WHOLE_MESSAGES = frozenset(first for first in range(256) if first & (_FIN | _CONTROL) == _FIN)
_NEVER_NOISE = _WHOLE_MESSAGES - {_WHOLE_TEXT}


@attrs.frozen
class Control:
    """A whole control frame: its payload unmasked, and its bytes as they came."""

    opcode: int
    payload: bytes
    raw: bytes


@attrs.frozen
class TooLong:
    """Stands for a frame that would bring its message to `size` payload bytes: over the limit."""

    size: int


Piece = bytes | Control | TooLong


class FrameTracker:
    """Cuts a stream of frames where control frames stand, whatever its segmentation.

    `most_message_bytes` limits the payloads of a message's frames together, as they are on the
    wire; 0 is no limit. `is_noise` is asked of each message that is one uncompressed text frame of
    at most NOISE_BYTES, with its first PEEK_BYTES.

    `messages` counts the messages whose last frame has begun, noise too; `used` the bytes given out
    of data frames, headers included, that are not noise. While it is `pending`, not all that came
    was read; `feed(b"")` goes on with it. It is `broken` when a frame has passed at which its
    receiver has to end the connection (RFC 6455 section 5.5). `remaining` are the bytes that the
    last frame given out still lacks.
    """

    __slots__ = (
        "_earlier",
        "_held",
        "_is_noise",
        "_is_use",
        "_last",
        "_most",
        "_plain",
        "broken",
        "messages",
        "pending",
        "remaining",
        "used",
    )

    def __init__(
        self, most_message_bytes: int = 0, is_noise: Callable[[bytes], bool] | None = None
    ) -> None:
        self.messages = 0
        self.used = 0
        self.pending = False
        self.broken = False
        self._most: float = most_message_bytes or math.inf
        self._is_noise = is_noise
        # First bytes of the messages whose payload need not be looked at.
        self._plain = _WHOLE_MESSAGES if is_noise is None else _NEVER_NOISE
        self._held = b""
        self.remaining = 0
        self._is_use = False  # whether what remains will count as used
        self._earlier = 0  # payload bytes so far of a message in several frames
        self._last: TooLong | None = None

    @property
    def at_boundary(self) -> bool:
        """Whether everything given out so far ends with the end of a frame."""
        return self.remaining == 0

    def feed(self, data: bytes) -> list[Piece]:
        """Return `data`, and what was held before it, as pieces to pass on in this order.

        A TooLong is the last piece ever; what comes before it ends with the end of a frame.
        """
        if self._last is not None:
            return []
        if self._held:
            data, self._held = self._held + data, b""
            return self._cut(data)
        size = len(data)
        if size <= self.remaining:
            self.remaining -= size
            if self._is_use:
                self.used += size
            return [data]
        # What comes most often is one small message and no more: there is nothing to cut.
        if (
            not self.remaining
            and not self._earlier
            and 1 < size <= self._most
            and size == _SHORT_SIZES[data[1]]
            and data[0] in self._plain
        ):
            self.messages += 1
            self.used += size
            return [data]
        return self._cut(data)

    def _cut(self, data: bytes) -> list[Piece]:  # noqa: C901 (a call for each frame costs as much)
        pieces: list[Piece] = []
        start, at, size = 0, self.remaining, len(data)
        self.pending = False
        if self._is_use:
            self.used += at
        for _ in range(MOST_AT_ONCE):
            if at + 1 >= size:
                break
            body = at + _HEADER_SIZES[data[at + 1]]
            if body > size:
                break
            payload = data[at + 1] & 0x7F
            if payload > 125:
                payload = _extended_length(data, at)
            end = body + payload
            if data[at] in self._plain and self._earlier + payload <= self._most:
                self._earlier = 0
                self._is_use = True
                self.messages += 1
                self.used += end - at
            elif data[at] & _CONTROL and payload <= _MOST_OF_CONTROL:
                if end > size:
                    break
                if at > start:
                    pieces.append(data[start:at])
                pieces.append(_control(data[at:end], body - at))
                start = end
            elif not self._admit(data, at, body, end):
                break
            at = end
        else:
            self.pending = at < size
        return self._rest(data, start, at, pieces)

    def _admit(self, data: bytes, at: int, body: int, end: int) -> bool:
        """Count a frame of a less frequent kind; False when it may not pass, or not yet."""
        first, payload = data[at], end - body
        if first & _CONTROL:
            self._is_use = False
            self.broken = True  # longer than control frames may be
            return True
        if self._earlier + payload > self._most:
            self._last = TooLong(self._earlier + payload)
            return False
        self._is_use = True
        if self._is_noise is not None and first == _WHOLE_TEXT and payload <= NOISE_BYTES:
            seen = min(end, body + PEEK_BYTES)
            if seen > len(data):
                return False
            self._is_use = not self._is_noise(_unmasked(data[at:seen], body - at))
        if self._is_use:
            self.used += end - at
        self._earlier = 0 if first & _FIN else self._earlier + payload
        self.messages += first >> 7
        return True

    def _rest(self, data: bytes, start: int, at: int, pieces: list[Piece]) -> list[Piece]:
        # `at` is past the end inside a payload, and before it at a frame that may not pass yet.
        until = min(at, len(data))
        if until > start:
            pieces.append(data[start:until])
        self.remaining = at - until
        if self._is_use:
            self.used -= self.remaining  # a frame was counted whole when it began
        if self._last is None:
            self._held = data[until:]
        else:
            pieces.append(self._last)
        return pieces


def raw_of(piece: Piece) -> bytes:
    """The bytes of a piece as they came; none of what may not pass."""
    if isinstance(piece, bytes):
        return piece
    return piece.raw if isinstance(piece, Control) else b""


def _extended_length(data: bytes, at: int) -> int:
    wide = 2 if data[at + 1] & 0x7F == 126 else 8
    return int.from_bytes(data[at + 2 : at + 2 + wide], "big")


def _control(raw: bytes, header: int) -> Control:
    return Control(raw[0] & 0x0F, _unmasked(raw, header), raw)


def _unmasked(raw: bytes, header: int) -> bytes:
    """What the frame that begins `raw` carries."""
    payload = raw[header:]
    return _masked(payload, raw[header - 4 : header]) if raw[1] & _MASKED else payload


def _masked(payload: bytes, key: bytes) -> bytes:
    size = len(payload)
    mask = (key * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(mask, "big")).to_bytes(size, "big")


def control_frame(opcode: int, payload: bytes, mask: bytes = b"") -> bytes:
    """A control frame of at most 125 bytes payload; `mask` (4 bytes) when it goes upstream."""
    flag = _MASKED if mask else 0
    body = _masked(payload, mask) if mask else payload
    return bytes((0x80 | opcode, flag | len(payload))) + mask + body


def close_said(payload: bytes) -> tuple[int | None, str]:
    """The code and the reason of a Close frame; None and "" where it says none."""
    if len(payload) < 2:
        return None, ""
    return int.from_bytes(payload[:2], "big"), payload[2:].decode("utf-8", "replace")


def close_payload(code: int, reason: str) -> bytes:
    """What a Close frame says, its reason cut to what fits."""
    text = reason.encode("utf-8")[:123].decode("utf-8", "ignore")
    return code.to_bytes(2, "big") + text.encode("utf-8")
