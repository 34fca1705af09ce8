"""References to images: how they are read, said in full, and compared with what is allowed."""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase

import attrs

_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_HOST = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-fA-F:]+\])(?::[0-9]+)?"
_PART = r"[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*"
_REFERENCE = re.compile(
    rf"(?P<name>(?:{_HOST}/)?{_PART}(?:/{_PART})*)"
    r"(?::(?P<tag>\w[\w.-]{0,127}))?"
    r"(?:@(?P<digest>[a-zA-Z][\w+.-]*:[0-9a-fA-F]{32,}))?",
    re.ASCII,
)

#: Where a name without a registry is looked for, and its old name.
_DEFAULT_REGISTRY, _OLD_REGISTRY = "docker.io", "index.docker.io"

#: What looks like the name in an image's ID, or the beginning of one: `sha256:0123`.
_ID = "sha256"


@attrs.frozen
class Image:
    """One image and no other: a name with a tag, or with a digest."""

    name: str
    tag: str = ""
    digest: str = ""

    @classmethod
    def parse(cls, text: str) -> Image:
        """Read a reference; without tag and digest it is `:latest`.

        Docker itself would pull every tag of a name that has none (moby issue 42053).
        Raises `ValueError` for what is no reference.
        """
        match = _REFERENCE.fullmatch(text)
        if match is None:
            raise ValueError(
                f"{text!r} is no image reference: expected name, name:tag or name@digest"
            )
        name, tag, digest = match.group("name", "tag", "digest")
        if digest:
            return cls(name, digest=digest)
        return cls(name, tag=tag or "latest")

    @property
    def in_full(self) -> Image:
        """The same with its registry, which Docker adds to what names none.

        An ID has none: Docker takes it for any image on this box, wherever that came from.
        """
        if self.name == _ID and not self.digest:
            return self
        first, slash, rest = self.name.partition("/")
        # As distribution's reference.ParseNormalizedNamed tells a registry from a name.
        is_registry = set(first) & set(".:") or first == "localhost" or first != first.lower()
        if not (slash and is_registry):
            first, rest = _DEFAULT_REGISTRY, self.name
        if first in (_DEFAULT_REGISTRY, _OLD_REGISTRY):
            first = _DEFAULT_REGISTRY
            rest = rest if "/" in rest else f"library/{rest}"
        return attrs.evolve(self, name=f"{first}/{rest}")

    def __str__(self) -> str:
        return f"{self.name}@{self.digest}" if self.digest else f"{self.name}:{self.tag}"


def is_allowed(image: Image, globs: Iterable[str]) -> bool:
    """Whether `image`, said in full, is like one of `globs` (`*`, `?`, `[...]`; `*` any text)."""
    said = str(image.in_full)
    return any(fnmatchcase(said, glob) for glob in globs)
