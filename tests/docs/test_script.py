"""What makes a script of a page is itself right, or no page could be trusted."""

from __future__ import annotations

import re

import pytest

from tests.docs.pages import Block, pages
from tests.docs.script import Step, matches, steps, uncommented
from tests.docs.unrun import UNRUN


@pytest.mark.parametrize(
    ("output", "shown", "same"),
    [
        ("one\ntwo\n", "one\ntwo\n", True),
        ("one two three\n", "one … three\n", True),
        ("one\ntwo\n", "one …\n", False),
        ("one\ntwo\nthree\n", "one\n…\nthree\n", True),
        ("one\n", "", False),
        ("a.c\n", "abc\n", False),
    ],
)
def test_an_ellipsis_stands_for_anything_and_all_else_for_itself(
    output: str, shown: str, same: bool
) -> None:
    assert matches(output, shown) is same


def test_a_command_goes_on_after_a_backslash() -> None:
    block = Block("console", "$ echo one \\\n  two\none two\n$ true\n")

    assert steps([block])[1:] == [Step("echo one \\\n  two", "one two\n"), Step("true", "")]


def test_a_command_of_the_list_is_left_out_and_any_other_is_run() -> None:
    block = Block("sh", "make run     # starts it\n\n# a word\nls docs\n")

    assert steps([block])[1:] == [Step("ls docs")]


def test_a_file_of_the_clone_itself_is_never_written() -> None:
    with pytest.raises(AssertionError, match="is of the clone"):
        steps([Block("toml", "", "file: conf/plane.toml")])


def test_no_page_has_lost_a_command_that_the_list_excuses() -> None:
    shown = {
        uncommented(line)
        for page in pages()
        for block in page.blocks("sh")
        for line in re.split(r"(?<!\\)\n", block.body)
    }

    assert set(UNRUN) - shown == set()
