"""The state directory: private, and one server's at a time."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from plane_tx.core.errors import ConfigError
from plane_tx.state import StateDirectory


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_what_is_made_is_for_its_user_alone(tmp_path: Path) -> None:
    state = StateDirectory(str(tmp_path / "a" / "b"), "default")

    state.claim()

    assert state.journal_path == tmp_path / "a" / "b" / "default.sqlite3"
    assert mode(tmp_path / "a" / "b") == 0o700
    assert mode(state.journal_path) == mode(tmp_path / "a" / "b" / "default.lock") == 0o600
    state.release()


def test_a_directory_that_is_there_keeps_its_rights_and_a_file_does_not(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "default.sqlite3").touch(mode=0o644)
    state = StateDirectory(str(tmp_path), "default")

    state.claim()

    assert (mode(tmp_path), mode(state.journal_path)) == (0o755, 0o600)
    state.release()


def test_a_second_server_of_the_instance_is_refused_until_the_first_is_gone(tmp_path: Path) -> None:
    first, second = (StateDirectory(str(tmp_path), "default") for _ in range(2))
    first.claim()

    with pytest.raises(ConfigError) as caught:
        second.claim()

    assert str(caught.value) == (
        f"{tmp_path}: another server of the instance 'default' uses this directory: stop it, or"
        " name another by `[state] dir`, or another instance by `[engine] instance`"
    )
    first.release()
    second.claim()
    assert "[held]" in repr(second)
    second.release()


def test_two_instances_share_a_directory(tmp_path: Path) -> None:
    blue, green = StateDirectory(str(tmp_path), "blue"), StateDirectory(str(tmp_path), "green")

    blue.claim()
    green.claim()

    assert blue.journal_path != green.journal_path
    blue.release()
    green.release()


def test_the_lock_is_not_handed_on_to_what_the_server_starts(tmp_path: Path) -> None:
    state = StateDirectory(str(tmp_path), "default")
    state.claim()
    command = [sys.executable, "-c", "import sys; print('up', flush=True); sys.stdin.read()"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}

    with subprocess.Popen(command, close_fds=False, **pipes) as session:
        session.stdout.readline()  # what is closed on exec is closed by then
        state.release()

        lock = os.open(tmp_path / "default.lock", os.O_RDWR)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(lock)
        session.stdin.close()
    assert session.returncode == 0


def test_a_directory_that_cannot_be_made_is_one_line_with_the_cure(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    state = StateDirectory(str(tmp_path / "file" / "below"), "default")

    with pytest.raises(ConfigError) as caught:
        state.claim()

    assert str(caught.value) == (
        f"{tmp_path}/file/below: state cannot be kept here: Not a directory; name another by"
        " `[state] dir`"
    )


def test_a_journal_that_cannot_be_made_leaves_the_directory_to_others(tmp_path: Path) -> None:
    (tmp_path / "default.sqlite3").symlink_to(tmp_path / "nowhere" / "file")
    state = StateDirectory(str(tmp_path), "default")

    with pytest.raises(ConfigError, match="No such file or directory"):
        state.claim()

    (tmp_path / "default.sqlite3").unlink()
    other = StateDirectory(str(tmp_path), "default")
    other.claim()
    other.release()


def test_a_tilde_is_the_home_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))

    state = StateDirectory("~/state", "default")

    assert state.journal_path == tmp_path / "state" / "default.sqlite3"


def test_a_user_without_a_home_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", lambda _: {}[_])

    with pytest.raises(ConfigError, match="has no home: name another by"):
        StateDirectory("~/state", "default")
