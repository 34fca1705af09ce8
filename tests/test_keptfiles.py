"""Files that are kept for a while."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from plane_tx.keptfiles import KeptFiles


@pytest.fixture
def files(tmp_path: Path) -> KeptFiles:
    return KeptFiles(tmp_path / "below" / "files", most_files=3, most_bytes=1000)


def names(files: KeptFiles) -> list[str]:
    return sorted(path.name for path in files.directory.iterdir())


def age(files: KeptFiles, *oldest_first: str) -> None:
    """Set the files' times apart, for a disk that counts in coarse steps."""
    for second, name in enumerate(oldest_first):
        os.utime(files.directory / name, (second, second))


def test_what_is_kept_can_be_had_and_what_is_not_cannot(files: KeptFiles) -> None:
    before = files.get("a")

    files.put("a", b"1")
    files.put("a", b"2")

    assert before is None
    assert files.get("a") == b"2"
    assert files.get("b") is None


def test_nobody_else_may_read_them(files: KeptFiles) -> None:
    files.put("a", b"1")

    modes = [stat.S_IMODE(path.stat().st_mode) for path in (files.directory, files.directory / "a")]

    assert modes == [0o700, 0o600]


def test_of_too_many_the_oldest_goes(files: KeptFiles) -> None:
    for name in "abc":
        files.put(name, b"1")
    age(files, "b", "a", "c")

    files.put("d", b"1")

    assert names(files) == ["a", "c", "d"]


def test_of_too_many_bytes_the_oldest_go(files: KeptFiles) -> None:
    files.put("a", b"1" * 500)
    files.put("b", b"1" * 400)
    age(files, "a", "b")

    files.put("c", b"1" * 500)

    assert names(files) == ["b", "c"]


def test_what_was_left_unfinished_goes_as_any_other(files: KeptFiles) -> None:
    files.put("a", b"1")
    (files.directory / "b.part").write_bytes(b"1" * 2000)
    age(files, "b.part", "a")

    files.put("c", b"1")

    assert names(files) == ["a", "c"]


def test_a_file_that_cannot_be_written_leaves_nothing_of_it(files: KeptFiles) -> None:
    files.put("a", b"1")
    (files.directory / "b").mkdir()
    (files.directory / "b" / "inside").touch()

    with pytest.raises(OSError, match="Is a directory"):
        files.put("b", b"1")

    assert names(files) == ["a", "b"]


def test_a_directory_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "taken").touch()

    with pytest.raises(FileExistsError):
        KeptFiles(tmp_path / "taken").put("a", b"1")
