"""What is read from files before the start, and what is said of files that are no use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from twisted.logger import LogEvent, LogLevel, formatEvent, globalLogPublisher

from plane_tx.configuration import path_of, read_config, read_keys
from plane_tx.core.apikeys import KeyFile, parse_key
from plane_tx.core.errors import ConfigError
from plane_tx.core.sections import Config, ControlConfig


def test_without_a_configuration_everything_has_its_default() -> None:
    assert read_config(None) == Config()


SECRET = "s3cret-and-17-long"


@pytest.fixture
def warnings() -> Iterator[list[str]]:
    lines: list[str] = []

    def write(event: LogEvent) -> None:
        if event["log_level"] is LogLevel.warn:
            lines.append(formatEvent(event))

    globalLogPublisher.addObserver(write)
    yield lines
    globalLogPublisher.removeObserver(write)


def key_file(folder: Path, text: str, mode: int = 0o600) -> ControlConfig:
    (folder / "keys").write_text(text)
    (folder / "keys").chmod(mode)
    return ControlConfig(api_keys=(KeyFile("keys"),))


def test_keys_stand_in_the_configuration_and_in_files_beside_it(tmp_path: Path) -> None:
    in_file = key_file(tmp_path, f"# ours\nci:connect:{SECRET}\n").api_keys
    control = ControlConfig(api_keys=(parse_key(f"root:admin:{SECRET}-too"), *in_file))

    keys = read_keys(control, tmp_path)

    ci, root = keys.find(SECRET.encode()), keys.find(f"{SECRET}-too".encode())
    assert (len(keys), ci and ci.name, root and root.name) == (2, "ci", "root")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"ci:{SECRET}\n", "keys line 1: expected name:scope"),
        (f"ci:read:{SECRET}\nci:admin:{SECRET}-too", "keys line 2: this key has the name of"),
        ("# none", "keys: no key in it"),
        (f"{SECRET}\udcff", "keys: cannot be read: invalid start byte at byte"),
    ],
)
def test_a_file_of_keys_that_is_none_is_said_in_one_line_without_a_secret(
    tmp_path: Path, text: str, said: str
) -> None:
    (tmp_path / "keys").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ConfigError) as caught:
        read_keys(ControlConfig(api_keys=(KeyFile("keys"),)), tmp_path)

    assert said in str(caught.value)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("secret", "mode", "warned"),
    [
        (SECRET, 0o600, False),
        (SECRET, 0o640, False),
        (SECRET, 0o644, True),
        (f"sha256:{'0' * 64}", 0o644, False),
    ],
)
def test_secrets_that_everyone_on_the_box_can_read_are_warned_of(
    tmp_path: Path, warnings: list[str], secret: str, mode: int, warned: bool
) -> None:
    read_keys(key_file(tmp_path, f"ci:admin:{secret}", mode), tmp_path)

    assert len(warnings) == warned
    assert SECRET not in repr(warnings)


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("a.log", "/etc/plane/a.log"),
        ("~/a.log", "/home/of/a.log"),
        ("~a.log", "/etc/plane/~a.log"),
        ("/a.log", "/a.log"),
    ],
)
def test_a_file_is_found_beside_the_configuration_or_at_home(
    monkeypatch: pytest.MonkeyPatch, name: str, path: str
) -> None:
    monkeypatch.setenv("HOME", "/home/of")

    assert path_of(name, Path("/etc/plane")) == Path(path)
