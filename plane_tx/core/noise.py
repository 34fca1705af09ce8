"""Which texts on a WebSocket say only that somebody is still there: heartbeats of applications.

A pattern is literal text in which `*` stands for anything, also for nothing. Only the first 64
bytes of a text are known here, so a text of 64 or more matches no pattern but one that ends with
`*`. There are no regular expressions, for a clever one could stop the whole server.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from plane_tx.core.strict import nearest, show
from plane_tx.core.wsframes import PEEK_BYTES

#: How many entries, presets or patterns, an application may name.
MOST_ENTRIES = 16

#: How many characters a pattern may have.
MOST_CHARACTERS = 128

#: Patterns by the name of the protocol whose heartbeats they are.
#:
#: - engine.io: ping and pong packets; revision 3 has the client ping, revision 4 the server. Those
#:   with "probe" test a connection before a session moves to it.
#: - phoenix: serializer v2 of Phoenix.Socket and phoenix.js (an array), then v1 (an object). Topic
#:   "phoenix" carries heartbeats and their replies only. A v1 reply says its topic last, out of our
#:   sight, so replies to all topics are noise there; the push they answer was use.
#: - signalr: Ping (type 6) of the JSON hub protocol, ended by a record separator; and what ASP.NET
#:   SignalR 2 sends for a keep-alive. The MessagePack protocol is binary and all of it counts.
#: - jupyter: kernels, terminals and events keep alive by Ping frames alone, which never count, and
#:   no kernel message is noise. Here is what a terminal's tab says without its user when it
#:   reconnects or is laid out anew (terminado): its greeting and its size.
PRESETS: dict[str, tuple[str, ...]] = {
    "engine.io": ("2", "3", "2probe", "3probe"),
    "phoenix": (
        '[null,"*","phoenix","heartbeat",{}]',
        '[null,"*","phoenix","phx_reply",*',
        '{"topic":"phoenix",*',
        '{"event":"phx_reply","payload":{"response":{},"status":"ok"},*',
        '{"ref":"*","event":"phx_reply","payload":{"status":"ok",*',
    ),
    "signalr": ('{"type":6}\x1e', "{}"),
    "jupyter": ('["setup", {}]', '["set_size",*'),
}

#: What engine.io's heartbeats are often looked for under: it carries socket.io's messages.
_SOCKET_IO = "socket.io"


def fault_of(entry: str) -> str:
    """What is wrong with an entry of `ignore`, as the end of a sentence; "" when nothing is."""
    if entry in PRESETS:
        return ""
    if not entry.strip("*"):
        return "must have some text besides *"
    if len(entry) > MOST_CHARACTERS:
        return f"must have at most {MOST_CHARACTERS} characters"
    try:
        literal = len(entry.replace("*", "").encode())
    except UnicodeEncodeError:
        return "must be text that UTF-8 can carry"
    if literal > PEEK_BYTES or (literal == PEEK_BYTES and not entry.endswith("*")):
        seen = f"only the first {PEEK_BYTES} bytes of a message are looked at"
        return f"can match nothing: {seen}; {_cure(entry, literal)}"
    return "" if "*" in entry else _mistyped(entry)


def _cure(entry: str, literal: int) -> str:
    if entry.endswith("*"):
        return f"shorten it to {PEEK_BYTES} bytes besides *"
    shorter = f"shorten it to {PEEK_BYTES - 1} bytes"
    return f"{shorter}, or end it with *" if literal == PEEK_BYTES else shorter


def _mistyped(entry: str) -> str:
    # As a text it would be taken without a word, and no heartbeat would match it.
    near = nearest(entry.casefold(), (*PRESETS, _SOCKET_IO))
    if near is None:
        return ""
    wrong = f'is close to the preset "{near}"'
    if near == _SOCKET_IO:
        wrong = f'is no preset, for the heartbeats of {_SOCKET_IO} are those of "engine.io"'
    return f"{wrong}: write that, or {show(f'{entry}*')} if the text itself is meant"


def noise_of(ignore: Sequence[str]) -> Callable[[bytes], bool]:
    """Tell by the first 64 bytes of a text whether it is noise; each entry has no fault."""
    patterns = {pattern.encode() for entry in ignore for pattern in PRESETS.get(entry, (entry,))}
    exact = frozenset(pattern for pattern in patterns if b"*" not in pattern)
    others = [pattern.split(b"*") for pattern in sorted(patterns - exact)]
    beginnings = tuple(pieces[0] for pieces in others)

    def is_noise(text: bytes) -> bool:
        if text in exact:
            return True
        return text.startswith(beginnings) and any(_matches(text, pieces) for pieces in others)

    return is_noise


def _matches(text: bytes, pieces: Iterable[bytes]) -> bool:
    first, *middle, last = pieces
    if not text.startswith(first):
        return False
    at = len(first)
    for piece in middle:
        found = text.find(piece, at)
        if found < 0:
            return False
        at = found + len(piece)
    if not last:
        return True
    return len(text) < PEEK_BYTES and text.endswith(last, at)
