"""What every engine promises, claimed of Docker: of the fake and of the real one alike."""

import os
from collections.abc import Coroutine, Iterator
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import CancelledError, Deferred

from plane_tx.core.errors import EndedAtOnce, ImageUnavailable, InvalidRequest, SpawnFailed
from plane_tx.core.model import Address, Executable, PullPolicy, ResourceLimits
from plane_tx.engines.docker.daemon import unix_daemon
from plane_tx.engines.interface import (
    Creating,
    Pulling,
    Running,
    SessionExited,
    SpawnOrder,
)
from tests.engines.fake_docker import (
    DEAF,
    ENDS_AT_ONCE,
    ENDS_SOON,
    OBEYS,
    RUNS_OUT_OF_MEMORY,
    SHOWS_ENVIRONMENT,
    FakeDocker,
    Witness,
    World,
    claim,
    fake_world,
)

SOCKET = os.environ.get("PLANE_TX_TEST_DOCKER", "/var/run/docker.sock")


@pytest.fixture(params=["fake", pytest.param("docker", marks=pytest.mark.docker)])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    if request.param == "fake":
        yield from fake_world(FakeDocker())
    else:
        from twisted.internet import reactor

        def run(scenario: Coroutine[Any, Any, None]) -> Deferred[None]:
            return Deferred.fromCoroutine(scenario).addTimeout(60, reactor)

        world = World(reactor, lambda: unix_daemon(reactor, SOCKET), run)
        yield world
        pytest_twisted.blockon(run(world.close()))
        assert not [one for one in reactor.getReaders() if "Client" in type(one).__name__]
        assert reactor.getDelayedCalls() == []


@claim
async def test_a_session_runs_at_the_address_its_spawn_gives(world: World) -> None:
    order = world.order(OBEYS)

    address = await world.engine.spawn(order, lambda _: None)

    found = await world.docker.inspect(f"plane-{order.session_id}")
    assert found["State"]["Running"]
    (binding,) = found["NetworkSettings"]["Ports"]["8080/tcp"]
    assert binding["HostIp"] == "127.0.0.1"
    assert address == Address("127.0.0.1", int(binding["HostPort"]))


@claim
async def test_its_environment_is_the_orders_before_the_executables(world: World) -> None:
    order = world.order(SHOWS_ENVIRONMENT, env={"PORT": "1", "WHO": "me"})

    await world.engine.spawn(order, lambda _: None)

    lines = ()
    while not lines:
        await world.sleep(0.05)
        lines = await world.engine.logs(order.session_id, 10)
    assert lines == ("8080 me",)


@claim
async def test_labels_come_back_with_the_list(world: World) -> None:
    session_id = await world.spawned(OBEYS)

    assert await world.engine.list_running() == [Running(session_id, {"plane-tx.key": "k"}, True)]


@claim
async def test_another_instances_sessions_are_none_of_ours(world: World) -> None:
    session_id = await world.spawned(OBEYS)
    other = world.another_engine("another")

    await other.stop(session_id, 1)
    await other.kill(session_id)
    await other.remove(session_id)

    assert await other.list_running() == []
    assert await other.logs(session_id, 10) == ()
    assert (await world.docker.inspect(f"plane-{session_id}"))["State"]["Running"]


@claim
async def test_progress_is_told_creating_once(world: World) -> None:
    told = []

    await world.engine.spawn(world.order(OBEYS), told.append)

    assert told == [Creating()]


@claim
async def test_an_exit_is_told_once_with_its_code_and_last_lines_and_then_removed(
    world: World,
) -> None:
    exited = world.witness.next(SessionExited)

    session_id = await world.spawned(ENDS_SOON)

    assert await exited == SessionExited(session_id, 3, False, ("one", "two"))
    await world.engine.stop(session_id, 1)
    assert not await world.exists(session_id)
    assert len(world.witness.seen) == 1


@claim
async def test_an_image_that_ends_at_once_is_told_one_way_or_the_other(world: World) -> None:
    order = world.order(ENDS_AT_ONCE)
    exited = world.witness.next(SessionExited)

    try:
        await world.engine.spawn(order, lambda _: None)
    except EndedAtOnce as ended:
        told = (ended.exit_code, ended.log_tail)
    else:
        event = await exited
        told = (event.exit_code, event.log_tail)
        await world.engine.stop(order.session_id, 1)

    # Docker keeps the order within each of stdout and stderr, not between them.
    assert (told[0], set(told[1])) == (3, {"one", "two"})
    assert not await world.exists(order.session_id)
    assert len(world.witness.seen) <= 1


@claim
async def test_a_session_that_runs_out_of_memory_is_told_to_have(world: World) -> None:
    order = world.order(
        RUNS_OUT_OF_MEMORY, limits=ResourceLimits(memory_limit_bytes=16 << 20, pids_limit=9)
    )
    exited = world.witness.next(SessionExited)

    await world.engine.spawn(order, lambda _: None)

    assert await exited == SessionExited(order.session_id, 137, oom=True)


@claim
async def test_an_id_may_be_used_again_as_soon_as_its_end_is_told(world: World) -> None:
    order = world.order(OBEYS)
    exited = world.witness.next(SessionExited)
    exited.addCallback(lambda _: world.engine.spawn(order, lambda _: None))
    await world.engine.spawn(order, lambda _: None)

    await world.engine.kill(order.session_id)

    await exited
    assert (await world.docker.inspect(f"plane-{order.session_id}"))["State"]["Running"]


@claim
async def test_stop_asks_and_has_told_when_it_fires(world: World) -> None:
    session_id = await world.spawned(OBEYS)
    await world.sleep(0.2)

    await world.engine.stop(session_id, 5)

    assert world.witness.seen == [SessionExited(session_id, 7, False, ("up",))]
    assert not await world.exists(session_id)


@claim
async def test_a_kill_overtakes_a_stop_that_is_not_heeded(world: World) -> None:
    session_id = await world.spawned(DEAF)
    await world.sleep(0.2)
    began = world.clock.seconds()
    stops = [world.engine.stop(session_id, 20), world.engine.stop(session_id, 20)]

    await world.engine.kill(session_id)
    for stop in stops:
        await stop

    assert world.clock.seconds() - began < 15
    assert world.witness.seen == [SessionExited(session_id, 137, False, ("up",))]


@claim
async def test_one_who_waits_for_a_stop_may_leave(world: World) -> None:
    session_id = await world.spawned(OBEYS)
    await world.sleep(0.2)
    left, stayed = world.engine.stop(session_id, 5), world.engine.stop(session_id, 5)

    left.cancel()

    with pytest.raises(CancelledError):
        await left
    await stayed
    assert [event.exit_code for event in world.witness.seen] == [7]


@claim
async def test_stop_and_kill_of_what_is_gone_or_never_was_are_done_already(world: World) -> None:
    await world.engine.stop("never-was", 1)
    await world.engine.kill("never-was")
    session_id = await world.spawned(OBEYS)
    await world.engine.kill(session_id)

    await world.engine.stop(session_id, 1)
    await world.engine.kill(session_id)

    assert len(world.witness.seen) == 1


@claim
async def test_a_container_removed_by_others_is_an_exit(world: World) -> None:
    session_id = await world.spawned(OBEYS)
    exited = world.witness.next(SessionExited)

    await world.docker.remove(f"plane-{session_id}")

    assert (await exited).session_id == session_id


@claim
async def test_remove_takes_all_and_tells_nobody(world: World) -> None:
    session_id = await world.spawned(OBEYS)

    await world.engine.remove(session_id)
    await world.engine.remove(session_id)

    assert not await world.exists(session_id)
    marker = await world.spawned(OBEYS)
    await world.engine.kill(marker)
    assert [event.session_id for event in world.witness.seen] == [marker]


@claim
async def test_logs_are_the_last_lines_and_none_when_it_is_gone(world: World) -> None:
    session_id = await world.spawned(ENDS_SOON)
    lines = ()
    while not lines:
        await world.sleep(0.05)
        lines = await world.engine.logs(session_id, 1)
    await world.engine.kill(session_id)

    assert lines in (("one",), ("two",))
    assert await world.engine.logs(session_id, 1) == ()


@claim
async def test_a_session_of_an_earlier_run_is_adopted_and_its_end_told(world: World) -> None:
    order = world.order(OBEYS)
    address = await world.engine.spawn(order, lambda _: None)
    await world.engine.close()
    later = world.another_engine()
    later.start()
    witness = Witness(later)

    assert await later.adopt(order.session_id, order.executable) == address
    await later.kill(order.session_id)

    assert [event.exit_code for event in witness.seen] == [137]
    assert world.witness.seen == []


@claim
async def test_what_does_not_run_is_not_adopted(world: World) -> None:
    with pytest.raises(SpawnFailed, match="does not run"):
        await world.engine.adopt("never-was", Executable(image="x"))


@claim
async def test_an_id_is_held_once(world: World) -> None:
    session_id = await world.spawned(OBEYS)

    with pytest.raises(SpawnFailed, match="held already"):
        await world.engine.spawn(world.order(OBEYS, session_id), lambda _: None)

    assert (await world.docker.inspect(f"plane-{session_id}"))["State"]["Running"]


@claim
async def test_a_name_that_is_taken_fails_the_spawn_and_leaves_its_owner_alone(
    world: World,
) -> None:
    session_id = await world.spawned(OBEYS)
    other = world.another_engine()

    with pytest.raises(SpawnFailed, match="already in use"):
        await other.spawn(world.order(OBEYS, session_id), lambda _: None)

    assert (await world.docker.inspect(f"plane-{session_id}"))["State"]["Running"]


@claim
async def test_a_start_that_fails_leaves_nothing(world: World) -> None:
    order = world.order(OBEYS, network_name="no-such-network")

    with pytest.raises(SpawnFailed, match="no-such-network"):
        await world.engine.spawn(order, lambda _: None)

    assert not await world.exists(order.session_id)


@claim
async def test_a_cancelled_spawn_leaves_nothing(world: World) -> None:
    order = world.order(OBEYS)
    creating: Deferred[None] = Deferred()
    spawning = world.engine.spawn(
        order, lambda told: creating.callback(None) if told == Creating() else None
    )
    await creating

    spawning.cancel()

    with pytest.raises(CancelledError):
        await spawning
    assert not await world.exists(order.session_id)


@claim
async def test_an_image_that_may_not_be_pulled_is_not(world: World) -> None:
    told = []
    executable = Executable(image="plane-tx-test/nowhere", pull_policy=PullPolicy.NEVER)
    order = SpawnOrder("nowhere", executable, {}, {})

    with pytest.raises(ImageUnavailable, match=r"plane-tx-test/nowhere:latest .*No such image"):
        await world.engine.spawn(order, told.append)

    assert told == [Creating()]


@claim
async def test_a_pull_that_fails_says_why(world: World) -> None:
    told = []
    executable = Executable(image="registry.invalid/nowhere:1")

    with pytest.raises(ImageUnavailable, match=r"registry\.invalid/nowhere:1 is not to be had: "):
        await world.engine.spawn(SpawnOrder("nowhere", executable, {}, {}), told.append)

    assert told == [Pulling("registry.invalid/nowhere:1")]


@claim
async def test_limits_and_the_rest_reach_docker(world: World) -> None:
    limits = ResourceLimits(
        cpu_period=50_000,
        cpu_period_percent=50,
        cpu_time_limit=9,
        memory_limit_bytes=64 << 20,
        pids_limit=20,
    )
    order = world.order(OBEYS, limits=limits, user="1000", workdir="/tmp", port=9000)

    body = await _accepted(world, order)

    assert body["HostConfig"]["CpuQuota"] == 25_000
    assert body["HostConfig"]["MemorySwap"] == 64 << 20


async def _accepted(world: World, order: SpawnOrder) -> dict[str, Any]:
    from plane_tx.engines.docker.container import create_body

    await world.engine.spawn(order, lambda _: None)
    return create_body(order, world.instance, "127.0.0.1")


@claim
async def test_health_names_the_version(world: World) -> None:
    health = await world.engine.health()

    assert health.ok
    assert health.version in health.message
    assert health.version[0].isdigit()


def test_check_refuses_what_can_never_run(world: World) -> None:
    world.engine.check(Executable(image="plane-tx-test/busybox"))
    with pytest.raises(InvalidRequest, match=r"spawn_config\.executable\.image: "):
        world.engine.check(Executable(command=("sh",)))
