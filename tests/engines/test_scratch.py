"""Directories of sessions: made when needed, gone with them, and after a server that was killed."""

import os
import stat
from pathlib import Path

import pytest
from twisted.internet.defer import Deferred, maybeDeferred

from plane_tx.engines.scratch import Scratch, clear_away


@pytest.fixture
def scratch(tmp_path):
    return Scratch(maybeDeferred, str(tmp_path))


def made(scratch, session_id):
    """What a session makes of what it is told."""
    path = Path(scratch.take(session_id))
    path.mkdir()
    (path / "file").touch()
    return path


def left_by_a_server(parent):
    """What one that was killed has left there."""
    base = parent / "plane_tx-sessions-dead"
    (base / "s2.1").mkdir(parents=True)
    (base / "s2.1" / "file").touch()
    base.chmod(0o711)
    return base


def deep(path, levels):
    """A tree of so many levels, deeper than any path can say."""
    path.mkdir()
    fd = os.open(path, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir("d", dir_fd=fd)
        inner = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = inner
    os.close(fd)


def open_files():
    return len(list(Path("/proc/self/fd").iterdir()))


def test_nothing_is_made_before_it_is_needed(scratch, tmp_path):
    scratch.sweep()

    assert list(tmp_path.iterdir()) == []


def test_a_session_may_be_made_again_before_its_directory_is_gone(scratch):
    first = scratch.take("s1")
    second = scratch.take("s1")

    assert first != second
    assert Path(first).parent == Path(second).parent


def test_others_pass_through_but_do_not_see_what_is_there(scratch):
    base = made(scratch, "s1").parent

    assert stat.S_IMODE(base.stat().st_mode) == 0o711


def test_a_directory_goes_with_its_session(scratch):
    one, other = made(scratch, "one"), made(scratch, "other")

    scratch.release("one")
    scratch.release("one")
    scratch.release("never-was")

    assert (one.exists(), other.exists()) == (False, True)


def test_closing_leaves_nothing(scratch, tmp_path):
    made(scratch, "s1")
    before = open_files()

    closed = scratch.close()

    assert closed.called
    assert list(tmp_path.iterdir()) == []
    assert open_files() == before - 1


def test_closing_waits_for_what_is_just_being_cleared_away(tmp_path):
    works = []

    def later(work):
        works.append((work, Deferred()))
        return works[-1][1]

    scratch = Scratch(later, str(tmp_path))
    made(scratch, "s1")
    scratch.release("s1")

    closed = scratch.close()
    begun = len(works)
    while works and not closed.called:
        work, done = works.pop(0)
        done.callback(work())

    assert begun == 1
    assert closed.called
    assert list(tmp_path.iterdir()) == []


def test_a_server_clears_away_after_dead_ones_and_not_after_living_ones(scratch, tmp_path):
    living = made(scratch, "s1")
    dead = left_by_a_server(tmp_path)
    strange = tmp_path / "plane_tx-sessions-link"
    strange.symlink_to(living)
    file = tmp_path / "plane_tx-sessions-file"
    file.touch()

    Scratch(maybeDeferred, str(tmp_path)).sweep()

    assert not dead.exists()
    assert living.exists()
    assert strange.is_symlink()
    assert file.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives a directory away")
def test_what_is_another_users_is_let_be(scratch, tmp_path):
    theirs = left_by_a_server(tmp_path)
    os.chown(theirs, 1, 1)

    scratch.sweep()

    assert theirs.exists()


def test_what_only_has_a_name_like_ours_is_let_be(scratch, tmp_path):
    checkout = tmp_path / "plane_tx-sessions-mine"
    (checkout / "src").mkdir(parents=True)

    scratch.sweep()

    assert (checkout / "src").exists()


def test_a_tree_of_any_depth_is_cleared_away_without_a_file_for_each_level(tmp_path):
    deep(tmp_path / "s1", 2500)
    (tmp_path / "s2").mkdir()

    clear_away(tmp_path / "s1")

    assert [path.name for path in tmp_path.iterdir()] == ["s2"]


def test_clearing_away_follows_no_link(tmp_path):
    kept = tmp_path / "kept"
    (kept / "data").mkdir(parents=True)
    session = tmp_path / "s1"
    session.mkdir()
    (session / "directory").symlink_to(kept)
    (session / "file").symlink_to(kept / "data")
    (tmp_path / "link").symlink_to(kept)

    clear_away(session)
    clear_away(tmp_path / "link")

    assert not session.exists()
    assert (kept / "data").exists()
