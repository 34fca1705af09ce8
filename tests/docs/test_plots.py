"""The pictures of the bench are of the results at hand."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from docs.making.plots import IMAGES, PLOTS, RESULTS, plots
from tests.docs.pages import Page

DRAWN = plots(RESULTS.read_text())


@pytest.mark.parametrize("name", PLOTS)
def test_a_committed_picture_is_what_the_results_say(name: str) -> None:
    committed = (IMAGES / f"{name}.svg").read_text()

    assert committed == DRAWN[name], "`make plots` draws it anew"


@pytest.mark.parametrize("name", PLOTS)
def test_a_picture_is_svg_with_one_bar_of_ours_at_least(name: str) -> None:
    drawn = ET.fromstring(DRAWN[name])

    kinds = [bar.get("class") for bar in drawn.iter("{http://www.w3.org/2000/svg}rect")]

    assert "bar ours" in kinds
    assert f"images/{name}.svg" in Page("docs/performance.md").text


def test_results_without_what_a_picture_shows_are_an_error() -> None:
    with pytest.raises(ValueError, match="no table of the results has 'requests/s'"):
        plots("| asked for | proxy |\n| --- | --- |\n| a | b |\n")
