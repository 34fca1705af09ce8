"""What is hostile passes as exactly one message that has one meaning, or not at all."""

from __future__ import annotations

import attrs
import pytest

from plane_tx.supervisor import CONFIRM_SECONDS
from tests.proxy.hostile_bodies import BODIES
from tests.proxy.hostile_heads import HEADS
from tests.proxy.hostile_responses import POISON, REPLIES
from tests.proxy.strict_http import Message, read_request, read_response
from tests.proxy.world import OK, World

REQUESTS = (*HEADS, *BODIES)

#: Longer messages are not cut at every byte.
SHORT = 400


@pytest.fixture(scope="module")
def place():
    """A proxy with a ready session, for every case: each has connections of its own."""
    world = World()
    world.session()
    yield world
    world.finish()


class Recorder:
    """A session's server: it writes down each whole request, and answers it."""

    def __init__(self, world):
        self.world = world
        self.requests = []
        self.unread = {}
        self.touched = False

    def serve(self):
        """Take what has come, and answer, until there is nothing more to take."""
        while self.world.dialled:
            if self.world.withdrawn:
                self.world.decline()
            else:
                self.unread[self.world.accept()] = b""
        for wire in self.unread:
            self._read(wire)
        if self.world.dialled:
            self.serve()

    def _read(self, wire):
        unread = self.unread[wire] + wire.get()
        self.touched = self.touched or bool(unread)
        while read := read_request(unread):
            request, rest = read
            assert rest == b"", "more than was asked for"
            self.requests.append(request)
            wire.send(OK)
            unread = wire.get()
        self.unread[wire] = unread


@attrs.frozen
class Outcome:
    """What a session was asked, and the statuses that the client was told."""

    requests: list[Message]
    statuses: tuple[int, ...]
    touched: bool = attrs.field(eq=False)


def ask(world, pieces):
    """What becomes of what a client says in `pieces`."""
    recorder = Recorder(world)
    client = world.client()
    for piece in pieces:
        client.send(piece)
        recorder.serve()
    told, statuses = client.get(), []
    while told:
        answer, told = read_response(told)
        statuses.append(answer.status)
    for wire, unread in recorder.unread.items():
        assert not unread or wire.aborted, "a request that is never complete"
    leave(world)
    return Outcome(recorder.requests, tuple(statuses), recorder.touched)


def leave(world):
    """Everybody leaves, so that the next case finds no connection."""
    while world.dialled:
        world.decline()
    for wire in world.wires:
        wire.hang_up()
    world.wires.clear()
    world.advance(0)


def filled(world, data):
    return data.replace(b"@@", world.token.encode())


def cuts(data):
    """Every place to cut `data` in two; of what is long only some."""
    return range(1, len(data)) if len(data) <= SHORT else (1, len(data) // 2, len(data) - 1)


def bytewise(data):
    return [data[at : at + 1] for at in range(len(data))]


def told(world, reply, pieces, *before):
    """What a client reads when its session says `pieces`, and whether that connection is kept.

    Before that the session said each of `before` to a request of its own on that connection.
    """
    client, upstream = world.client(), None
    for each in before:
        client.send(world.get(world.token))
        upstream = upstream or world.accept()
        upstream.send(each)
        client.clear()
    client.send(world.get(world.token, method=reply.method))
    say(upstream or world.accept(), reply, pieces)
    if before and world.dialled:
        # It hung up without a word, which a kept connection may do: so it does on a new one.
        say(world.accept(), reply, pieces)
    answer = final_answer(world, client, reply.method.encode())
    other = world.client()
    other.send(world.get(world.token))
    kept = not world.dialled
    other.hang_up()
    leave(world)
    return (*answer, kept)


def say(upstream, reply, pieces):
    for piece in pieces:
        upstream.send(piece)
    if reply.hangs_up:
        upstream.hang_up()


def read_final(said, method):
    """The reply that is no interim one, and what follows it; None when it is not whole."""
    read = read_response(said, method)
    while read is not None and read[0].status < 200:
        read = read_response(read[1], method)
    return read


def final_answer(world, client, method):
    """The one status and body that a client reads; 0 when it is cut short."""
    said = client.get()
    read = read_final(said, method)
    if read is None:
        world.advance(CONFIRM_SECONDS)  # whether the session has ended, which would be the cause
        read = read_final(said + client.get(), method)
    if read is None:
        assert client.closing or client.aborted, "a reply that is never complete"
        return 0, b""
    message, rest = read
    assert rest == b"", "more than one reply"
    return message.status, b"" if message.status == 502 else message.body


def meaning(outcome):
    """Request lines, bodies and statuses, as `Hostile` has them."""
    asked = tuple((each.first.removesuffix(b" HTTP/1.1"), each.body) for each in outcome.requests)
    return asked, outcome.statuses


def test_the_tables_are_as_long_as_was_asked_and_name_each_case_once():
    assert len({case.name for case in REQUESTS}) == len(REQUESTS) >= 150
    assert len({reply.name for reply in REPLIES}) == len(REPLIES) >= 40


def test_a_hostile_request_is_refused_or_forwarded_as_what_it_means(place):
    expected = {case.name: (case.forwarded, case.statuses) for case in REQUESTS}

    outcomes = {case.name: ask(place, [filled(place, case.said)]) for case in REQUESTS}

    assert {name: meaning(outcome) for name, outcome in outcomes.items()} == expected


def test_nothing_is_forwarded_that_concerns_one_connection_only(place):
    outcomes = {case: ask(place, [filled(place, case.said)]) for case in REQUESTS}

    forwarded = [(case, each) for case, outcome in outcomes.items() for each in outcome.requests]
    assert [case.name for case, each in forwarded if each.trailers] == []
    assert [case.name for case, each in forwarded if set(each.fields) & set(case.without)] == []


def test_nothing_of_a_refused_head_reaches_a_session(place):
    data = {case.name: filled(place, case.said) for case in HEADS}

    outcomes = {
        name: ask(place, bytewise(said) if len(said) <= SHORT else [said])
        for name, said in data.items()
    }

    assert [name for name, outcome in outcomes.items() if outcome.touched] == []


def test_it_makes_no_difference_where_a_hostile_request_is_cut(place):
    odd = []

    for case in REQUESTS:
        data = filled(place, case.said)
        whole = ask(place, [data])
        parts = [ask(place, [data[:cut], data[cut:]]) for cut in cuts(data)]
        odd += [case.name] * any(part != whole for part in parts)

    assert odd == []


def test_a_hostile_reply_is_passed_on_as_one_or_not_at_all(place):
    expected = {reply.name: (reply.status, reply.body, reply.kept) for reply in REPLIES}

    outcomes = {reply.name: told(place, reply, [reply.said]) for reply in REPLIES}

    assert outcomes == expected


@pytest.mark.parametrize("before", [(OK,), (OK, OK), (POISON, OK)])
def test_a_hostile_reply_is_no_other_on_a_connection_that_was_kept(place, before):
    expected = {reply.name: (reply.status, reply.body, reply.kept) for reply in REPLIES}

    outcomes = {reply.name: told(place, reply, [reply.said], *before) for reply in REPLIES}

    assert outcomes == expected


def test_it_makes_no_difference_where_a_hostile_reply_is_cut(place):
    odd = []

    for reply in REPLIES:
        data = reply.said
        parts = [told(place, reply, [data[:cut], data[cut:]]) for cut in cuts(data)]
        odd += [reply.name] * any(part != (reply.status, reply.body, reply.kept) for part in parts)

    assert odd == []
