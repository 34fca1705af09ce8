"""The networks that containers are on: which, made how, and whether this box is on them too."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import attrs
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from plane_tx.core.errors import EngineUnavailable, InvalidRequest, SpawnFailed
from plane_tx.core.hardening import Addressing, Egress
from plane_tx.core.model import Executable
from plane_tx.engines.docker.client import DockerClient
from plane_tx.engines.docker.container import Place, instance_labels
from plane_tx.engines.docker.errors import DockerError
from plane_tx.flights import Flight

#: Whether containers on one bridge reach each other (Docker's bridge driver).
_INTER_CONTAINER = "com.docker.network.bridge.enable_icc"

#: Any port will do: nothing is sent.
_ANY_PORT = 9


@attrs.frozen
class NetworkSettings:
    """What the configuration says of networks; `egress` is what most sessions will have."""

    address: Addressing = Addressing.AUTO
    egress: Egress = Egress.OPEN
    inter_container: bool = False


def is_own_address(address: str) -> bool:
    """Whether `address` (IPv4) is one of this network namespace: the way to it begins there."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        try:
            asking.connect((address, _ANY_PORT))
            return bool(asking.getsockname()[0] == address)
        except OSError:
            return False


def gateways(network: Mapping[str, Any]) -> Iterator[str]:
    """The IPv4 addresses that the box has on a bridge, as Docker tells of it."""
    for config in network.get("IPAM", {}).get("Config") or ():
        gateway = str(config.get("Gateway", "")).partition("/")[0]
        if gateway and ":" not in gateway:
            yield gateway


class Networks:
    """Two bridges of an instance: `plane-tx-INSTANCE`, and `-internal` for those without egress.

    They are made when they are missing, and stay. On neither do containers reach each other, unless
    the settings let them.
    """

    _log = Logger()

    def __init__(
        self,
        client: DockerClient,
        instance: str,
        settings: NetworkSettings,
        is_ours: Callable[[str], bool] = is_own_address,
    ) -> None:
        self._client = client
        self._instance = instance
        self._settings = settings
        self._is_ours = is_ours
        self._making: dict[str, Flight[None]] = {}
        self._preparing: Deferred[None] = succeed(None)
        #: Whether containers are reached at their own addresses, once that is known.
        self._at_their_own: bool | None = None

    def start(self) -> None:
        """Make what most sessions will need, so that the first one does not wait for it."""
        self._preparing = Deferred.fromCoroutine(self._prepare())
        self._preparing.addErrback(self._not_prepared)

    def settled(self) -> Deferred[None]:
        """Fires when that is done; cancelling calls it off."""
        return self._preparing

    def check(self, executable: Executable) -> None:
        """Raise `InvalidRequest` for a session that could not be reached."""
        if executable.egress is Egress.NONE and self._at_their_own is False:
            raise InvalidRequest(f"spawn_config.executable.egress: {_NO_WAY_IN}")

    async def place(self, executable: Executable) -> Place:
        """Where a session is to be put; its network is there then, unless it named another.

        Fails with `SpawnFailed` and `EngineUnavailable`, and with `DockerError` for what Docker
        will not do.
        """
        if (name := executable.network_name) is not None:
            return Place(name, not self._reaches(await self._found(name) or {}))
        return await self._own_place(executable.egress)

    async def _own_place(self, egress: Egress) -> Place:
        is_internal = egress is Egress.NONE
        name = f"plane-tx-{self._instance}" + ("-internal" if is_internal else "")
        network = await self._found(name)
        if network is None:
            await self._make_once(name, is_internal)
            network = await self._found(name)
        if network is None:
            raise SpawnFailed(f"somebody removed the network {name} as soon as it was made")
        self._check_is_as_made(name, network, is_internal)
        reaches = self._reaches(network)
        self._tell(reaches, name)
        if is_internal and not reaches:
            raise SpawnFailed(f"egress: {_NO_WAY_IN}")
        return Place(name, is_published=not reaches)

    async def _prepare(self) -> None:
        await self._own_place(self._settings.egress)

    def _not_prepared(self, failure: Failure) -> None:
        # Not the end of it: whoever needs the network tries again, and is told what is wrong.
        failure.trap(CancelledError, EngineUnavailable, SpawnFailed, DockerError)
        if not failure.check(CancelledError, EngineUnavailable):
            self._log.warn("the network of sessions: {error}", error=failure.value)

    async def _found(self, name: str) -> Mapping[str, Any] | None:
        # Docker takes the name for a part of one.
        listed = await self._client.networks(name)
        return next((network for network in listed if network.get("Name") == name), None)

    async def _make_once(self, name: str, is_internal: bool) -> None:
        flight = self._making.get(name)
        if flight is None:
            making = Deferred.fromCoroutine(self._make(name, is_internal))
            flight = self._making[name] = Flight(making)

            def made(_: object) -> None:
                del self._making[name]

            making.addBoth(made)
        await flight.wait()

    async def _make(self, name: str, is_internal: bool) -> None:
        inter_container = str(self._settings.inter_container).lower()
        body = {
            "Name": name,
            # Until API 1.44 Docker would make two of one name.
            "CheckDuplicate": True,
            "Driver": "bridge",
            "Internal": is_internal,
            "Options": {_INTER_CONTAINER: inter_container},
            "Labels": instance_labels(self._instance),
        }
        try:
            await self._client.create_network(body)
        except DockerError as error:
            # Perhaps somebody else has just made it: podman has no status of its own for that.
            if await self._found(name) is not None:
                return
            raise SpawnFailed(f"could not make the network {name}: {error.message}") from None

    def _check_is_as_made(self, name: str, network: Mapping[str, Any], is_internal: bool) -> None:
        cure = f"remove it (docker network rm {name}), it is made anew"
        if bool(network.get("Internal")) is not is_internal:
            what = "leads nowhere" if network.get("Internal") else "leads out"
            raise SpawnFailed(f"the network {name} {what}, which it should not: {cure}")
        options = network.get("Options") or {}
        if not self._settings.inter_container and options.get(_INTER_CONTAINER) != "false":
            # Podman makes it all the same, and leaves out what it does not know.
            raise SpawnFailed(
                f"on the network {name} containers reach each other: {cure}. Podman cannot make it"
                " otherwise: there, set [engine] inter_container = true and let them"
            )

    def _reaches(self, network: Mapping[str, Any]) -> bool:
        if self._settings.address is not Addressing.AUTO:
            return self._settings.address is Addressing.CONTAINER
        return any(map(self._is_ours, gateways(network)))

    def _tell(self, reaches: bool, name: str) -> None:
        if self._at_their_own is not reaches:
            self._at_their_own = reaches
            how = "at their own addresses" if reaches else "by ports published on this box"
            self._log.info("containers on {name} are reached {how}", name=name, how=how)


_NO_WAY_IN = (
    '"none" needs containers that are reached at their own addresses, which this box cannot: it'
    " does not have the address that their network has for it. Podman has it only while one runs:"
    ' there, set [engine] address = "container"'
)
