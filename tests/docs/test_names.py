"""What pages name in passing is there: files of conf/, keys of the configuration, metrics."""

from __future__ import annotations

import re

import attrs
import pytest

from plane_tx.core.sections import Config
from tests.docs.pages import ROOT

#: Those that an operator acts by.
PAGES = ["deploying", "migrating", "security", "troubleshooting"]
METRICS = (ROOT / "plane_tx/control/metrics.py").read_text()


def text(page: str) -> str:
    return (ROOT / f"docs/{page}.md").read_text()


@pytest.mark.parametrize("page", PAGES)
def test_every_file_of_conf_that_a_page_names_is_there(page: str) -> None:
    named = set(re.findall(r"conf/[\w./-]*\w", text(page)))

    assert [path for path in named if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("page", PAGES)
def test_every_key_of_the_configuration_that_a_page_names_is_one(page: str) -> None:
    named = re.findall(r"`\[([a-z.]+)\] ([a-z_]+)", text(page))

    strange = [(section, key) for section, key in named if key not in keys(section)]

    assert named != []
    assert strange == []


def keys(section: str) -> set[str]:
    found: object = Config()
    for name in section.split("."):
        found = getattr(found, name)
    return set(attrs.asdict(found, recurse=False))  # type: ignore[arg-type]


@pytest.mark.parametrize("page", PAGES)
def test_every_metric_that_a_page_names_is_told(page: str) -> None:
    named = {
        name.removesuffix("_total") for name in re.findall(r"plane_tx_[a-z_]+[a-z]", text(page))
    }
    known = set(re.findall(r'"(plane_tx_[a-z_]+)"', METRICS))

    files = {"plane_tx_plugin"}

    assert named - known - files == set()
