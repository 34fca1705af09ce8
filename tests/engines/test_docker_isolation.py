"""What only a kernel can show: how a container is shut in, asked from the inside."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from twisted.internet.defer import Deferred

from plane_tx.core.hardening import Egress, Hardening
from plane_tx.core.model import Address, ResourceLimits
from plane_tx.engines.docker.networks import is_own_address
from tests.engines.fake_docker import OBEYS, World
from tests.engines.test_docker_contract import mount_base, printed, real_world

__all__ = ["mount_base", "real_world"]

pytestmark = pytest.mark.docker

STAYS = "trap 'exit 0' TERM; while :; do sleep 0.05; done"

SHOWS_RIGHTS = f"""
grep -E '^(Cap(Prm|Eff|Bnd)|NoNewPrivs):' /proc/self/status | tr '\\t' ' '
cat /proc/1/comm
cat /sys/fs/cgroup/pids.max 2>/dev/null || cat /sys/fs/cgroup/pids/pids.max
chown 1 /tmp 2>/dev/null || echo 'no chown'
{STAYS}
"""

SERVES = "echo here > /tmp/index.html; httpd -f -p 8080 -h /tmp & trap 'exit 0' TERM; wait"

#: Asks each address in turn, and says whether somebody took the connection.
ASKS = (
    "for at in %s; do nc -w 2 ${at%%:*} ${at#*:} < /dev/null > /dev/null 2>&1"
    ' && echo "$at open" || echo "$at shut"; done; ' + STAYS.replace("%", "%%")
)


def asks(*addresses: Address | str) -> str:
    return ASKS % " ".join(map(str, addresses))


def test_a_session_has_no_rights_an_init_and_a_limit_of_processes(
    real_world: World,
) -> Deferred[None] | None:
    async def scenario() -> None:
        session_id = await real_world.spawned(SHOWS_RIGHTS)

        lines = [line.text for line in await printed(real_world, session_id, least=7)]

        nothing = 16 * "0"
        assert lines[:4] == [
            f"CapPrm: {nothing}", f"CapEff: {nothing}", f"CapBnd: {nothing}", "NoNewPrivs: 1",
        ]  # fmt: skip
        assert lines[4:] == ["docker-init", "512", "no chown"]

    return real_world.run(scenario())


def test_what_is_loosened_by_name_is_loose(real_world: World) -> Deferred[None] | None:
    async def scenario() -> None:
        loose = Hardening(cap_drop=(), no_new_privileges=False, pids_limit=99, init=False)
        session_id = await real_world.spawned(SHOWS_RIGHTS, hardening=loose)

        lines = [line.text for line in await printed(real_world, session_id, least=6)]

        assert lines[1] != f"CapEff: {16 * '0'}"
        assert lines[3:] == ["NoNewPrivs: 0", "sh", "99"]

    return real_world.run(scenario())


def test_memory_has_no_swap_beside_it_and_the_log_an_end(
    real_world: World,
) -> Deferred[None] | None:
    async def scenario() -> None:
        limits = ResourceLimits(memory_limit_bytes=64 << 20)
        session_id = await real_world.spawned(OBEYS, limits=limits)

        found = (await real_world.docker.inspect(f"plane-{session_id}"))["HostConfig"]

        assert (found["Memory"], found["MemorySwap"]) == (64 << 20, 64 << 20)
        assert found["LogConfig"] == {
            "Type": "json-file", "Config": {"max-size": "10485760", "max-file": "3"},
        }  # fmt: skip
        assert (found["Privileged"], found["PidsLimit"], found["Init"]) == (False, 512, True)

    return real_world.run(scenario())


@pytest.mark.parametrize("egress", [Egress.OPEN, Egress.NONE])
def test_a_session_reaches_no_neighbour(real_world: World, egress: Egress) -> Deferred[None] | None:
    async def scenario() -> None:
        neighbour = await real_world.engine.spawn(
            real_world.order(SERVES, egress=egress), lambda _: None
        )
        session_id = await real_world.spawned(asks(neighbour, "127.0.0.1:8080"), egress=egress)

        lines = await printed(real_world, session_id, least=2)

        assert await answers(real_world, neighbour)
        assert [line.text for line in lines] == [f"{neighbour} shut", "127.0.0.1:8080 shut"]

    return real_world.run(scenario())


def test_a_session_without_egress_reaches_this_box_alone(
    real_world: World,
) -> Deferred[None] | None:
    async def scenario() -> None:
        elsewhere = await real_world.engine.spawn(real_world.order(SERVES), lambda _: None)
        session_id = await real_world.spawned(asks(elsewhere, "203.0.113.1:80"), egress=Egress.NONE)

        lines = await printed(real_world, session_id, least=2)

        assert await answers(real_world, elsewhere)
        assert [line.text for line in lines] == [f"{elsewhere} shut", "203.0.113.1:80 shut"]

    return real_world.run(scenario())


def test_what_listens_on_loopback_here_is_not_reached(real_world: World) -> Deferred[None] | None:
    from twisted.internet import reactor
    from twisted.internet.protocol import Factory, Protocol

    async def scenario() -> None:
        # As the control API does, unless it is configured otherwise.
        port = reactor.listenTCP(0, Factory.forProtocol(Protocol), interface="127.0.0.1")
        (network,) = await real_world.docker.networks("bridge")
        # Docker 20.10 names the gateway only from its second start on; it is the first address.
        ours = str(next(ip_network(network["IPAM"]["Config"][0]["Subnet"]).hosts()))
        assert is_own_address(ours)
        session_id = await real_world.spawned(asks(f"{ours}:{port.getHost().port}"))

        lines = await printed(real_world, session_id)

        await port.stopListening()
        assert lines[0].text.endswith(" shut")

    return real_world.run(scenario())


async def answers(world: World, address: Address) -> bool:
    """Whether this box reaches a session's server."""
    from twisted.internet import reactor
    from twisted.internet.endpoints import TCP4ClientEndpoint
    from twisted.internet.protocol import Factory, Protocol

    endpoint = TCP4ClientEndpoint(reactor, address.host, address.port, timeout=5)
    protocol = await endpoint.connect(Factory.forProtocol(Protocol))
    await world.sleep(0)
    protocol.transport.abortConnection()
    return True
