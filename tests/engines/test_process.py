"""Sessions as real processes: how they start, what they get, and that nothing of them stays."""

import errno
import json
import os
import pwd
import signal
import socket
import sys
import tempfile
from pathlib import Path

import attrs
import pytest
from pytest_twisted import async_yield_fixture, ensureDeferred
from twisted.internet import threads
from twisted.internet.defer import CancelledError, Deferred, DeferredQueue, gatherResults
from twisted.internet.protocol import Factory, ProcessProtocol
from twisted.internet.task import Clock
from twisted.protocols.basic import LineOnlyReceiver
from zope.interface.verify import verifyObject

from plane_tx.core.errors import InvalidRequest, SpawnFailed
from plane_tx.core.hardening import Egress
from plane_tx.core.listeners import Listener
from plane_tx.core.model import (
    Address,
    Credentials,
    Executable,
    Key,
    LogStream,
    PullPolicy,
    ResourceLimits,
    Volume,
)
from plane_tx.engines import launch
from plane_tx.engines.child import DRAIN_SECONDS, Conditions
from plane_tx.engines.interface import (
    Created,
    Creating,
    IEngine,
    LeftBehind,
    Running,
    SessionExited,
    SpawnOrder,
)
from plane_tx.engines.ports import Ports
from plane_tx.engines.process import CLOSE_GRACE_SECONDS, ProcessEngine
from plane_tx.engines.users import user_named

# That a child's end is noticed is the reactor's doing, so these run under the other one as well.
pytestmark = pytest.mark.reactor

ROOT = Path(__file__).parent.parent.parent
# Runs of the tests that happen at once should not be in each other's way.
FIRST = 21000 + os.getpid() % 44 * 200
PORTS = (FIRST, FIRST + 99)

# What a program of the tests can do: be heard, and be known to be gone when its voice breaks off.
VOICE = """
import os, signal, socket, subprocess, sys
voice = socket.create_connection(("127.0.0.1", {port}))
def say(*words): voice.sendall((" ".join(map(str, words)) + "\\n").encode())
def child(code, **how): return subprocess.Popen([sys.executable, "-c", code], **how)
"""
SLEEP = "say('here')\nsignal.pause()\n"
STUBBORN = (
    "signal.signal(signal.SIGTERM, lambda *_: say('no'))\nsay('here')\nwhile True: signal.pause()\n"
)


class Voice(LineOnlyReceiver):
    delimiter = b"\n"

    def connectionMade(self):
        self.gone = Deferred()
        self.factory.voices.add(self)

    def lineReceived(self, line):
        self.factory.heard.put((line.decode(), self))

    def connectionLost(self, reason):
        self.factory.voices.remove(self)
        self.gone.callback(None)


class Ear(Factory):
    protocol = Voice

    def __init__(self):
        self.heard = DeferredQueue()
        self.voices = set()

    async def hears(self, words):
        """The voice that says `words`, which must come next."""
        line, voice = await self.heard.get()
        assert line == words
        return voice

    def program(self, code):
        return VOICE.format(port=self.port) + code


@pytest.fixture
def reactor():
    from twisted.internet import reactor

    return reactor


@async_yield_fixture
async def ear(reactor):
    ear = Ear()
    listening = reactor.listenTCP(0, ear, interface="127.0.0.1")
    ear.port = listening.getHost().port
    yield ear
    await listening.stopListening()
    for voice in tuple(ear.voices):
        voice.transport.abortConnection()
        await voice.gone


def texts(lines):
    return tuple(line.text for line in lines)


class Watched(ProcessEngine):
    """An engine that remembers what it told, of log lines the text.

    What sessions leave behind is kept apart.
    """

    def __init__(self, reactor, port_range=PORTS, clock=None, conditions=None):
        super().__init__(reactor, port_range, True, clock or reactor, conditions)
        self.told = []
        self.left = []
        self.awaited = {}
        self.events(self.hear)

    def hear(self, event):
        if isinstance(event, LeftBehind):
            self.left.append(event)
            return
        event = attrs.evolve(event, log_tail=texts(event.log_tail))
        self.told.append(event)
        if event.session_id in self.awaited:
            self.awaited.pop(event.session_id).callback(event)

    def begin(self, order):
        return self.spawn(order, lambda _: None)

    async def run(self, order):
        """Its end."""
        exited = self.awaited[order.session_id] = Deferred()
        await self.begin(order)
        return await exited


@async_yield_fixture
async def engine(reactor):
    engine = Watched(reactor)
    yield engine
    await engine.close()


def order(*command, session_id="s1", environment=(), **fields):
    executable = Executable(command=command, **fields)
    return SpawnOrder(session_id, executable, dict(environment), {"color": "red"}, Key("k"))


def python(code, **fields):
    return order("{python}", "-c", code, **fields)


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


class Spawns:
    """A reactor that remembers what it spawned."""

    def __init__(self, reactor):
        self._reactor = reactor
        self.getThreadPool = reactor.getThreadPool
        self.callFromThread = reactor.callFromThread
        self.pids = []

    def spawnProcess(self, *args, **kwargs):
        transport = self._reactor.spawnProcess(*args, **kwargs)
        self.pids.append(transport.pid)
        return transport


def test_it_is_an_engine(reactor) -> None:
    assert verifyObject(IEngine, ProcessEngine(reactor, PORTS, False, reactor))


# How sessions end.


@pytest.mark.parametrize(
    ("code", "exit_code"),
    [
        ("", 0),
        ("raise SystemExit(3)", 3),
        ("import os; os.kill(os.getpid(), 9)", 137),
        ("import os; os.kill(os.getpid(), 15)", 143),
    ],
)
@ensureDeferred
async def test_an_end_is_told_once_with_its_code(engine, code, exit_code):
    await engine.run(python(code))

    assert engine.told == [SessionExited("s1", exit_code=exit_code)]


@ensureDeferred
async def test_an_end_brings_the_last_lines_in_order(engine):
    code = "import os\nfor n in range(60): os.write(1, b'%d\\n' % n)"

    ended = await engine.run(python(code))

    assert ended.log_tail == tuple(str(n) for n in range(10, 60))


@ensureDeferred
async def test_both_outputs_are_told_apart_and_have_their_moments(engine, ear, reactor):
    began = reactor.seconds()
    code = "import os; os.write(1, b'said\\n'); os.write(2, b'warned\\n')\n"
    await engine.begin(python(ear.program(code + SLEEP)))
    await ear.hears("here")
    while len(lines := await engine.logs("s1", 9)) < 2:
        await turn(reactor)

    assert {(line.stream, line.text) for line in lines} == {
        (LogStream.STDOUT, "said"),
        (LogStream.STDERR, "warned"),
    }
    assert began * 1e9 <= lines[0].at_ns < lines[1].at_ns <= reactor.seconds() * 1e9
    assert await engine.logs("s1", 9, lines[1].at_ns) == lines[1:]


@ensureDeferred
async def test_who_follows_a_log_is_told_all_until_the_session_ends(engine, ear):
    code = "print('one', flush=True)\nsay('here')\nvoice.recv(1)\nprint('two\\nthree', end='')\n"
    await engine.begin(python(ear.program(code)))
    voice = await ear.hears("here")
    told, left = [], []
    following = engine.follow_logs("s1", 9, None, told.append)
    leaving = engine.follow_logs("s1", 9, None, left.append)

    leaving.cancel()
    voice.transport.write(b"!")

    assert await following is None
    assert texts(told) == ("one", "two", "three")
    with pytest.raises(CancelledError):
        await leaving
    assert "two" not in texts(left)
    assert await engine.follow_logs("s1", 9, None, told.append) is None


@ensureDeferred
async def test_stats_are_the_sum_over_the_group_while_it_runs(engine, ear):
    inner = ear.program("memory = bytearray(1 << 25)\n" + SLEEP)
    await engine.begin(python(ear.program(f"child({inner!r})\n{SLEEP}")))
    await ear.hears("here")
    await ear.hears("here")

    stats = await engine.stats("s1")

    assert stats.pids == 2
    assert stats.memory_bytes > 1 << 25
    assert stats.cpu_seconds > 0
    assert (stats.memory_limit_bytes, stats.received_bytes, stats.sent_bytes) == (None, None, None)
    await engine.kill("s1")
    assert await engine.stats("s1") is None
    assert await engine.stats("nobody") is None


SERVE = """
def serve(*address):
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    server = socket.socket(family)
    server.bind(address)
    server.listen()
    return server
port = int(os.environ["PORT"])
"""


@ensureDeferred
async def test_where_a_session_listens_is_told_while_it_runs(engine, ear):
    code = f"{SERVE}servers = [serve('127.0.0.1', port), serve('127.0.0.2', port)]\n{SLEEP}"
    address = await engine.begin(python(ear.program(code)))
    await ear.hears("here")

    found = await engine.listening("s1")

    assert found == (Listener("127.0.0.1", address.port), Listener("127.0.0.2", address.port))
    await engine.kill("s1")
    assert await engine.listening("s1") is None
    assert await engine.listening("nobody") is None


@ensureDeferred
async def test_a_descendant_that_has_left_the_group_listens_for_the_session_too(engine, ear):
    until_told = "say('here')\nvoice.recv(1)\n"
    inner = ear.program(f"{SERVE}server = serve('127.0.0.1', port)\n{until_told}")
    await engine.begin(python(ear.program(f"child({inner!r}, start_new_session=True)\n{SLEEP}")))
    voices = [await ear.hears("here"), await ear.hears("here")]

    found = await engine.listening("s1")

    assert len(found) == 1
    await engine.kill("s1")
    for voice in voices:
        voice.transport.loseConnection()
        await voice.gone


@ensureDeferred
async def test_what_others_listen_on_is_never_told(engine, ear):
    await engine.begin(python(ear.program(SLEEP)))
    await ear.hears("here")

    assert await engine.listening("s1") == ()


@ensureDeferred
async def test_a_log_is_there_while_the_session_is(engine, ear):
    await engine.begin(python(ear.program("print('one\\ntwo', flush=True)\n" + SLEEP)))
    await ear.hears("here")

    assert texts(await engine.logs("s1", 1)) == ("two",)
    await engine.kill("s1")
    assert await engine.logs("s1", 1) == ()
    assert engine.told[0].log_tail == ("one", "two")


@ensureDeferred
async def test_a_talkative_session_is_never_stopped_by_its_log(engine):
    ended = await engine.run(python("print('x' * 99 + '\\n', end='')\n" * 3 + "print('y' * 9**7)"))

    assert ended.exit_code == 0
    assert len(ended.log_tail) == 4


@ensureDeferred
async def test_stop_asks_the_whole_group(engine, ear):
    inner = ear.program(SLEEP)
    await engine.begin(python(ear.program(f"child({inner!r})\n{SLEEP}")))
    voices = [await ear.hears("here"), await ear.hears("here")]

    await engine.stop("s1", 10.0)

    assert engine.told == [SessionExited("s1", exit_code=143)]
    await gatherResults([voice.gone for voice in voices])


@ensureDeferred
async def test_kill_reaches_the_whole_group(engine, ear):
    inner = ear.program(STUBBORN)
    await engine.begin(python(ear.program(f"child({inner!r})\n{STUBBORN}")))
    voices = [await ear.hears("here"), await ear.hears("here")]

    await engine.kill("s1")

    assert len(await gatherResults([voice.gone for voice in voices])) == 2


@ensureDeferred
async def test_a_leader_that_exits_takes_its_group_along(engine, ear):
    inner = ear.program(STUBBORN)
    head = f"child({inner!r})\nsay('head')\nvoice.recv(1)\n"
    await engine.begin(python(ear.program(head)))
    voices = dict([await ear.heard.get(), await ear.heard.get()])

    voices["head"].transport.write(b"!")

    await gatherResults([voice.gone for voice in voices.values()])
    await engine.kill("s1")
    assert engine.told == [SessionExited("s1", exit_code=0)]


def turn(reactor):
    """Fires when everything that is ready was seen to."""
    turned = Deferred()
    reactor.callLater(0, turned.callback, None)
    return turned


@ensureDeferred
async def test_who_left_the_group_cannot_keep_a_session_from_ending(reactor, ear):
    clock = Clock()
    engine = Watched(reactor, clock=clock)
    inner = ear.program("say('free')\nvoice.recv(1)\n")
    code = ear.program(f"child({inner!r}, start_new_session=True)\nsay('head')\nvoice.recv(1)\n")
    await engine.begin(python(f"print('hello', flush=True)\n{code}"))
    heard = dict([await ear.heard.get(), await ear.heard.get()])

    stopped = engine.stop("s1", 10.0)
    await heard["head"].gone
    while not clock.getDelayedCalls():
        await turn(reactor)
    assert not stopped.called
    clock.advance(DRAIN_SECONDS)
    await stopped

    assert engine.told == [SessionExited("s1", exit_code=143, log_tail=("hello",))]
    heard["free"].transport.loseConnection()
    await heard["free"].gone


@ensureDeferred
async def test_a_session_may_refuse_to_stop_but_not_to_be_killed(engine, ear):
    await engine.begin(python(ear.program(STUBBORN)))
    await ear.hears("here")

    stops = [engine.stop("s1", 10.0), engine.stop("s1", 10.0)]
    await ear.hears("no")
    assert not any(stop.called for stop in stops)
    kills = [engine.kill("s1"), engine.kill("s1")]

    await gatherResults(stops + kills)
    assert engine.told == [SessionExited("s1", exit_code=137)]
    assert not ear.heard.pending, "asked to end twice"


@ensureDeferred
async def test_who_is_gone_or_never_was_has_ended(engine):
    await engine.run(python(""))

    for session_id in ("s1", "nobody"):
        await engine.stop(session_id, 1.0)
        await engine.kill(session_id)
        await engine.remove(session_id)
    assert len(engine.told) == 1


@ensureDeferred
async def test_one_waiter_may_leave_the_others(engine, ear):
    await engine.begin(python(ear.program(STUBBORN)))
    await ear.hears("here")
    leaves, stays = engine.stop("s1", 1.0), engine.stop("s1", 1.0)

    leaves.cancel()
    await engine.kill("s1")

    with pytest.raises(CancelledError):
        await leaves
    await stays


@ensureDeferred
async def test_what_is_removed_is_not_told_of(engine, ear):
    await engine.begin(python(ear.program(STUBBORN)))
    voice = await ear.hears("here")

    await engine.remove("s1")

    await voice.gone
    assert engine.told == []


# What sessions leave behind.


@ensureDeferred
async def test_what_is_left_is_told_without_the_values_of_the_environment(engine, reactor):
    made = order(sys.executable, "-c", "print('one')", environment={"A": "hunter2"})

    await engine.run(made)
    await turn(reactor)

    (left,) = engine.left
    account = left.remains.account
    assert (left.session_id, texts(left.remains.log)) == ("s1", ("one",))
    assert (account["running"], account["exit_code"]) == (False, 0)
    assert account["command"][0] == sys.executable
    assert "A=…" in account["environment"]
    assert "hunter2" not in repr(left)


@ensureDeferred
async def test_what_could_not_run_leaves_its_account(engine):
    with pytest.raises(SpawnFailed):
        await engine.begin(order("no-such"))

    (left,) = engine.left
    assert left.remains.account["command"] == ["no-such"]


@ensureDeferred
async def test_what_there_is_of_a_session_that_runs_can_be_asked(engine, ear):
    await engine.begin(python(ear.program(STUBBORN)))
    await ear.hears("here")

    remains = await engine.remains("s1")

    assert remains.account["running"]
    assert is_alive(remains.account["pid"])
    assert await engine.remains("nobody") is None


# What cannot be started.


@pytest.mark.parametrize(
    ("command", "fields", "sentence"),
    [
        (["no-such"], {}, "cannot run 'no-such' (.*PATH.*): No such file or directory"),
        (["./no-such"], {}, r"cannot run './no-such' (.*): No such file or directory"),
        (["/etc/passwd"], {}, "cannot run '/etc/passwd' (.*): Permission denied"),
        (["./garbage"], {}, "cannot run './garbage' (.*): Exec format error"),
        (["true"], {"workdir": "/no/such"}, "cannot enter the workdir '/no/such': No such file"),
        (["true"], {"env": {"A": "\0"}}, "cannot run 'true' (.*): embedded null byte"),
        (
            ["true"],
            {"limits": ResourceLimits(cpu_time_limit=1 << 99)},
            "cannot set RLIMIT_CPU to [0-9]+: ",
        ),
    ],
)
@ensureDeferred
async def test_a_failure_is_a_sentence(reactor, tmp_path, command, fields, sentence):
    (tmp_path / "garbage").write_bytes(b"\0\1\2")
    (tmp_path / "garbage").chmod(0o755)
    engine = Watched(Spawns(reactor), (FIRST, FIRST), reactor)

    for _ in range(2):
        with pytest.raises(SpawnFailed, match=sentence):
            await engine.begin(order(*command, **{"workdir": str(tmp_path), **fields}))

    assert engine.told == []
    assert not any(map(is_alive, engine._reactor.pids))


@pytest.mark.parametrize("end", ["stop", "kill"])
@ensureDeferred
async def test_an_end_before_the_start_is_a_failure(reactor, end):
    engine = Watched(Spawns(reactor), clock=reactor)
    started = engine.begin(order("true"))

    await (engine.kill("s1") if end == "kill" else engine.stop("s1", 1.0))

    await engine.close()
    with pytest.raises(SpawnFailed, match=r"ended with exit code (137|143) before its command"):
        await started
    assert engine.told == []


@ensureDeferred
async def test_a_spawn_that_is_cancelled_leaves_nothing(reactor):
    engine = Watched(Spawns(reactor), (FIRST, FIRST), reactor)
    started = engine.begin(order("sleep", "60"))

    started.cancel()
    with pytest.raises(CancelledError):
        await started

    assert not is_alive(*engine._reactor.pids)
    assert engine.told == []
    assert (await engine.run(order("true"))).exit_code == 0


@ensureDeferred
async def test_a_box_that_is_full_is_said_to_be(reactor):
    class Full(Spawns):
        def spawnProcess(self, *args, **kwargs):
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    engine = Watched(Full(reactor), (FIRST, FIRST), reactor)

    for _ in range(2):
        with pytest.raises(SpawnFailed, match="cannot start a process: Resource temporarily"):
            await engine.begin(order("true"))

    await engine.close()


@ensureDeferred
async def test_an_id_is_used_once_at_a_time(engine):
    await engine.begin(order("sleep", "60"))

    with pytest.raises(SpawnFailed, match="a session s1 already"):
        await engine.begin(order("true"))


# What a session gets.


@ensureDeferred
async def test_a_session_is_told_to_the_one_who_spawns(engine):
    reports = []

    address = await engine.spawn(order("sleep", "60"), reports.append)

    assert reports == [Creating(), Created()]
    assert address == Address("127.0.0.1", address.port)
    assert PORTS[0] <= address.port <= PORTS[1]
    assert await engine.list_running() == [Running("s1", {"color": "red"}, running=True)]


@ensureDeferred
async def test_a_session_has_a_session_group_umask_and_stdin_of_its_own(engine, tmp_path):
    code = (
        "import json, os; mask = os.umask(0); print(json.dumps([os.getpid(), os.getsid(0),"
        "os.getpgrp(), mask, os.getcwd(), os.readlink('/proc/self/fd/0')]))"
    )

    ended = await engine.run(python(code, workdir=str(tmp_path)))

    pid, session, group, mask, cwd, stdin = json.loads(ended.log_tail[0])
    assert (session, group) == (pid, pid)
    assert (mask, cwd, stdin) == (0o077, str(tmp_path), "/dev/null")


@ensureDeferred
async def test_each_session_has_a_directory_of_its_own_that_goes_with_it(engine):
    code = (
        "import os; open('left', 'w').close(); here = os.stat('.');"
        "print(os.getcwd(), oct(here.st_mode), os.listdir())"
    )

    first = await engine.run(python(code))
    second = await engine.run(python(code))
    told = [ended.log_tail[0].split(maxsplit=1) for ended in (first, second)]
    await engine.close()

    assert [rest for _, rest in told] == 2 * ["0o40700 ['left']"]
    (one, other) = [Path(path) for path, _ in told]
    assert one != other
    assert one.parent == other.parent
    assert not one.parent.exists()


@ensureDeferred
async def test_without_room_for_a_directory_the_spawn_fails(engine, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", "/no/such")
    engine = Watched(engine._reactor)

    with pytest.raises(SpawnFailed, match=r"no directory can be made: No such file.*see TMPDIR"):
        await engine.begin(order("true"))

    await engine.close()


AS_NOBODY = pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")


@AS_NOBODY
@ensureDeferred
async def test_a_session_runs_as_the_user_that_is_configured(reactor):
    engine = Watched(reactor, conditions=Conditions(user=user_named("nobody")))
    # Not our own Python, which this user may have no way to.
    says = (
        "id -u; id -g; id -G; echo $HOME $USER; grep CapEff /proc/self/status;"
        "echo kept > mine; cat mine; echo heard > /dev/stderr"
    )

    ended = await engine.run(order("sh", "-c", says))

    await engine.close()
    nobody = pwd.getpwnam("nobody")
    user, group, *others = ended.log_tail
    assert (user, group) == (str(nobody.pw_uid), str(nobody.pw_gid))
    assert others == [
        str(nobody.pw_gid), f"{nobody.pw_dir} nobody", f"CapEff:\t{16 * '0'}", "kept", "heard",
    ]  # fmt: skip


@AS_NOBODY
@ensureDeferred
async def test_as_another_user_too_it_ends_with_the_server(reactor):
    engine = Watched(reactor, conditions=Conditions(user=user_named("nobody")))
    await engine.begin(order("sh", "-c", "sleep 1000 & wait"))
    (child,) = engine._children.values()
    user = await threads.deferToThread(Path(f"/proc/{child.group}").owner)

    child.transport.closeChildFD(launch.ORDER)
    await child.when_over()

    await engine.close()
    assert user == "nobody"
    assert child.exit_code == 128 + signal.SIGKILL


@AS_NOBODY
@ensureDeferred
async def test_a_workdir_that_the_user_may_not_enter_fails_the_spawn(reactor, tmp_path):
    engine = Watched(reactor, conditions=Conditions(user=user_named("nobody")))
    tmp_path.chmod(0o700)

    with pytest.raises(SpawnFailed, match=r"cannot enter the workdir .*: Permission denied"):
        await engine.begin(order("true", workdir=str(tmp_path)))

    await engine.close()


@ensureDeferred
async def test_a_session_starts_with_signals_and_privileges_as_they_should_be(engine):
    ended = await engine.run(order("grep", "-E", "^(Sig(Blk|Ign)|NoNew)", "/proc/self/status"))

    status = dict(line.split(":\t") for line in ended.log_tail)
    # 32 and 33 are glibc's own; what started the tests may ignore them, and nobody can change it.
    own_to_glibc = 0b11 << 31
    assert int(status["SigIgn"], 16) & ~own_to_glibc == 0
    assert int(status["SigBlk"], 16) == 0
    assert status["NoNewPrivs"] == "1"


@ensureDeferred
async def test_a_session_inherits_no_descriptor_but_the_guard(engine, tmp_path):
    with (tmp_path / "secret").open("w") as file:
        os.set_inheritable(file.fileno(), True)

        ended = await engine.run(order("ls", "/proc/self/fd"))

    # The fourth is that of the listing itself, the last hangs up when we die.
    assert ended.log_tail == ("0", "1", "100", "2", "3")


@ensureDeferred
async def test_limits_are_seen_from_inside(engine):
    limits = ResourceLimits(cpu_time_limit=7, memory_limit_bytes=1 << 30)
    code = "from resource import *; print(*map(getrlimit, [RLIMIT_CPU, RLIMIT_AS, RLIMIT_CORE]))"

    ended = await engine.run(python(code, limits=limits))

    assert ended.log_tail == (f"(7, 8) ({1 << 30}, {1 << 30}) (0, 0)",)


@ensureDeferred
async def test_too_much_memory_is_refused_and_too_much_cpu_is_the_end(engine):
    limits = ResourceLimits(cpu_time_limit=1, memory_limit_bytes=1 << 28)
    code = (
        "try: bytearray(1 << 29)\n"
        "except MemoryError: print('refused', flush=True)\n"
        "while True: pass"
    )

    ended = await engine.run(python(code, limits=limits))

    assert (ended.exit_code, ended.log_tail) == (128 + signal.SIGXCPU, ("refused",))


@ensureDeferred
async def test_the_environment_is_exactly_what_is_said(engine, monkeypatch):
    for name in tuple(os.environ):
        monkeypatch.delenv(name)
    base = {"PATH": "/usr/bin:/bin", "HOME": "/h", "LC_TIME": "C", "TZ": "UTC"}
    for name, value in {**base, "SECRET": "s", "LANG": "C"}.items():
        monkeypatch.setenv(name, value)
    said = {"LANG": "en_US.UTF-8", "ONE": "executable", "TWO": "executable", "EMPTY": ""}

    ended = await engine.run(
        order("env", env=said, environment={"TWO": "ordered", "PORT": "1", "UMLAUT": "ü"})
    )

    seen = dict(line.split("=", 1) for line in ended.log_tail)
    port = seen.pop("PORT")
    assert PORTS[0] <= int(port) <= PORTS[1]
    assert seen == {**base, **said, "TWO": "ordered", "UMLAUT": "ü", "HOST": "127.0.0.1"}


@ensureDeferred
async def test_a_command_may_be_beside_the_workdir_or_our_own_python(engine, tmp_path):
    (tmp_path / "serve").write_text("#!/bin/sh\necho served $1\n")
    (tmp_path / "serve").chmod(0o755)

    served = await engine.run(order("./serve", "$HOME", workdir=str(tmp_path)))
    ours = await engine.run(python("import sys; print(sys.executable)"))

    assert served.log_tail == ("served $HOME",)
    assert ours.log_tail == (sys.executable,)


# Ports.


@ensureDeferred
async def test_fifty_at_once_have_fifty_ports(engine):
    addresses = await gatherResults(
        [engine.begin(order("sleep", "60", session_id=f"s{n}")) for n in range(50)]
    )

    assert len({address.port for address in addresses}) == 50
    assert len(await engine.list_running()) == 50


@ensureDeferred
async def test_a_foreign_listener_is_passed_over_and_a_full_range_is_said(reactor):
    engine = Watched(reactor, (FIRST, FIRST + 2))
    with socket.create_server(("", FIRST + 1)):
        first = await engine.begin(order("sleep", "60"))
        second = await engine.begin(order("sleep", "60", session_id="s2"))
        with pytest.raises(SpawnFailed, match=f"every port from {FIRST} to {FIRST + 2} is taken"):
            await engine.begin(order("sleep", "60", session_id="s3"))

    await engine.kill("s2")
    again = await engine.begin(order("sleep", "60", session_id="s2"))
    await engine.close()
    assert (first.port, second.port, again.port) == (FIRST, FIRST + 2, FIRST + 1)


def test_ports_go_round() -> None:
    ports = Ports(FIRST, FIRST + 2)

    taken = []
    for _ in range(5):
        taken.append(ports.take())
        ports.release(taken[-1])

    assert [port - FIRST for port in taken] == [0, 1, 2, 0, 1]


# The end of the server.


@ensureDeferred
async def test_close_ends_everything_by_force_if_need_be(reactor, ear):
    clock = Clock()
    engine = Watched(Spawns(reactor), clock=clock)
    for session_id, code in (("meek", SLEEP), ("stubborn", STUBBORN)):
        await engine.begin(python(ear.program(code), session_id=session_id))
        await ear.hears("here")
    starting = engine.begin(order("sleep", "60", session_id="starting"))

    closed = engine.close()
    await ear.hears("no")
    with pytest.raises(SpawnFailed):
        await starting
    assert not closed.called
    clock.advance(CLOSE_GRACE_SECONDS)
    await closed

    assert {(event.session_id, event.exit_code) for event in engine.told} == {
        ("meek", 143),
        ("stubborn", 137),
    }
    assert not any(map(is_alive, engine._reactor.pids))
    assert clock.getDelayedCalls() == []
    with pytest.raises(SpawnFailed, match="shutting down"):
        await engine.begin(order("true"))


def open_descriptors():
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


@ensureDeferred
async def test_close_leaves_no_descriptor(reactor):
    before = open_descriptors()
    engine = Watched(reactor)
    await gatherResults([engine.begin(order("sleep", "9", session_id=f"s{n}")) for n in range(9)])

    await engine.close()
    await engine.close()

    assert open_descriptors() == before


SERVER = """
import sys
import tempfile
from twisted.internet import reactor
from plane_tx.core.model import Executable, Key
from plane_tx.engines.interface import SpawnOrder
from plane_tx.engines.process import ProcessEngine

engine = ProcessEngine(reactor, (20000, 29999), True, reactor)
order = SpawnOrder("s1", Executable(command=("{python}", "-c", sys.argv[1])), {}, {}, Key("k"))
reactor.callWhenRunning(engine.spawn, order, print)
reactor.run()
"""


class Server(ProcessProtocol):
    def __init__(self):
        self.gone = Deferred()

    def processEnded(self, reason):
        self.gone.callback(None)


@ensureDeferred
async def test_a_server_that_is_killed_takes_its_sessions_along_with_all_they_started(reactor, ear):
    inner = ear.program(STUBBORN)
    code = ear.program(f"child({inner!r}, close_fds=True)\n{STUBBORN}")
    server = Server()
    reactor.spawnProcess(
        server,
        sys.executable,
        [sys.executable, "-c", SERVER, code],
        {**os.environ, "PYTHONPATH": str(ROOT)},
    )
    voices = [await ear.hears("here"), await ear.hears("here")]

    server.transport.signalProcess("KILL")

    await server.gone
    assert len(await gatherResults([voice.gone for voice in voices])) == 2


# What needs no process.


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"image": "nginx"}, "image: the process engine runs commands: name an app"),
        ({"command": None}, "command: the process engine needs one"),
        ({"command": ()}, "command: the process engine needs one"),
        ({"app": None}, "command: this server runs only the commands of its own apps"),
        ({"user": "root"}, "user: "),
        ({"network_name": "host"}, "network_name: "),
        ({"entrypoint": ("sh",)}, "entrypoint: "),
        ({"read_only": True}, "read_only: "),
        ({"tmpfs": {"/tmp": ""}}, "tmpfs: "),
        ({"volumes": (Volume("v", "/v"),)}, "volumes: "),
        ({"cap_add": ("ALL",)}, "cap_add: "),
        ({"runtime": "runsc"}, "runtime: "),
        ({"gpus": 1}, "gpus: "),
        ({"egress": Egress.NONE}, "egress: "),
        ({"mount": True}, "mount: "),
        ({"port": 1234}, "port: "),
        ({"pull_policy": PullPolicy.ALWAYS}, "pull_policy: "),
        ({"credentials": Credentials("me", "secret")}, "credentials: "),
        ({"limits": ResourceLimits(cpus=1.0)}, "resource_limits.cpus: "),
        ({"limits": ResourceLimits(cpu_period=1)}, "resource_limits.cpu_period: "),
        ({"limits": ResourceLimits(cpu_period_percent=1)}, "resource_limits.cpu_period_percent: "),
        ({"limits": ResourceLimits(disk_limit_bytes=1)}, "resource_limits.disk_limit_bytes: "),
        ({"limits": ResourceLimits(pids_limit=1)}, "resource_limits.pids_limit: "),
    ],
)
def test_what_no_process_can_have_is_refused(reactor, fields, sentence) -> None:
    engine = ProcessEngine(reactor, PORTS, False, reactor)
    executable = Executable(**{"command": ("true",), "app": "demo", **fields})

    with pytest.raises(InvalidRequest, match=f"^spawn_config.executable.{sentence}"):
        engine.check(executable)


@pytest.mark.parametrize(("allowed", "app"), [(False, "demo"), (True, "demo"), (True, None)])
def test_what_it_can_have_is_not(reactor, allowed, app) -> None:
    limits = ResourceLimits(cpu_time_limit=1, memory_limit_bytes=1)
    executable = Executable(command=("true",), app=app, workdir="/", limits=limits)

    assert ProcessEngine(reactor, PORTS, allowed, reactor).check(executable) is None


@ensureDeferred
async def test_nothing_is_adopted_and_the_engine_is_always_well(engine):
    engine.start()

    assert await engine.list_running() == []
    assert (await engine.health()).ok
    assert "process engine" in (await engine.health()).message
    with pytest.raises(SpawnFailed, match="ends with the server"):
        await engine.adopt("s1", Executable(command=("true",)), False)


@ensureDeferred
async def test_a_listener_can_leave(engine):
    told = []
    leave = engine.events(told.append)
    await engine.run(order("true"))

    leave()
    await engine.run(order("true"))

    assert len(told) == 1
