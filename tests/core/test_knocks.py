"""Why a session's server does not answer is said in a sentence, with what to do."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plane_tx.core.knocks import Door, Knock, Outcome, door_of, status_of, why_unanswered
from plane_tx.core.listeners import Listener
from plane_tx.core.model import (
    Address,
    Executable,
    Key,
    Readiness,
    Ready,
    Spec,
    State,
    StatusEntry,
    Waiting,
)
from tests.sessions import make_session

CONTAINER = Door(8080, Readiness(), in_container=True)
PROCESS = Door(20001, Readiness(), in_container=False)
REFUSED = Knock(Outcome.REFUSED)
HEED = "have it listen on the port that is named in its environment as PORT"


def at(*places: str) -> tuple[Listener, ...]:
    """Listeners at `host:port` each."""
    parted = [place.rsplit(":", 1) for place in places]
    return tuple(Listener(host, int(port)) for host, port in parted)


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (
            at("0.0.0.0:3000"),
            (
                f"port 8080 is not open; the container listens on 3000: {HEED}, or name its own as"
                " executable.port"
            ),
        ),
        (
            at("0.0.0.0:3000", ":::3000", "0.0.0.0:5000"),
            (
                f"port 8080 is not open; the container listens on 3000 and 5000: {HEED}, or name"
                " its own as executable.port"
            ),
        ),
        (
            at("127.0.0.1:3000", "0.0.0.0:5000"),
            (
                f"port 8080 is not open; the container listens on 127.0.0.1:3000 and 5000: {HEED},"
                " or name its own as executable.port"
            ),
        ),
        (
            (),
            ("port 8080 is not open, and the container listens on no port: its log may say why"),
        ),
        (
            at("127.0.0.1:8080"),
            (
                "the container listens on 127.0.0.1:8080 only: have it listen on 0.0.0.0 (all"
                " addresses)"
            ),
        ),
        (
            at("127.0.0.1:8080", "::1:8080"),
            (
                "the container listens on 127.0.0.1:8080 and [::1]:8080 only: have it listen on"
                " 0.0.0.0 (all addresses)"
            ),
        ),
        (
            at(":::8080"),
            "the container listens on [::]:8080 only: have it listen on 0.0.0.0 (all addresses)",
        ),
        (
            at("0.0.0.0:8080"),
            "port 8080 cannot be reached from this box: see to its network and its firewall",
        ),
        (None, f"port 8080 is not open: {HEED}, at all addresses (0.0.0.0)"),
    ],
)
def test_a_container_that_refuses_is_told_where_it_listens(
    found: tuple[Listener, ...] | None, why: str
) -> None:
    assert why_unanswered(CONTAINER, REFUSED, found) == why


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (
            at("127.0.0.1:3000"),
            f"port 20001 is not open; its process listens on 3000: {HEED}",
        ),
        ((), "port 20001 is not open, and its process listens on no port: its log may say why"),
        (at("::1:20001"), "its process listens on [::1]:20001 only: have it listen on 127.0.0.1"),
        (
            at("10.0.0.5:20001"),
            "its process listens on 10.0.0.5:20001 only: have it listen on 127.0.0.1",
        ),
        (None, f"port 20001 is not open: {HEED}"),
    ],
)
def test_a_process_that_refuses_is_told_where_it_listens(
    found: tuple[Listener, ...] | None, why: str
) -> None:
    assert why_unanswered(PROCESS, REFUSED, found) == why


@pytest.mark.parametrize(
    ("knock", "why"),
    [
        (
            Knock(Outcome.SILENT),
            "port 8080 is open, but HEAD / gets no answer",
        ),
        (
            Knock(Outcome.HUNG_UP),
            "port 8080 is open, but hangs up on HEAD / without an answer",
        ),
        (
            Knock(Outcome.UNREACHABLE),
            "port 8080 cannot be reached from this box: see to its network and its firewall",
        ),
        (
            Knock(Outcome.ANSWERED, b"SSH-2.0-Open"),
            ("port 8080 is open, but what answers there is not HTTP: have it speak HTTP/1.1 there"),
        ),
        (
            Knock(Outcome.ANSWERED, b"\x15\x03\x03\x00\x02\x02\x28"),
            "port 8080 is open, but it speaks TLS: have it speak plain HTTP there",
        ),
    ],
)
def test_a_port_that_is_open_is_told_by_how_it_answers(knock: Knock, why: str) -> None:
    assert why_unanswered(CONTAINER, knock, at("0.0.0.0:8080")) == why


def test_a_wrong_status_is_told_with_those_that_are_right() -> None:
    door = Door(8080, Readiness("/up", (200, 204)), in_container=True)

    why = why_unanswered(door, Knock(Outcome.ANSWERED, b"HTTP/1.1 404"), None)

    assert why == (
        "port 8080 is open, but HEAD /up is answered by 404, not by 200 or 204: have it answer so,"
        " or ask for another path or status (readiness)"
    )


def test_a_published_port_that_hangs_up_may_not_be_open_at_all() -> None:
    hung_up = Knock(Outcome.HUNG_UP)

    container = why_unanswered(CONTAINER, hung_up, None)
    elsewhere = why_unanswered(CONTAINER, hung_up, at("0.0.0.0:3000"))
    process = why_unanswered(PROCESS, hung_up, None)

    assert container.startswith("port 8080 is not open, or hangs up without an answer: ")
    assert elsewhere.startswith("port 8080 is not open; the container listens on 3000: ")
    assert process == "port 20001 is open, but hangs up on HEAD / without an answer"


def test_what_is_long_is_cut() -> None:
    door = Door(8080, Readiness("/" + "x" * 5000), in_container=True)
    many = tuple(Listener("0.0.0.0", port) for port in range(1, 1001))

    path = why_unanswered(door, Knock(Outcome.SILENT), None)
    ports = why_unanswered(door, REFUSED, many)

    assert len(path) < 200
    assert "listens on 1, 2, 3, 4, 5 and 995 others: " in ports


@given(
    st.sampled_from([CONTAINER, PROCESS]),
    st.builds(Knock, st.sampled_from(Outcome), st.binary(max_size=20)),
    st.none()
    | st.lists(
        st.builds(
            Listener,
            st.sampled_from(["0.0.0.0", "::", "127.0.0.1", "::1", "10.0.0.5"]),
            st.sampled_from([80, 8080, 20001]),
        )
    ),
)
def test_whatever_is_found_there_is_a_short_sentence_that_names_a_port(
    door: Door, knock: Knock, found: list[Listener] | None
) -> None:
    why = why_unanswered(door, knock, found)

    assert len(why) < 300
    assert str(door.port) in why


@pytest.mark.parametrize(
    ("answer", "status"),
    [(b"HTTP/1.1 404 Not", 404), (b"HTTP/1.0 200", 200), (b"HTTP/2 200", None), (b"", None)],
)
def test_a_status_is_read_from_the_first_bytes(answer: bytes, status: int | None) -> None:
    assert status_of(answer) == status


def in_state(state: State, executable: Executable) -> Door | None:
    history = [StatusEntry(state, 0.0)]
    return door_of(make_session("id", Key(""), "", Spec(executable), 0.0, 1, history=history))


def test_the_door_is_the_port_that_the_session_itself_knows() -> None:
    published = Waiting(Address("127.0.0.1", 49153))

    container = in_state(published, Executable(image="image", port=9000))
    process = in_state(published, Executable(command=("run",)))

    assert container == Door(9000, Readiness(), in_container=True)
    assert process == Door(49153, Readiness(), in_container=False)


def test_a_session_that_does_not_wait_has_no_door() -> None:
    assert in_state(Ready(Address("127.0.0.1", 1)), Executable(image="image")) is None
