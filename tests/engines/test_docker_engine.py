"""What only a fake can show: Docker lost at every turn, cancelling at every point, pulls, and how
an executable is said.
"""

import base64
import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred

from plane_tx.core.errors import (
    EndedAtOnce,
    EngineUnavailable,
    ImageUnavailable,
    InvalidRequest,
    SpawnFailed,
)
from plane_tx.core.hardening import Hardening
from plane_tx.core.model import (
    Address,
    Credentials,
    Executable,
    Key,
    PullPolicy,
    ResourceLimits,
    Volume,
)
from plane_tx.core.pulls import Pulling
from plane_tx.engines.docker.client import DockerClient
from plane_tx.engines.docker.container import Place, check, create_body
from plane_tx.engines.docker.engine import DockerEngine
from plane_tx.engines.docker.images import unavailable
from plane_tx.engines.docker.stats import stats_of
from plane_tx.engines.interface import (
    Created,
    Creating,
    EngineLost,
    EngineRegained,
    EngineStats,
    Progress,
    Running,
    SessionExited,
    SpawnOrder,
)
from tests.engines.fake_docker import (
    DEAF,
    ENDS_AT_ONCE,
    ENDS_SOON,
    LISTENS,
    OBEYS,
    FakeDocker,
    World,
    claim,
    downloading,
    fake_world,
    out,
    scenario,
)


@pytest.fixture
def fake() -> FakeDocker:
    return FakeDocker()


@pytest.fixture
def world(fake: FakeDocker) -> Iterator[World]:
    yield from fake_world(fake)


def unheard(_: Progress) -> None:
    """For a spawn whose progress is not the point."""


async def outcome(waiting: Deferred[object]) -> object:
    """What comes of it, an error being an outcome like others."""
    try:
        return await waiting
    except Exception as error:  # noqa: BLE001 - whatever it is, the test looks at it
        return error


def told(world: World, kind: type) -> list[object]:
    return [event for event in world.witness.seen if isinstance(event, kind)]


# --- spawning, and giving it up


INSPECT_IMAGE = ("GET", "/images/.+/json")
CREATE = ("POST", "/containers/create")
START = ("POST", "/containers/.+/start")
INSPECT = ("GET", "/containers/.+/json")
POINTS = [("GET", "/version"), INSPECT_IMAGE, CREATE, START, INSPECT]


@pytest.mark.parametrize("point", POINTS)
@scenario
async def test_a_spawn_cancelled_at_any_point_leaves_nothing(
    world: World, fake: FakeDocker, point: tuple[str, str]
) -> None:
    gate = fake.gate(*point)
    spawning = world.engine.spawn(world.order(OBEYS), unheard)
    await gate.come

    spawning.cancel()
    spawning.cancel()
    await world.sleep(1)
    gate.open()

    assert isinstance(await outcome(spawning), CancelledError)
    assert fake.containers == {}
    assert world.witness.seen == []


@scenario
async def test_a_create_that_is_cancelled_is_waited_for_not_broken_off(
    world: World, fake: FakeDocker
) -> None:
    gate = fake.gate(*CREATE)
    spawning = world.engine.spawn(world.order(OBEYS), unheard)
    settled = outcome(spawning)
    await gate.come
    spawning.cancel()

    await world.sleep(60)

    assert fake.connections == 1
    gate.open()
    assert isinstance(await settled, CancelledError)
    assert "POST /containers/create 1.47" in fake.calls
    assert not any("start" in call for call in fake.calls)


@scenario
async def test_a_spawn_may_be_cancelled_by_what_its_progress_sets_off(
    world: World, fake: FakeDocker
) -> None:
    spawning = world.engine.spawn(world.order(OBEYS), lambda _: spawning.cancel())

    assert isinstance(await outcome(spawning), CancelledError)
    assert not any("create" in call for call in fake.calls)


@scenario
async def test_a_spawn_that_is_cancelled_by_the_news_that_it_was_created_leaves_nothing(
    world: World, fake: FakeDocker
) -> None:
    spawning = world.engine.spawn(
        world.order(OBEYS), lambda told: spawning.cancel() if told == Created() else None
    )

    assert isinstance(await outcome(spawning), CancelledError)
    await world.sleep(1)
    assert any("create" in call for call in fake.calls)
    assert not any("start" in call for call in fake.calls)
    assert fake.containers == {}


@pytest.mark.parametrize("point", POINTS)
@claim
async def test_docker_lost_at_any_point_of_a_spawn_is_unavailable_and_cleared_away_later(
    world: World, fake: FakeDocker, point: tuple[str, str]
) -> None:
    await world.sleep(0.1)
    if point[1] == "/version":
        fake.go_down()
    gate = fake.gate(*point)
    gate.come.addCallback(lambda _: fake.go_down())

    spawned = await outcome(world.engine.spawn(world.order(OBEYS), unheard))

    assert isinstance(spawned, EngineUnavailable)
    gate.open()
    fake.come_back()
    await world.sleep(10)
    assert fake.containers == {}
    assert told(world, SessionExited) == []


@scenario
async def test_a_create_without_an_answer_is_given_up_and_its_container_removed(
    world: World, fake: FakeDocker
) -> None:
    gate = fake.gate(*CREATE)
    gate.come.addCallback(lambda _: world.clock.callLater(119.9, gate.open))
    fake.refuse("POST", "/containers/.+/start", 500)

    assert isinstance(await outcome(world.engine.spawn(world.order(OBEYS), unheard)), SpawnFailed)
    stuck = fake.gate(*CREATE)
    spawning = world.engine.spawn(world.order(OBEYS), unheard)
    spawned = await outcome(spawning)

    assert "did not answer within 120 s" in str(spawned)
    stuck.open()


@pytest.mark.parametrize(
    ("status", "message", "error"),
    [
        (500, "no space left", SpawnFailed),
        (404, "network x not found", SpawnFailed),
        (404, "No such image: x", ImageUnavailable),
        (400, "invalid reference format", SpawnFailed),
    ],
)
@scenario
async def test_a_create_that_is_refused_says_why(
    world: World, fake: FakeDocker, status: int, message: str, error: type[SpawnFailed]
) -> None:
    fake.refuse(*CREATE, status, message)

    spawned = await outcome(world.engine.spawn(world.order(OBEYS), unheard))

    assert type(spawned) is error
    assert message in str(spawned)


@scenario
async def test_a_container_that_somebody_removes_as_it_starts_is_a_failed_spawn(
    world: World, fake: FakeDocker
) -> None:
    gate = fake.gate(*INSPECT)
    spawning = world.engine.spawn(world.order(OBEYS), unheard)
    await gate.come
    (container,) = fake.containers.values()
    fake.exit(container.id, quiet=True)
    fake.vanish(container.id)
    gate.open()

    assert "somebody removed its container" in str(await outcome(spawning))


@claim
async def test_an_end_before_the_spawn_has_fired_is_told_after_it(
    world: World, fake: FakeDocker
) -> None:
    order = world.order(OBEYS)
    name = f"plane-{order.session_id}"
    gate = fake.gate("POST", "/containers/.+/start")
    spawning = world.engine.spawn(order, unheard)
    await gate.come
    fake.emit(fake.named(name), "die", exitCode="4")
    await world.sleep(0.01)
    gate.open()
    spawning.addCallback(lambda address: world.witness.seen.append(address) or address)
    seen = world.witness.seen

    address = await spawning
    fake.exit(name, 4, quiet=True)
    await world.sleep(1)

    assert seen == [address, SessionExited(order.session_id, 4, False, out("up"))]


@claim
async def test_a_session_that_runs_is_not_told_to_have_ended(
    world: World, fake: FakeDocker
) -> None:
    session_id = await world.spawned(OBEYS)

    fake.emit(fake.named(f"plane-{session_id}"), "die", exitCode="4")
    await world.sleep(1)
    assert world.witness.seen == []

    fake.exit(f"plane-{session_id}", 5)
    await world.sleep(1)
    assert world.witness.seen == [SessionExited(session_id, 5, False, out("up"))]


@scenario
async def test_a_network_that_gives_no_address_is_a_failed_spawn(
    world: World, fake: FakeDocker
) -> None:
    fake.connects = False

    spawned = await outcome(world.engine.spawn(world.order(OBEYS), unheard))

    assert "its network (of its own) gave it no address" in str(spawned)
    assert fake.containers == {}


@claim
async def test_what_docker_says_and_nobody_understands_does_not_end_the_watch(
    world: World, fake: FakeDocker, logged_failures: Any
) -> None:
    session_id = await world.spawned(OBEYS)
    fake.say("GET", "/containers/json", 200, b'[{"State": "running", "Names": 7}]')
    fake.break_events()
    await world.sleep(1)
    fake.relent()
    fake.exit(f"plane-{session_id}", 5)
    await world.sleep(10)

    lost, back, *exits = world.witness.seen
    assert (type(lost), type(back)) == (EngineLost, EngineRegained)
    assert exits == [SessionExited(session_id, 5, False, out("up"))]
    assert logged_failures.claim(TypeError)


@scenario
async def test_a_pull_without_a_word_for_a_minute_is_given_up(
    world: World, fake: FakeDocker
) -> None:
    gate = fake.gate("POST", "/images/create")
    fake.registry["app:latest"] = LAYERS
    began = world.clock.seconds()

    spawned = await outcome(world.engine.spawn(wants(world), unheard))

    assert str(spawned) == "image app:latest is not to be had: nothing came of it for 60 s"
    assert world.clock.seconds() - began == 60
    gate.open()


@claim
async def test_a_docker_that_hangs_is_lost_by_the_call_that_timed_out(
    world: World, fake: FakeDocker
) -> None:
    await world.spawned(OBEYS)
    gate = fake.gate(*CREATE)

    spawned = await outcome(world.engine.spawn(world.order(OBEYS), unheard))

    await world.sleep(0.1)

    assert type(spawned) is EngineUnavailable
    assert EngineLost in map(type, world.witness.seen)
    gate.open()


@scenario
async def test_an_image_that_ends_at_once_without_readable_logs_keeps_its_exit_code(
    world: World, fake: FakeDocker
) -> None:
    fake.refuse("GET", "/containers/.+/logs", 501, "configured logging driver does not support it")

    spawned = await outcome(world.engine.spawn(world.order(ENDS_AT_ONCE), unheard))

    assert isinstance(spawned, EndedAtOnce)
    assert (spawned.exit_code, spawned.log_tail) == (3, ())


# --- images


LAYERS = [
    {"status": "Pulling from app", "id": "1"},
    {"status": "Pulling fs layer", "progressDetail": {}, "id": "a"},
    downloading("a", 10, 100),
    downloading("b", 5, 50),
    {"status": "Verifying Checksum", "progressDetail": {}, "id": "a"},
    {"status": "Download complete", "progressDetail": {}, "id": "a"},
    {"status": "Download complete", "progressDetail": {}, "id": "small"},
    {"status": "Extracting", "progressDetail": {"current": 1, "total": 100}, "id": "a"},
]


def wants(world: World, image: str = "app", **fields: object) -> SpawnOrder:
    order = world.order(OBEYS)
    executable = Executable(image=image, command=("sh", "-c", OBEYS), **fields)
    return SpawnOrder(order.session_id, executable, order.environment, {}, order.key)


@scenario
async def test_progress_is_summed_over_layers(world: World, fake: FakeDocker) -> None:
    fake.registry["app:latest"] = LAYERS
    progress: list[Progress] = []

    await world.engine.spawn(wants(world), progress.append)

    assert progress == [
        Pulling("app:latest"),
        Pulling("app:latest", 10, 100),
        Pulling("app:latest", 105, 150),
        Creating(),
        Created(),
    ]


@scenario
async def test_a_pull_is_told_of_twice_a_second_at_most_and_how_it_ended(
    world: World, fake: FakeDocker
) -> None:
    lines = [downloading("a", current, 100) for current in range(1, 101)]
    fake.registry["app:latest"] = [*lines, {"status": "Download complete", "id": "a"}]
    told: list[tuple[float, Progress]] = []

    await world.engine.spawn(
        wants(world), lambda progress: told.append((world.clock.seconds(), progress))
    )

    pulling = [(at, each) for at, each in told if isinstance(each, Pulling)]
    # The first word comes before Docker has said anything, the last when it has ended.
    moments = [at for at, _ in pulling[1:-1]]
    assert len(moments) > 15
    assert min(later - at for at, later in pairwise(moments)) >= 0.5 - 1e-6
    assert pulling[-1][1] == Pulling("app:latest", 100, 100)


@claim
async def test_a_pull_that_takes_too_long_is_given_up_however_much_comes(
    world: World, fake: FakeDocker
) -> None:
    fake.registry["app:latest"] = [downloading("a", current, 10_000) for current in range(10_000)]
    engine = world.another_engine(pull_seconds=90)
    spawning = [engine.spawn(wants(world), unheard)]
    began = world.clock.seconds()
    await world.sleep(60)
    spawning.append(engine.spawn(wants(world), unheard))

    first, late = [await outcome(each) for each in spawning]

    assert world.clock.seconds() - began == pytest.approx(90, abs=1)
    assert str(first) == str(late)
    assert str(first).startswith(
        "image app:latest is not to be had: its pull took longer than 90 s"
    )
    assert fake.images == {"plane-tx-test/busybox:latest"}


@scenario
async def test_a_pull_without_a_limit_may_take_all_day(world: World, fake: FakeDocker) -> None:
    fake.registry["app:latest"] = [downloading("a", current, 40_000) for current in range(40_000)]
    began = world.clock.seconds()

    assert isinstance(await world.engine.spawn(wants(world), unheard), Address)

    assert world.clock.seconds() - began > 3600


def pulls(fake: FakeDocker) -> int:
    return sum("POST /images/create" in call for call in fake.calls)


@scenario
async def test_who_wants_the_same_image_joins_its_pull(world: World, fake: FakeDocker) -> None:
    fake.registry["app:latest"] = LAYERS
    first, second, late = [], [], []
    spawning = [
        world.engine.spawn(wants(world), first.append),
        world.engine.spawn(wants(world), second.append),
    ]
    await world.sleep(0.35)
    spawning.append(world.engine.spawn(wants(world), late.append))

    for spawn in spawning:
        await spawn

    assert pulls(fake) == 1
    assert first == second
    assert late == [Pulling("app:latest", 10, 100), *first[2:]]


@scenario
async def test_one_who_leaves_a_pull_leaves_it_to_the_others_and_the_last_one_ends_it(
    world: World, fake: FakeDocker
) -> None:
    fake.registry["app:latest"] = LAYERS
    left, last = (world.engine.spawn(wants(world), unheard) for _ in range(2))
    await world.sleep(0.3)

    left.cancel()
    assert isinstance(await outcome(left), CancelledError)
    await world.sleep(0.1)
    assert fake.connections == 2

    last.cancel()
    assert isinstance(await outcome(last), CancelledError)
    await world.sleep(5)
    assert fake.images == {"plane-tx-test/busybox:latest"}
    await world.engine.spawn(wants(world), unheard)
    assert pulls(fake) == 2


@scenario
async def test_a_pull_may_be_given_up_by_what_its_progress_sets_off(
    world: World, fake: FakeDocker
) -> None:
    fake.registry["app:latest"] = LAYERS

    def give_up(progress: Progress) -> None:
        if progress == Pulling("app:latest", 10, 100):
            late.cancel()

    late = world.engine.spawn(wants(world), give_up)
    stays = world.engine.spawn(wants(world), unheard)
    at_once = world.engine.spawn(wants(world), lambda _: at_once.cancel())

    for spawning in (at_once, late):
        assert isinstance(await outcome(spawning), CancelledError)
    assert isinstance(await stays, Address)
    assert pulls(fake) == 1


@scenario
async def test_always_pulls_what_is_there_already(world: World, fake: FakeDocker) -> None:
    fake.registry["plane-tx-test/busybox:latest"] = []
    order = wants(world, "plane-tx-test/busybox", pull_policy=PullPolicy.ALWAYS)

    await world.engine.spawn(order, unheard)

    assert pulls(fake) == 1


@scenario
async def test_a_login_goes_with_its_own_pull_only(world: World, fake: FakeDocker) -> None:
    fake.registry["app:latest"] = LAYERS
    fake.login = {"username": "me", "password": "s3cret?>"}
    right = wants(world, credentials=Credentials("me", "s3cret?>"))
    wrong = wants(world, credentials=Credentials("me", "guess"))
    spawning = [world.engine.spawn(order, unheard) for order in (right, wrong, wants(world))]

    outcomes = [await outcome(spawn) for spawn in spawning]

    assert [type(one) for one in outcomes] == [Address, ImageUnavailable, ImageUnavailable]
    sent = [
        json.loads(base64.urlsafe_b64decode(headers.getRawHeaders("X-Registry-Auth")[0]))
        for headers in fake.headers
        if headers.hasHeader("X-Registry-Auth")
    ]
    assert fake.login in sent
    assert not any("s3cret" in str(one) for one in outcomes)


@scenario
async def test_an_error_within_the_stream_is_a_failure(world: World, fake: FakeDocker) -> None:
    detail = {"errorDetail": {"message": "no space left on device"}, "error": "no space"}
    fake.registry["app:latest"] = [*LAYERS[:3], detail]

    spawned = await outcome(world.engine.spawn(wants(world), unheard))

    assert type(spawned) is ImageUnavailable
    assert str(spawned) == "image app:latest is not to be had: no space left on device"


@pytest.mark.parametrize(
    ("message", "cure"),
    [
        ("pull access denied for app", "look at its name, or give credentials that its registry"),
        ("unauthorized: who are you", "look at its name, or give credentials that its registry"),
        ("manifest for app:latest not found: manifest unknown", "look at its name and tag"),
        ("lookup r.invalid: no such host", "look at its name, and whether Docker can reach its"),
        ("No such image: app:latest", "pull it on this box, or have it pulled (pull_policy)"),
    ],
)
def test_an_image_that_is_not_to_be_had_is_told_with_what_to_do(message: str, cure: str) -> None:
    assert str(unavailable("app:latest", message)).startswith(
        f"image app:latest is not to be had: {message}; {cure}"
    )


NO_PROGRAM = 'runc create failed: exec: "nowhere": executable file not found in $PATH: unknown'


@scenario
async def test_a_command_that_is_not_there_is_told_with_what_to_do(
    world: World, fake: FakeDocker
) -> None:
    fake.refuse(*START, 400, NO_PROGRAM)

    spawned = await outcome(world.engine.spawn(world.order(OBEYS, "x"), unheard))

    assert type(spawned) is SpawnFailed
    assert str(spawned) == (
        f"could not start session x: {NO_PROGRAM}; look at command and entrypoint"
    )


@pytest.mark.parametrize(
    ("runtime", "found"), [("runc", ()), ("crun", ()), ("runsc", None), ("kata-runtime", None)]
)
@scenario
async def test_no_socket_is_no_news_of_a_container_with_a_kernel_of_its_own(
    world: World, fake: FakeDocker, tmp_path: Path, runtime: str, found: tuple[()] | None
) -> None:
    fake.proc = tmp_path
    engine = world.another_engine(proc=tmp_path)
    order = world.order(OBEYS, runtime=runtime)
    await engine.spawn(order, unheard)

    assert await engine.listening(order.session_id) == found


@scenario
async def test_where_a_container_of_another_box_listens_is_not_known(
    world: World, fake: FakeDocker, tmp_path: Path
) -> None:
    engine = world.another_engine(proc=tmp_path)
    session_id = await world.spawned(LISTENS)

    assert await engine.listening(session_id) is None


@scenario
async def test_an_engine_without_the_tables_knows_no_listeners(
    world: World, fake: FakeDocker
) -> None:
    session_id = await world.spawned(LISTENS)
    engine = DockerEngine(fake.clock, DockerClient(fake.daemon()), world.instance)

    found = await engine.listening(session_id)

    assert found is None
    await engine.close()


@scenario
async def test_who_asks_where_a_session_listens_hears_that_docker_is_lost(
    world: World, fake: FakeDocker
) -> None:
    session_id = await world.spawned(LISTENS)
    fake.go_down()

    assert type(await outcome(world.engine.listening(session_id))) is EngineUnavailable


@scenario
async def test_an_error_without_details_is_told_as_it_is(world: World, fake: FakeDocker) -> None:
    fake.registry["app:latest"] = [*LAYERS[:3], {"error": "no space"}]

    spawned = await outcome(world.engine.spawn(wants(world), unheard))

    assert str(spawned) == "image app:latest is not to be had: no space"


@scenario
async def test_docker_lost_during_a_pull_is_unavailable(world: World, fake: FakeDocker) -> None:
    fake.registry["app:latest"] = LAYERS
    world.clock.callLater(0.3, fake.go_down)

    spawned = await outcome(world.engine.spawn(wants(world), unheard))

    assert type(spawned) is EngineUnavailable


DIGEST = "sha256:" + "0123456789abcdef" * 4


@scenario
async def test_a_digest_is_pulled_as_such(world: World, fake: FakeDocker) -> None:
    fake.registry[f"app@{DIGEST}"] = LAYERS

    await world.engine.spawn(wants(world, f"app:1@{DIGEST}"), unheard)

    assert f"app@{DIGEST}" in fake.images


# --- how an executable is said


def refusal(**fields: object) -> str:
    with pytest.raises(InvalidRequest) as raised:
        check(Executable(**{"image": "app", **fields}))
    return str(raised.value).removeprefix("spawn_config.executable.")


@pytest.mark.parametrize(
    ("fields", "beginning"),
    [
        ({"image": None, "command": ("sh",)}, "image: expected an image"),
        ({"image": ""}, "image: expected an image"),
        ({"image": "My App"}, "image: 'My App' is no image reference"),
        ({"image": "App"}, "image: 'App' is no image reference"),
        ({"image": "app:"}, "image: "),
        ({"image": "app@sha256:12"}, "image: "),
        ({"image": "app\n"}, "image: "),
        ({"network_name": "none"}, "network_name: "),
        ({"network_name": "host"}, "network_name: "),
        ({"network_name": "container:other"}, "network_name: "),
        ({"tmpfs": {"/plane-data": ""}, "mount": True}, "tmpfs: something else is to be at"),
        ({"tmpfs": {"/x": ""}, "volumes": (Volume("v", "/x"),)}, "tmpfs: something else is to be"),
        ({"volumes": (Volume("v", "/x"), Volume("w", "/x"))}, "volumes: something else is to be"),
        ({"limits": ResourceLimits(cpus=1, cpu_period_percent=50)}, "resource_limits.cpus: "),
        ({"limits": ResourceLimits(cpus=1, cpu_period=5000)}, "resource_limits.cpus: "),
        ({"limits": ResourceLimits(cpus=0)}, "resource_limits.cpus: "),
        ({"limits": ResourceLimits(cpu_period=999)}, "resource_limits.cpu_period: "),
        ({"limits": ResourceLimits(memory_limit_bytes=1)}, "resource_limits.memory_limit_bytes: "),
    ],
)
def test_what_docker_could_never_run_is_refused_by_its_field(
    fields: dict[str, object], beginning: str
) -> None:
    assert refusal(**fields).startswith(beginning)


def body(executable: Executable, mounted: str | None = None) -> dict[str, object]:
    order = SpawnOrder("s", executable, {"PORT": "8080"}, {"plane-tx.key": "k"}, Key("k"))
    return create_body(order, "test", Place("net", is_published=False), mounted)


#: What a container is given unless the configuration has it otherwise.
SHUT_IN = {
    "CapDrop": ["ALL"],
    "SecurityOpt": ["no-new-privileges"],
    "Privileged": False,
    "Init": True,
    "PidsLimit": 512,
    "LogConfig": {"Type": "json-file", "Config": {"max-size": "10485760", "max-file": "3"}},
    "NetworkMode": "net",
}


def test_an_executable_that_asks_for_nothing_is_shut_in() -> None:
    assert body(Executable(image="app")) == {
        "Image": "app:latest",
        "Env": ["PORT=8080"],
        "Labels": {
            "plane-tx.key": "k",
            "dev.plane.backend": "true",
            "plane-tx.instance": "test",
        },
        "HostConfig": SHUT_IN,
    }


def test_each_default_is_loosened_by_its_name() -> None:
    hardening = Hardening(
        cap_drop=(), no_new_privileges=False, pids_limit=0, swap=True, init=False, log_max_bytes=0
    )
    limits = ResourceLimits(memory_limit_bytes=1 << 30)

    said = body(Executable(image="app", hardening=hardening, limits=limits))

    assert said["HostConfig"] == {
        "Privileged": False, "Init": False, "Memory": 1 << 30, "NetworkMode": "net",
    }  # fmt: skip


def test_where_a_container_has_no_address_here_its_port_is_published_on_loopback_only() -> None:
    order = SpawnOrder("s", Executable(image="app", port=9000), {}, {}, Key("k"))

    said = create_body(order, "test", Place("net", is_published=True))

    assert said["ExposedPorts"] == {"9000/tcp": {}}
    assert said["HostConfig"]["PortBindings"] == {
        "9000/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]
    }


def test_every_field_has_its_place() -> None:
    executable = Executable(
        image="app",
        command=("serve", "--fast"),
        entrypoint=("/init",),
        env={"A": "b=c", "PORT": "1"},
        port=9000,
        user="1000:1000",
        workdir="/srv",
        read_only=True,
        tmpfs={"/tmp": "size=1m"},
        volumes=(Volume("models", "/models", read_only=True),),
        cap_add=("NET_ADMIN",),
        runtime="runsc",
        gpus=2,
        limits=ResourceLimits(
            cpu_period=50_000,
            cpu_period_percent=150,
            cpu_time_limit=60,
            memory_limit_bytes=1 << 30,
            disk_limit_bytes=5,
            pids_limit=7,
        ),
    )

    said = body(executable, "/srv/k")

    assert said["Env"] == ["A=b=c", "PORT=8080"]
    assert said["Cmd"] == ["serve", "--fast"]
    assert said["Entrypoint"] == ["/init"]
    assert said["User"] == "1000:1000"
    assert said["WorkingDir"] == "/srv"
    assert said["HostConfig"] == {
        **SHUT_IN,
        "CpuPeriod": 50_000,
        "CpuQuota": 75_000,
        "Memory": 1 << 30,
        "MemorySwap": 1 << 30,
        "PidsLimit": 7,
        "Ulimits": [{"Name": "cpu", "Soft": 60, "Hard": 60}],
        "StorageOpt": {"size": "5"},
        "ReadonlyRootfs": True,
        "Tmpfs": {"/tmp": "size=1m"},
        "Mounts": [
            {"Type": "volume", "Source": "models", "Target": "/models", "ReadOnly": True},
            {"Type": "bind", "Source": "/srv/k", "Target": "/plane-data"},
        ],
        "CapAdd": ["NET_ADMIN"],
        "Runtime": "runsc",
        "DeviceRequests": [{"Count": 2, "Capabilities": [["gpu"]]}],
    }


def test_all_gpus_are_minus_one() -> None:
    host_config = body(Executable(image="app", gpus="all"))["HostConfig"]

    assert host_config["DeviceRequests"] == [{"Count": -1, "Capabilities": [["gpu"]]}]


@scenario
async def test_a_mount_where_there_is_no_place_for_it_is_refused(
    world: World, fake: FakeDocker
) -> None:
    with pytest.raises(InvalidRequest, match=r"executable\.mount: this server mounts nothing"):
        world.engine.check(Executable(image="app", mount=True))


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        (ResourceLimits(cpus=1.5), {"NanoCpus": 1_500_000_000}),
        (ResourceLimits(cpu_period_percent=20), {"CpuQuota": 20_000}),
    ],
)
def test_a_share_of_the_cpu_is_said_in_dockers_units(
    limits: ResourceLimits, said: dict[str, int]
) -> None:
    host_config = body(Executable(image="app", limits=limits))["HostConfig"]

    assert said.items() <= host_config.items()
    assert "CpuPeriod" not in host_config


# --- watching


@scenario
async def test_a_docker_missing_at_the_start_is_lost_and_then_regained(
    world: World, fake: FakeDocker
) -> None:
    fake.go_down()
    world.engine.start()
    await world.sleep(20)
    assert [type(event) for event in world.witness.seen] == [EngineLost]
    assert "fake.sock (no such file or directory)" in world.witness.seen[0].why
    regained = world.witness.next(EngineRegained)

    fake.come_back()

    await regained
    assert len(world.witness.seen) == 2


@claim
async def test_knocking_grows_slower_up_to_five_seconds(world: World, fake: FakeDocker) -> None:
    await world.sleep(10)
    began = world.clock.seconds()

    fake.go_down()
    await world.sleep(20)

    knocks = [round(at - began, 1) for at in fake.knocks]
    assert knocks == [0.1, 0.3, 0.7, 1.5, 3.1, 6.3, 11.3, 16.3]


@claim
async def test_ends_that_nobody_saw_are_told_after_the_engine_is_back(
    world: World, fake: FakeDocker
) -> None:
    ended, removed, lives = [await world.spawned(OBEYS) for _ in range(3)]
    regained = world.witness.next(EngineRegained)

    fake.go_down()
    for session_id in (ended, removed):
        fake.exit(f"plane-{session_id}", 9, quiet=True)
    fake.vanish(f"plane-{removed}")
    await world.sleep(1)
    fake.come_back()
    await regained
    await world.sleep(1)

    lost, back, *exits = world.witness.seen
    assert (type(lost), type(back)) == (EngineLost, EngineRegained)
    assert sorted(exits, key=str) == sorted(
        [SessionExited(ended, 9, False, out("up")), SessionExited(removed)], key=str
    )
    assert await world.engine.list_running() == [Running(lives, {"plane-tx.key": "k"}, True)]


@claim
async def test_a_stream_of_events_that_ends_is_opened_again(world: World, fake: FakeDocker) -> None:
    session_id = await world.spawned(OBEYS)
    await world.sleep(0.1)

    fake.break_events()
    fake.exit(f"plane-{session_id}", 5)
    await world.sleep(1)

    assert world.witness.seen == [
        EngineLost("Docker at fake.sock ended its stream of events"),
        EngineRegained(),
        SessionExited(session_id, 5, False, out("up")),
    ]


@claim
async def test_events_that_docker_refuses_are_a_loss(world: World, fake: FakeDocker) -> None:
    await world.sleep(0.1)
    fake.refuse("GET", "/events", 500, "too many watchers")

    fake.break_events()
    await world.sleep(10)

    assert len(world.witness.seen) == 1


@claim
async def test_an_event_that_makes_no_sense_does_not_end_the_watch(
    world: World, fake: FakeDocker, logged_failures: Any
) -> None:
    session_id = await world.spawned(OBEYS)

    for request, _ in fake._listeners:
        request.write(b'{"Action":"die"}\n')
    await world.sleep(0.1)
    fake.exit(f"plane-{session_id}")
    await world.sleep(0.1)

    assert told(world, SessionExited) == [SessionExited(session_id, 0, False, out("up"))]
    assert len(logged_failures.claim(KeyError)) == 1


@claim
async def test_an_end_that_could_not_be_read_up_is_told_later(
    world: World, fake: FakeDocker
) -> None:
    session_id = await world.spawned(OBEYS)
    fake.refuse(*INSPECT, 500)
    fake.exit(f"plane-{session_id}", 5)
    await world.sleep(3)
    assert told(world, SessionExited) == []

    fake.relent()
    await world.sleep(10)

    assert told(world, SessionExited) == [SessionExited(session_id, 5, False, out("up"))]
    assert fake.containers == {}


@claim
async def test_an_end_without_readable_logs_is_told_without(world: World, fake: FakeDocker) -> None:
    session_id = await world.spawned(OBEYS)
    fake.refuse("GET", "/containers/.+/logs", 501, "logging driver does not support reading")

    assert await world.engine.logs(session_id, 5) == ()
    await world.engine.kill(session_id)

    assert world.witness.seen == [SessionExited(session_id, 137)]


@claim
async def test_a_log_that_cannot_be_read_has_ended(world: World, fake: FakeDocker) -> None:
    session_id = await world.spawned(OBEYS)
    fake.refuse("GET", "/containers/.+/logs", 501, "logging driver does not support reading")

    assert await world.engine.follow_logs(session_id, 5, None, lambda _: None) is None


@claim
async def test_docker_lost_breaks_off_who_follows_a_log_and_who_asks_for_stats(
    world: World, fake: FakeDocker
) -> None:
    session_id = await world.spawned(OBEYS)
    following = world.engine.follow_logs(session_id, 5, None, lambda _: None)
    await world.sleep(1)
    assert not following.called

    fake.go_down()

    assert isinstance(await outcome(following), EngineUnavailable)
    assert isinstance(await outcome(world.engine.stats(session_id)), EngineUnavailable)


@claim
async def test_who_leaves_a_log_hangs_up(world: World, fake: FakeDocker) -> None:
    session_id = await world.spawned(OBEYS)
    await world.sleep(1)
    before = fake.connections
    following = world.engine.follow_logs(session_id, 5, None, lambda _: None)
    await world.sleep(1)

    following.cancel()

    assert isinstance(await outcome(following), CancelledError)
    await world.settle()
    assert fake.connections <= before
    assert fake.named(f"plane-{session_id}").followers == []


@pytest.mark.parametrize(("status", "error"), [(404, None), (409, None), (500, EngineUnavailable)])
@claim
async def test_stats_that_docker_refuses_are_none_only_where_there_is_nothing_to_tell(
    world: World, fake: FakeDocker, status: int, error: type[Exception] | None
) -> None:
    session_id = await world.spawned(OBEYS)
    fake.refuse("GET", "/containers/.+/stats", status)

    told_stats = await outcome(world.engine.stats(session_id))

    assert told_stats is None if error is None else isinstance(told_stats, error)


V1 = {"usage": 5000, "stats": {"total_inactive_file": 1500, "inactive_file": 1}}
V2 = {"usage": 5000, "stats": {"inactive_file": 1500, "active_file": 1}}


@pytest.mark.parametrize(
    ("memory", "expected"),
    [
        (V1, 3500),
        (V2, 3500),
        ({"usage": 5000}, 5000),
        ({"usage": 5, "stats": {"inactive_file": 9}}, 5),
        ({}, None),
    ],
)
def test_memory_is_without_what_can_be_dropped_as_dockers_own_client_says_it(
    memory: dict[str, object], expected: int | None
) -> None:
    found = {
        "pids_stats": {"current": 2},
        "cpu_stats": {"cpu_usage": {"total_usage": 2_500_000_000}},
        "memory_stats": memory,
    }

    assert stats_of(found, 9000) == EngineStats(2.5, expected, 9000, 2, None, None)


def test_traffic_is_that_of_every_network() -> None:
    networks = {"eth0": {"rx_bytes": 1, "tx_bytes": 2}, "eth1": {"rx_bytes": 10, "tx_bytes": 20}}

    stats = stats_of({**FakeDocker().usage, "networks": networks}, None)

    assert (stats.received_bytes, stats.sent_bytes) == (11, 22)


@pytest.mark.parametrize(
    ("code", "flag", "event", "oom"),
    [
        (137, True, False, True),
        (137, False, True, True),
        (0, False, True, False),
        (137, False, False, False),
    ],
)
@claim
async def test_running_out_of_memory_is_told_when_the_session_died_of_it(
    world: World, fake: FakeDocker, code: int, flag: bool, event: bool, oom: bool
) -> None:
    session_id = await world.spawned(OBEYS)
    container = fake.named(f"plane-{session_id}")

    if event:
        fake.emit(container, "oom")
    fake.exit(container.id, code, oom=flag)
    await world.sleep(0.1)

    assert world.witness.seen == [SessionExited(session_id, code, oom, out("up"))]


@claim
async def test_ends_of_what_we_do_not_hold_are_not_told(world: World, fake: FakeDocker) -> None:
    other = world.another_engine()
    order = world.order(OBEYS)
    await other.spawn(order, unheard)

    fake.emit(fake.named(f"plane-{order.session_id}"), "die", exitCode="0")
    await world.engine.stop(order.session_id, 1)
    await world.sleep(1)

    assert world.witness.seen == []


@claim
async def test_an_event_of_an_earlier_container_of_that_name_is_not_ours(
    world: World, fake: FakeDocker
) -> None:
    session_id = await world.spawned(OBEYS)
    now = fake.named(f"plane-{session_id}")
    now.id, actual = "another", now.id

    fake.emit(now, "die", exitCode="0")
    now.id = actual
    await world.sleep(1)

    assert world.witness.seen == []


# --- ending


@claim
async def test_stop_gives_docker_the_grace_and_a_second_and_is_asked_once(
    world: World, fake: FakeDocker
) -> None:
    session_id = await world.spawned(DEAF)
    began = world.clock.seconds()
    stops = [world.engine.stop(session_id, 2.5) for _ in range(3)]

    for stop in stops:
        await stop

    assert sum("/stop" in call for call in fake.calls) == 1
    assert 4 <= world.clock.seconds() - began < 4.5


@pytest.mark.parametrize("status", [304, 404, 409])
@claim
async def test_a_stop_that_comes_too_late_is_an_end(
    world: World, fake: FakeDocker, status: int
) -> None:
    session_id = await world.spawned(OBEYS)
    gate = fake.gate("POST", "/containers/.+/stop")
    stopping = world.engine.stop(session_id, 1)
    await gate.come
    fake.refuse("POST", "/containers/.+/stop", status)
    fake.exit(f"plane-{session_id}", 6)
    gate.open()

    await stopping

    assert world.witness.seen == [SessionExited(session_id, 6, False, out("up"))]


@pytest.mark.parametrize("end", ["stop", "kill"])
@scenario
async def test_an_end_is_told_before_stop_and_kill_fire_though_no_event_comes(
    world: World, fake: FakeDocker, end: str
) -> None:
    session_id = await world.spawned(OBEYS)

    await (world.engine.stop(session_id, 1) if end == "stop" else world.engine.kill(session_id))

    assert world.witness.seen == [
        SessionExited(session_id, 7 if end == "stop" else 137, False, out("up"))
    ]
    assert fake.containers == {}


@claim
async def test_a_stop_that_docker_cannot_do_is_unavailable(world: World, fake: FakeDocker) -> None:
    session_id = await world.spawned(OBEYS)
    fake.refuse("POST", "/containers/.+/stop", 500, "tried to kill, but did not receive an exit")

    stopped = await outcome(world.engine.stop(session_id, 1))

    assert isinstance(stopped, EngineUnavailable)
    assert "could not end session" in str(stopped)
    assert "did not receive an exit" in str(stopped)


@claim
async def test_docker_lost_during_a_stop_is_unavailable_and_the_session_still_held(
    world: World, fake: FakeDocker
) -> None:
    session_id = await world.spawned(DEAF)
    stopping = world.engine.stop(session_id, 60)
    await world.sleep(1)

    fake.go_down()

    assert isinstance(await outcome(stopping), EngineUnavailable)
    fake.come_back()
    await world.engine.kill(session_id)
    assert [event.exit_code for event in told(world, SessionExited)] == [137]


@claim
async def test_who_asks_for_an_end_that_is_being_told_waits_for_it(
    world: World, fake: FakeDocker
) -> None:
    session_id = await world.spawned(OBEYS)
    gate = fake.gate("DELETE", "/containers/.+")
    fake.exit(f"plane-{session_id}", 1)
    await gate.come
    stopping = world.engine.stop(session_id, 1)
    await world.sleep(1)
    assert not stopping.called

    gate.open()

    await stopping
    assert len(world.witness.seen) == 1


@claim
async def test_what_cannot_be_removed_now_is_removed_later(world: World, fake: FakeDocker) -> None:
    session_id = await world.spawned(ENDS_SOON)
    fake.refuse("DELETE", "/containers/.+", 500, "device busy")
    await world.engine.stop(session_id, 5)
    await world.sleep(30)
    assert len(fake.containers) == 1

    fake.relent()
    await world.sleep(6)

    assert fake.containers == {}
    assert len(world.witness.seen) == 1


@claim
async def test_remove_waits_for_a_removal_under_way(world: World, fake: FakeDocker) -> None:
    session_id = await world.spawned(OBEYS)
    fake.refuse("DELETE", "/containers/.+", 409, "removal already in progress")
    removing = world.engine.remove(session_id)
    await world.sleep(1)
    assert not removing.called

    fake.vanish(f"plane-{session_id}")

    await removing
    assert world.witness.seen == []


@pytest.mark.parametrize("status", [404, 409])
@claim
async def test_remove_of_what_goes_meanwhile_is_done(
    world: World, fake: FakeDocker, status: int
) -> None:
    session_id = await world.spawned(OBEYS)
    gate = fake.gate("DELETE", "/containers/.+")
    removing = world.engine.remove(session_id)
    await gate.come
    fake.vanish(f"plane-{session_id}")
    fake.refuse("DELETE", "/containers/.+", status)
    gate.open()

    assert await removing is None


@claim
async def test_a_session_removed_while_its_end_is_read_up_is_not_told(
    world: World, fake: FakeDocker
) -> None:
    session_id = await world.spawned(OBEYS)
    gate = fake.gate("GET", "/containers/.+/logs")
    fake.exit(f"plane-{session_id}")
    await gate.come

    removing = world.engine.remove(session_id)
    gate.open()

    await removing
    await world.sleep(1)
    assert world.witness.seen == []
    assert fake.containers == {}


@scenario
async def test_a_list_that_docker_refuses_is_unavailable(world: World, fake: FakeDocker) -> None:
    fake.refuse("GET", "/containers/json", 500)

    listed = await outcome(world.engine.list_running())

    assert str(listed) == "Docker could not list its containers: it is broken"


@pytest.mark.parametrize("how", ["down", "broken"])
@scenario
async def test_ill_health_is_told_not_raised(world: World, fake: FakeDocker, how: str) -> None:
    if how == "down":
        fake.go_down()
    fake.refuse("GET", "/version", 500)

    health = await world.engine.health()

    assert not health.ok
    assert ("fake.sock" if how == "down" else "it is broken") in health.message


# --- closing


@pytest.mark.parametrize("how", ["never started", "watching", "knocking", "sweeping", "spawning"])
@scenario
async def test_closing_lets_go_of_all(world: World, fake: FakeDocker, how: str) -> None:
    gate = fake.gate(*START)
    spawning: Deferred[object] | None = None
    if how != "never started":
        world.engine.start()
        await world.sleep(1)
    if how == "knocking":
        fake.go_down()
        await world.sleep(1)
    if how == "sweeping":
        fake.refuse(*START, 500)
        fake.refuse("DELETE", "/containers/.+", 500)
        gate.open()
        await outcome(world.engine.spawn(world.order(ENDS_AT_ONCE), unheard))
    if how == "spawning":
        spawning = world.engine.spawn(world.order(OBEYS), unheard)
        await gate.come

    await world.engine.close()

    assert spawning is None or isinstance(await outcome(spawning), EngineUnavailable)
    await world.settle()
    assert fake.connections == 0
    assert world.clock.getDelayedCalls() == []
    assert not isinstance(await outcome(world.engine.health()), Exception)


@claim
async def test_sessions_outlive_the_engine(world: World, fake: FakeDocker) -> None:
    await world.spawned(OBEYS)

    await world.engine.close()

    (container,) = fake.containers.values()
    assert container.running
    assert world.witness.seen == []
