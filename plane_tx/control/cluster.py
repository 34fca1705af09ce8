"""Plane's view of a cluster: this server is its one drone and its one proxy (plane.md 1.7)."""

from __future__ import annotations

from typing import Any

from plane_tx import __version__
from plane_tx.core.errors import NotFound
from plane_tx.supervisor import Supervisor


def state(supervisor: Supervisor, cluster: str) -> dict[str, Any]:
    """Plane's ClusterState; that of a cluster which is not ours has nothing in it."""
    policy = supervisor.policy
    if cluster != policy.cluster:
        return {"drones": [], "proxies": []}
    drone = {
        "ready": supervisor.recovered,
        "draining": supervisor.draining,
        "last_heartbeat_age": 0,
        "backend_count": supervisor.registry.live_count,
        "node": _node("Drone", policy.host_name),
    }
    return {"drones": [drone], "proxies": [_node("Proxy", policy.host_name)]}


def check_drone(supervisor: Supervisor, cluster: str, drone: str) -> None:
    """Raise `NotFound` unless this is our cluster and we are that drone."""
    policy = supervisor.policy
    if (cluster, drone) != (policy.cluster, policy.host_name):
        raise NotFound(
            f"there is no drone {drone[:64]!r} in a cluster {cluster[:64]!r}: this server is"
            f" {policy.host_name!r} in {policy.cluster!r}"
        )


def _node(kind: str, name: str) -> dict[str, Any]:
    return {
        "name": {kind: name},
        "plane_version": __version__,
        "plane_hash": "",
        "controller": name,
        "controller_heartbeat_age": 0,
    }
