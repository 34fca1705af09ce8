"""Where WebSocket frames begin and end in a stream of bytes, read from their headers alone.

RFC 6455 section 5. Payloads are never copied, unmasked or judged; only control frames, at most
131 bytes each, are held until they are whole, so that a frame of ours can stand between any two.
A control frame that says it is longer breaks the protocol; it passes like data, for its receiver to
judge.
"""

from __future__ import annotations

import attrs

CLOSE, PING, PONG = 0x8, 0x9, 0xA

_CONTROL = 0x8
_MASKED = 0x80
_MOST_OF_CONTROL = 125


@attrs.frozen
class Control:
    """A whole control frame: its payload unmasked, and its bytes as they came."""

    opcode: int
    payload: bytes
    raw: bytes


class FrameTracker:
    """Cuts a stream of frames where control frames stand, whatever its segmentation.

    `messages` counts the messages whose last frame has begun.
    """

    __slots__ = ("_held", "_remaining", "messages")

    def __init__(self) -> None:
        self.messages = 0
        self._held = b""
        self._remaining = 0

    @property
    def at_boundary(self) -> bool:
        """Whether everything given out so far ends with the end of a frame."""
        return self._remaining == 0

    def feed(self, data: bytes) -> list[bytes | Control]:
        """Return `data`, and what was held before it, as pieces to pass on in this order."""
        if self._remaining >= len(data):
            self._remaining -= len(data)
            return [data]
        if self._held:
            data, self._held = self._held + data, b""
        return self._cut(data)

    def _cut(self, data: bytes) -> list[bytes | Control]:
        pieces: list[bytes | Control] = []
        start, at = 0, self._remaining
        self._remaining = 0
        while at < len(data):
            size = header_size(data, at)
            if size is None:
                break
            payload = _payload_size(data, at)
            end = at + size + payload
            if not data[at] & _CONTROL:
                self.messages += data[at] >> 7  # FIN
            elif payload <= _MOST_OF_CONTROL:
                if end > len(data):
                    break
                if at > start:
                    pieces.append(data[start:at])
                pieces.append(_control(data[at:end], size))
                start = end
            at = end
        return self._rest(data, start, at, pieces)

    def _rest(
        self, data: bytes, start: int, at: int, pieces: list[bytes | Control]
    ) -> list[bytes | Control]:
        # `at` is past the end inside a payload, and before it at a frame that is not whole.
        until = min(at, len(data))
        if until > start:
            pieces.append(data[start:until])
        self._held = data[until:]
        self._remaining = max(at - len(data), 0)
        return pieces


def header_size(data: bytes, at: int) -> int | None:
    """How many bytes the frame header at `at` has; None when it is not whole."""
    if len(data) - at < 2:
        return None
    second = data[at + 1]
    size = 2 + {126: 2, 127: 8}.get(second & 0x7F, 0) + (4 if second & _MASKED else 0)
    return size if len(data) - at >= size else None


def _payload_size(data: bytes, at: int) -> int:
    short = data[at + 1] & 0x7F
    if short < 126:
        return short
    wide = 2 if short == 126 else 8
    return int.from_bytes(data[at + 2 : at + 2 + wide], "big")


def _control(raw: bytes, header: int) -> Control:
    payload = raw[header:]
    if raw[1] & _MASKED:
        payload = _masked(payload, raw[header - 4 : header])
    return Control(raw[0] & 0x0F, payload, raw)


def _masked(payload: bytes, key: bytes) -> bytes:
    return bytes(byte ^ key[place % 4] for place, byte in enumerate(payload))


def control_frame(opcode: int, payload: bytes, mask: bytes = b"") -> bytes:
    """A control frame of at most 125 bytes payload; `mask` (4 bytes) when it goes upstream."""
    flag = _MASKED if mask else 0
    body = _masked(payload, mask) if mask else payload
    return bytes((0x80 | opcode, flag | len(payload))) + mask + body


def close_payload(code: int, reason: str) -> bytes:
    """What a Close frame says, its reason cut to what fits."""
    text = reason.encode("utf-8")[:123].decode("utf-8", "ignore")
    return code.to_bytes(2, "big") + text.encode("utf-8")
