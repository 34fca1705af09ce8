"""How far the pull of an image has come, in bytes and in words."""

from __future__ import annotations

import attrs

_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")


@attrs.frozen
class Pulling:
    """The image is being fetched; bytes so far, and of how many when that is known.

    How many may grow while the pull goes on: a layer's size is known once it has begun.
    """

    image: str
    current: int = 0
    total: int = 0


def short_name(image: str) -> str:
    """The last part of an image's name, without the registry, the path, the tag and the digest."""
    return image.partition("@")[0].rpartition("/")[2].partition(":")[0]


def in_words(pulling: Pulling) -> str:
    """`pulling busybox: 12 of 40 MiB`; without numbers as long as there are none."""
    what = f"pulling {short_name(pulling.image)}"
    if not pulling.total:
        return what
    scale = min(max((pulling.total.bit_length() - 1) // 10, 0), len(_UNITS) - 1)
    current, total = (_rounded(size, scale) for size in (pulling.current, pulling.total))
    return f"{what}: {current} of {total} {_UNITS[scale]}"


def _rounded(size: int, scale: int) -> str:
    number = size / (1 << (10 * scale))
    return f"{number:.0f}" if number >= 10 or not scale else f"{number:.1f}"
