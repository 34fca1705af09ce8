"""Reads the configuration's file, and those that it names, before anything is started."""

from __future__ import annotations

import stat
from pathlib import Path

from twisted.logger import Logger

from plane_tx.core.apikeys import ApiKey, ApiKeys, KeyFile, keys_in
from plane_tx.core.config import parse_config
from plane_tx.core.errors import ConfigError
from plane_tx.core.sections import Config, ControlConfig

_log = Logger()


def read_config(path: str | None) -> Config:
    """The configuration in the file at `path`; all defaults without one.

    Raises `ConfigError`, one line that says what is wrong where.
    """
    return Config() if path is None else parse_config(_text(path), path)


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        # Not all that the error would say: it quotes the text, which may be a secret.
        raise ConfigError(f"{path}: cannot be read: {error.reason} at byte {error.start}") from None


def path_of(name: str, folder: Path) -> Path:
    """Where the file `name` is: below the home of the server's user for `~/`, or beside `folder`.

    Raises `ConfigError` where that user has no home.
    """
    try:
        found = Path(name).expanduser() if name.startswith("~/") else folder / name
    except RuntimeError:
        raise ConfigError(f"{name}: the user of this server has no home") from None
    return found.absolute()


def read_keys(control: ControlConfig, folder: Path) -> ApiKeys:
    """The keys that are configured, those in files included; files are found beside `folder`.

    Raises `ConfigError`, one line that says what is wrong where, and never a secret.
    """
    found: list[tuple[str, ApiKey]] = []
    for number, key in enumerate(control.api_keys):
        if isinstance(key, KeyFile):
            found += _keys_of_file(folder / key.file)
        else:
            found.append((f"control.api_keys[{number}]", key))
    return ApiKeys(found)


def _keys_of_file(path: Path) -> list[tuple[str, ApiKey]]:
    found = keys_in(_text(str(path)), str(path))
    # Not refused: secrets that containers are given are often so, and nobody else is there.
    if path.stat().st_mode & stat.S_IROTH and not all(key.hashed for _, key in found):
        _log.warn(
            "everyone on this box can read the keys in {path}: chmod o-r it, or put hashes there",
            path=str(path),
        )
    return found
