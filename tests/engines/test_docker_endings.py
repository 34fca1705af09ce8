"""How sessions end at Docker, in ways that only a fake can show, and what they leave behind."""

from collections.abc import Iterator

import attrs
import pytest
from twisted.internet.defer import Deferred

from plane_tx.core.errors import EndedAtOnce, EngineUnavailable, SpawnFailed
from plane_tx.core.model import Address
from plane_tx.core.record import RECORD_LABEL
from plane_tx.engines.docker.client import LOG_SECONDS
from plane_tx.engines.docker.watch import FIRST_DELAY_SECONDS
from plane_tx.engines.interface import (
    EngineLost,
    EngineRegained,
    Progress,
    Reachable,
    SessionExited,
    Unreachable,
)
from plane_tx.engines.lines import TAIL_LINES
from tests.conftest import LoggedFailures
from tests.engines.fake_docker import (
    DEAF,
    ENDS_AT_ONCE,
    OBEYS,
    FakeContainer,
    FakeDocker,
    World,
    claim,
    fake_world,
    out,
    untimed,
)

INSPECT = ("GET", "/containers/.+/json")


@pytest.fixture
def fake() -> FakeDocker:
    return FakeDocker()


@pytest.fixture
def world(fake: FakeDocker) -> Iterator[World]:
    yield from fake_world(fake)


def unheard(_: Progress) -> None:
    """For a spawn whose progress is not the point."""


async def outcome(waiting: Deferred[object]) -> object:
    try:
        return await waiting
    except Exception as error:  # noqa: BLE001  # whatever it failed with is what is asked for
        return error


def told(world: World, kind: type) -> list[object]:
    return [event for event in world.witness.seen if isinstance(event, kind)]


# What sessions leave behind.


@claim
async def test_what_is_left_is_told_after_the_end_and_before_it_is_removed(
    world: World, fake: FakeDocker
) -> None:
    session_id = await world.spawned(OBEYS)
    gate = fake.gate("DELETE", "/containers/.+")

    fake.exit(f"plane-{session_id}", 5)
    await gate.come
    (left,) = world.witness.left

    assert told(world, SessionExited) == [SessionExited(session_id, 5, False, out("up"))]
    assert left.session_id == session_id
    assert left.remains.account["State"]["ExitCode"] == 5
    assert untimed(left.remains.log) == out("up")
    gate.open()


@claim
async def test_an_end_is_told_before_what_is_left_is_read(world: World, fake: FakeDocker) -> None:
    session_id = await world.spawned(OBEYS)
    for number in range(TAIL_LINES):
        fake.print(f"plane-{session_id}", b"%d\n" % number)

    exited = world.witness.next(SessionExited)

    fake.exit(f"plane-{session_id}", 5)
    await exited
    left_by_then = list(world.witness.left)
    await world.sleep(1)

    (left,) = world.witness.left
    assert left_by_then == []
    assert len(left.remains.log) == TAIL_LINES + 1


@claim
async def test_what_is_left_is_read_to_its_end_though_somebody_sweeps_meanwhile(
    world: World, fake: FakeDocker
) -> None:
    session_id = await world.spawned(OBEYS)
    exited = world.witness.next(SessionExited)
    fake.exit(f"plane-{session_id}", 5)
    await exited
    gate = fake.gate("GET", "/containers/.+/logs")
    await gate.come

    removing = world.engine.remove(session_id)
    await world.sleep(1)
    gate.open()
    await removing

    (left,) = world.witness.left
    assert untimed(left.remains.log) == out("up")
    assert fake.containers == {}


@claim
async def test_no_secret_stands_in_what_is_told_of_a_container(
    world: World, fake: FakeDocker
) -> None:
    order = attrs.evolve(
        world.order(OBEYS, env={"PASSWORD": "hunter2"}),
        labels={RECORD_LABEL: "hunter2", "plane-tx.label.team": "blue"},
    )
    await world.engine.spawn(order, unheard)

    remains = await world.engine.remains(order.session_id)

    assert "hunter2" not in repr(remains)
    config = remains.account["Config"]
    assert config["Env"] == ["PASSWORD=…", "PORT=…"]
    assert config["Labels"]["plane-tx.label.team"] == "blue"


@claim
async def test_there_are_no_remains_of_what_is_gone_or_another_instances(
    world: World, fake: FakeDocker
) -> None:
    other = world.another_engine("other")
    order = world.order(OBEYS)
    await other.spawn(order, unheard)

    assert await world.engine.remains("nobody") is None
    assert await world.engine.remains(order.session_id) is None

    await other.kill(order.session_id)


@claim
async def test_what_cannot_be_read_does_not_keep_a_session_from_being_removed(
    world: World, fake: FakeDocker
) -> None:
    session_id = await world.spawned(OBEYS)
    exited = world.witness.next(SessionExited)
    fake.exit(f"plane-{session_id}", 5)
    await exited
    fake.refuse(*INSPECT, 500)
    await world.sleep(1)
    fake.relent()
    await world.sleep(10)

    assert world.witness.left == []
    assert fake.containers == {}


@claim
async def test_a_log_that_cannot_be_read_leaves_the_account(world: World, fake: FakeDocker) -> None:
    session_id = await world.spawned(OBEYS)
    fake.refuse("GET", "/containers/.+/logs", 501, "logging driver does not support reading")

    await world.engine.kill(session_id)

    (left,) = world.witness.left
    assert left.remains.account["State"]["ExitCode"] == 137
    assert left.remains.log == ()


@claim
async def test_a_container_that_could_not_start_leaves_its_account(
    world: World, fake: FakeDocker
) -> None:
    order = world.order(OBEYS, network_name="nowhere")

    failed = await outcome(world.engine.spawn(order, unheard))

    (left,) = world.witness.left
    assert isinstance(failed, SpawnFailed)
    assert left.session_id == order.session_id
    assert left.remains.account["State"]["Status"] == "created"


@claim
async def test_an_end_at_once_for_want_of_memory_says_so(world: World, fake: FakeDocker) -> None:
    order = world.order(ENDS_AT_ONCE)
    gate = fake.gate(*INSPECT)
    spawning = outcome(world.engine.spawn(order, unheard))
    waiting = Deferred.fromCoroutine(spawning)
    await gate.come
    fake.named(f"plane-{order.session_id}").oom = True
    gate.open()

    ended = await waiting

    assert isinstance(ended, EndedAtOnce)
    assert ended.oom


# Ends that the stream of events does not tell of.


@claim
async def test_a_list_tells_of_ends_that_no_event_told_of(world: World, fake: FakeDocker) -> None:
    session_id = await world.spawned(OBEYS)
    await world.sleep(1)
    fake.exit(f"plane-{session_id}", 4, quiet=True)
    await world.sleep(60)
    before = told(world, SessionExited)

    await world.engine.list_running()
    await world.sleep(1)

    assert before == []
    assert told(world, SessionExited) == [SessionExited(session_id, 4, False, out("up"))]
    assert told(world, EngineLost) == []


@claim
async def test_a_list_without_an_answer_puts_the_stream_of_events_in_doubt(
    world: World, fake: FakeDocker
) -> None:
    await world.spawned(OBEYS)
    await world.sleep(1)
    gate = fake.gate("GET", "/containers/json")
    lost = world.witness.next(EngineLost)

    listed = await outcome(world.engine.list_running())
    await lost

    assert isinstance(listed, EngineUnavailable)
    assert told(world, EngineLost) == [EngineLost(str(listed))]
    gate.open()
    await world.sleep(10)
    assert told(world, EngineRegained) == [EngineRegained()]


@claim
async def test_an_end_within_a_break_of_the_stream_is_told_as_soon_as_it_is_open_again(
    world: World, fake: FakeDocker
) -> None:
    session_id = await world.spawned(OBEYS)
    await world.sleep(1)
    fake.break_events()
    fake.exit(f"plane-{session_id}", 4, quiet=True)
    broke = world.clock.seconds()

    await world.witness.next(SessionExited)

    assert world.clock.seconds() - broke == pytest.approx(FIRST_DELAY_SECONDS)
    assert told(world, SessionExited) == [SessionExited(session_id, 4, False, out("up"))]


@pytest.mark.parametrize(
    ("status", "message"), [(304, ""), (404, "No such container"), (409, "is not running")]
)
@pytest.mark.parametrize("call", ["stop", "kill"])
@claim
async def test_what_says_that_it_has_ended_already_is_an_end_and_no_error(
    world: World, fake: FakeDocker, call: str, status: int, message: str
) -> None:
    session_id = await world.spawned(DEAF)
    fake.refuse("POST", f"/containers/.+/{call}", status, message)
    end = world.engine.stop if call == "stop" else lambda each, _: world.engine.kill(each)
    ending = end(session_id, 5)
    await world.sleep(1)

    fake.exit(f"plane-{session_id}", 9, quiet=True)

    await ending
    assert told(world, SessionExited) == [SessionExited(session_id, 9, False, out("up"))]
    assert fake.containers == {}


# Who is to be found where.


@claim
async def test_whose_end_is_seen_is_unreachable_before_anything_else_is_asked(
    world: World, fake: FakeDocker
) -> None:
    session_id = await world.spawned(OBEYS)
    gate = fake.gate(*INSPECT)

    fake.exit(f"plane-{session_id}", 5)
    await gate.come

    assert world.witness.moves == [Unreachable(session_id)]
    assert told(world, SessionExited) == []
    gate.open()


@claim
async def test_who_had_an_address_that_another_has_now_is_unreachable_by_then(
    world: World, fake: FakeDocker
) -> None:
    session_id = await world.spawned(OBEYS)
    fake.exit(f"plane-{session_id}", 9, quiet=True)

    await world.spawned(OBEYS)

    assert world.witness.moves == [Unreachable(session_id)]


@claim
async def test_who_has_ended_before_its_address_is_told_is_unreachable_too(
    world: World, fake: FakeDocker
) -> None:
    gate = fake.gate(*INSPECT)
    order = world.order(OBEYS)
    spawning = world.engine.spawn(order, unheard)
    await gate.come
    container = fake.named(f"plane-{order.session_id}")
    fake.emit(container, "die", exitCode="5")
    await world.settle()
    gate.open()

    address = await spawning

    assert world.witness.moves[0] == Unreachable(order.session_id)
    await world.sleep(1)
    assert world.witness.moves[1:] == [Reachable(order.session_id, address)]


@claim
async def test_who_is_started_again_by_hand_is_reachable_where_it_is_now(
    world: World, fake: FakeDocker
) -> None:
    session_id = await world.spawned(OBEYS)
    container = started_again(fake, f"plane-{session_id}", "172.18.7.7")

    await world.sleep(1)
    moves, exits = list(world.witness.moves), told(world, SessionExited)
    fake.exit(container.id, 4)
    await world.sleep(1)

    assert moves == [Unreachable(session_id), Reachable(session_id, Address("172.18.7.7", 8080))]
    assert exits == []
    assert told(world, SessionExited) == [SessionExited(session_id, 4, False, out("up"))]


@claim
async def test_who_is_started_again_and_cannot_be_reached_has_ended(
    world: World, fake: FakeDocker
) -> None:
    session_id = await world.spawned(OBEYS)
    started_again(fake, f"plane-{session_id}", "")

    await world.sleep(1)

    assert [type(event) for event in world.witness.seen] == [SessionExited]
    assert fake.containers == {}


@claim
async def test_who_is_unreachable_while_docker_does_not_answer_is_found_by_the_next_list(
    world: World, fake: FakeDocker
) -> None:
    session_id = await world.spawned(OBEYS)
    fake.refuse(*INSPECT, 500)
    started_again(fake, f"plane-{session_id}", "172.18.7.7")
    await world.sleep(1)
    before = list(world.witness.moves)

    fake.relent()
    await world.sleep(10)

    assert before == [Unreachable(session_id)]
    assert world.witness.moves[1:] == [Reachable(session_id, Address("172.18.7.7", 8080))]


@claim
async def test_to_adopt_one_that_is_watched_is_to_ask_where_it_is(
    world: World, fake: FakeDocker
) -> None:
    order = world.order(OBEYS)
    await world.engine.spawn(order, unheard)
    started_again(fake, f"plane-{order.session_id}", "172.18.7.7")
    await world.sleep(0.1)

    address = await world.engine.adopt(order.session_id, order.executable, start=False)

    assert address == Address("172.18.7.7", 8080)
    fake.exit(f"plane-{order.session_id}", 4, quiet=True)
    gone = await outcome(world.engine.adopt(order.session_id, order.executable, start=False))
    assert isinstance(gone, SpawnFailed)


def started_again(fake: FakeDocker, name: str, address: str) -> FakeContainer:
    """Restart a container as `docker restart` does: all of it is over before anybody asks."""
    container = fake.named(name)
    fake.exit(name, 143)
    container.status, container.address = "running", address
    return container


# A Docker that hangs, or answers what nobody understands.


@claim
async def test_a_log_that_hangs_does_not_keep_an_end_from_being_told(
    world: World, fake: FakeDocker
) -> None:
    session_id = await world.spawned(OBEYS)
    gate = fake.gate("GET", "/containers/.+/logs")
    fake.exit(f"plane-{session_id}", 4)

    await world.sleep(LOG_SECONDS + 1)
    exits = told(world, SessionExited)
    await world.sleep(LOG_SECONDS)

    assert exits == [SessionExited(session_id, 4)]
    assert fake.containers == {}
    gate.open()


@pytest.mark.parametrize("said", [b"{}", b"[]", b"null", b'{"State": 7, "Config": {}}'])
@claim
async def test_a_container_that_docker_cannot_describe_is_not_left_behind(
    world: World, fake: FakeDocker, said: bytes
) -> None:
    fake.say("GET", f"/containers/{1:064x}/json", 200, said)

    failed = await outcome(world.engine.spawn(world.order(OBEYS), unheard))
    fake.relent()
    await world.sleep(10)

    assert isinstance(failed, EngineUnavailable)
    assert "its account of a container is not understood" in str(failed)
    assert fake.containers == {}


@claim
async def test_a_container_whose_id_is_not_told_is_looked_for_by_its_name(
    world: World, fake: FakeDocker
) -> None:
    fake.say("POST", "/containers/create", 201, b"{}")
    order = world.order(OBEYS)

    failed = await outcome(world.engine.spawn(order, unheard))

    assert isinstance(failed, KeyError)
    assert f"GET /containers/plane-{order.session_id}/json 1.47" in fake.calls


@claim
async def test_an_event_that_is_not_understood_is_not_shown(
    world: World, fake: FakeDocker, logged_failures: LoggedFailures
) -> None:
    await world.spawned(OBEYS)
    for listener, _ in fake._listeners:
        listener.write(b'{"Actor": {"Attributes": {"plane-tx.session": "hunter2"}}}\n')
    await world.sleep(1)

    (logged,) = logged_failures.events

    assert "hunter2" not in repr(logged)
    assert logged_failures.claim(KeyError)
