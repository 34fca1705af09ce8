"""Server-sent events out of the bytes of a stream (WHATWG HTML, section 9.2.6), bounded."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from plane_tx.client.errors import Unreadable

#: A line, or all the data of an event, that is longer comes from no server of ours.
MOST_BYTES = 4 * 1024 * 1024


@attrs.frozen
class ServerSent:
    """One event; `last_id` is what a client that comes back says it has seen."""

    name: str
    data: str
    last_id: str


class EventReader:
    """Takes a stream's bytes as they come; an event that was cut off is never told."""

    def __init__(self, last_id: str = "") -> None:
        self.last_id = last_id
        self._rest = b""
        self._after_cr = False
        self._name = ""
        self._data: list[str] = []
        self._size = 0

    def feed(self, data: bytes) -> Iterator[ServerSent]:
        """The events that `data` completes. Raises `Unreadable` for one too long."""
        for line in self._lines(data):
            event = self._line(line.decode("utf-8", "replace"))
            if event is not None:
                yield event

    def _lines(self, data: bytes) -> list[bytes]:
        if self._after_cr and data:
            data, self._after_cr = data.removeprefix(b"\n"), False
        self._after_cr = data.endswith(b"\r")
        text = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *lines, self._rest = (self._rest + text).split(b"\n")
        if len(self._rest) > MOST_BYTES:
            raise Unreadable("the server sends an event without an end")
        return lines

    def _line(self, line: str) -> ServerSent | None:
        if not line:
            return self._end()
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            self._size += len(value)
            if self._size > MOST_BYTES:
                raise Unreadable("the server sends an event without an end")
            self._data.append(value)
        elif field == "event":
            self._name = value
        elif field == "id" and "\0" not in value:
            self.last_id = value
        return None

    def _end(self) -> ServerSent | None:
        name, data = self._name or "message", self._data
        self._name, self._data, self._size = "", [], 0
        return ServerSent(name, "\n".join(data), self.last_id) if data else None
