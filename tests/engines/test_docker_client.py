"""How we talk to Docker: which version, what its silence and its errors become, and how streams
are read.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import error as net
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.testing import MemoryReactorClock, StringTransport

from plane_tx.core.errors import ConfigError, EngineUnavailable
from plane_tx.core.model import LogLine, LogStream
from plane_tx.engines.docker.daemon import MOST_AT_ONCE, SHORT_CALL_SECONDS, unix_daemon
from plane_tx.engines.docker.errors import (
    Conflict,
    DockerError,
    NoSuchObject,
    NotDocker,
    NotModified,
)
from plane_tx.engines.docker.streams import JsonLines, LogFrames, Stream, nanoseconds
from plane_tx.engines.lines import MAX_LINE_BYTES
from plane_tx.flights import to_the_end
from tests.engines.fake_docker import (
    ENDS_AT_ONCE,
    OBEYS,
    FakeDocker,
    World,
    err,
    fake_world,
    log_frame,
    out,
    scenario,
    untimed,
)


@pytest.fixture
def fake() -> FakeDocker:
    return FakeDocker()


@pytest.fixture
def world(fake: FakeDocker) -> Iterator[World]:
    yield from fake_world(fake)


@pytest.mark.parametrize(
    ("theirs", "agreed"), [("1.50", "1.47"), ("1.47", "1.47"), ("1.41", "1.41"), ("1.40", "1.40")]
)
@scenario
async def test_the_newest_version_that_both_speak_is_used(
    world: World, fake: FakeDocker, theirs: str, agreed: str
) -> None:
    fake.versions["ApiVersion"] = theirs

    await world.docker.containers([])
    await world.docker.containers([])

    assert fake.calls == ["GET /version", *2 * [f"GET /containers/json {agreed}"]]


@pytest.mark.parametrize(("oldest", "newest"), [("1.12", "1.39"), ("1.48", "1.60")])
@scenario
async def test_too_old_or_too_new_a_docker_is_said_to_be_so(
    world: World, fake: FakeDocker, oldest: str, newest: str
) -> None:
    fake.versions |= {"ApiVersion": newest, "MinAPIVersion": oldest}

    with pytest.raises(
        EngineUnavailable, match=rf"speaks API {oldest} to {newest}, this server 1\.40 to 1\.47"
    ):
        await world.docker.containers([])


@scenario
async def test_after_docker_was_away_the_version_is_agreed_on_anew(
    world: World, fake: FakeDocker
) -> None:
    await world.docker.containers([])
    fake.go_down()
    with pytest.raises(EngineUnavailable):
        await world.docker.containers([])
    fake.come_back()
    fake.versions["ApiVersion"] = "1.43"

    await world.docker.containers([])

    assert fake.calls[-2:] == ["GET /version", "GET /containers/json 1.43"]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            net.ConnectError(2, ""),
            "(no such file or directory): start it, or set [engine] docker",
        ),
        (
            net.ConnectionRefusedError(111, ""),
            "(connection refused): start it, or set [engine] docker",
        ),
        (
            net.ConnectError(13, ""),
            "(permission denied): let this user use the socket (usually",
        ),
    ],
)
@scenario
async def test_no_connection_names_the_socket_the_reason_and_the_cure(
    world: World, fake: FakeDocker, error: Exception, message: str
) -> None:
    fake.go_down(error)

    with pytest.raises(EngineUnavailable) as raised:
        await world.docker.version()

    assert str(raised.value).startswith(f"Docker does not answer at fake.sock {message}")


@scenario
async def test_a_connection_lost_during_a_call_is_no_answer(world: World, fake: FakeDocker) -> None:
    gate = fake.gate("POST", "/containers/x/kill")
    gate.come.addCallback(lambda _: fake.go_down())

    with pytest.raises(EngineUnavailable, match=r"fake\.sock \(Connection was closed cleanly"):
        await world.docker.kill("x")


@scenario
async def test_a_short_call_has_a_time_limit_and_hangs_up(world: World, fake: FakeDocker) -> None:
    fake.gate("GET", "/containers/json")

    with pytest.raises(EngineUnavailable, match=r"did not answer within 30 s"):
        await world.docker.containers([])

    assert world.clock.seconds() == SHORT_CALL_SECONDS
    await world.settle()
    assert fake.connections == 0


@scenario
async def test_a_wait_has_none(world: World, fake: FakeDocker) -> None:
    fake.gate("POST", "/containers/x/wait")
    waiting = Deferred.fromCoroutine(world.docker.wait("x", "removed"))

    await world.sleep(100_000)

    assert not waiting.called
    waiting.cancel()
    with pytest.raises(CancelledError):
        await waiting


@pytest.mark.parametrize("when", ["connecting", "waiting"])
@scenario
async def test_a_cancelled_call_hangs_up(world: World, fake: FakeDocker, when: str) -> None:
    gate = fake.gate("GET", "/version")
    calling = Deferred.fromCoroutine(world.docker.version())
    if when == "waiting":
        await gate.come

    calling.cancel()

    with pytest.raises(CancelledError):
        await calling
    await world.settle()
    assert fake.connections == 0


@pytest.mark.parametrize(
    ("status", "error"),
    [(304, NotModified), (404, NoSuchObject), (409, Conflict), (500, DockerError)],
)
@scenario
async def test_an_error_has_its_type_and_dockers_words(
    world: World, fake: FakeDocker, status: int, error: type[DockerError]
) -> None:
    fake.refuse("POST", "/containers/x/kill", status, "because")

    with pytest.raises(DockerError) as raised:
        await world.docker.kill("x")

    assert type(raised.value) is error
    assert raised.value.status == status
    assert raised.value.message == ("" if status == 304 else "because")


@scenario
async def test_an_error_that_is_not_json_is_told_as_it_is(world: World, fake: FakeDocker) -> None:
    fake.say("GET", "/version", 502, b"bad gateway\n")

    with pytest.raises(DockerError, match=r"^bad gateway$"):
        await world.docker.version()


@scenario
async def test_what_is_not_docker_is_said_to_be_so(world: World, fake: FakeDocker) -> None:
    fake.say("GET", "/version", 200, b"<html>")

    with pytest.raises(EngineUnavailable, match=r"what answers at fake\.sock is not Docker"):
        await world.docker.version()


@scenario
async def test_idle_connections_are_used_again_and_let_go(world: World, fake: FakeDocker) -> None:
    for _ in range(5):
        await world.docker.version()
    assert fake.connections == 1

    await world.sleep(31)

    assert fake.connections == 0


@scenario
async def test_closing_breaks_off_streams_and_calls_and_forbids_more(
    world: World, fake: FakeDocker
) -> None:
    stream = await world.docker.events({"event": [], "label": []})
    following = Deferred.fromCoroutine(world.docker.follow_json(stream, lambda _: None))
    gate = fake.gate("GET", "/version")
    calling = Deferred.fromCoroutine(world.docker.version())
    await gate.come

    await world.docker.close()

    assert fake.connections == 0
    for broken in (following, calling, Deferred.fromCoroutine(world.docker.version())):
        with pytest.raises(EngineUnavailable):
            await broken


@scenario
async def test_closing_while_connecting_leaves_no_connection(
    world: World, fake: FakeDocker
) -> None:
    calling = Deferred.fromCoroutine(world.docker.version())

    await world.docker.close()

    with pytest.raises(EngineUnavailable):
        await calling
    await world.settle()
    assert fake.connections == 0


@scenario
async def test_a_stream_can_be_hung_up_unread_and_after_its_end(
    world: World, fake: FakeDocker
) -> None:
    unread = await world.docker.events({"event": [], "label": []})
    unread.hang_up()
    with pytest.raises(EngineUnavailable):
        await world.docker.follow_json(unread, lambda _: None)
    read = await world.docker.events({"event": [], "label": []})
    following = Deferred.fromCoroutine(world.docker.follow_json(read, lambda _: None))
    await world.sleep(0)
    fake.break_events()
    await following
    read.hang_up()

    await world.settle()
    assert len(fake._listeners) == 0


@scenario
async def test_a_stream_that_is_not_json_is_broken_off(world: World, fake: FakeDocker) -> None:
    fake.say("GET", "/events", 200, b"nonsense\n")
    stream = await world.docker.events({})

    with pytest.raises(EngineUnavailable, match=r"is not Docker \(Expecting value"):
        await world.docker.follow_json(stream, lambda _: None)


@scenario
async def test_no_lines_are_asked_for_as_none(world: World) -> None:
    created = await world.docker.create("plane-x", world.config(ENDS_AT_ONCE))
    await world.docker.start(created)

    assert await world.docker.logs(created, 0) == ()
    assert untimed(await world.docker.logs(created, 1)) == err("two")


@scenario
async def test_names_are_quoted(world: World, fake: FakeDocker) -> None:
    with pytest.raises(NoSuchObject):
        await world.docker.inspect("../../version?")

    assert fake.calls[-1] == "GET /containers/..%2F..%2Fversion%3F/json 1.47"


@scenario
async def test_wait_returns_at_once_for_what_does_not_run(world: World) -> None:
    created = await world.docker.create("plane-x", world.config(OBEYS))

    assert await world.docker.wait(created, "not-running") is None


def in_pieces(data: bytes, size: int) -> Iterator[bytes]:
    return (data[start : start + size] for start in range(0, len(data), size))


@pytest.mark.parametrize("size", [1, 3, 100])
def test_json_lines_are_found_however_they_are_cut(size: int) -> None:
    told = []
    lines = JsonLines(told.append)

    for piece in in_pieces(b'{"a":1}\r\n\n{"b":"\xc3\xa9"}\n{"c', size):
        lines(piece)

    assert told == [{"a": 1}, {"b": "é"}]


def test_a_line_without_an_end_is_not_kept() -> None:
    lines = JsonLines(lambda _: None)

    with pytest.raises(NotDocker, match="without an end"):
        lines(b"x" * (2 << 20))


AT = 1_700_000_000_000_000_007


def frame(stream: int, data: bytes) -> bytes:
    return struct.pack(">BxxxI", stream, len(data)) + data


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_frames_are_found_however_they_are_cut(size: int) -> None:
    told = []
    frames = LogFrames(told.append)

    data = log_frame(AT, 1, b"a") + log_frame(AT + 1, 2, b"err\r\n") + log_frame(AT + 2, 1, b"b\n")
    data += log_frame(AT + 3, 1, b"\xff") + log_frame(AT + 4, 2, b"")
    for piece in in_pieces(data, size):
        frames(piece)
    frames.finish()

    assert told == [
        LogLine(AT + 1, LogStream.STDERR, "err"),
        LogLine(AT, LogStream.STDOUT, "ab"),
        LogLine(AT + 3, LogStream.STDOUT, "\N{REPLACEMENT CHARACTER}"),
    ]


def test_of_a_long_line_only_the_beginning_is_kept() -> None:
    told = []
    frames = LogFrames(told.append)

    for at in range(4):
        frames(log_frame(at, 1, b"x" * MAX_LINE_BYTES))
    frames(log_frame(4, 1, b"\n"))

    assert told == [LogLine(0, LogStream.STDOUT, "x" * MAX_LINE_BYTES)]


def test_a_log_says_when_it_can_be_told_no_more() -> None:
    room: Deferred[None] = Deferred()
    frames = LogFrames(lambda line: room if line.text == "full" else None)

    assert frames(log_frame(AT, 1, b"one\n")) is None
    assert frames(log_frame(AT, 1, b"full\n") + log_frame(AT, 1, b"more\n")) is room
    assert frames(log_frame(AT, 1, b"next\n")) is None


class Source(StringTransport):
    """The transport of a response's body, which the test writes."""

    def deliverBody(self, body: Any) -> None:
        self.body = body
        body.makeConnection(self)


def test_a_sink_that_can_take_no_more_holds_its_source_back() -> None:
    rooms: list[Deferred[None]] = []

    def sink(_data: bytes) -> Deferred[None]:
        rooms.append(Deferred())
        return rooms[-1]

    source = Source()
    Stream(source).follow(sink)
    states = [source.producerState]
    for _ in range(2):
        source.body.dataReceived(b"x")
    states.append(source.producerState)
    for room in rooms:
        room.callback(None)
        states.append(source.producerState)

    assert states == ["producing", "paused", "paused", "producing"]


@scenario
async def test_only_so_much_is_read_from_docker_in_one_turn(world: World, fake: FakeDocker) -> None:
    await world.docker.version()

    assert {pipe._client.bufferSize for pipe in fake._pipes} == {MOST_AT_ONCE}


@pytest.mark.parametrize("garbage", [b"plain text", frame(4, b""), b"\1\0\0\0\xff\xff\xff\xff"])
def test_what_has_no_frames_is_no_log(garbage: bytes) -> None:
    with pytest.raises(NotDocker, match="no frames"):
        LogFrames(lambda _: None)(garbage)


def test_what_docker_complains_of_within_a_log_is_not_the_sessions() -> None:
    told = []

    LogFrames(told.append)(frame(3, b"Error grabbing logs: EOF\n"))

    assert told == []


@pytest.mark.parametrize(
    ("stamp", "at_ns"),
    [
        (b"1970-01-01T00:00:00Z", 0),
        (b"2023-11-14T22:13:20.000000007Z", AT),
        (b"2023-11-15T00:13:20.000000007+02:00", AT),
        (b"2023-11-14T22:13:20.5Z", 1_700_000_000_500_000_000),
        (b"yesterday", None),
        (b"", None),
    ],
)
def test_a_time_is_read_to_the_nanosecond(stamp: bytes, at_ns: int | None) -> None:
    assert nanoseconds(stamp) == at_ns


@scenario
async def test_a_long_line_is_one_though_docker_sends_it_in_pieces(
    world: World, fake: FakeDocker
) -> None:
    created = await world.docker.create("plane-x", world.config(OBEYS))
    await world.docker.start(created)
    for piece in (b"long ", b"longer ", b"longest\n"):
        fake.print(created, piece)

    assert untimed(await world.docker.logs(created, 3)) == out("long longer longest")


def test_a_socket_that_is_not_there_is_said_to_be_missing(tmp_path: Path) -> Deferred[None]:
    from twisted.internet import reactor

    async def asking() -> None:
        daemon = unix_daemon(reactor, str(tmp_path / "none.sock"))
        with pytest.raises(EngineUnavailable, match=r"none\.sock \(no such file or directory\)"):
            await daemon.version()
        await daemon.close()

    return Deferred.fromCoroutine(asking())


def test_a_path_that_no_socket_can_have_is_a_wrong_configuration() -> None:
    with pytest.raises(ConfigError, match=r"\[engine\] docker_socket: expected at most 107 bytes"):
        unix_daemon(MemoryReactorClock(), "/" + "x" * 107)


def test_work_that_is_cancelled_from_within_is_cancelled() -> None:
    async def gives_up() -> None:
        raise CancelledError

    work = Deferred.fromCoroutine(to_the_end(gives_up()))

    work.addErrback(lambda failure: failure.check(CancelledError))
    assert work.result is CancelledError


@scenario
async def test_an_error_is_told_on_one_line_and_not_at_any_length(
    world: World, fake: FakeDocker
) -> None:
    fake.refuse("GET", "/version", 500, "no such\n\x1b[31mcommand: " + 100_000 * "x")

    with pytest.raises(DockerError) as raised:
        await world.docker.version()

    assert raised.value.message.startswith("no such [31mcommand: xxx")
    assert len(raised.value.message) < 2001


@pytest.mark.parametrize("said", [b"[]", b'"x"', b'{"ApiVersion": "new"}', b'{"ApiVersion": 1.4}'])
@scenario
async def test_versions_that_nobody_understands_are_no_dockers(
    world: World, fake: FakeDocker, said: bytes
) -> None:
    fake.say("GET", "/version", 200, said)

    with pytest.raises(EngineUnavailable, match=r"is not Docker \(it tells no versions"):
        await world.docker.version()


@scenario
async def test_a_stream_of_events_that_does_not_begin_is_given_up(
    world: World, fake: FakeDocker
) -> None:
    gate = fake.gate("GET", "/events")

    with pytest.raises(EngineUnavailable, match=r"did not answer within 30 s"):
        await world.docker.events({"event": [], "label": []})

    gate.open()
    await world.docker.version()


@scenario
async def test_what_a_registry_says_is_told_no_longer_than_that_either(
    world: World, fake: FakeDocker
) -> None:
    fake.registry["app:1"] = [{"error": "denied\n" + 100_000 * "x"}]

    with pytest.raises(DockerError) as raised:
        await world.docker.pull("app", "1", None, lambda _: None)

    assert raised.value.message.startswith("denied xxx")
    assert len(raised.value.message) < 2001
