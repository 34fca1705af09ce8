"""What every test is held to: nothing fails unseen, and nothing is left in the reactor.

Nothing here may import klein or the reactor: pytest-twisted installs the one that --reactor names.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import shutil
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from twisted.internet.error import ConnectionDone
from twisted.logger import LogEvent, LogLevel, formatEvent, globalLogPublisher
from twisted.python.failure import Failure

from bench import processes
from tests.chaos.server import clock_can_step
from tests.conformance import suite
from tests.engines import podman, registry

# A run is to fail only for what was changed, and never for a slow box.
settings.register_profile("plane", deadline=None, derandomize=True, max_examples=60, database=None)
settings.load_profile("plane")

#: How often the reactor may turn until what a test has just closed is gone.
SETTLING_TURNS = 40
TURN_SECONDS = 0.005


def pytest_collection_finish() -> None:
    # What is there by now stays, so that the gc.collect after each test need not look at it.
    gc.collect()
    gc.freeze()


class LoggedFailures:
    """What was logged as a failure during a test; whatever is not claimed fails the test."""

    def __init__(self) -> None:
        self.events: list[LogEvent] = []

    def __call__(self, event: LogEvent) -> None:
        announced = event.get("log_format") == "Unhandled error in Deferred:"  # and follows
        critical = event.get("log_level") is LogLevel.critical and not announced
        if critical or "log_failure" in event:
            self.events.append(event)

    def claim(self, *kinds: type[BaseException]) -> list[Failure]:
        """Take out the failures of these kinds, of which there must be one at least."""
        gc.collect()
        claimed = [event for event in self.events if _is_one_of(event, kinds)]
        assert claimed, f"no {' or '.join(kind.__name__ for kind in kinds)} was logged"
        self.events = [event for event in self.events if event not in claimed]
        return [event["log_failure"] for event in claimed]


def _is_one_of(event: LogEvent, kinds: tuple[type[BaseException], ...]) -> bool:
    return "log_failure" in event and event["log_failure"].check(*kinds) is not None


def _told(event: LogEvent) -> str:
    failure = event.get("log_failure")
    return f"{formatEvent(event)}\n{failure.getTraceback() if failure else ''}"


@contextlib.contextmanager
def _no_failure_logged() -> Iterator[LoggedFailures]:
    logged = LoggedFailures()
    globalLogPublisher.addObserver(logged)
    yield logged
    globalLogPublisher.removeObserver(logged)
    if logged.events:
        pytest.fail("failures were logged:\n" + "\n".join(map(_told, logged.events)), pytrace=False)


@pytest.fixture(autouse=True, scope="module")
def settled() -> None:
    """Fails at the start of a module what modules before it left as a Failure."""
    gc.unfreeze()
    with _no_failure_logged():
        gc.collect()
    # What is left are caches, mostly, and grows with every module: let the gc.collect after each
    # test look at what is new alone.
    gc.freeze()


@pytest.fixture(autouse=True)
def logged_failures(request: pytest.FixtureRequest) -> Iterator[LoggedFailures]:
    """Fails a test that leaves an unhandled Failure, or logs one that it does not claim."""
    with _no_failure_logged() as logged:
        yield logged
        # Core knows no Deferred, so no garbage of its tests can hold a Failure; the rest may.
        if request.path.parent.name != "core":
            gc.collect()


@pytest.fixture(autouse=True)
def clean_reactor(logged_failures: LoggedFailures) -> Iterator[None]:
    """Fails a test that leaves a delayed call or an open selectable in the reactor."""
    reactor: Any = sys.modules.get("twisted.internet.reactor")
    if reactor is None:
        yield
        return
    before = _in_reactor(reactor)
    yield
    for _ in range(SETTLING_TURNS):
        if not _in_reactor(reactor) - before:
            return
        _turn(reactor)
    left = _in_reactor(reactor) - before
    told = sorted(map(str, left))
    for each in left:
        _remove(each)
    if left:
        pytest.fail(f"left in the reactor: {told}", pytrace=False)


def _in_reactor(reactor: Any) -> set[Any]:
    internal = getattr(reactor, "_internalReaders", set())
    selectables = {*reactor.getReaders(), *reactor.getWriters()} - internal
    return selectables | {call for call in reactor.getDelayedCalls() if call.active()}


def _turn(reactor: Any) -> None:
    import pytest_twisted
    from twisted.internet.task import deferLater

    pytest_twisted.blockon(deferLater(reactor, TURN_SECONDS))


def _remove(left: Any) -> None:
    """Keep what one test left from being laid at the next one's door."""
    if hasattr(left, "cancel"):
        left.cancel()
    else:
        left.connectionLost(Failure(ConnectionDone()))


def _docker_is_missing() -> str | None:
    where = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock").removeprefix("unix://")
    try:
        with socket.socket(socket.AF_UNIX) as engine:
            engine.settimeout(5)
            engine.connect(where)
            engine.sendall(b"GET /_ping HTTP/1.0\r\nHost: docker\r\n\r\n")
            if engine.recv(64).split(b" ")[1:2] == [b"200"]:
                return None
    except OSError:
        pass
    return f"no Docker Engine answers at {where} (`sudo make test` provides it on Debian)"


def _chromium_is_missing() -> str | None:
    if Path("/usr/bin/chromium").exists():
        return None
    return "there is no /usr/bin/chromium (`sudo make test` provides it on Debian)"


def _bench_is_missing() -> str | None:
    return processes.missing("nginx", "wrk", "gcc")


def _conf_is_missing() -> str | None:
    programs = (
        "caddy", "nginx", "haproxy", "promtool", "prometheus", "systemd-socket-activate", "curl",
    )  # fmt: skip
    absent = " ".join(each for each in programs if shutil.which(each) is None)
    return f"there is no {absent} (`sudo make test` provides it on Debian)" if absent else None


def _chaos_is_missing() -> str | None:
    programs = ("dockerd", "docker", "docker-init", "unshare", "nsenter", "iptables", "ip", "mount")
    missing = [each for each in programs if shutil.which(each) is None]
    missing += [] if clock_can_step() else ["libfaketime"]
    if os.geteuid() != 0:
        return "only root may start a Docker of its own (`sudo make test`)"
    return f"there is no {', no '.join(missing)}" if missing else None


_NEEDS = {
    "autobahn": suite.missing,
    "bench": functools.cache(_bench_is_missing),
    "conf": functools.cache(_conf_is_missing),
    "chaos": functools.cache(_chaos_is_missing),
    "docker": functools.cache(_docker_is_missing),
    "chromium": functools.cache(_chromium_is_missing),
    "podman": podman.missing,
    "registry": registry.missing,
}


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker, missing in _NEEDS.items():
        reason = missing() if item.get_closest_marker(marker) else None
        if reason is not None and os.environ.get("CI") == "true":
            pytest.fail(reason, pytrace=False)
        if reason is not None:
            pytest.skip(reason)
