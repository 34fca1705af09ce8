"""The launcher's steps; what they come to in a real session is in test_process.py."""

import errno
import json
import os
import resource
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest

from plane_tx.engines import launch


@pytest.fixture
def answer(monkeypatch):
    """The engine's end of the answer pipe, its other end being where the launcher writes."""
    read, write = os.pipe()
    monkeypatch.setattr(launch, "ANSWER", write)
    yield read
    os.close(read)
    os.close(write)


@pytest.fixture
def replaced(monkeypatch):
    """Replaces parts of a module for the launcher alone: pytest itself needs os.dup2."""

    def replace(module, **fakes):
        known = getattr(launch, module)
        monkeypatch.setattr(launch, module, SimpleNamespace(**{**vars(known), **fakes}))

    return replace


@pytest.fixture
def steps(monkeypatch, replaced):
    """What is done to the process, not done."""
    done = []

    def recorders(*names):
        return {name: lambda *given, name=name: done.append((name, *given)) for name in names}

    for name, recorder in recorders(
        "control", "close_above", "end_with_server", "default_signals"
    ).items():
        monkeypatch.setattr(launch, name, recorder)
    replaced("os", **recorders(
        "setsid", "dup2", "set_inheritable", "umask", "chdir", "execvpe", "mkdir", "chown",
        "fchown", "setgroups", "setresgid", "setresuid",
    ))  # fmt: skip
    replaced("resource", **recorders("setrlimit"))
    return done


@pytest.fixture
def ordered(monkeypatch):
    """Gives the launcher an order."""
    opened = []

    def order(**changes):
        line = launch.order_line(["serve", "--fast"], {"A": "b"}, "/srv", {"RLIMIT_CORE": (0, 0)})
        read, write = os.pipe()
        opened.append(read)
        os.write(write, json.dumps({**json.loads(line), **changes}).encode() + b"\n")
        os.close(write)
        monkeypatch.setattr(launch, "ORDER", read)

    yield order
    for fd in opened:
        os.close(fd)


def test_an_order_is_carried_out_in_an_order_that_is_safe(ordered, answer, steps) -> None:
    ordered(parent=os.getppid())

    launch.main()

    assert [name for name, *_ in steps] == [
        "control", "setsid", "control", "set_inheritable", "close_above",
        "end_with_server", "umask", "default_signals", "chdir", "setrlimit", "execvpe",
    ]  # fmt: skip
    assert steps[-1] == ("execvpe", "serve", ["serve", "--fast"], {"A": "b"})
    assert os.read(answer, 100) == launch.STARTING


def test_an_order_of_a_server_that_died_is_dropped(ordered, answer, steps) -> None:
    ordered(parent=-1)

    launch.main()

    assert [name for name, *_ in steps] == ["control"]


def test_a_directory_is_made_and_given_away_before_it_is_entered_and_root_given_up(
    ordered, answer, steps
) -> None:
    ordered(parent=os.getppid(), workdir=None, directory="/d", user=[7, 8, [8, 9]])

    launch.main()

    first = steps.index(("mkdir", "/d", 0o700))
    assert steps[first:-2] == [
        ("mkdir", "/d", 0o700), ("chown", "/d", 7, 8), ("chdir", "/d"),
        ("fchown", launch.LOG, 7, 8), ("fchown", launch.ERRORS, 7, 8),
        ("setgroups", [8, 9]), ("setresgid", 8, 8, 8), ("setresuid", 7, 7, 7),
        ("control", 1, signal.SIGKILL),
    ]  # fmt: skip
    assert [name for name, *_ in steps[-2:]] == ["setrlimit", "execvpe"]


def test_a_server_that_dies_while_root_is_given_up_is_noticed(ordered, answer, steps) -> None:
    with pytest.raises(launch.Refused, match="the server is gone"):
        launch.become((7, 8, []), parent=-1)


def test_no_workdir_and_no_directory_is_the_servers_own(ordered, answer, steps) -> None:
    ordered(parent=os.getppid(), workdir=None)

    launch.main()

    assert "chdir" not in [name for name, *_ in steps]


def test_a_refusal_is_answered_in_a_sentence(ordered, answer, steps, replaced) -> None:
    def chdir(path):
        raise OSError(errno.EACCES, os.strerror(errno.EACCES), path)

    replaced("os", chdir=chdir)
    ordered(parent=os.getppid())

    launch.main()

    assert os.read(answer, 100) == b"cannot enter the workdir '/srv': Permission denied"


@pytest.mark.parametrize("error", [ValueError("embedded null byte"), MemoryError("no room")])
def test_an_error_without_a_number_is_said_too(error: Exception) -> None:
    def fails():
        raise error

    with pytest.raises(launch.Refused, match=f"cannot go on: {error}"):
        launch.attempt("go on", fails)


@pytest.mark.parametrize(
    ("present", "wanted", "set_to"),
    [
        (resource.RLIM_INFINITY, (5, 6), (5, 6)),
        (10, (5, 6), (5, 6)),
        (5, (5, 6), (5, 5)),
        (2, (5, 6), (2, 2)),
    ],
)
def test_a_limit_is_never_raised(steps, replaced, present, wanted, set_to) -> None:
    replaced("resource", getrlimit=lambda _: (0, present))

    launch.limit(resource.RLIMIT_CPU, *wanted)

    assert steps == [("setrlimit", resource.RLIMIT_CPU, set_to)]


def test_a_line_may_come_in_pieces_and_may_be_cut_short(replaced) -> None:
    pieces = [b"on", b"e\n", b"two", b""]
    replaced("os", read=lambda *_: pieces.pop(0))

    assert launch.read_line(0) == b"one\n"
    assert launch.read_line(0) == b"two"


def test_descriptors_above_one_are_closed(replaced) -> None:
    closed = []
    replaced("os", close=closed.append)
    with Path(os.devnull).open() as file:
        launch.close_above(file.fileno() - 1)

        assert file.fileno() in closed
        assert min(closed) == file.fileno()


def test_a_descriptor_that_is_closed_already_is_no_error(replaced) -> None:
    tried = []

    def close(fd):
        tried.append(fd)
        raise OSError(errno.EBADF, "closed")

    replaced("os", close=close)

    launch.close_above(-1)

    assert tried


def test_signals_are_as_a_new_program_expects(replaced) -> None:
    set_to = {}
    masks = []
    replaced("signal", signal=set_to.__setitem__, pthread_sigmask=lambda *mask: masks.append(mask))

    launch.default_signals()

    assert set(set_to.values()) == {signal.SIG_DFL}
    assert signal.valid_signals() - set(set_to) == {signal.SIGKILL, signal.SIGSTOP}
    assert masks == [(signal.SIG_SETMASK, ())]


def test_the_hang_up_of_the_order_is_the_groups_end(replaced) -> None:
    asked = []
    replaced("fcntl", fcntl=lambda *call: asked.append(call) or 123)
    replaced("os", dup2=lambda _, fd: asked.append(fd))

    launch.end_with_server()

    fcntl = launch.fcntl
    assert asked == [
        (launch.ORDER, fcntl.F_DUPFD, 100),
        (123, fcntl.F_SETOWN, -os.getpgrp()),
        (123, fcntl.F_SETSIG, signal.SIGKILL),
        (123, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK),
        launch.ORDER,
    ]


def test_a_system_call_that_fails_raises() -> None:
    with pytest.raises(OSError, match="prctl -1"):
        launch.control(-1, 0)
