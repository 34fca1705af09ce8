"""A Docker Engine in memory: the real client talks real HTTP to it, over pipes and virtual time.

Beside it the `World` that tests run in, which is the same around a real Docker Engine.
"""

import base64
import functools
import itertools
import json
import os
import re
import struct
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import Deferred, fail, maybeDeferred
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import IDelayedCall, IStreamClientEndpoint
from twisted.internet.task import Clock, deferLater
from twisted.python.failure import Failure
from twisted.test import iosim
from twisted.web.http import Request
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site
from zope.interface import implementer

from plane_tx.core.model import Executable, Key, LogLine, LogStream
from plane_tx.engines.docker.client import DockerClient
from plane_tx.engines.docker.container import Place, create_body
from plane_tx.engines.docker.daemon import Daemon
from plane_tx.engines.docker.engine import DockerEngine
from plane_tx.engines.docker.errors import NoSuchObject
from plane_tx.engines.docker.mounts import MountDirectories
from plane_tx.engines.docker.networks import NetworkSettings
from plane_tx.engines.interface import (
    EngineEvent,
    IEngine,
    LeftBehind,
    Reachable,
    SessionExited,
    SpawnOrder,
    Unreachable,
)
from plane_tx.engines.proc import PROC
from plane_tx.engines.sockets import SocketTables
from plane_tx.engines.threads import InThread

NO_SUCH_FILE = ConnectError(2, "No such file or directory")


@attrs.frozen
class Program:
    """What a container's command does, told by the command's script."""

    output: tuple[tuple[int, str], ...] = ()
    ends_after: float | None = None
    exit_code: int = 0
    exit_code_on_term: int | None = None
    oom: bool = False
    #: Whether it counts aloud, twenty times a second.
    talks: bool = False
    #: The rows of its own in its kernel's table of TCP sockets.
    sockets: tuple[str, ...] = ()


#: The scripts that tests run, for `sh -c`; a real container runs them, a fake one looks here.
OBEYS = "trap 'exit 7' TERM; echo up; while :; do sleep 0.05; done"
DEAF = "trap '' TERM; echo up; while :; do sleep 0.05; done"
ENDS_AT_ONCE = "echo one; echo two >&2; exit 3"
ENDS_SOON = "echo one; sleep 0.2; echo two >&2; sleep 0.2; exit 3"
RUNS_OUT_OF_MEMORY = "sleep 0.3; tail /dev/zero"
TALKS = "n=0; while :; do echo $n; n=$((n+1)); sleep 0.05; done"
LISTENS = "httpd -p 127.0.0.1:5000; httpd -f -p 3000"
SHOWS_ENVIRONMENT = 'echo "$PORT $WHO"; trap "exit 0" TERM; while :; do sleep 0.05; done'

PROGRAMS = {
    OBEYS: Program(((1, "up\n"),), exit_code_on_term=7),
    DEAF: Program(((1, "up\n"),)),
    ENDS_AT_ONCE: Program(((1, "one\n"), (2, "two\n")), ends_after=0, exit_code=3),
    ENDS_SOON: Program(((1, "one\n"), (2, "two\n")), ends_after=0.4, exit_code=3),
    RUNS_OUT_OF_MEMORY: Program(ends_after=0.5, exit_code=137, oom=True),
    TALKS: Program(talks=True),
    LISTENS: Program(sockets=("00000000:0BB8", "0100007F:1388")),
    SHOWS_ENVIRONMENT: Program(((1, "{PORT} {WHO}\n"),), exit_code_on_term=0),
}


@attrs.define(eq=False)
class FakeContainer:
    """One container; `config` is the body it was made with."""

    id: str
    name: str
    config: dict[str, Any]
    program: Program
    port: int
    address: str = ""
    status: str = "created"
    exit_code: int = 0
    oom: bool = False
    #: Each with the moment it came at, in nanoseconds, and its stream.
    output: list[tuple[int, int, bytes]] = attrs.field(factory=list)
    followers: list[Request] = attrs.field(factory=list)
    waiting: list[Callable[[], None]] = attrs.field(factory=list)

    @property
    def running(self) -> bool:
        return self.status == "running"

    @property
    def labels(self) -> dict[str, str]:
        return self.config.get("Labels", {})

    @property
    def pid(self) -> int:
        """The number of its first process, as its host counts them."""
        return self.port if self.running else 0

    def inspected(self) -> dict[str, Any]:
        published = [{"HostIp": "127.0.0.1", "HostPort": str(self.port)}]
        wanted = self.config["HostConfig"].get("PortBindings", {})
        network = self.config["HostConfig"].get("NetworkMode", "bridge")
        address = self.address if self.running else ""
        return {
            "Id": self.id,
            "Name": f"/{self.name}",
            "State": {
                "Status": self.status,
                "Running": self.running,
                "Pid": self.pid,
                "OOMKilled": self.oom,
                "ExitCode": self.exit_code,
                "Error": "",
            },
            "Config": {"Labels": self.labels, "Env": self.config["Env"]},
            "HostConfig": {"Memory": 0, "Runtime": "runc", **self.config["HostConfig"]},
            "NetworkSettings": {
                "Ports": dict.fromkeys(wanted, published) if self.running else {},
                "Networks": {network: {"IPAddress": address}},
            },
        }

    def listed(self) -> dict[str, Any]:
        return {
            "Id": self.id,
            "Names": [f"/{self.name}"],
            "Labels": self.labels,
            "State": self.status,
        }


@attrs.define(eq=False)
class Gate:
    """Calls that are kept waiting: `come` fires when one is there, `open` lets all go on."""

    method: str
    path: re.Pattern[str]
    come: Deferred[None] = attrs.field(factory=Deferred)
    _held: list[Callable[[], None]] = attrs.field(factory=list)
    _open: bool = False

    def keeps(self, method: str, path: str, go_on: Callable[[], None]) -> bool:
        if self._open or method != self.method or not self.path.fullmatch(path):
            return False
        self._held.append(go_on)
        if not self.come.called:
            self.come.callback(None)
        return True

    def open(self) -> None:
        self._open = True
        held, self._held = self._held, []
        for go_on in held:
            go_on()


class Refusal(Exception):
    """An error that Docker answers."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


def ipam(gateway: str) -> dict[str, Any]:
    """How a network gives out addresses, as Docker tells it."""
    return {"Config": [{"Subnet": f"{gateway}/16", "Gateway": gateway}]}


def network(name: str) -> dict[str, Any]:
    """A bridge that this box is not on: its address is one for documentation (RFC 5737)."""
    return {"Name": name, "Driver": "bridge", "Internal": False, "IPAM": ipam("203.0.113.1")}


def no_such_container(name: str) -> Refusal:
    return Refusal(404, f"No such container: {name}")


Handler = Callable[..., Any]
ROUTES: list[tuple[str, re.Pattern[str], Handler]] = []


def route(method: str, path: str) -> Callable[[Handler], Handler]:
    def add(handler: Handler) -> Handler:
        ROUTES.append((method, re.compile(path), handler))
        return handler

    return add


class FakeDocker(Resource):
    """The Engine: its containers and images, and the levers by which a test moves them."""

    isLeaf = True

    def __init__(self, proc: Path | None = None) -> None:
        """With `proc`, what the kernel of its box tells of containers that run is put there."""
        super().__init__()
        self.clock = Clock()
        self.proc = proc
        self.versions = {"Version": "28.2.2", "ApiVersion": "1.50", "MinAPIVersion": "1.24"}
        self.containers: dict[str, FakeContainer] = {}
        self.images = {"plane-tx-test/busybox:latest"}
        self.networks = {"bridge": network("bridge")}
        #: The box's address on networks made from now on; by default it is truly its own.
        self.gateway = "127.0.0.1"
        #: What can be pulled: lines of progress, told a tenth of a second apart.
        self.registry: dict[str, list[dict[str, Any]]] = {}
        #: The login that a pull needs, as X-Registry-Auth is to decode.
        self.login: dict[str, str] | None = None
        #: What a connection fails with, and when it was tried.
        self.down: Exception | None = None
        self.knocks: list[float] = []
        #: Whether ports are published and addresses given, which not every network does.
        self.connects = True
        #: What every container that runs takes, as Docker tells it.
        self.usage: dict[str, Any] = {
            "pids_stats": {"current": 3},
            "cpu_stats": {"cpu_usage": {"total_usage": 1_500_000_000}},
            "memory_stats": {"usage": 5000, "limit": 1 << 34, "stats": {"inactive_file": 1000}},
            "networks": {"eth0": {"rx_bytes": 7, "tx_bytes": 8}},
        }
        self.calls: list[str] = []
        self.headers: list[Any] = []
        self._gates: list[Gate] = []
        self._refusals: list[tuple[str, re.Pattern[str], Refusal]] = []
        self._listeners: list[tuple[Request, dict[str, list[str]]]] = []
        self._pipes: list[_Pipe] = []
        self._sayings: dict[tuple[str, str], tuple[int, bytes]] = {}
        self._made = 0
        self._timers: list[IDelayedCall] = []
        self._site = Site(self, reactor=self.clock, timeout=None)

    # --- what a test does with it

    def run(self, scenario: Coroutine[Any, Any, None]) -> None:
        """Run to its end, moving time on to the next thing that is due whenever all wait."""
        running = Deferred.fromCoroutine(scenario)
        results: list[Any] = []
        running.addBoth(results.append)
        while not results:
            due = self.clock.getDelayedCalls()
            assert due, "everything waits, and nothing is due"
            self.clock.advance(max(0.0, due[0].getTime() - self.clock.seconds()))
        if isinstance(results[0], Failure):
            results[0].raiseException()

    def daemon(self) -> Daemon:
        return Daemon(self.clock, _Endpoint(self), "fake.sock")

    @property
    def connections(self) -> int:
        """How many are open."""
        return sum(pipe.is_open for pipe in self._pipes)

    def gate(self, method: str, path: str) -> Gate:
        """Keep calls of this path (a pattern, without the version) waiting."""
        gate = Gate(method, re.compile(path))
        self._gates.append(gate)
        return gate

    def refuse(self, method: str, path: str, status: int, message: str = "it is broken") -> None:
        """Answer calls of this path with an error, until `relent`."""
        self._refusals.append((method, re.compile(path), Refusal(status, message)))

    def say(self, method: str, path: str, status: int, body: bytes) -> None:
        """Answer calls of this path with just this."""
        self._sayings[method, path] = (status, body)

    def relent(self) -> None:
        self._refusals.clear()
        self._sayings.clear()
        self.versions |= {"ApiVersion": "1.50", "MinAPIVersion": "1.24"}
        for gate in self._gates:
            gate.open()

    def go_down(self, error: Exception = NO_SUCH_FILE) -> None:
        """Drop every connection and refuse new ones, as a daemon that ends."""
        self.down = error
        self._listeners.clear()
        for pipe in self._pipes:
            pipe.cut()

    def come_back(self) -> None:
        self.down = None

    def break_events(self) -> None:
        """End the streams of events, and nothing else."""
        listeners, self._listeners = self._listeners, []
        for request, _ in listeners:
            request.finish()

    def named(self, name: str) -> FakeContainer:
        for container in self.containers.values():
            if name in (container.name, container.id):
                return container
        raise no_such_container(name)

    def exit(self, name: str, code: int = 0, oom: bool = False, quiet: bool = False) -> None:
        """End a container; `quiet` is without an event, as when nobody was listening."""
        container = self.named(name)
        if not container.running:
            return
        container.status, container.exit_code, container.oom = "exited", code, oom
        if not quiet:
            self.emit(container, "die", exitCode=str(code))
        followers, container.followers = container.followers, []
        for follower in followers:
            follower.finish()
        waiting, container.waiting = container.waiting, []
        for wake in waiting:
            wake()

    def print(self, name: str, data: bytes, stream: int = 1) -> None:
        """Let a container put out a message: a line, or a piece of a long one."""
        container = self.named(name)
        at_ns = round(self.clock.seconds() * 1e9)
        container.output.append((at_ns, stream, data))
        for follower in container.followers:
            follower.write(log_frame(*container.output[-1]))

    def emit(self, container: FakeContainer, action: str, **attributes: str) -> None:
        """Tell an event to those whose filters it passes."""
        event = {
            "Type": "container",
            "Action": action,
            "Actor": {
                "ID": container.id,
                "Attributes": {**container.labels, "name": container.name, **attributes},
            },
        }
        labels = {f"{name}={value}" for name, value in container.labels.items()}
        for request, filters in self._listeners:
            if action in filters["event"] and labels.issuperset(filters["label"]):
                request.write(json.dumps(event).encode() + b"\n")

    def stop(self) -> None:
        """Let go of the time that containers and pulls have left."""
        for timer in self._timers:
            if timer.active():
                timer.cancel()

    def _later(self, seconds: float, call: Callable[..., None], *args: Any) -> None:
        self._timers.append(self.clock.callLater(seconds, call, *args))

    # --- HTTP

    def render(self, request: Request) -> Any:
        method, path = request.method.decode(), request.path.decode()
        version = re.match(r"/v([\d.]+)", path)
        path = re.sub(r"^/v[\d.]+(?=/)", "", path)
        self.calls.append(f"{method} {path}" + (f" {version[1]}" if version else ""))
        self.headers.append(request.requestHeaders)
        request.body = request.content.read()
        request.notifyFinish().addErrback(lambda _: _mute(request))
        go_on = functools.partial(self._answer, request, method, path)
        if not any(gate.keeps(method, path, go_on) for gate in self._gates):
            go_on()
        return NOT_DONE_YET

    def _answer(self, request: Request, method: str, path: str) -> None:
        """Do what is asked, even when the one who asked has hung up meanwhile."""
        if saying := self._sayings.get((method, path)):
            self._end(request, *saying)
            return
        try:
            for refused, pattern, refusal in self._refusals:
                if refused == method and pattern.fullmatch(path):
                    raise refusal
            for known, pattern, handler in ROUTES:
                if known == method and (match := pattern.fullmatch(path)):
                    handler(self, request, *match.groups())
                    return
            raise Refusal(404, "page not found")
        except Refusal as refusal:
            body = (
                b"" if refusal.status == 304 else json.dumps({"message": refusal.message}).encode()
            )
            self._end(request, refusal.status, body)

    def _end(self, request: Request, status: int, body: bytes = b"") -> None:
        request.setResponseCode(status)
        request.setHeader("content-type", "application/json")
        if status not in (204, 304):
            request.setHeader("content-length", str(len(body)))
            request.write(body)
        request.finish()

    def _json(self, request: Request, data: object, status: int = 200) -> None:
        self._end(request, status, json.dumps(data).encode())

    @route("GET", "/version")
    def _version(self, request: Request) -> None:
        self._json(request, self.versions)

    @route("POST", "/containers/create")
    def _create(self, request: Request) -> None:
        config = json.loads(request.body)
        (name,) = (value.decode() for value in request.args[b"name"])
        if config["Image"] not in self.images:
            raise Refusal(404, f"No such image: {config['Image']}")
        if any(container.name == name for container in self.containers.values()):
            raise Refusal(409, f'Conflict. The container name "/{name}" is already in use')
        self._made += 1
        script = config.get("Cmd", ["", "", ""])[2]
        made = FakeContainer(
            f"{self._made:064x}", name, config, PROGRAMS[script], 49152 + self._made
        )
        self.containers[made.id] = made
        self._json(request, {"Id": made.id, "Warnings": []}, 201)

    @route("POST", "/containers/([^/]+)/start")
    def _start(self, request: Request, name: str) -> None:
        container = self.named(name)
        network = container.config["HostConfig"].get("NetworkMode", "bridge")
        if network not in self.networks:
            raise Refusal(404, f"network {network} not found")
        taken = {one.address for one in self.containers.values() if one.running}
        free = (f"172.18.{at // 250}.{at % 250 + 2}" for at in itertools.count())
        container.address = next(address for address in free if address not in taken)
        container.status = "running"
        environment = dict(line.split("=", 1) for line in container.config["Env"])
        if self.proc is not None:
            show_process(self.proc, container.pid, container.id, container.program.sockets)
        self._end(request, 204)
        for stream, text in container.program.output:
            self.print(container.id, text.format_map(environment).encode(), stream)
        if container.program.talks:
            self._talk(container, 0)
        if (seconds := container.program.ends_after) == 0:
            self.exit(container.id, container.program.exit_code)
        elif seconds is not None:
            self._later(seconds, self._end_by_itself, container)

    def _talk(self, container: FakeContainer, number: int) -> None:
        if container.running:
            self.print(container.id, b"%d\n" % number)
            self._later(0.05, self._talk, container, number + 1)

    def _end_by_itself(self, container: FakeContainer) -> None:
        if container.id in self.containers:
            self.exit(container.id, container.program.exit_code, oom=container.program.oom)

    @route("GET", "/containers/json")
    def _list(self, request: Request) -> None:
        wanted = set(json.loads(request.args[b"filters"][0])["label"])
        found = [
            container.listed()
            for container in self.containers.values()
            if {f"{name}={value}" for name, value in container.labels.items()} >= wanted
        ]
        self._json(request, found)

    @route("GET", "/containers/([^/]+)/json")
    def _inspect(self, request: Request, name: str) -> None:
        found = self.named(name).inspected()
        if not self.connects:
            found["NetworkSettings"] = {"Ports": {}, "Networks": {}}
        self._json(request, found)

    @route("POST", "/containers/([^/]+)/stop")
    def _stop(self, request: Request, name: str) -> None:
        container = self.named(name)
        if not container.running:
            raise Refusal(304, "")
        container.waiting.append(lambda: self._end(request, 204))
        self._later(int(request.args[b"t"][0]), self._kill_if_there, container)
        if (code := container.program.exit_code_on_term) is not None:
            self._later(0.05, self._exit_if_there, container, code)

    def _exit_if_there(self, container: FakeContainer, code: int) -> None:
        if container.id in self.containers:
            self.exit(container.id, code)

    def _kill_if_there(self, container: FakeContainer) -> None:
        self._exit_if_there(container, 137)

    @route("POST", "/containers/([^/]+)/kill")
    def _kill(self, request: Request, name: str) -> None:
        container = self.named(name)
        if not container.running:
            raise Refusal(409, f"Cannot kill container: {name}: Container is not running")
        self._end(request, 204)
        self._later(0.01, self._kill_if_there, container)

    @route("POST", "/containers/([^/]+)/wait")
    def _wait(self, request: Request, name: str) -> None:
        container = self.named(name)
        condition = request.args[b"condition"][0]
        request.setResponseCode(200)
        request.write(b"")

        def answer() -> None:
            code = {"Error": None, "StatusCode": container.exit_code}
            request.write(json.dumps(code).encode() + b"\n")
            request.finish()

        if condition == b"not-running" and not container.running:
            answer()
        else:
            container.waiting.append(answer)

    @route("DELETE", "/containers/([^/]+)")
    def _remove(self, request: Request, name: str) -> None:
        container = self.named(name)
        if container.running and request.args.get(b"force") != [b"1"]:
            raise Refusal(409, "You cannot remove a running container")
        self.exit(container.id, 137)
        self.vanish(container.id)
        self._end(request, 204)

    def vanish(self, name: str) -> None:
        """Remove a container that has ended."""
        container = self.containers.pop(self.named(name).id)
        waiting, container.waiting = container.waiting, []
        for wake in waiting:
            wake()

    @route("GET", "/containers/([^/]+)/logs")
    def _logs(self, request: Request, name: str) -> None:
        container = self.named(name)
        assert request.args[b"timestamps"] == [b"1"]
        (since,) = request.args.get(b"since", [b"0.0"])
        seconds, _, fraction = since.decode().partition(".")
        since_ns = int(seconds) * 1_000_000_000 + int(fraction)
        tail = int(request.args[b"tail"][0])
        request.write(b"")
        for message in container.output[max(0, len(container.output) - tail) :]:
            if message[0] >= since_ns:
                request.write(log_frame(*message))
        if b"follow" in request.args and container.running:
            container.followers.append(request)
            request.notifyFinish().addErrback(
                lambda _: request in container.followers and container.followers.remove(request)
            )
        else:
            request.finish()

    @route("GET", "/containers/([^/]+)/stats")
    def _stats(self, request: Request, name: str) -> None:
        assert (request.args[b"stream"], request.args[b"one-shot"]) == ([b"false"], [b"true"])
        self._json(request, self.usage if self.named(name).running else NOTHING_USED)

    @route("GET", "/events")
    def _events(self, request: Request) -> None:
        filters = json.loads(request.args[b"filters"][0])
        listener = (request, filters)
        self._listeners.append(listener)
        request.notifyFinish().addErrback(
            lambda _: listener in self._listeners and self._listeners.remove(listener) and None
        )
        request.write(b"")

    # --- networks

    @route("GET", "/networks")
    def _networks(self, request: Request) -> None:
        (part,) = json.loads(request.args[b"filters"][0])["name"]
        self._json(request, [one for name, one in self.networks.items() if part in name])

    @route("POST", "/networks/create")
    def _make_network(self, request: Request) -> None:
        said = json.loads(request.body)
        if said["Name"] in self.networks:
            raise Refusal(409, f"network with name {said['Name']} already exists")
        self.networks[said["Name"]] = {**said, "IPAM": ipam(self.gateway)}
        self._json(request, {"Id": "n"}, 201)

    @route("DELETE", "/networks/([^/]+)")
    def _remove_network(self, request: Request, name: str) -> None:
        if self.networks.pop(name, None) is None:
            raise Refusal(404, f"network {name} not found")
        self._end(request, 204)

    # --- images

    @route("GET", "/images/(.+)/json")
    def _image(self, request: Request, name: str) -> None:
        if name not in self.images:
            raise Refusal(404, f"No such image: {name}")
        self._json(request, {"Id": "sha256:0"})

    @route("POST", "/images/create")
    def _pull(self, request: Request) -> None:
        name, tag = (request.args[part][0].decode() for part in (b"fromImage", b"tag"))
        reference = f"{name}{'@' if ':' in tag else ':'}{tag}"
        if reference not in self.registry or self._login(request) != self.login:
            raise Refusal(404, f"pull access denied for {name}, may require 'docker login'")
        gone: list[Any] = []
        request.notifyFinish().addErrback(gone.append)
        self._next_line(request, reference, iter(self.registry[reference]), gone)

    def _login(self, request: Request) -> dict[str, str] | None:
        header = request.requestHeaders.getRawHeaders("X-Registry-Auth")
        return json.loads(base64.urlsafe_b64decode(header[0])) if header else None

    def _next_line(
        self, request: Request, reference: str, lines: Iterator[dict[str, Any]], gone: list[Any]
    ) -> None:
        if gone:
            return
        line = next(lines, None)
        if line is None:
            self.images.add(reference)
        if line is None or "error" in line:
            request.write(json.dumps(line or {"status": "Status: Downloaded"}).encode() + b"\r\n")
            request.finish()
            return
        request.write(json.dumps(line).encode() + b"\r\n")
        self._later(0.1, self._next_line, request, reference, lines, gone)


def _mute(request: Request) -> None:
    """Let what is done for one who has hung up go nowhere."""
    request.write = request.finish = lambda *_: None


def log_frame(at_ns: int, stream: int, data: bytes) -> bytes:
    """A message of a container's log, as Docker sends it with `timestamps=1`."""
    seconds, fraction = divmod(at_ns, 1_000_000_000)
    moment = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    data = f"{moment}.{fraction:09}Z ".encode() + data
    return struct.pack(">BxxxI", stream, len(data)) + data


#: What Docker 20.10 and later answer for a container that does not run.
NOTHING_USED = {
    "pids_stats": {},
    "cpu_stats": {"cpu_usage": {"total_usage": 0}},
    "memory_stats": {},
}


#: A row that Docker's own resolver has in every container, and one of a connection.
RESOLVER = "0B00007F:8C15"
CONNECTION = (
    "   0: 020012AC:0BB8 010012AC:8D0A 01 00000000:00000000 00:00000000 00000000     0        0 9 1"
)


def socket_table(sockets: Iterable[str]) -> str:
    """What /proc/PID/net/tcp tells, of these that listen and of one connection."""
    rows = [
        f"   0: {local} 00000000:0000 0A 00000000:00000000 00:00000000 00000000  0  0 {at} 1"
        for at, local in enumerate(sockets, 7001)
    ]
    return "\n".join(["  sl  local_address rem_address   st tx_queue", *rows, CONNECTION, ""])


def show_process(proc: Path, pid: int, container_id: str, sockets: Iterable[str]) -> None:
    """What the kernel of a Docker's box tells of a container's first process, and of ours."""
    for number, mine in ((str(pid), (RESOLVER, *sockets)), ("self", ("00000000:0016",))):
        network = proc / number / "net"
        network.mkdir(parents=True, exist_ok=True)
        (network / "tcp").write_text(socket_table(mine))
    (proc / str(pid) / "cgroup").write_text(f"0::/system.slice/docker-{container_id}.scope\n")


def downloading(layer: str, current: int, total: int) -> dict[str, Any]:
    """A line of a pull's progress."""
    detail = {"current": current, "total": total}
    return {"status": "Downloading", "progressDetail": detail, "id": layer}


class _End(iosim.FakeTransport):
    """One end of a pipe; whatever is done to it asks for the pipe to be emptied."""

    wake: Callable[[], None] = staticmethod(lambda: None)

    def write(self, data: bytes) -> None:
        super().write(data)
        self.wake()

    def loseConnection(self) -> None:
        super().loseConnection()
        self.wake()

    def abortConnection(self) -> None:
        super().abortConnection()
        self.wake()


class _Pipe:
    """A connection between a client's protocol and a server's, emptied when the clock moves."""

    def __init__(self, clock: Clock, client: Any, server: Any) -> None:
        self._clock = clock
        self._client = _End(client, isServer=False)
        self._server = _End(server, isServer=True)
        self._client.wake = self._server.wake = self._wake
        self._woken = False
        self._pump = iosim.connect(server, self._server, client, self._client, greet=False)

    @property
    def is_open(self) -> bool:
        return not (self._client.disconnected and self._server.disconnected)

    def cut(self) -> None:
        self._server.abortConnection()

    def _wake(self) -> None:
        if not self._woken:
            self._woken = True
            self._clock.callLater(0, self._flush)

    def _flush(self) -> None:
        self._woken = False
        # One step, not all that there are: others have their turn in between.
        if self._pump.pump(advanceClock=False):
            self._wake()


@implementer(IStreamClientEndpoint)
class _Endpoint:
    """The way to the fake."""

    def __init__(self, fake: FakeDocker) -> None:
        self._fake = fake

    def connect(self, protocolFactory: Any) -> Deferred[Any]:
        if self._fake.down is not None:
            self._fake.knocks.append(self._fake.clock.seconds())
            return fail(self._fake.down)
        connected: Deferred[Any] = Deferred()
        self._fake.clock.callLater(0, self._connected, protocolFactory, connected)
        return connected

    def _connected(self, protocolFactory: Any, connected: Deferred[Any]) -> None:
        if connected.called:
            return
        client = protocolFactory.buildProtocol(None)
        server = self._fake._site.buildProtocol(None)
        self._fake._pipes.append(_Pipe(self._fake.clock, client, server))
        connected.callback(client)


numbers = itertools.count(1)

NO_KEY = Key("k")


def untimed(lines: Iterable[LogLine]) -> tuple[LogLine, ...]:
    """The same lines, with no word of when they came."""
    return tuple(attrs.evolve(line, at_ns=None) for line in lines)


def out(*texts: str) -> tuple[LogLine, ...]:
    """Lines of stdout, untimed."""
    return tuple(LogLine(None, LogStream.STDOUT, text) for text in texts)


def err(*texts: str) -> tuple[LogLine, ...]:
    """Lines of stderr, untimed."""
    return tuple(LogLine(None, LogStream.STDERR, text) for text in texts)


class Witness:
    """Listens to an engine, and waits for what it says; log lines lose their time.

    What sessions leave behind is kept apart, and so is which of them can be reached.
    """

    def __init__(self, engine: IEngine) -> None:
        self.seen: list[EngineEvent] = []
        self.left: list[LeftBehind] = []
        self.moves: list[Unreachable | Reachable] = []
        self._waiting: list[tuple[type, Deferred[Any]]] = []
        engine.events(self._saw)

    def _saw(self, event: EngineEvent) -> None:
        if isinstance(event, SessionExited):
            event = attrs.evolve(event, log_tail=untimed(event.log_tail))
        if isinstance(event, LeftBehind):
            self.left.append(event)
        elif isinstance(event, Unreachable | Reachable):
            self.moves.append(event)
        else:
            self.seen.append(event)
        for kind, waiter in tuple(self._waiting):
            if isinstance(event, kind):
                self._waiting.remove((kind, waiter))
                waiter.callback(event)

    def next(self, kind: type) -> Deferred[Any]:
        """The next event of this kind, from now on."""
        waiter: Deferred[Any] = Deferred()
        self._waiting.append((kind, waiter))
        return waiter


@attrs.define(slots=False)
class World:
    """A Docker, real or not, with an engine on it and a client of the test's own beside it."""

    clock: Any
    make_daemon: Callable[[], Daemon]
    #: Runs a scenario to its end, or gives a Deferred that pytest-twisted waits for.
    run: Callable[[Coroutine[Any, Any, None]], Deferred[None] | None]
    in_thread: InThread
    #: Where the engine's mounts are; "" for none.
    mount_base: str = ""
    networks: NetworkSettings = NetworkSettings()
    #: Where the kernel of Docker's box tells of processes.
    proc: Path = PROC
    instance: str = attrs.field(factory=lambda: f"test-{os.getpid()}-{next(numbers)}")
    _engines: list[DockerEngine] = attrs.field(factory=list)

    def __attrs_post_init__(self) -> None:
        self.docker = DockerClient(self.make_daemon())
        self.engine = self.another_engine()
        self.witness = Witness(self.engine)

    def another_engine(
        self,
        instance: str | None = None,
        networks: NetworkSettings | None = None,
        pull_seconds: float = 0.0,
        proc: Path | None = None,
    ) -> DockerEngine:
        client = DockerClient(self.make_daemon())
        mounts = None
        if self.mount_base:
            mounts = MountDirectories(self.mount_base, self.in_thread)
        engine = DockerEngine(
            self.clock,
            client,
            instance or self.instance,
            networks or self.networks,
            mounts,
            pull_seconds,
            SocketTables(self.in_thread, proc or self.proc),
        )
        self._engines.append(engine)
        return engine

    def order(
        self, script: str, session_id: str = "", key: Key = NO_KEY, **fields: Any
    ) -> SpawnOrder:
        executable = Executable(
            image="plane-tx-test/busybox", command=("sh", "-c", script), **fields
        )
        session_id = session_id or f"{self.instance}-{next(numbers)}"
        labels = {"plane-tx.key": "k"}
        return SpawnOrder(session_id, executable, {"PORT": "8080"}, labels, key)

    def config(self, script: str) -> dict[str, Any]:
        """A container's, as `DockerClient.create` takes it."""
        return create_body(self.order(script), self.instance, Place("bridge", True))

    async def spawned(self, script: str, **fields: Any) -> str:
        order = self.order(script, **fields)
        await self.engine.spawn(order, lambda _: None)
        return order.session_id

    async def exists(self, session_id: str) -> bool:
        try:
            await self.docker.inspect(f"plane-{session_id}")
        except NoSuchObject:
            return False
        return True

    async def settle(self) -> None:
        """Let what is on its way through pipes arrive."""
        for _ in range(20):
            await self.sleep(0)

    async def sleep(self, seconds: float) -> None:
        await deferLater(self.clock, seconds)

    async def close(self) -> None:
        for engine in self._engines:
            await engine.close()
        await self.docker.close()
        docker = DockerClient(self.make_daemon())
        for container in await docker.containers([f"plane-tx.instance={self.instance}"]):
            await docker.remove(container["Id"])
        await docker.close()
        await self._without_networks()

    async def _without_networks(self) -> None:
        daemon = self.make_daemon()
        for name in (f"plane-tx-{self.instance}", f"plane-tx-{self.instance}-internal"):
            with suppress(NoSuchObject):
                await daemon.ask("DELETE", f"/networks/{name}")
        await daemon.close()


def scenario(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., Any]:
    """A test that waits: it runs in its world's own time."""

    @functools.wraps(test)
    def in_the_world(world: World, **fixtures: Any) -> Deferred[None] | None:
        return world.run(test(world, **fixtures))

    return in_the_world


def claim(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., Any]:
    """A scenario in a world that the engine watches."""

    @functools.wraps(test)
    def in_the_world(world: World, **fixtures: Any) -> Deferred[None] | None:
        world.engine.start()
        return world.run(test(world, **fixtures))

    return in_the_world


def fake_world(fake: FakeDocker, mount_base: str = "") -> Iterator[World]:
    """A world around the fake, which leaves nothing behind."""
    proc = fake.proc or PROC
    world = World(fake.clock, fake.daemon, fake.run, maybeDeferred, mount_base, proc=proc)
    yield world
    fake.come_back()
    fake.relent()
    fake.run(world.close())
    fake.stop()
    fake.run(world.settle())
    assert fake.connections == 0
    assert fake.clock.getDelayedCalls() == []
