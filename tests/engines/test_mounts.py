"""Where mounts are on this box: no two keys share a directory, and none is outside the base."""

from __future__ import annotations

import os
from pathlib import Path
from stat import S_IMODE

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plane_tx.core.errors import SpawnFailed
from plane_tx.core.model import Key
from plane_tx.engines.docker.mounts import directory_of, make_directory, safe_name

text = st.text(st.characters(codec="utf-8"), max_size=255)
tricky = st.text("./%@~-_aA2E ü\n\0:", max_size=6)
names = text | tricky


@given(names)
def test_a_safe_name_is_one_plain_name(name: str) -> None:
    safe = safe_name(name)

    assert safe not in ("", ".", "..")
    assert not set(safe) & {"/", "\0", ":", "\n", " "}
    assert len(os.fsencode(safe)) <= 255


@given(names, names)
def test_two_names_are_two_directories(one: str, other: str) -> None:
    assert (safe_name(one) == safe_name(other)) == (one == other)


@pytest.mark.parametrize(
    ("key", "mount", "path"),
    [
        (Key("doc"), True, "@default/doc"),
        (Key("doc", "team"), True, "team/doc"),
        (Key("doc", "team"), "shared", "team/shared"),
        (Key("doc", "team"), "a/b", "team/a%2Fb"),
        (Key("../x"), True, "@default/%2E.%2Fx"),
        (Key("/etc"), True, "@default/%2Fetc"),
        (Key("..", ".."), True, "%2E./%2E."),
        (Key("", "@default"), True, "%40default/@default"),
        (Key("a:b c"), True, "@default/a%3Ab%20c"),
    ],
)
def test_a_mount_is_below_its_namespace(key: Key, mount: bool | str, path: str) -> None:
    assert "/".join(directory_of(key, mount)) == path


def test_a_directory_is_made_once_and_open_to_whatever_user_a_session_has(tmp_path: Path) -> None:
    mask = os.umask(0o077)
    made = [make_directory(str(tmp_path / "new" / "base"), "team", "doc") for _ in range(2)]
    os.umask(mask)

    path = tmp_path / "new" / "base" / "team" / "doc"
    assert made == [str(path)] * 2
    assert S_IMODE(path.stat().st_mode) == 0o777
    assert S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_directory_whose_maker_died_half_way_is_made_right(tmp_path: Path) -> None:
    (tmp_path / "team").mkdir(0o755)
    (tmp_path / "team" / "doc").mkdir(0o755)

    made = Path(make_directory(str(tmp_path), "team", "doc"))

    assert S_IMODE(made.stat().st_mode) == 0o777
    assert S_IMODE(made.parent.stat().st_mode) == 0o700


def test_the_base_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "base").symlink_to("real")

    assert make_directory(str(tmp_path / "base"), "n", "k") == str(tmp_path / "real" / "n" / "k")


@pytest.mark.parametrize("target", ["/etc", "../other", "missing", "k", "n"])
@pytest.mark.parametrize("place", ["n", "n/k"])
def test_a_link_on_the_way_is_refused(tmp_path: Path, place: str, target: str) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / place).symlink_to(target)

    with pytest.raises(SpawnFailed, match="is a link or a file: remove it"):
        make_directory(str(tmp_path), "n", "k")

    assert not (tmp_path / "missing").exists()


def test_a_file_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "n").mkdir()
    (tmp_path / "n" / "k").write_text("")

    with pytest.raises(SpawnFailed, match="is a link or a file: remove it"):
        make_directory(str(tmp_path), "n", "k")


def test_a_base_that_cannot_be_made_is_said_to_be_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(SpawnFailed, match=r"could not make .*file/base: Not a directory; look at"):
        make_directory(str(tmp_path / "file" / "base"), "n", "k")
