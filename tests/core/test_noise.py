"""What heartbeats look like, and that nothing else is taken for one."""

import fnmatch
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from plane_tx.core.noise import MOST_CHARACTERS, PRESETS, fault_of, noise_of
from plane_tx.core.wsframes import PEEK_BYTES

V2_REPLIES = (
    '[null,"4","phoenix","phx_reply",{"response":{},"status":"ok"}]',
    '[null,"1057","phoenix","phx_reply",{"status":"ok","response":{}}]',
)
V1_REPLIES = (
    '{"topic":"phoenix","ref":"3","payload":{"status":"ok","response":{}},"event":"phx_reply"}',
    '{"event":"phx_reply","payload":{"response":{},"status":"ok"},"ref":"3","topic":"phoenix"}',
    '{"ref":"1057","event":"phx_reply","payload":{"status":"ok","response":{}},"topic":"phoenix"}',
)


def noise(*ignore):
    is_noise = noise_of(ignore)
    return lambda text: is_noise(text.encode()[:PEEK_BYTES])


@pytest.mark.parametrize(
    ("preset", "text"),
    [
        ("engine.io", "2"),
        ("engine.io", "3"),
        ("engine.io", "2probe"),
        ("engine.io", "3probe"),
        ("phoenix", '[null,"4","phoenix","heartbeat",{}]'),
        ("phoenix", '{"topic":"phoenix","event":"heartbeat","payload":{},"ref":"3"}'),
        ("phoenix", '{"topic":"phoenix","event":"heartbeat","payload":{},"ref":"10573"}'),
        *(("phoenix", reply) for reply in V2_REPLIES + V1_REPLIES),
        ("signalr", '{"type":6}\x1e'),
        ("signalr", "{}"),
        ("jupyter", '["setup", {}]'),
        ("jupyter", '["set_size",24,80,600,800]'),
    ],
)
def test_a_preset_knows_its_heartbeats(preset, text):
    assert noise(preset)(text)


@pytest.mark.parametrize(
    ("preset", "text"),
    [
        ("engine.io", "4"),
        ("engine.io", '42["message","2"]'),
        ("engine.io", "22"),
        ("phoenix", '["4","5","room:1","new_msg",{"text":"phoenix"}]'),
        ("phoenix", '["4","5","room:1","phx_reply",{"status":"ok","response":{}}]'),
        ("phoenix", '{"topic":"phoenix:live_reload","event":"phx_join","payload":{},"ref":"1"}'),
        ("phoenix", '{"topic":"room:1","event":"new_msg","payload":{},"ref":"3"}'),
        ("phoenix", '{"event":"phx_reply","payload":{"response":{"a":1},"status":"ok"},"ref":"3"'),
        ("signalr", '{"type":1,"target":"say","arguments":[]}\x1e'),
        ("signalr", '{"type":6}\x1e{"type":1,"target":"say","arguments":[]}\x1e'),
        ("signalr", '{"I":"0"}'),
        ("jupyter", '["stdin","ls\\r"]'),
        ("jupyter", '["stdout", "a"]'),
        ("jupyter", '{"header":{"msg_type":"execute_request"}}'),
    ],
)
def test_a_preset_knows_what_is_no_heartbeat(preset, text):
    assert not noise(preset)(text)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_is_made_of_patterns_without_a_fault(preset):
    assert fault_of(preset) == ""
    assert [fault_of(pattern) for pattern in PRESETS[preset]] == [""] * len(PRESETS[preset])


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        ("ping", "ping", True),
        ("ping", "pings", False),
        ("ping", "a ping", False),
        ("ping*", "ping", True),
        ("*ping", "a ping", True),
        ("*ping*", "a ping here", True),
        ("p*g", "pg", True),
        ("p*g", "p", False),
        ("aba*aba", "ababa", False),
        ("aba*aba", "abaaba", True),
        ("a*b*c", "a-b-c", True),
        ("a*b*c", "a-c-b", False),
        ("h\u00e9*", "h\u00e9llo", True),
        (".+", "ping", False),
        ("[a]?", "[a]?", True),
    ],
)
def test_a_star_stands_for_anything_and_all_else_for_itself(pattern, text, expected):
    assert noise(pattern)(text) is expected


@pytest.mark.parametrize("size", [PEEK_BYTES, PEEK_BYTES + 1, 500])
def test_a_text_whose_end_is_not_seen_needs_a_star_at_the_end(size):
    text = "a" * size

    assert noise("a*")(text)
    assert noise("*aa*")(text)
    assert noise("a" * PEEK_BYTES + "*")(text)
    assert not noise("*a")(text)


def test_any_entry_may_match():
    is_noise = noise("ping", "signalr", "*pong")

    assert [is_noise(text) for text in ("ping", "{}", "a pong", "x")] == [True, True, True, False]


def test_without_an_entry_nothing_is_noise():
    is_noise = noise()

    assert not is_noise("")
    assert not is_noise("ping")


@pytest.mark.parametrize("entry", ["ping", "*ping", '{"type":"ping"}', "x" * 63, "x" * 64 + "*"])
def test_a_pattern_that_can_match_has_no_fault(entry):
    assert fault_of(entry) == ""


@pytest.mark.parametrize(
    ("entry", "fault"),
    [
        ("", "must have some text besides *"),
        ("***", "must have some text besides *"),
        ("a" + "*" * MOST_CHARACTERS, "must have at most 128 characters"),
        ("\ud800", "must be text that UTF-8 can carry"),
    ],
)
def test_a_fault_is_said(entry, fault):
    assert fault_of(entry) == fault


@pytest.mark.parametrize(
    ("entry", "cure"),
    [
        ("x" * 64, "shorten it to 63 bytes, or end it with *"),
        ("x*" + "x" * 63, "shorten it to 63 bytes, or end it with *"),
        ("x" * 65, "shorten it to 63 bytes"),
        ("\u00e9" * 33, "shorten it to 63 bytes"),
        ("x" * 65 + "*", "shorten it to 64 bytes besides *"),
        ("\u00e9" * 33 + "*", "shorten it to 64 bytes besides *"),
    ],
)
def test_a_pattern_that_is_too_long_to_match_says_its_own_cure(entry, cure):
    why = "can match nothing: only the first 64 bytes of a message are looked at"

    assert fault_of(entry) == f"{why}; {cure}"


@pytest.mark.parametrize(
    ("entry", "preset"),
    [
        ("enginio", "engine.io"),
        ("engine_io", "engine.io"),
        ("Engine.IO", "engine.io"),
        ("pheonix", "phoenix"),
        ("SignalR", "signalr"),
        ("jupiter", "jupyter"),
    ],
)
def test_a_mistyped_preset_is_not_taken_for_a_text(entry, preset):
    assert fault_of(entry) == (
        f'is close to the preset "{preset}": write that, or "{entry}*" if the text itself is meant'
    )


@pytest.mark.parametrize("entry", ["socket.io", "Socket.IO", "socketio"])
def test_whoever_looks_for_socket_io_is_led_to_engine_io(entry):
    assert fault_of(entry) == (
        'is no preset, for the heartbeats of socket.io are those of "engine.io": write that,'
        f' or "{entry}*" if the text itself is meant'
    )


@pytest.mark.parametrize(
    "entry",
    ["ping", "pong", "2", "3", "{}", "[]", "hb", "heartbeat", "keep-alive", "null", "ok", "h",
     "noop", "engine.io*", "enginio*", "socket.io*", "*signalr"],
)  # fmt: skip
def test_what_is_no_presets_name_is_a_text(entry):
    assert fault_of(entry) == ""


LETTERS = st.text("ab*", max_size=12)


@given(pattern=LETTERS.filter(lambda text: text.strip("*")), text=st.text("ab", max_size=70))
@example(pattern="a*", text="a" * 70)
@example(pattern="*a", text="a" * 64)
def test_patterns_match_as_a_shell_would_where_the_end_is_seen(pattern, text):
    seen = text[:PEEK_BYTES]
    shell = re.match(fnmatch.translate(pattern), seen) is not None

    assert noise(pattern)(text) is (shell and (len(seen) < PEEK_BYTES or pattern.endswith("*")))
