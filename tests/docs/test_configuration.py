"""conf/plane.toml is the reference of the configuration that it says it is."""

from __future__ import annotations

import re

from plane_tx.core.config import parse_config
from plane_tx.core.sections import Config
from tests.docs.pages import ROOT

SHIPPED = (ROOT / "conf/plane.toml").read_text()


def test_it_says_every_key_with_its_default() -> None:
    assert parse_config(SHIPPED, "conf/plane.toml") == Config()


def test_it_has_every_section_in_its_order() -> None:
    sections = re.findall(r"^\[(\w+)\]", SHIPPED, re.MULTILINE)

    assert [*sections, "apps"] == [field.name for field in Config.__attrs_attrs__]
