"""Docker's account of what a container takes, as `docker stats` reckons it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from plane_tx.engines.interface import EngineStats


def stats_of(found: Mapping[str, Any] | None, memory_limit: int | None) -> EngineStats | None:
    """Read `GET /containers/{id}/stats`; None for a container that does not run.

    `memory_limit` is the container's own: where it has none, Docker tells the memory of the box.
    """
    # A container that has ended is answered with every value empty, and with no status of its own;
    # by podman with nothing at all.
    if found is None:
        return None
    memory: Mapping[str, Any] = found.get("memory_stats") or {}
    if "usage" not in memory and not found.get("pids_stats"):
        return None
    networks = (found.get("networks") or {}).values()
    return EngineStats(
        cpu_seconds=found["cpu_stats"]["cpu_usage"]["total_usage"] / 1e9,
        memory_bytes=_memory(memory),
        memory_limit_bytes=memory_limit,
        pids=found.get("pids_stats", {}).get("current"),
        received_bytes=sum(one["rx_bytes"] for one in networks) if networks else None,
        sent_bytes=sum(one["tx_bytes"] for one in networks) if networks else None,
    )


def _memory(memory: Mapping[str, Any]) -> int | None:
    """Without the file pages that the kernel can drop at once, as docker/cli has it."""
    usage: int | None = memory.get("usage")
    if usage is None:
        return None
    detail = memory.get("stats") or {}
    # cgroup v1 has the name with `total_`, which sums over the cgroups below; v2 only the other.
    inactive: int = detail.get("total_inactive_file", detail.get("inactive_file", 0))
    return usage - inactive if inactive < usage else usage
