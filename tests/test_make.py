"""The README's first command, as somebody meets it who has just cloned this."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live import ask, free_ports, until
from tests.tree import copy_of_the_tree

#: What a login shell would have, and nothing of the environment that these tests run in.
BARE = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/tmp"), "TERM": "dumb"}


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    return copy_of_the_tree(tmp_path / "clone")


def make(clone: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", *words], cwd=clone, env=BARE, capture_output=True, text=True, check=False
    )


def complaints(done: subprocess.CompletedProcess[str]) -> list[str]:
    assert done.returncode != 0
    return [line for line in done.stderr.splitlines() if line]


@pytest.fixture
def ports(clone: Path) -> tuple[int, int]:
    """The demo's two ports, moved to where nobody else is."""
    control, proxy = free_ports(2)
    conf = clone / "conf/demo.toml"
    text = conf.read_text().replace(":8080", f":{control}").replace(":9090", f":{proxy}")
    conf.write_text(text)
    return control, proxy


class Terminal:
    """`make run` in the foreground of a terminal of its own, where Ctrl-C can be pressed."""

    def __init__(self, clone: Path) -> None:
        bare = {**BARE, "STATE_DIRECTORY": str(clone.parent / "state")}
        pid, self._descriptor = pty.fork()
        if pid == 0:
            os.chdir(clone)
            os.execvpe("make", ["make", "run"], bare)
        self.pid = pid
        self.shown = ""
        self._closed = False

    def read_until(self, words: str) -> None:
        while words not in self.shown:
            self.shown += os.read(self._descriptor, 65536).decode()

    def press_ctrl_c(self) -> None:
        """Press it, and read on until the last process has left the terminal."""
        os.write(self._descriptor, b"\x03")
        try:
            while data := os.read(self._descriptor, 65536):
                self.shown += data.decode()
        except OSError:  # Linux says EIO when the last process on a terminal is gone
            pass
        self._close()

    def close(self) -> None:
        """End what a failed test left running."""
        if not self._closed:
            os.killpg(self.pid, signal.SIGKILL)
            self._close()

    def _close(self) -> None:
        self._closed = True
        os.waitpid(self.pid, 0)
        os.close(self._descriptor)


@pytest.fixture
def terminal(clone: Path, ports: tuple[int, int]) -> Iterator[Terminal]:
    terminal = Terminal(clone)
    yield terminal
    terminal.close()


def processes_below(clone: Path) -> list[str]:
    """The command lines of all processes that run out of the clone."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = place.read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if str(clone) in words or str(clone) in _cwd(place.parent):
            found.append(words)
    return found


def _cwd(process: Path) -> str:
    try:
        return str((process / "cwd").readlink())
    except OSError:
        return ""


def test_make_run_works_the_first_time_and_ctrl_c_leaves_nothing(
    terminal: Terminal, clone: Path, ports: tuple[int, int]
) -> None:
    terminal.read_until("/demo")
    assert f"control  http://127.0.0.1:{ports[0]}" in terminal.shown
    assert f"proxy    http://localhost:{ports[1]}" in terminal.shown
    link = f"http://127.0.0.1:{ports[0]}/demo"
    assert f"try it   {link}" in terminal.shown
    sent_to = ask("GET", link)
    assert sent_to.status == 303
    assert b"Whiteboard" in ask("GET", sent_to.headers["Location"]).body
    dashboard = ask("GET", f"http://127.0.0.1:{ports[0]}/", headers={"Accept": "text/html"}).body
    assert b'src="web/app.js"' in dashboard
    assert ask("GET", f"http://127.0.0.1:{ports[0]}/web/app.js").status == 200
    command = [
        clone / ".venv/bin/plane-tx",
        "--url",
        f"http://127.0.0.1:{ports[0]}",
        "ls",
        "--json",
    ]
    assert (
        b"whiteboard" in subprocess.run(command, env=BARE, capture_output=True, check=True).stdout
    )
    terminal.press_ctrl_c()
    assert "Traceback" not in terminal.shown
    until(lambda: not processes_below(clone))
    assert not list(clone.glob("*.pid"))


def test_an_old_python_is_one_line(clone: Path, tmp_path: Path) -> None:
    old = tmp_path / "python3"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    (line,) = complaints(make(clone, "run", f"PYTHON={old}"))
    assert "no Python 3.11 or newer among" in line
    assert "make PYTHON=" in line


def test_a_target_that_does_not_exist_is_one_line(clone: Path) -> None:
    (line,) = complaints(make(clone, "dance"))
    assert "nothing here makes 'dance'" in line
    assert "make help" in line


def test_make_alone_lists_the_targets(clone: Path) -> None:
    listed = make(clone).stdout.splitlines()
    assert {line.split()[1] for line in listed} >= {"run", "test", "check"}
