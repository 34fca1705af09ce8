"""How an executable is said to Docker, and what Docker's account of a container means to us."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from plane_tx.core.containers import MOUNT_TARGET
from plane_tx.core.errors import InvalidRequest
from plane_tx.core.hardening import Hardening
from plane_tx.core.images import Image
from plane_tx.core.model import Address, Executable, ResourceLimits
from plane_tx.engines.docker.errors import DockerError
from plane_tx.engines.interface import Running, SpawnOrder

#: Marks every session's container, as Plane does.
BACKEND_LABEL = "dev.plane.backend"

#: Tells the containers of one server from those of another on the same Docker.
INSTANCE_LABEL = "plane-tx.instance"

#: Where ports are published: nobody gets around the proxy from another box.
PUBLISHED_ON = "127.0.0.1"

#: Runtimes whose containers are processes of this box's own kernel; others may be small machines.
_OF_THIS_KERNEL = frozenset({"runc", "io.containerd.runc.v2", "crun", "youki", "nvidia"})

_NAME_PREFIX = "plane-"
_DEFAULT_CPU_PERIOD = 100_000
_LEAST_MEMORY = 6 * 1024 * 1024


@attrs.frozen
class Place:
    """The network a container is put on, and whether its port is published to reach it there."""

    network: str
    is_published: bool


@attrs.frozen
class Container:
    """What Docker tells of one container (`GET /containers/{id}/json`), as far as we care."""

    id: str
    labels: Mapping[str, str]
    running: bool
    fresh: bool
    #: Of its first process, as its engine counts processes; 0 for one that does not run.
    pid: int
    shares_kernel: bool
    exit_code: int | None
    oom: bool
    memory_limit: int | None
    error: str
    #: Where its ports are published; None for one that has none to publish.
    ports: Mapping[str, Any] | None
    #: Its own addresses, one for each network it is on.
    addresses: tuple[str, ...]

    @classmethod
    def parse(cls, found: Mapping[str, Any]) -> Container:
        """Read Docker's account. Raises `DockerError` for what is none."""
        try:
            return cls._parse(found)
        except (LookupError, TypeError, AttributeError) as error:
            raise DockerError(f"its account of a container is not understood: {error!r}") from None

    @classmethod
    def _parse(cls, found: Mapping[str, Any]) -> Container:
        state, config = found["State"], found["Config"]
        host_config, network = found.get("HostConfig", {}), found.get("NetworkSettings", {})
        ports = network.get("Ports") or {}
        each = (network.get("Networks") or {}).values()
        return cls(
            id=found["Id"],
            labels=config.get("Labels") or {},
            running=state["Running"],
            fresh=state.get("Status") == "created",
            pid=state.get("Pid", 0),
            shares_kernel=host_config.get("Runtime") in _OF_THIS_KERNEL,
            exit_code=state.get("ExitCode"),
            oom=state.get("OOMKilled", False),
            memory_limit=host_config.get("Memory") or None,
            error=state.get("Error", ""),
            ports=ports if host_config.get("PortBindings") else None,
            addresses=tuple(one["IPAddress"] for one in each if one.get("IPAddress")),
        )

    def address(self, port: int) -> Address | None:
        """Where its server is reached from this box; None when its network gives it no address.

        As it was made: by a published port, or at the container's own address.
        """
        if self.ports is None:
            return next((Address(own, port) for own in self.addresses), None)
        for binding in self.ports.get(f"{port}/tcp") or ():
            return Address(PUBLISHED_ON, int(binding["HostPort"]))
        return None


def container_name(session_id: str) -> str:
    """The name of a session's container."""
    return _NAME_PREFIX + session_id


def session_named(name: str) -> str:
    """The session whose container has this name, with or without Docker's slash."""
    return name.removeprefix("/").removeprefix(_NAME_PREFIX)


def instance_labels(instance: str) -> dict[str, str]:
    """The labels by which one server finds its containers."""
    return {BACKEND_LABEL: "true", INSTANCE_LABEL: instance}


def label_filter(instance: str) -> list[str]:
    """The same, as Docker's filters take them."""
    return [f"{name}={value}" for name, value in instance_labels(instance).items()]


def running(listed: Mapping[str, Any]) -> Running:
    """One item of Docker's list (`GET /containers/json`) as a session, without our two labels."""
    labels = {
        name: value
        for name, value in (listed.get("Labels") or {}).items()
        if name not in (BACKEND_LABEL, INSTANCE_LABEL)
    }
    runs = listed["State"] in ("running", "paused", "restarting")
    # One that is just being removed may have lost its name.
    name = next(iter(listed.get("Names") or ()), "")
    return Running(session_named(name), labels, runs, fresh=listed["State"] == "created")


def check(executable: Executable) -> None:
    """Raise `InvalidRequest`, naming the field, for what Docker could never run."""
    where = "spawn_config.executable"
    if not executable.image:
        raise InvalidRequest(f"{where}.image: expected an image, this server runs containers")
    try:
        Image.parse(executable.image)
    except ValueError as error:
        raise InvalidRequest(f"{where}.image: {error}") from None
    if executable.network_name == "none":
        raise InvalidRequest(f"{where}.network_name: a session without a network cannot be reached")
    if executable.network_name == "host" or (executable.network_name or "").startswith(
        "container:"
    ):
        # Its URL would lead to whatever listens there, this server's control API for one.
        raise InvalidRequest(f"{where}.network_name: a session needs a network of its own")
    _check_limits(f"{where}.resource_limits", executable.limits)
    _check_places(where, executable)


def _check_limits(where: str, limits: ResourceLimits) -> None:
    if limits.cpus is not None and (limits.cpu_period or limits.cpu_period_percent):
        raise InvalidRequest(
            f"{where}.cpus: it says the same as cpu_period and cpu_period_percent; give only one"
        )
    if limits.cpus is not None and limits.cpus < 0.01:
        raise InvalidRequest(f"{where}.cpus: expected at least 0.01, got {limits.cpus:g}")
    if limits.cpu_period is not None and not 1000 <= limits.cpu_period <= 1_000_000:
        raise InvalidRequest(f"{where}.cpu_period: expected 1000 to 1000000 (microseconds)")
    if limits.memory_limit_bytes is not None and limits.memory_limit_bytes < _LEAST_MEMORY:
        raise InvalidRequest(
            f"{where}.memory_limit_bytes: expected at least {_LEAST_MEMORY} (6 MiB)"
        )


def _check_places(where: str, executable: Executable) -> None:
    places = [*executable.tmpfs, *(volume.path for volume in executable.volumes)]
    taken = {MOUNT_TARGET} if executable.mount else set()
    for place in places:
        if place in taken:
            field = "tmpfs" if place in executable.tmpfs else "volumes"
            raise InvalidRequest(f"{where}.{field}: something else is to be at {place!r} already")
        taken.add(place)


def create_body(
    order: SpawnOrder, instance: str, place: Place, mounted: str | None = None
) -> dict[str, Any]:
    """The body of `POST /containers/create` for an executable that has passed `check`.

    `mounted` is the directory of this box that it finds at `MOUNT_TARGET`.
    """
    executable = order.executable
    environment = {**executable.env, **order.environment}
    host_config: dict[str, Any] = {
        **_hardening(executable.hardening),
        **_limits(executable.limits, executable.hardening),
        **_surroundings(executable),
        **_storage(executable, mounted),
        "NetworkMode": place.network,
    }
    body = {
        "Image": str(Image.parse(executable.image or "")),
        "Env": [f"{name}={value}" for name, value in environment.items()],
        "Labels": {**order.labels, **instance_labels(instance)},
        "HostConfig": host_config,
        **_command(executable),
    }
    if place.is_published:
        port = f"{executable.port}/tcp"
        body["ExposedPorts"] = {port: {}}
        host_config["PortBindings"] = {port: [{"HostIp": PUBLISHED_ON, "HostPort": ""}]}
    return body


def _hardening(hardening: Hardening) -> dict[str, Any]:
    said: dict[str, Any] = {"Init": hardening.init, "Privileged": False}
    if hardening.cap_drop:
        said["CapDrop"] = list(hardening.cap_drop)
    if hardening.no_new_privileges:
        said["SecurityOpt"] = ["no-new-privileges"]
    if hardening.log_max_bytes:
        # Not the daemon's own driver, which may keep every line, or none that can be read.
        said["LogConfig"] = {
            "Type": "json-file",
            "Config": {
                "max-size": str(hardening.log_max_bytes),
                "max-file": str(hardening.log_files),
            },
        }
    return said


def _command(executable: Executable) -> dict[str, Any]:
    said = {
        "Cmd": executable.command and list(executable.command),
        "Entrypoint": executable.entrypoint and list(executable.entrypoint),
        "User": executable.user,
        "WorkingDir": executable.workdir,
    }
    return {name: value for name, value in said.items() if value is not None}


def _surroundings(executable: Executable) -> dict[str, Any]:
    said: dict[str, Any] = {}
    if executable.read_only:
        said["ReadonlyRootfs"] = True
    if executable.cap_add:
        said["CapAdd"] = list(executable.cap_add)
    if executable.runtime is not None:
        said["Runtime"] = executable.runtime
    if executable.gpus:
        # As `docker run --gpus` says it (Engine API 1.40); -1 is all.
        count = -1 if executable.gpus == "all" else executable.gpus
        said["DeviceRequests"] = [{"Count": count, "Capabilities": [["gpu"]]}]
    return said


def _storage(executable: Executable, mounted: str | None) -> dict[str, Any]:
    mounts: list[dict[str, Any]] = [
        {
            "Type": "volume",
            "Source": volume.name,
            "Target": volume.path,
            "ReadOnly": volume.read_only,
        }
        for volume in executable.volumes
    ]
    if mounted is not None:
        mounts.append({"Type": "bind", "Source": mounted, "Target": MOUNT_TARGET})
    said = {"Tmpfs": dict(executable.tmpfs), "Mounts": mounts}
    return {name: value for name, value in said.items() if value}


def _limits(limits: ResourceLimits, hardening: Hardening) -> dict[str, Any]:
    """Plane's units in Docker's (plane.md 3.4); what is not limited is not said."""
    most_pids = hardening.pids_limit or None
    said: dict[str, Any] = {
        "CpuPeriod": limits.cpu_period,
        "NanoCpus": limits.cpus and int(limits.cpus * 1_000_000_000),
        "Memory": limits.memory_limit_bytes,
        # The same again as swap is Docker's default; a limit that swaps is none.
        "MemorySwap": None if hardening.swap else limits.memory_limit_bytes,
        "PidsLimit": most_pids if limits.pids_limit is None else limits.pids_limit,
    }
    if limits.cpu_period_percent is not None:
        period = limits.cpu_period or _DEFAULT_CPU_PERIOD
        said["CpuQuota"] = period * limits.cpu_period_percent // 100
    if (seconds := limits.cpu_time_limit) is not None:
        said["Ulimits"] = [{"Name": "cpu", "Soft": seconds, "Hard": seconds}]
    if limits.disk_limit_bytes is not None:
        said["StorageOpt"] = {"size": str(limits.disk_limit_bytes)}
    return {name: value for name, value in said.items() if value is not None}
