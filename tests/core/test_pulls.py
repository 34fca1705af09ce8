"""Pulls in words."""

from __future__ import annotations

import pytest

from plane_tx.core.pulls import Pulling, in_words, short_name

DIGEST = "sha256:" + 64 * "0"


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ("busybox", "busybox"),
        ("busybox:1.36", "busybox"),
        ("localhost:5000/busybox", "busybox"),
        ("registry.example:5000/team/app:1.2", "app"),
        (f"registry.example/team/app@{DIGEST}", "app"),
        ("[::1]:5000/app:latest", "app"),
    ],
)
def test_the_short_name_of_an_image_tells_no_registry_and_no_tag(image: str, name: str) -> None:
    assert short_name(image) == name


@pytest.mark.parametrize(
    ("current", "total", "words"),
    [
        (0, 0, "pulling app"),
        (5, 0, "pulling app"),
        (0, 1, "pulling app: 0 of 1 bytes"),
        (7, 1023, "pulling app: 7 of 1023 bytes"),
        (512, 1024, "pulling app: 0.5 of 1.0 KiB"),
        (12 << 20, 40 << 20, "pulling app: 12 of 40 MiB"),
        (1 << 20, 3 << 30, "pulling app: 0.0 of 3.0 GiB"),
        (1 << 60, 1 << 60, "pulling app: 1048576 of 1048576 TiB"),
    ],
)
def test_a_pull_is_said_in_the_unit_of_the_whole(current: int, total: int, words: str) -> None:
    assert in_words(Pulling("me/app:1", current, total)) == words
