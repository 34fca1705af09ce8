"""API keys: whose a secret is and what it allows; of the secret itself only the hash is kept."""

from __future__ import annotations

import enum
import hashlib
import hmac
import re
from collections.abc import Iterable

import attrs

from plane_tx.core.errors import ConfigError

#: A secret that is not a hash has as many characters at least.
FEWEST_SECRET_CHARACTERS = 16

#: How a key is written in the configuration.
FORM = "name:scope[,scope]:secret"

_NAME = re.compile(r"[A-Za-z0-9._@-]{1,64}")
_HASH = "sha256:"
_DIGEST = re.compile(r"[0-9A-Fa-f]{64}")
# Who has a session's id, and the tag of its key, gets no more by a link than by another connect.
_LINK = re.compile(r"/ctrl/b/[^/]+/link")
# What can stand in a header, and would be the same after any number of proxies.
_SECRET = re.compile(rf"[!-~]{{{FEWEST_SECRET_CHARACTERS},}}")


class Scope(enum.StrEnum):
    """What a call needs a key for."""

    CONNECT = "connect"
    READ = "read"
    ADMIN = "admin"


@attrs.frozen
class ApiKey:
    """One caller: its name, what it may do, and the SHA-256 of its secret."""

    name: str
    scopes: frozenset[Scope]
    digest: bytes = attrs.field(repr=False)
    #: Whether the configuration has the hash alone, which lets nobody in.
    hashed: bool = False


@attrs.frozen
class KeyFile:
    """A file of keys, one a line."""

    file: str


class ApiKeys:
    """Every key there is; as a truth value, whether there is any."""

    def __init__(self, found: Iterable[tuple[str, ApiKey]] = ()) -> None:
        """Take keys, each with the place where it stands.

        Raises `ConfigError` where two have one name, or one secret.
        """
        names: dict[str, str] = {}
        digests: dict[bytes, str] = {}
        keys = []
        for place, key in found:
            first = names.setdefault(key.name, place)
            if first != place:
                raise ConfigError(f"{place}: this key has the name of another one, at {first}")
            first = digests.setdefault(key.digest, place)
            if first != place:
                raise ConfigError(f"{place}: this key has the secret of another one, at {first}")
            keys.append(key)
        self._keys = tuple(keys)

    def __len__(self) -> int:
        return len(self._keys)

    def find(self, secret: bytes) -> ApiKey | None:
        """The key with this secret. How long it takes tells nothing about any key."""
        digest = hashlib.sha256(secret).digest()
        found = None
        for key in self._keys:
            if hmac.compare_digest(key.digest, digest):
                found = key
        return found


def needed_scope(method: bytes, path: str) -> Scope:
    """What a key must allow for a call of `path`, given as it is routed."""
    if method in (b"GET", b"HEAD"):
        return Scope.READ
    gives_links = path == "/ctrl/connect" or _LINK.fullmatch(path)
    return Scope.CONNECT if method == b"POST" and gives_links else Scope.ADMIN


def parse_key(text: str) -> ApiKey:
    """Read `name:scope[,scope]:secret`, where the secret may be `sha256:` and the hash of one.

    Raises `ValueError`, which says what was expected and shows nothing of `text`: any part of
    what is written wrongly may be the secret.
    """
    name, _, rest = text.partition(":")
    scopes, colon, secret = rest.partition(":")
    if not colon or not _NAME.fullmatch(name):
        raise ValueError(f"expected {FORM}, with a name of at most 64 letters, digits and . _ @ -")
    digest, hashed = _digest(secret)
    return ApiKey(name, _scopes(scopes), digest, hashed)


def keys_in(text: str, file: str) -> list[tuple[str, ApiKey]]:
    """The keys in the text of a file, each with its place; blank and `#` lines are none.

    Raises `ConfigError` for a line that is no key, and for a file without any.
    """
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        place = f"{file} line {number}"
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            found.append((place, parse_key(line.strip())))
        except ValueError as error:
            raise ConfigError(f"{place}: {error}") from None
    if not found:
        raise ConfigError(f"{file}: no key in it: expected lines of {FORM}")
    return found


def _scopes(text: str) -> frozenset[Scope]:
    try:
        scopes = frozenset(map(Scope, text.split(",")))
    except ValueError:
        allowed = ", ".join(Scope)
        raise ValueError(f"expected {FORM}, with scopes of: {allowed}") from None
    return frozenset(Scope) if Scope.ADMIN in scopes else scopes


def _digest(secret: str) -> tuple[bytes, bool]:
    if secret[: len(_HASH)].lower() == _HASH:
        digits = secret[len(_HASH) :]
        if not _DIGEST.fullmatch(digits):
            raise ValueError(f"expected 64 hexadecimal digits after {_HASH}")
        return bytes.fromhex(digits), True
    if not _SECRET.fullmatch(secret):
        raise ValueError(
            f"expected a secret of at least {FEWEST_SECRET_CHARACTERS} visible ASCII characters,"
            f" or {_HASH} and the hash of one"
        )
    return hashlib.sha256(secret.encode("ascii")).digest(), False
