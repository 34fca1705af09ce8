"""Where frames begin and end, however their bytes come."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plane_tx.core.wsframes import (
    CLOSE,
    PING,
    PONG,
    Control,
    FrameTracker,
    close_payload,
    control_frame,
    header_size,
)
from tests.proxy.frames import BINARY, TEXT, frame


def fed(tracker, *segments):
    return [piece for segment in segments for piece in tracker.feed(segment)]


def raw(pieces):
    return b"".join(piece.raw if isinstance(piece, Control) else piece for piece in pieces)


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


@pytest.mark.parametrize(
    ("data", "expected"),
    [(b"", None), (b"\x81", None), (b"\x81\x05", 2), (b"\x81\xfe\0\0", None), (b"\x81\x7e\0\0", 4)],
)
def test_the_size_of_a_header_is_known_when_it_is_whole(data, expected):
    assert header_size(data, 0) == expected


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


FRAMES = st.tuples(
    st.sampled_from([0, TEXT, BINARY, CLOSE, PING, PONG]),
    st.one_of(st.integers(0, 130), st.sampled_from([65535, 65536])),
    st.booleans(),
    st.booleans(),
).map(
    lambda drawn: (
        frame(drawn[0], b"\xa5" * drawn[1], masked=drawn[2], fin=drawn[3]),
        drawn[0],
        drawn[1],
    )
)


@given(frames=st.lists(FRAMES, max_size=6), places=st.lists(st.integers(0, 10**6), max_size=30))
def test_any_frames_pass_the_same_in_any_segments(frames, places):
    stream = b"".join(whole for whole, _, _ in frames)
    at = sorted({place % (len(stream) + 1) for place in places})
    segments = [stream[a:b] for a, b in zip([0, *at], [*at, len(stream)], strict=True)]
    ends, end = {0}, 0
    for whole, _, _ in frames:
        end += len(whole)
        ends.add(end)
    tracker, pieces, boundaries = FrameTracker(), [], []

    for segment in segments:
        pieces += tracker.feed(segment)
        boundaries.append((tracker.at_boundary, len(raw(pieces))))

    assert raw(pieces) == stream
    assert controls(pieces) == [
        (opcode, b"\xa5" * size) for _, opcode, size in frames if opcode >= 8 and size <= 125
    ]
    assert all(claimed == (given_out in ends) for claimed, given_out in boundaries)


@given(data=st.binary(max_size=60), place=st.integers(0, 60))
def test_any_bytes_at_all_are_borne(data, place):
    tracker = FrameTracker()

    passed = raw(fed(tracker, data[:place], data[place:]))

    assert data.startswith(passed)
    assert len(data) - len(passed) <= 131


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


@given(
    st.lists(
        st.tuples(
            st.sampled_from([0, TEXT, BINARY, PING, PONG]), st.integers(0, 300), st.booleans()
        )
    ),
    st.integers(1, 40),
)
def test_messages_are_counted_alike_however_their_bytes_come(frames, step):
    data = b"".join(frame(op, bytes(size), fin=fin or op >= PING) for op, size, fin in frames)
    tracker = FrameTracker()

    for place in range(0, len(data), step):
        tracker.feed(data[place : place + step])

    assert tracker.messages == sum(fin for op, _, fin in frames if op < PING)
