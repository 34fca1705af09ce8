"""What is shown is short, plain and harmless, whatever the server says."""

from __future__ import annotations

import pytest

from plane_tx.cli import texts
from plane_tx.client import StatusUpdate
from plane_tx.client.models import Pull


@pytest.mark.parametrize(
    ("text", "shown"),
    [("ok \u00fc\t", "ok \u00fc\t"), ("\x1b[2J", r"\x1b[2J"), ("a\nb\r", r"a\nb\r"), (7, "7")],
)
def test_what_a_terminal_would_obey_is_made_visible(text: object, shown: str) -> None:
    assert texts.plain(text) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(-1, "0s"), (59.9, "59s"), (61, "1m01s"), (3700, "1h01m"), (90_000, "1d01h")],
)
def test_a_span_has_two_units(seconds: float, shown: str) -> None:
    assert texts.span(seconds) == shown


@pytest.mark.parametrize(
    ("count", "shown"),
    [(None, ""), (5, "5 B"), (2048, "2.0 KiB"), (3 * 2**30, "3.0 GiB"), (2**52, "4096.0 TiB")],
)
def test_a_size_has_its_unit(count: int | None, shown: str) -> None:
    assert texts.size(count) == shown


@pytest.mark.parametrize(
    ("at", "shown"), [(None, ""), (0, "1970-01-01 00:00:00Z"), (10**30, f"{10**30} ms")]
)
def test_a_moment_is_utc_or_what_it_was(at: int | None, shown: str) -> None:
    assert texts.moment(at) == shown


@pytest.mark.parametrize(
    ("pull", "shown"),
    [
        (None, "loading"),
        (Pull(image="app", bytes=1024, total_bytes=None), "pulling app: 1.0 KiB"),
        (Pull(image="app", bytes=0, total_bytes=2048), "pulling app: 0 B of 2.0 KiB"),
    ],
)
def test_progress_is_one_line(pull: Pull | None, shown: str) -> None:
    assert texts.progress(StatusUpdate(status="loading", time=1, pull=pull, told={})) == shown
