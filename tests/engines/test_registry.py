"""Pulls from a real registry that asks for a login, by a real Docker Engine."""

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.logger import formatEvent, globalLogPublisher

from plane_tx.core.errors import ImageUnavailable
from plane_tx.core.model import Credentials, Executable, PullPolicy
from plane_tx.core.pulls import Pulling
from plane_tx.engines.docker.daemon import Daemon, unix_daemon
from plane_tx.engines.docker.errors import NoSuchObject
from plane_tx.engines.interface import Created, Creating, Progress, SpawnOrder
from tests.engines import registry as registries
from tests.engines.fake_docker import OBEYS, World, claim
from tests.engines.registry import LOGIN, Registry
from tests.engines.test_docker_contract import SOCKET, docker_world

pytestmark = [pytest.mark.docker, pytest.mark.registry]

#: Enough to be told of while it comes.
CARGO_BYTES = 8 << 20


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with registries.running(tmp_path_factory.mktemp("registry")) as registry:
        yield registry


@pytest.fixture
def world(registry: Registry, tmp_path: Path) -> Iterator[World]:
    from twisted.internet import reactor

    yield from docker_world(tmp_path / "mounts")
    removing = without_images(unix_daemon(reactor, SOCKET), registry.host)
    pytest_twisted.blockon(Deferred.fromCoroutine(removing))


async def without_images(daemon: Daemon, host: str) -> None:
    for image in await daemon.ask("GET", "/images/json"):
        for name in (*(image["RepoTags"] or ()), *(image["RepoDigests"] or ())):
            if name.startswith(host):
                with suppress(NoSuchObject):
                    await daemon.ask("DELETE", f"/images/{name}", {"force": "1"})
    await daemon.close()


@pytest.fixture
def push(registry: Registry) -> Callable[..., str]:
    """Put a new image there, unlike all before, and return its digest."""

    def push(name: str, tag: str = "latest", size: int = 0) -> str:
        files = {"bin/sh": SHELL.read_bytes(), "bin/sleep": SHELL.read_bytes()}
        return registry.push(name, tag, {**files, "cargo": os.urandom(16 + size)})

    return push


SHELL = Path("/bin/busybox")


def wants(
    world: World, image: str, credentials: Credentials | None = LOGIN, **fields: object
) -> SpawnOrder:
    order = world.order(OBEYS)
    command = ("sh", "-c", OBEYS)
    executable = Executable(image=image, command=command, credentials=credentials, **fields)
    return SpawnOrder(order.session_id, executable, order.environment, order.labels, order.key)


def unheard(_: Progress) -> None:
    """For a spawn whose progress is not the point."""


async def image_of(world: World, order: SpawnOrder) -> str:
    """The digest of what an order's session runs."""
    found = await world.docker.inspect(f"plane-{order.session_id}")
    return str(found["Image"])


async def refused(world: World, order: SpawnOrder) -> str:
    with pytest.raises(ImageUnavailable) as raised:
        await world.engine.spawn(order, unheard)
    return str(raised.value)


@claim
async def test_the_right_login_gets_the_image_and_hears_how_much_of_it_has_come(
    world: World, registry: Registry, push: Callable[..., str]
) -> None:
    push("good/login", size=CARGO_BYTES)
    order = wants(world, f"{registry.host}/good/login")
    told: list[Progress] = []

    await world.engine.spawn(order, told.append)

    *pulling, creating, created = told
    assert (creating, created) == (Creating(), Created())
    assert pulling[0] == Pulling(f"{registry.host}/good/login:latest")
    assert pulling[-1].current == pulling[-1].total > CARGO_BYTES
    assert (await world.docker.inspect(f"plane-{order.session_id}"))["State"]["Running"]


@pytest.mark.parametrize("credentials", [Credentials("reader", "a guess"), None])
@claim
async def test_a_wrong_login_or_none_is_refused_in_words(
    world: World, registry: Registry, push: Callable[..., str], credentials: Credentials | None
) -> None:
    push("closed/door")

    said = await refused(world, wants(world, f"{registry.host}/closed/door", credentials))

    assert said.startswith(f"image {registry.host}/closed/door:latest is not to be had: ")
    docker_says = ("unauthorized: authentication required", "no basic auth credentials")
    assert any(words in said for words in docker_says)
    assert said.endswith("; look at its name, or give credentials that its registry knows")


@claim
async def test_what_was_pulled_with_a_login_needs_none_afterwards(
    world: World, registry: Registry, push: Callable[..., str]
) -> None:
    push("come/in")
    await world.engine.spawn(wants(world, f"{registry.host}/come/in"), unheard)
    again, asked = (
        wants(world, f"{registry.host}/come/in", None),
        registry.manifests_asked("come/in"),
    )

    await world.engine.spawn(again, unheard)

    assert await image_of(world, again)
    assert registry.manifests_asked("come/in") == asked > 0


@claim
async def test_a_tag_that_is_not_there_is_named(
    world: World, registry: Registry, push: Callable[..., str]
) -> None:
    push("one/tag")

    said = await refused(world, wants(world, f"{registry.host}/one/tag:other"))

    assert f"image {registry.host}/one/tag:other is not to be had: " in said
    assert "manifest unknown" in said


@claim
async def test_a_name_without_a_tag_is_latest_alone(
    world: World, registry: Registry, push: Callable[..., str]
) -> None:
    push("two/tags", "latest")
    push("two/tags", "other")

    await world.engine.spawn(wants(world, f"{registry.host}/two/tags"), unheard)

    assert await world.docker.has_image(f"{registry.host}/two/tags:latest")
    assert not await world.docker.has_image(f"{registry.host}/two/tags:other")


@claim
async def test_a_digest_is_that_image_whatever_its_tag_has_become(
    world: World, registry: Registry, push: Callable[..., str]
) -> None:
    first = push("moving/tag")
    push("moving/tag")
    order = wants(world, f"{registry.host}/moving/tag@{first}")

    await world.engine.spawn(order, unheard)

    assert await world.docker.has_image(f"{registry.host}/moving/tag@{first}")
    assert not await world.docker.has_image(f"{registry.host}/moving/tag:latest")


@claim
async def test_always_gets_the_new_image_and_if_not_present_stays_with_the_old(
    world: World, registry: Registry, push: Callable[..., str]
) -> None:
    push("new/wine")
    name = f"{registry.host}/new/wine"
    orders = [wants(world, name)]
    await world.engine.spawn(orders[0], unheard)
    push("new/wine")

    for policy in (PullPolicy.IF_NOT_PRESENT, PullPolicy.ALWAYS):
        orders.append(wants(world, name, pull_policy=policy))
        await world.engine.spawn(orders[-1], unheard)

    old, present, always = [await image_of(world, order) for order in orders]
    assert old == present != always


@claim
async def test_never_does_not_ask(
    world: World, registry: Registry, push: Callable[..., str]
) -> None:
    push("not/asked")
    name = f"{registry.host}/not/asked"

    said = await refused(world, wants(world, name, pull_policy=PullPolicy.NEVER))

    assert "No such image" in said
    assert registry.manifests_asked("not/asked") == 0


@claim
async def test_two_who_want_an_image_at_once_are_one_pull(
    world: World, registry: Registry, push: Callable[..., str]
) -> None:
    for name in ("pulled/alone", "pulled/together"):
        push(name, size=CARGO_BYTES)
    await world.engine.spawn(wants(world, f"{registry.host}/pulled/alone"), unheard)
    together = [wants(world, f"{registry.host}/pulled/together") for _ in range(2)]

    for spawning in [world.engine.spawn(order, unheard) for order in together]:
        await spawning

    alone = registry.manifests_asked("pulled/alone")
    assert registry.manifests_asked("pulled/together") == alone > 0


@claim
async def test_a_password_is_in_no_log_no_error_and_no_container(
    world: World, registry: Registry, push: Callable[..., str]
) -> None:
    push("kept/secret")
    logged: list[str] = []

    def note(event: dict[str, object]) -> None:
        logged.append(f"{formatEvent(event)} {event}")

    globalLogPublisher.addObserver(note)
    try:
        order = wants(world, f"{registry.host}/kept/secret")
        await world.engine.spawn(order, unheard)
        said = await refused(world, wants(world, f"{registry.host}/kept/secret:none"))
    finally:
        globalLogPublisher.removeObserver(note)

    found = await world.docker.inspect(f"plane-{order.session_id}")
    assert "sesame" not in f"{logged} {said} {found} {order}"
