"""What every engine promises, claimed of Docker: of the fake, the real one and podman alike."""

import os
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import attrs
import pytest
import pytest_twisted
from twisted.internet.defer import CancelledError, Deferred

from plane_tx.core.errors import EndedAtOnce, ImageUnavailable, InvalidRequest, SpawnFailed
from plane_tx.core.listeners import Listener
from plane_tx.core.model import (
    Address,
    Executable,
    Key,
    LogLine,
    PullPolicy,
    ResourceLimits,
    Volume,
)
from plane_tx.core.pulls import Pulling
from plane_tx.engines.docker.container import Place, create_body
from plane_tx.engines.docker.daemon import Daemon, unix_daemon
from plane_tx.engines.docker.errors import NoSuchObject
from plane_tx.engines.docker.networks import NetworkSettings
from plane_tx.engines.interface import (
    Created,
    Creating,
    Progress,
    Running,
    SessionExited,
    SpawnOrder,
)
from plane_tx.engines.threads import threads_of
from tests.engines import podman
from tests.engines.fake_docker import (
    DEAF,
    ENDS_AT_ONCE,
    ENDS_SOON,
    LISTENS,
    OBEYS,
    RUNS_OUT_OF_MEMORY,
    SHOWS_ENVIRONMENT,
    TALKS,
    FakeDocker,
    Witness,
    World,
    claim,
    err,
    fake_world,
    out,
    untimed,
)

SOCKET = os.environ.get("PLANE_TX_TEST_DOCKER", "/var/run/docker.sock")


@pytest.fixture
def mount_base(tmp_path: Path) -> Path:
    return tmp_path / "mounts"


@pytest.fixture(scope="module")
def podman_socket() -> Iterator[str]:
    with podman.running() as socket:
        yield socket


@pytest.fixture(
    params=[
        "fake",
        pytest.param("docker", marks=pytest.mark.docker),
        pytest.param("podman", marks=[pytest.mark.docker, pytest.mark.podman]),
    ]
)
def world(request: pytest.FixtureRequest, mount_base: Path, tmp_path: Path) -> Iterator[World]:
    if request.param == "fake":
        yield from fake_world(FakeDocker(tmp_path / "proc"), str(mount_base))
    elif request.param == "docker":
        yield from docker_world(mount_base)
    elif reason := podman.UNLIKE.get(request.node.originalname):
        pytest.skip(f"podman: {reason}")
    else:
        yield from docker_world(
            mount_base, request.getfixturevalue("podman_socket"), podman.NETWORKS
        )


@pytest.fixture
def strict_podman(mount_base: Path, podman_socket: str) -> Iterator[World]:
    """As it is by default, with sessions that are to be kept apart."""
    yield from docker_world(mount_base, podman_socket)


@pytest.fixture
def real_world(mount_base: Path) -> Iterator[World]:
    """For what only a kernel can show."""
    yield from docker_world(mount_base)


def docker_world(
    mount_base: Path, path: str = SOCKET, networks: NetworkSettings | None = None
) -> Iterator[World]:
    from twisted.internet import reactor

    def run(scenario: Coroutine[Any, Any, None]) -> Deferred[None]:
        return Deferred.fromCoroutine(scenario).addTimeout(60, reactor)

    threads = threads_of(reactor)
    world = World(
        reactor,
        lambda: unix_daemon(reactor, path),
        run,
        threads,
        str(mount_base),
        networks or NetworkSettings(),
    )
    yield world
    pytest_twisted.blockon(run(world.close()))
    pytest_twisted.blockon(run(without_volume(unix_daemon(reactor, path), world.instance)))
    assert not [one for one in reactor.getReaders() if "Client" in type(one).__name__]
    assert reactor.getDelayedCalls() == []


@claim
async def test_a_session_runs_at_the_address_its_spawn_gives(world: World) -> None:
    order = world.order(OBEYS)

    address = await world.engine.spawn(order, lambda _: None)

    found = await world.docker.inspect(f"plane-{order.session_id}")
    assert found["State"]["Running"]
    (network,) = found["NetworkSettings"]["Networks"].items()
    assert network[0] == f"plane-tx-{world.instance}"
    assert address == Address(network[1]["IPAddress"], 8080)
    assert not found["HostConfig"].get("PortBindings")


@claim
async def test_its_environment_is_the_orders_before_the_executables(world: World) -> None:
    order = world.order(SHOWS_ENVIRONMENT, env={"PORT": "1", "WHO": "me"})

    await world.engine.spawn(order, lambda _: None)

    assert await printed(world, order.session_id) == out("8080 me")


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
async def test_each_step_of_a_spawn_is_told_once(world: World) -> None:
    told = []

    await world.engine.spawn(world.order(OBEYS), told.append)

    assert told == [Creating(), Created()]


@claim
async def test_an_exit_is_told_once_with_its_code_and_last_lines_and_then_removed(
    world: World,
) -> None:
    exited = world.witness.next(SessionExited)

    session_id = await world.spawned(ENDS_SOON)

    assert await exited == SessionExited(session_id, 3, False, out("one") + err("two"))
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
        told = (ended.exit_code, untimed(ended.log_tail))
    else:
        event = await exited
        told = (event.exit_code, event.log_tail)
        await world.engine.stop(order.session_id, 1)

    # Docker keeps the order within each of stdout and stderr, not between them.
    assert (told[0], set(told[1])) == (3, {*out("one"), *err("two")})
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

    assert world.witness.seen == [SessionExited(session_id, 7, False, out("up"))]
    assert not await world.exists(session_id)


@claim
async def test_a_kill_overtakes_a_stop_that_is_not_heeded(world: World) -> None:
    session_id = await world.spawned(DEAF)
    await world.sleep(0.2)
    # Far longer than a test may take.
    stops = [world.engine.stop(session_id, 600), world.engine.stop(session_id, 600)]

    await world.engine.kill(session_id)
    for stop in stops:
        await stop

    assert world.witness.seen == [SessionExited(session_id, 137, False, out("up"))]


@claim
async def test_an_end_leaves_its_account_and_its_log_behind(world: World) -> None:
    exited = world.witness.next(SessionExited)
    session_id = await world.spawned(ENDS_SOON, env={"PASSWORD": "hunter2"})
    await exited
    await world.engine.stop(session_id, 5)

    (left,) = world.witness.left

    assert left.remains.account["State"]["ExitCode"] == 3
    assert sorted(line.text for line in left.remains.log) == ["one", "two"]
    assert "PASSWORD=…" in left.remains.account["Config"]["Env"]
    assert "hunter2" not in repr(left)
    assert not await world.exists(session_id)


async def stopped_by(world: World, session_id: str, signal: str) -> str:
    """Make an image of a session's container that is stopped by this signal; its name."""
    image = f"plane-tx-test/{session_id}"
    query = {"container": f"plane-{session_id}", "repo": image, "tag": "latest"}
    daemon = world.make_daemon()
    await daemon.ask("POST", "/commit", query, {"StopSignal": signal})
    await daemon.close()
    return image


async def without_image(world: World, image: str) -> None:
    daemon = world.make_daemon()
    await daemon.ask("DELETE", f"/images/{image}", {"force": "1"})
    await daemon.close()


@pytest.mark.docker
def test_a_session_is_stopped_by_the_signal_that_its_image_names(
    real_world: World,
) -> Deferred[None] | None:
    async def scenario() -> None:
        world = real_world
        world.engine.start()
        image = await stopped_by(world, await world.spawned(DEAF), "SIGUSR1")
        script = "trap 'exit 8' USR1; trap '' TERM; echo up; while :; do sleep 0.05; done"
        order = world.order(script)
        executable = attrs.evolve(order.executable, image=image)
        await world.engine.spawn(attrs.evolve(order, executable=executable), lambda _: None)
        await printed(world, order.session_id)

        await world.engine.stop(order.session_id, 30)

        assert [event.exit_code for event in world.witness.seen] == [8]
        await without_image(world, image)

    return real_world.run(scenario())


@pytest.mark.docker
@pytest.mark.parametrize("end", ["stop", "kill"])
def test_a_session_that_somebody_paused_can_be_ended(
    real_world: World, end: str
) -> Deferred[None] | None:
    async def scenario() -> None:
        world = real_world
        world.engine.start()
        session_id = await world.spawned(DEAF)
        daemon = world.make_daemon()
        await daemon.ask("POST", f"/containers/plane-{session_id}/pause")
        await daemon.close()

        await (world.engine.stop(session_id, 0) if end == "stop" else world.engine.kill(session_id))

        assert [event.exit_code for event in world.witness.seen] == [137]
        assert not await world.exists(session_id)

    return real_world.run(scenario())


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

    lines = await printed(world, session_id, 1)

    await world.engine.kill(session_id)
    assert lines in (out("one"), err("two"))
    assert await world.engine.logs(session_id, 1) == ()


async def without_volume(daemon: Daemon, name: str) -> None:
    with suppress(NoSuchObject):
        await daemon.ask("DELETE", f"/volumes/{name}")
    await daemon.close()


async def printed(
    world: World, session_id: str, tail: int = 10, least: int = 1
) -> tuple[LogLine, ...]:
    """Its output as soon as there is some, untimed."""
    lines: tuple[LogLine, ...] = ()
    while len(lines) < least:
        await world.sleep(0.05)
        lines = await world.engine.logs(session_id, tail)
    return untimed(lines)


async def until(world: World, holds: Callable[[], bool]) -> None:
    while not holds():
        await world.sleep(0.05)


@claim
async def test_a_line_has_its_moment_and_logs_can_begin_at_it(world: World) -> None:
    began = world.clock.seconds()
    session_id = await world.spawned(TALKS)
    await printed(world, session_id, least=3)

    first, second, *_ = await world.engine.logs(session_id, 10_000)
    since = await world.engine.logs(session_id, 10_000, second.at_ns)
    later = await world.engine.logs(session_id, 10_000, second.at_ns + 1)

    assert untimed([first, second]) == out("0", "1")
    assert began * 1e9 <= first.at_ns < second.at_ns <= world.clock.seconds() * 1e9
    assert (since[0], later[0].text) == (second, "2")


@claim
async def test_who_follows_a_log_is_told_the_tail_and_all_that_comes(world: World) -> None:
    session_id = await world.spawned(TALKS)
    await printed(world, session_id, least=3)
    (last,) = await world.engine.logs(session_id, 1)
    told: list[LogLine] = []

    following = world.engine.follow_logs(session_id, 10_000, last.at_ns, told.append)
    await until(world, lambda: len(told) > 3)
    assert not following.called
    await world.engine.kill(session_id)

    assert await following is None
    begin = int(last.text)
    assert untimed(told) == out(*(str(begin + at) for at in range(len(told))))


@claim
async def test_what_was_said_before_is_left_out_by_who_follows_without_a_tail(
    world: World,
) -> None:
    session_id = await world.spawned(OBEYS)
    await printed(world, session_id)
    told: list[LogLine] = []

    following = world.engine.follow_logs(session_id, 0, None, told.append)
    await world.sleep(0.2)
    await world.engine.kill(session_id)

    await following
    assert told == []


@claim
async def test_who_leaves_a_log_is_told_no_more(world: World) -> None:
    session_id = await world.spawned(TALKS)
    told: list[LogLine] = []
    stays = world.engine.follow_logs(session_id, 10, None, lambda _: None)

    def leave_at_once(line: LogLine) -> None:
        told.append(line)
        from_within.cancel()

    from_within = world.engine.follow_logs(session_id, 10, None, leave_at_once)
    from_outside = world.engine.follow_logs(session_id, 0, None, lambda _: None)
    await until(world, lambda: from_within.called)
    from_outside.cancel()

    for left in (from_within, from_outside):
        with pytest.raises(CancelledError):
            await left
    await world.sleep(0.2)
    assert untimed(told) == out("0")
    assert not stays.called
    await world.engine.kill(session_id)
    await stays


@claim
async def test_a_follower_that_fails_ends_its_following_alone(world: World) -> None:
    session_id = await world.spawned(TALKS)

    def fail(line: LogLine) -> None:
        raise ValueError(line.text)

    with pytest.raises(ValueError, match=r"^0$"):
        await world.engine.follow_logs(session_id, 10, None, fail)

    assert (await world.docker.inspect(f"plane-{session_id}"))["State"]["Running"]


@claim
async def test_the_log_of_what_is_gone_or_never_was_has_ended(world: World) -> None:
    session_id = await world.spawned(OBEYS)
    await world.engine.kill(session_id)

    for gone in (session_id, "never-was"):
        assert await world.engine.follow_logs(gone, 10, None, lambda _: None) is None
        assert await world.engine.logs(gone, 10) == ()


@claim
async def test_stats_are_told_while_it_runs(world: World) -> None:
    session_id = await world.spawned(OBEYS, limits=ResourceLimits(memory_limit_bytes=64 << 20))
    await world.sleep(0.2)

    stats = await world.engine.stats(session_id)

    await world.engine.kill(session_id)
    assert stats.cpu_seconds > 0
    assert 0 < stats.memory_bytes < stats.memory_limit_bytes == 64 << 20
    assert stats.pids >= 1
    assert (stats.received_bytes, stats.sent_bytes) >= (0, 0)
    assert await world.engine.stats(session_id) is None
    assert await world.engine.stats("never-was") is None


@claim
async def test_no_limit_of_its_own_is_told_as_none(world: World) -> None:
    session_id = await world.spawned(OBEYS)

    assert (await world.engine.stats(session_id)).memory_limit_bytes is None


@claim
async def test_a_container_that_has_ended_takes_nothing(world: World) -> None:
    created = await world.docker.create("plane-ended", world.config(ENDS_AT_ONCE))
    await world.docker.start(created)
    await world.docker.wait(created, "not-running")

    assert await world.engine.stats("ended") is None


@claim
async def test_the_surroundings_that_are_asked_for_reach_docker(world: World) -> None:
    order = world.order(
        OBEYS,
        read_only=True,
        tmpfs={"/scratch": "size=1m,mode=1777"},
        volumes=(Volume(world.instance, "/volume", read_only=True),),
        cap_add=("NET_ADMIN",),
    )
    world.engine.check(order.executable)

    await world.engine.spawn(order, lambda _: None)

    found = (await world.docker.inspect(f"plane-{order.session_id}"))["HostConfig"]
    assert found["ReadonlyRootfs"]
    assert found["Tmpfs"] == {"/scratch": "size=1m,mode=1777"}
    assert found["CapAdd"] in (["NET_ADMIN"], ["CAP_NET_ADMIN"])
    (mount,) = found["Mounts"]
    assert (mount["Type"], mount["Source"], mount["ReadOnly"]) == ("volume", world.instance, True)


@claim
async def test_mounts_are_directories_of_the_key_or_of_a_name_in_its_namespace(
    world: World, mount_base: Path
) -> None:
    sources = []
    for key, mount in ((Key("my key"), True), (Key("k", "team"), True), (Key("k"), "custom/path")):
        order = world.order(OBEYS, key=key, mount=mount)
        world.engine.check(order.executable)
        await world.engine.spawn(order, lambda _: None)

        (made,) = (await world.docker.inspect(f"plane-{order.session_id}"))["HostConfig"]["Mounts"]
        assert (made["Type"], made["Target"]) == ("bind", "/plane-data")
        sources.append(made["Source"])

    made = [mount_base / path for path in ("@default/my%20key", "team/k", "@default/custom%2Fpath")]
    assert sources == list(map(str, made))
    assert all(map(os.path.isdir, sources))


@claim
async def test_a_mount_that_is_a_link_fails_the_spawn(world: World, mount_base: Path) -> None:
    (mount_base / "@default").mkdir(parents=True)
    (mount_base / "@default" / "k").symlink_to("/etc")
    order = world.order(OBEYS, mount=True)

    with pytest.raises(SpawnFailed, match=r"@default/k is a link or a file"):
        await world.engine.spawn(order, lambda _: None)

    assert not await world.exists(order.session_id)


@claim
async def test_plane_s_own_limits_reach_docker_as_plane_has_them(world: World) -> None:
    await world.spawned(OBEYS, session_id="limited", limits=PLANE_LIMITS)

    found = (await world.docker.inspect("plane-limited"))["HostConfig"]

    await world.engine.kill("limited")
    assert (found["CpuPeriod"], found["CpuQuota"]) == (1_000_000, 800_000)
    assert (found["Memory"], found["MemorySwap"]) == (10_000_000, 10_000_000)
    (ulimit,) = found["Ulimits"]
    assert (ulimit["Name"], ulimit["Soft"], ulimit["Hard"]) == ("cpu", 100, 100)


#: Those of Plane's docker_command::test_resource_limits (plane.md part 7).
PLANE_LIMITS = ResourceLimits(
    cpu_period=1_000_000, cpu_period_percent=80, cpu_time_limit=100, memory_limit_bytes=10_000_000
)

# Under cgroup v2 the files are elsewhere, and quota and period are one.
SHOWS_LIMITS = """
ulimit -t
cd /sys/fs/cgroup
cat cpu.max 2>/dev/null || echo $(cat cpu/cpu.cfs_quota_us cpu/cpu.cfs_period_us)
cat memory.max 2>/dev/null || cat memory/memory.limit_in_bytes
trap 'exit 0' TERM; while :; do sleep 0.05; done
"""

WRITES = """
touch /rooted 2>/dev/null || echo read-only
echo scratch > /scratch/file && cat /scratch/file
ls /plane-data && echo kept > /plane-data/file && echo written
trap 'exit 0' TERM; while :; do sleep 0.05; done
"""


@pytest.mark.docker
def test_limits_are_seen_from_inside(real_world: World) -> Deferred[None] | None:
    async def scenario() -> None:
        session_id = await real_world.spawned(SHOWS_LIMITS, limits=PLANE_LIMITS)

        lines = [line.text for line in await printed(real_world, session_id, least=3)]

        # Whole pages only.
        assert lines == ["100", "800000 1000000", str(10_000_000 // 4096 * 4096)]

    return real_world.run(scenario())


@pytest.mark.docker
def test_a_limit_of_the_disk_holds_or_is_a_failure_in_dockers_words(
    real_world: World,
) -> Deferred[None] | None:
    async def scenario() -> None:
        order = real_world.order(OBEYS, limits=ResourceLimits(disk_limit_bytes=1 << 30))
        spawning = real_world.engine.spawn(order, lambda _: None)

        outcome = await spawning.addErrback(lambda failure: failure.value)

        # Most file systems have no quota for this (plane.md 3.4).
        refused = isinstance(outcome, SpawnFailed) and "storage-opt" in str(outcome)
        assert refused or await disk_limit(real_world, order.session_id) == str(1 << 30)

    return real_world.run(scenario())


async def disk_limit(world: World, session_id: str) -> str:
    found = await world.docker.inspect(f"plane-{session_id}")
    return found["HostConfig"]["StorageOpt"]["size"]


@pytest.mark.docker
def test_a_session_that_may_write_nowhere_else_keeps_what_it_writes_in_its_mount(
    real_world: World, mount_base: Path
) -> Deferred[None] | None:
    async def scenario() -> None:
        told = []
        for least in (3, 4):
            session_id = await real_world.spawned(
                WRITES, mount=True, user="1234", read_only=True, tmpfs={"/scratch": "mode=1777"}
            )
            lines = await printed(real_world, session_id, least=least)
            told.append([line.text for line in lines])
            await real_world.engine.kill(session_id)

        assert told[0] == ["read-only", "scratch", "written"]
        assert told[1] == ["read-only", "scratch", "file", "written"]
        assert (mount_base / "@default" / "k" / "file").read_text() == "kept\n"

    return real_world.run(scenario())


@claim
async def test_a_session_of_an_earlier_run_is_adopted_and_its_end_told(world: World) -> None:
    order = world.order(OBEYS)
    address = await world.engine.spawn(order, lambda _: None)
    await world.engine.close()
    later = world.another_engine()
    later.start()
    witness = Witness(later)

    assert await later.adopt(order.session_id, order.executable, False) == address
    await later.kill(order.session_id)

    assert [event.exit_code for event in witness.seen] == [137]
    assert world.witness.seen == []


@claim
async def test_what_was_made_and_not_started_is_started_when_it_is_adopted(world: World) -> None:
    session_id = f"{world.instance}-made"
    order = world.order(OBEYS, session_id)
    await world.docker.create(f"plane-{session_id}", world.config(OBEYS))
    (listed,) = await world.engine.list_running()

    with pytest.raises(SpawnFailed, match="does not run"):
        await world.engine.adopt(session_id, order.executable, False)
    address = await world.engine.adopt(session_id, order.executable, True)
    (running,) = await world.engine.list_running()
    await world.engine.kill(session_id)

    assert (listed.running, listed.fresh) == (False, True)
    assert (running.running, running.fresh) == (True, False)
    assert address.port
    assert [event.exit_code for event in world.witness.seen] == [137]


@claim
async def test_what_has_ended_while_nobody_looked_tells_its_end_and_leaves_nothing(
    world: World,
) -> None:
    order = world.order(ENDS_SOON)
    name = f"plane-{order.session_id}"
    await world.docker.create(name, world.config(ENDS_SOON))
    await world.docker.start(name)
    await world.docker.wait(name, "not-running")

    await world.engine.conclude(order.session_id)

    (event,) = world.witness.seen
    assert (event.session_id, event.exit_code) == (order.session_id, 3)
    assert event.log_tail == out("one") + err("two")
    assert not await world.exists(order.session_id)


@claim
async def test_what_runs_after_all_is_not_concluded(world: World) -> None:
    order = world.order(OBEYS)
    await world.engine.spawn(order, lambda _: None)
    await world.engine.close()
    later = world.another_engine()
    witness = Witness(later)

    await later.conclude(order.session_id)
    await later.adopt(order.session_id, order.executable, False)
    await later.conclude(order.session_id)

    assert witness.seen == []
    await later.kill(order.session_id)


@claim
async def test_what_does_not_run_is_not_adopted(world: World) -> None:
    with pytest.raises(SpawnFailed, match="does not run"):
        await world.engine.adopt("never-was", Executable(image="x"), False)


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
async def test_nothing_is_made_before_its_turn_has_come(world: World) -> None:
    order, turn = world.order(OBEYS), Deferred[None]()
    creating: Deferred[None] = Deferred()

    def report(told: Progress) -> Deferred[None] | None:
        if told != Creating():
            return None
        creating.callback(None)
        return turn

    spawning = world.engine.spawn(order, report)
    await creating
    early = await world.exists(order.session_id)
    turn.callback(None)
    await spawning

    assert not early
    assert await world.exists(order.session_id)


@claim
async def test_an_image_that_may_not_be_pulled_is_not(world: World) -> None:
    told = []
    executable = Executable(image="plane-tx-test/nowhere", pull_policy=PullPolicy.NEVER)
    order = SpawnOrder("nowhere", executable, {}, {}, Key("k"))

    with pytest.raises(ImageUnavailable, match=r"(?i)plane-tx-test/nowhere:latest .*no such image"):
        await world.engine.spawn(order, told.append)

    assert told == [Creating()]


@claim
async def test_where_a_session_listens_is_told_without_what_docker_has_there(world: World) -> None:
    session_id = await world.spawned(LISTENS)

    found = await listening(world, session_id)

    assert [(each.port, each.is_loopback) for each in found] == [(3000, False), (5000, True)]


@claim
async def test_a_session_that_listens_nowhere_says_so(world: World) -> None:
    session_id = await world.spawned(OBEYS)

    assert await world.engine.listening(session_id) == ()


@claim
async def test_where_a_session_that_is_not_there_listens_is_not_known(world: World) -> None:
    ours = await world.spawned(LISTENS)
    other = world.another_engine("another")

    assert await other.listening(ours) is None
    assert await world.engine.listening("nowhere") is None


async def listening(world: World, session_id: str) -> tuple[Listener, ...]:
    """Where a session listens, once it does at two ports."""
    while len(found := await world.engine.listening(session_id) or ()) < 2:
        await world.sleep(0.02)
    return found


@claim
async def test_a_pull_that_fails_says_why(world: World) -> None:
    told = []
    executable = Executable(image="registry.invalid/nowhere:1")

    with pytest.raises(ImageUnavailable, match=r"registry\.invalid/nowhere:1 is not to be had: "):
        await world.engine.spawn(SpawnOrder("nowhere", executable, {}, {}, Key("k")), told.append)

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
    await world.engine.spawn(order, lambda _: None)
    return create_body(order, world.instance, Place("bridge", is_published=True))


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


@pytest.mark.docker
@pytest.mark.podman
def test_podman_runs_nothing_before_sessions_are_allowed_to_reach_each_other(
    strict_podman: World,
) -> Deferred[None] | None:
    async def scenario() -> None:
        with pytest.raises(SpawnFailed, match=r"set \[engine\] inter_container = true"):
            await strict_podman.spawned(OBEYS)

    return strict_podman.run(scenario())
