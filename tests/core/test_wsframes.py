"""Where frames begin and end, however their bytes come."""

from itertools import accumulate, pairwise

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from plane_tx.core.wsframes import (
    CLOSE,
    MOST_AT_ONCE,
    NOISE_BYTES,
    PEEK_BYTES,
    PING,
    PONG,
    Control,
    FrameTracker,
    TooLong,
    close_payload,
    control_frame,
    raw_of,
)
from tests.proxy.frames import BINARY, MASK, TEXT, frame, unmask


def fed(tracker, *segments):
    return [piece for segment in segments for piece in tracker.feed(segment)]


def raw(pieces):
    return b"".join(map(raw_of, pieces))


def controls(pieces):
    return [(each.opcode, each.payload) for each in pieces if isinstance(each, Control)]


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536, 100000])
@pytest.mark.parametrize("masked", [False, True])
def test_a_frame_of_any_size_passes_and_ends_at_a_boundary(size, masked):
    tracker, whole = FrameTracker(), frame(BINARY, bytes(size), masked=masked)

    assert tracker.feed(whole) == [whole]
    assert tracker.at_boundary


def test_a_payload_passes_as_it_comes():
    tracker, whole = FrameTracker(), frame(TEXT, b"abcdef")

    pieces = [tracker.feed(whole[:4]), tracker.feed(whole[4:6]), tracker.feed(whole[6:])]

    assert pieces == [[whole[:4]], [whole[4:6]], [whole[6:]]]
    assert tracker.at_boundary


def test_a_header_that_is_not_whole_is_held():
    tracker, whole = FrameTracker(), frame(BINARY, bytes(70000), masked=True)

    held = [tracker.feed(whole[at : at + 1]) for at in range(13)]

    assert held == [[]] * 13
    assert tracker.at_boundary
    assert tracker.feed(whole[13:14]) == [whole[:14]]
    assert not tracker.at_boundary


@pytest.mark.parametrize("opcode", [CLOSE, PING, PONG])
@pytest.mark.parametrize("masked", [False, True])
def test_a_control_frame_is_held_until_it_is_whole(opcode, masked):
    tracker, whole = FrameTracker(), frame(opcode, b"payload", masked=masked)

    early = tracker.feed(whole[:-1])
    held_at_boundary = tracker.at_boundary
    late = tracker.feed(whole[-1:])

    assert early == []
    assert held_at_boundary
    assert late == [Control(opcode, b"payload", whole)]


def test_a_control_frame_between_fragments_is_seen():
    one, two = frame(TEXT, b"one", fin=False), frame(0, b"two")
    ping = frame(PING, b"x")

    assert FrameTracker().feed(one + ping + two) == [one, Control(PING, b"x", ping), two]


@pytest.mark.parametrize("size", [126, 70000])
def test_a_control_frame_that_breaks_the_protocol_is_not_held(size):
    tracker, whole = FrameTracker(), frame(PING, bytes(size))

    assert tracker.feed(whole[:20]) == [whole[:20]]
    assert not tracker.at_boundary
    assert raw(tracker.feed(whole[20:])) == whole[20:]
    assert tracker.at_boundary


def test_a_frame_that_says_it_is_endless_passes():
    tracker = FrameTracker()

    assert tracker.feed(b"\x82\x7f" + b"\xff" * 8 + b"abc") == [b"\x82\x7f" + b"\xff" * 8 + b"abc"]
    assert not tracker.at_boundary


@pytest.mark.parametrize("mask", [b"", b"\x0a\x0b\x0c\x0d"])
def test_a_control_frame_of_ours_reads_back(mask):
    made = control_frame(PING, b"plane-tx", mask)

    assert FrameTracker().feed(made) == [Control(PING, b"plane-tx", made)]


def test_a_close_says_code_and_reason():
    assert close_payload(1001, "idle") == b"\x03\xe9idle"


def test_a_long_reason_is_cut_between_characters():
    payload = close_payload(1000, "é" * 100)

    assert len(payload) <= 125
    assert payload[2:].decode("utf-8") == "é" * 61


@given(data=st.binary(max_size=60), place=st.integers(0, 60))
def test_any_bytes_at_all_are_borne(data, place):
    tracker = FrameTracker()

    passed = raw(fed(tracker, data[:place], data[place:]))

    assert data.startswith(passed)
    assert len(data) - len(passed) <= 139


def test_a_message_is_counted_when_its_last_frame_begins():
    tracker, last = FrameTracker(), frame(0, b"lo", masked=True)

    counts = []
    for segment in (frame(TEXT, b"hel", fin=False), last[:1], last[1:-1], last[-1:]):
        tracker.feed(segment)
        counts.append(tracker.messages)

    assert counts == [0, 0, 1, 1]


@pytest.mark.parametrize("opcode", [CLOSE, PING, PONG])
@pytest.mark.parametrize("size", [0, 125, 126])
def test_a_control_frame_is_no_message(opcode, size):
    tracker = FrameTracker()

    tracker.feed(frame(opcode, bytes(size)))

    assert tracker.messages == 0


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("size", [0, 64, 125, 126, 70000])
def test_what_data_frames_took_is_use_as_soon_as_it_passes(masked, size):
    tracker, whole = FrameTracker(), frame(BINARY, bytes(size), masked=masked)
    half = len(whole) // 2

    fed(tracker, frame(PING), whole, whole[:half])
    used_before_the_end = tracker.used
    fed(tracker, whole[half:], frame(PONG, bytes(126)))

    assert tracker.used == 2 * len(whole)
    assert used_before_the_end == (len(whole) + half if size > 14 else len(whole))


def test_a_message_may_be_as_long_as_the_limit():
    tracker, whole = FrameTracker(most_message_bytes=6), frame(TEXT, b"123456", masked=True)

    pieces = fed(tracker, whole, whole)

    assert pieces == [whole, whole]


@pytest.mark.parametrize("size", [7, 126, 70000])
@pytest.mark.parametrize("masked", [False, True])
def test_a_message_that_is_too_long_is_the_end(size, masked):
    tracker, first = FrameTracker(most_message_bytes=6), frame(TEXT, b"123456", masked=masked)
    ping = frame(PING, b"x" * 100)

    pieces = tracker.feed(first + ping + frame(BINARY, bytes(size), masked=masked) + first)

    assert pieces == [first, Control(PING, b"x" * 100, ping), TooLong(size)]
    assert tracker.at_boundary
    assert tracker.messages == 1
    assert fed(tracker, first, b"", b"\x81") == []


def test_the_frames_of_a_message_are_limited_together():
    tracker = FrameTracker(most_message_bytes=6)
    one, two = frame(TEXT, b"123", fin=False), frame(0, b"456", fin=False)
    pong = frame(PONG, b"123")

    pieces = fed(tracker, one, pong, two, frame(0, b"7"))

    assert pieces == [one, Control(PONG, b"123", pong), two, TooLong(7)]


def test_a_message_has_the_whole_limit_again_after_another():
    tracker = FrameTracker(most_message_bytes=6)
    frames = [frame(TEXT, b"123", fin=False), frame(0, b"456"), frame(BINARY, b"123456")]

    pieces = fed(tracker, *frames)

    assert pieces == frames


def test_a_length_without_end_is_too_long_at_once():
    tracker = FrameTracker(most_message_bytes=1 << 40)

    pieces = tracker.feed(b"\x82\x7f" + b"\xff" * 8)

    assert pieces == [TooLong(2**64 - 1)]


def asked(*said):
    """A judge of noise for which the texts `said` are noise, and what it was asked."""
    seen = []

    def is_noise(text):
        seen.append(text)
        return text in said

    return is_noise, seen


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("step", [1, 3, 1000])
def test_noise_passes_and_is_no_use(masked, step):
    is_noise, seen = asked(b"2")
    tracker = FrameTracker(is_noise=is_noise)
    noise, use = frame(TEXT, b"2", masked=masked), frame(TEXT, b"42[]", masked=masked)
    stream = noise + use + noise

    pieces = fed(tracker, *(stream[at : at + step] for at in range(0, len(stream), step)))

    assert raw(pieces) == stream
    assert seen == [b"2", b"42[]", b"2"]
    assert (tracker.messages, tracker.used) == (3, len(use))


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("size", [PEEK_BYTES + 1, NOISE_BYTES])
def test_of_a_longer_text_the_first_bytes_are_looked_at(masked, size):
    is_noise, seen = asked(b"a" * PEEK_BYTES)
    tracker, whole = FrameTracker(is_noise=is_noise), frame(TEXT, b"a" * size, masked=masked)
    needed = len(whole) - size + PEEK_BYTES

    early = tracker.feed(whole[: needed - 1])
    held_at_boundary = tracker.at_boundary
    late = fed(tracker, whole[needed - 1 : needed], whole[needed:])

    assert early == []
    assert held_at_boundary
    assert raw(late) == whole
    assert seen == [b"a" * PEEK_BYTES]
    assert (tracker.messages, tracker.used) == (1, 0)


@pytest.mark.parametrize(
    "whole",
    [
        frame(BINARY, b"2"),
        frame(TEXT, b"2", fin=False),
        frame(0, b"2"),
        b"\xc1" + frame(TEXT, b"2")[1:],
        frame(TEXT, b"2" * (NOISE_BYTES + 1)),
        frame(PING, b"2"),
        frame(PING, b"2" * 126),
    ],
    ids=["binary", "fragment", "last fragment", "compressed", "long", "control", "long control"],
)
def test_nothing_but_small_plain_texts_is_looked_into(whole):
    is_noise, seen = asked(b"2")

    pieces = FrameTracker(is_noise=is_noise).feed(whole)

    assert raw(pieces) == whole
    assert seen == []


def test_a_large_frame_passes_as_the_objects_that_came():
    segment, count = bytes(65536), 1024
    head = b"\x82\x7f" + (count * len(segment)).to_bytes(8, "big")
    tracker = FrameTracker(most_message_bytes=count * len(segment), is_noise=asked()[0])
    tracker.feed(head)

    copies = sum(
        len(pieces) != 1 or pieces[0] is not segment
        for pieces in (tracker.feed(segment) for _ in range(count))
    )

    assert copies == 0
    assert tracker.at_boundary
    assert tracker.used == len(head) + count * len(segment)


def test_a_segment_in_which_a_large_frame_begins_is_not_copied():
    begun = frame(BINARY, bytes(1 << 20), masked=True)[:65536]

    pieces = FrameTracker().feed(begun)

    assert pieces[0] is begun


SIZES = st.one_of(
    st.integers(0, 20),
    st.integers(0, 130),
    st.sampled_from([PEEK_BYTES, PEEK_BYTES + 1, 125, 126, NOISE_BYTES, NOISE_BYTES + 1]),
    st.sampled_from([65535, 65536]),
)


@attrs.frozen
class Drawn:
    """A frame of any kind, also of those that break the protocol."""

    first: int
    size: int
    masked: bool
    wide: int

    @property
    def payload(self):
        return (frame(BINARY) * (self.size // 2 + 1))[: self.size]  # looks like frames itself

    @property
    def header(self):
        flag = 0x80 if self.masked else 0
        least = 0 if self.size < 126 else 2 if self.size < 65536 else 8
        wide = max(self.wide, least)
        short = {0: self.size, 2: 126, 8: 127}[wide]
        length = self.size.to_bytes(wide, "big") if wide else b""
        return bytes((self.first, flag | short)) + length + (MASK if self.masked else b"")

    @property
    def raw(self):
        return self.header + (unmask(self.payload, MASK) if self.masked else self.payload)

    @property
    def is_data(self):
        return not self.first & 8

    @property
    def ends_message(self):
        return self.is_data and self.first >= 0x80

    @property
    def is_small_control(self):
        return not self.is_data and self.size <= 125

    @property
    def is_noise(self):
        return self.first == 0x81 and self.size <= NOISE_BYTES and is_even(self.payload[:64])


def is_even(text):
    return len(text) % 2 == 0


FRAMES = st.builds(
    Drawn,
    first=st.one_of(
        st.sampled_from([0x81, 0x82, 0x01, 0x80, 0x00, 0x88, 0x89, 0x8A]), st.integers(0, 255)
    ),
    size=SIZES,
    masked=st.booleans(),
    wide=st.sampled_from([0, 0, 2, 8]),
)


def allowed(frames, limit):
    """The frames before the one that makes a message too long, and what is said of that one."""
    message = 0
    for place, each in enumerate(frames):
        if each.is_data:
            message += each.size
            if limit and message > limit:
                return frames[:place], [TooLong(message)]
            if each.ends_message:
                message = 0
    return frames, []


def cut(frames, places, at_ends):
    """The bytes of frames, cut at these places, and between frames too or not."""
    stream = b"".join(each.raw for each in frames)
    at = {place % (len(stream) + 1) for place in places}
    if at_ends:
        at |= set(accumulate(len(each.raw) for each in frames))
    return [stream[a:b] for a, b in pairwise(sorted(at | {0, len(stream)}))]


def joined(pieces):
    """Pieces as they would be in one segment."""
    whole = []
    for piece in pieces:
        if isinstance(piece, bytes) and whole and isinstance(whole[-1], bytes):
            whole[-1] += piece
        elif piece != b"":
            whole.append(piece)
    return whole


def out(pieces):
    return raw(piece for piece in pieces if not isinstance(piece, TooLong))


def counted(frames, size, peeks):
    """Whether the first `size` bytes of frames end with one, their messages, and bytes of use."""
    at, at_boundary, messages, used = 0, size == 0, 0, 0
    for each in frames:
        if at >= size:
            break
        messages += each.ends_message
        if each.is_data and not (peeks and each.is_noise):
            used += min(len(each.raw), size - at)
        at += len(each.raw)
        at_boundary = at == size
    return at_boundary, messages, used


def expected(frames, end):
    return joined(
        [
            Control(each.first & 15, each.payload, each.raw) if each.is_small_control else each.raw
            for each in frames
        ]
        + end
    )


@given(
    frames=st.lists(FRAMES, max_size=8),
    places=st.lists(st.integers(0, 10**6), max_size=30),
    limit=st.one_of(st.just(0), st.integers(1, 200), st.just(70000)),
    peeks=st.booleans(),
    at_ends=st.booleans(),
)
@example([Drawn(0x81, 64, True, 0)] * 3, range(300), 0, True, False)
@example([Drawn(0x81, 5, False, 0)] * 3, [], 9, True, True)
@example([Drawn(0x89, 8, False, 0)] * 3, range(0, 30, 2), 0, False, True)
@example([Drawn(0x82, 300, False, 2)], range(0, 304, 2), 0, False, True)
@example([Drawn(0x82, 10, False, 0)], [], 9, False, True)
@example([Drawn(0x82, 5, False, 0), Drawn(0, 3, False, 0)], [6, 8], 0, False, False)
def test_any_frames_are_the_same_in_any_segments(frames, places, limit, peeks, at_ends):
    passing, end = allowed(frames, limit)
    tracker = FrameTracker(limit, is_even if peeks else None)
    pieces, told = [], []

    for segment in cut(frames, places, at_ends):
        pieces += tracker.feed(segment)
        told.append((len(out(pieces)), tracker.at_boundary, tracker.messages, tracker.used))

    assert joined(pieces) == expected(passing, end)
    assert out(pieces) == b"".join(each.raw for each in passing)
    assert told == [(size, *counted(passing, size, peeks)) for size, *_ in told]


@pytest.mark.parametrize("opcode", [TEXT, PING])
def test_no_more_than_so_many_frames_are_read_in_one_go(opcode):
    tracker = FrameTracker()
    stream = frame(opcode, b"x") * (2 * MOST_AT_ONCE + 1)

    passed, pending = [], []
    for data in (stream, b"", b""):
        passed.append(raw(tracker.feed(data)))
        pending.append(tracker.pending)

    whole = frame(opcode, b"x") * MOST_AT_ONCE
    assert passed == [whole, whole, frame(opcode, b"x")]
    assert pending == [True, True, False]
