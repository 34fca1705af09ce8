"""Podman's Docker-compatible API (Debian's podman), with images and containers of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from plane_tx.core.hardening import Addressing
from plane_tx.engines.docker.networks import NetworkSettings

IMAGE = "plane-tx-test/busybox"

# Nothing is shared with another podman of the box, and a box without systemd and without the right
# to raise limits, as a container is, must do.
_CONFIG = """
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
init_path = "/usr/bin/catatonit"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
lock_type = "file"
runtime = "runc"
tmp_dir = "{directory}/tmp"
[network]
network_config_dir = "{directory}/networks"
"""

#: Podman 4 cannot keep the containers of one network apart, and so this server must not want it to;
#: and its bridge comes with the first container on it, so that nobody can look for it before.
NETWORKS = NetworkSettings(Addressing.CONTAINER, inter_container=True)

_SECONDS_ONLY = "its logs have whole seconds only"
_TOLD_OTHERWISE = "its inspect tells of them otherwise"
_RAISES_LIMITS = "it raises the limit of open files beside, which takes a right of its own"

_START_SECONDS = 30.0

#: Promises that the contract suite cannot see kept through podman 4, by the name of their test.
UNLIKE = {
    "test_a_session_that_runs_out_of_memory_is_told_to_have": "it misses that with cgroups v1",
    "test_a_line_has_its_moment_and_logs_can_begin_at_it": _SECONDS_ONLY,
    "test_who_follows_a_log_is_told_the_tail_and_all_that_comes": _SECONDS_ONLY,
    "test_the_surroundings_that_are_asked_for_reach_docker": _TOLD_OTHERWISE,
    "test_mounts_are_directories_of_the_key_or_of_a_name_in_its_namespace": _TOLD_OTHERWISE,
    "test_a_session_that_listens_nowhere_says_so": "it does not tell which runtime a session has",
    "test_plane_s_own_limits_reach_docker_as_plane_has_them": _RAISES_LIMITS,
    "test_limits_and_the_rest_reach_docker": _RAISES_LIMITS,
    "test_a_kill_overtakes_a_stop_that_is_not_heeded": "a kill beside a stop is now and then lost",
}


def missing() -> str | None:
    """Why there can be no podman here, if so."""
    if os.getuid() != 0:
        return "podman is tried as root only (`sudo make test` does)"
    absent = [each for each in ("podman", "runc", "catatonit") if shutil.which(each) is None]
    if absent:
        return f"there is no {' and no '.join(absent)} (`sudo make test` provides it on Debian)"
    return None


@contextlib.contextmanager
def running() -> Iterator[str]:
    """The socket of a podman that knows the test's image, until the end of this context."""
    # Short, for a path of a socket may have 107 bytes, and podman makes some of its own.
    directory = Path(tempfile.mkdtemp(prefix="podman-"))
    config = directory / "containers.conf"
    config.write_text(_CONFIG.format(directory=directory))
    environment = {**os.environ, "CONTAINERS_CONF": str(config)}
    # Of all storage drivers this one alone mounts nothing that would be in the way of removing it.
    own = ["podman", "--storage-driver", "vfs"]
    own += ["--root", str(directory / "root"), "--runroot", str(directory / "run")]
    socket = directory / "socket"
    try:
        image = subprocess.run(["docker", "save", IMAGE], check=True, capture_output=True).stdout
        load = [*own, "load", "--quiet"]
        subprocess.run(load, input=image, check=True, capture_output=True, env=environment)
        with (directory / "log").open("wb") as log:
            serve = [*own, "system", "service", "--time=0", f"unix://{socket}"]
            serving = subprocess.Popen(serve, stdout=log, stderr=log, env=environment)
        try:
            _await(socket, serving, directory / "log")
            yield str(socket)
        finally:
            serving.terminate()
            serving.wait()
    finally:
        shutil.rmtree(directory)


def _await(socket: Path, serving: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + _START_SECONDS
    while not socket.exists():
        if time.monotonic() > until or serving.poll() is not None:
            raise AssertionError(f"podman did not start: {log.read_text()}")
        time.sleep(0.05)
