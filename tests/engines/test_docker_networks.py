"""The networks of sessions: made when missing, and reached or published, as this box can."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from plane_tx.core.errors import EngineUnavailable, InvalidRequest, SpawnFailed
from plane_tx.core.hardening import Addressing, Egress
from plane_tx.core.model import Address, Executable
from plane_tx.engines.docker.engine import DockerEngine
from plane_tx.engines.docker.networks import NetworkSettings, gateways, is_own_address
from plane_tx.engines.interface import SessionExited
from tests.engines.fake_docker import OBEYS, FakeDocker, World, claim, fake_world, ipam, scenario
from tests.engines.test_docker_engine import outcome

#: An address that no box has (RFC 5737).
ELSEWHERE = "203.0.113.1"


@pytest.fixture
def fake() -> FakeDocker:
    return FakeDocker()


@pytest.fixture
def world(fake: FakeDocker) -> Iterator[World]:
    yield from fake_world(fake)


def spawned(world: World, engine: DockerEngine, **fields: Any) -> Deferred[Address]:
    return engine.spawn(world.order(OBEYS, **fields), lambda _: None)


def made_networks(fake: FakeDocker) -> int:
    return sum("POST /networks/create" in call for call in fake.calls)


@claim
async def test_the_network_is_made_at_the_start_and_keeps_its_containers_apart(
    world: World, fake: FakeDocker
) -> None:
    await world.sleep(0.1)

    network = fake.networks[f"plane-tx-{world.instance}"]
    assert network["Driver"] == "bridge"
    assert network["Internal"] is False
    assert network["Options"] == {"com.docker.network.bridge.enable_icc": "false"}
    assert network["Labels"]["plane-tx.instance"] == world.instance


@claim
async def test_an_engine_that_closes_lets_its_network_be_made_first(
    world: World, fake: FakeDocker
) -> None:
    gate = fake.gate("POST", "/networks/create")
    await gate.come

    closing = world.engine.close()
    await world.sleep(1)

    assert not closing.called
    gate.open()
    await closing


@scenario
async def test_many_spawns_at_once_make_one_network(world: World, fake: FakeDocker) -> None:
    spawns = [spawned(world, world.engine) for _ in range(5)]

    addresses = [await spawn for spawn in spawns]

    assert made_networks(fake) == 1
    assert len(set(addresses)) == 5


@scenario
async def test_a_network_that_another_has_just_made_is_used(world: World, fake: FakeDocker) -> None:
    name = f"plane-tx-{world.instance}"
    gate = fake.gate("POST", "/networks/create")
    spawning = spawned(world, world.engine)
    await gate.come
    options = {"com.docker.network.bridge.enable_icc": "false"}
    fake.networks[name] = {"Name": name, "Options": options, "IPAM": ipam("127.0.0.1")}

    gate.open()

    await spawning
    (container,) = fake.containers.values()
    assert container.config["HostConfig"]["NetworkMode"] == name


@scenario
async def test_how_an_engine_says_that_another_has_just_made_it_does_not_matter(
    world: World, fake: FakeDocker
) -> None:
    name = f"plane-tx-{world.instance}"
    fake.refuse("POST", "/networks/create", 500, "network name already used")
    gate = fake.gate("POST", "/networks/create")
    spawning = spawned(world, world.engine)
    await gate.come
    options = {"com.docker.network.bridge.enable_icc": "false"}
    fake.networks[name] = {"Name": name, "Options": options, "IPAM": ipam("127.0.0.1")}

    gate.open()

    assert (await spawning).port == 8080


@claim
async def test_a_network_that_somebody_removed_is_made_again(
    world: World, fake: FakeDocker
) -> None:
    await world.spawned(OBEYS)
    fake.networks.pop(f"plane-tx-{world.instance}")

    await world.spawned(OBEYS)

    assert made_networks(fake) == 2


@claim
async def test_a_docker_that_makes_no_network_fails_the_spawn_in_its_words(
    world: World, fake: FakeDocker
) -> None:
    fake.refuse("POST", "/networks/create", 500, "all predefined address pools are full")

    failed = await outcome(spawned(world, world.engine))

    assert type(failed) is SpawnFailed
    assert "address pools are full" in str(failed)
    assert fake.containers == {}


@claim
async def test_a_docker_that_lists_no_network_is_unavailable(
    world: World, fake: FakeDocker
) -> None:
    fake.refuse("GET", "/networks", 500, "broken")

    failed = await outcome(spawned(world, world.engine))

    assert type(failed) is EngineUnavailable


@claim
async def test_without_a_way_to_its_network_a_container_is_reached_by_a_published_port(
    world: World, fake: FakeDocker
) -> None:
    fake.gateway = ELSEWHERE

    address = await spawned(world, world.engine)

    (container,) = fake.containers.values()
    assert address == Address("127.0.0.1", container.port)


@pytest.mark.parametrize("chosen", [Addressing.CONTAINER, Addressing.PUBLISHED])
@scenario
async def test_the_configuration_may_choose_the_address(
    world: World, fake: FakeDocker, chosen: Addressing
) -> None:
    fake.gateway = {Addressing.CONTAINER: ELSEWHERE, Addressing.PUBLISHED: "127.0.0.1"}[chosen]
    engine = world.another_engine(networks=NetworkSettings(chosen))

    address = await spawned(world, engine)

    assert (address.host == "127.0.0.1") is (chosen is Addressing.PUBLISHED)


@claim
async def test_a_session_without_egress_is_on_a_network_that_leads_nowhere(
    world: World, fake: FakeDocker
) -> None:
    name = f"plane-tx-{world.instance}-internal"

    address = await spawned(world, world.engine, egress=Egress.NONE)

    (container,) = fake.containers.values()
    assert container.config["HostConfig"]["NetworkMode"] == name
    assert fake.networks[name]["Internal"] is True
    assert address == Address(container.address, 8080)


@claim
async def test_a_session_without_egress_and_without_a_way_in_is_refused(
    world: World, fake: FakeDocker
) -> None:
    fake.gateway = ELSEWHERE

    failed = await outcome(spawned(world, world.engine, egress=Egress.NONE))

    assert type(failed) is SpawnFailed
    assert str(failed).startswith('egress: "none" needs containers that are reached at')
    assert fake.containers == {}
    with pytest.raises(InvalidRequest, match=r'^spawn_config\.executable\.egress: "none" needs'):
        world.engine.check(Executable(image="app", egress=Egress.NONE))


@pytest.mark.parametrize(
    ("egress", "otherwise", "told"),
    [
        (Egress.OPEN, {"Internal": True}, "leads nowhere, which it should not"),
        (Egress.NONE, {"Internal": False}, "leads out, which it should not"),
        (Egress.OPEN, {"Options": {}}, "containers reach each other: remove it"),
    ],
)
@claim
async def test_a_network_of_that_name_which_is_not_as_it_should_be_is_not_used(
    world: World, fake: FakeDocker, egress: Egress, otherwise: dict[str, Any], told: str
) -> None:
    await spawned(world, world.engine, egress=egress)
    name = f"plane-tx-{world.instance}" + ("-internal" if egress is Egress.NONE else "")
    fake.networks[name] |= otherwise

    failed = await outcome(spawned(world, world.engine, egress=egress))

    assert type(failed) is SpawnFailed
    assert told in str(failed)


@scenario
async def test_containers_that_may_reach_each_other_are_on_a_network_made_so(
    world: World, fake: FakeDocker
) -> None:
    engine = world.another_engine(networks=NetworkSettings(inter_container=True))

    await spawned(world, engine)

    (options,) = [one["Options"] for one in fake.networks.values() if "Options" in one]
    assert options == {"com.docker.network.bridge.enable_icc": "true"}


@claim
async def test_a_network_that_a_session_names_is_reached_as_this_box_can(
    world: World, fake: FakeDocker
) -> None:
    near = {"Name": "near", "IPAM": {"Config": [{"Gateway": "127.0.0.1"}]}}
    fake.networks["near"] = near

    inside = await spawned(world, world.engine, network_name="near")
    outside = await spawned(world, world.engine, network_name="bridge")

    assert (inside.port, outside.host) == (8080, "127.0.0.1")
    assert inside.host != "127.0.0.1"


@pytest.mark.parametrize("own", ["127.0.0.1", ELSEWHERE])
@claim
async def test_a_container_of_an_earlier_run_is_reached_as_it_was_made(
    world: World, fake: FakeDocker, own: str
) -> None:
    fake.gateway = own
    order = world.order(OBEYS)
    address = await world.engine.spawn(order, lambda _: None)
    later = world.another_engine(networks=NetworkSettings(Addressing.PUBLISHED))

    assert await later.adopt(order.session_id, order.executable, start=False) == address


@claim
async def test_who_had_an_address_that_another_has_now_is_asked_after_at_once(
    world: World, fake: FakeDocker
) -> None:
    session_id = await world.spawned(OBEYS)
    fake.exit(f"plane-{session_id}", 9, quiet=True)
    exited = world.witness.next(SessionExited)

    await world.spawned(OBEYS)

    assert (await exited).session_id == session_id


def test_an_address_is_ours_when_the_way_to_it_begins_there() -> None:
    assert is_own_address("127.0.0.1")
    assert not is_own_address(ELSEWHERE)
    assert not is_own_address("no address")


@pytest.mark.parametrize(
    ("network", "found"),
    [
        ({}, []),
        ({"IPAM": {"Config": None}}, []),
        ({"IPAM": {"Config": [{"Subnet": "10.0.0.0/8"}]}}, []),
        ({"IPAM": {"Config": [{"Gateway": "fd00::1"}, {"Gateway": "10.0.0.1/8"}]}}, ["10.0.0.1"]),
    ],
)
def test_gateways_are_the_ipv4_addresses_of_a_network(
    network: dict[str, Any], found: list[str]
) -> None:
    assert list(gateways(network)) == found
