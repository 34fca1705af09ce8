"""A bench writes its own part of RESULTS.md and nothing else."""

import pytest

from bench.results import RESULTS, replaced

BEGIN = "<!-- make bench-http writes what follows -->\n"
END = "<!-- make bench-http wrote what precedes -->\n"


def test_a_part_is_replaced_and_what_stands_around_it_stays() -> None:
    text = f"# Results\n\n{BEGIN}\nold\n\n{END}\nby hand\n"

    now = replaced(text, "http", ["new", "lines"])

    assert now == f"# Results\n\n{BEGIN}\nnew\nlines\n\n{END}\nby hand\n"


def test_a_part_that_is_new_comes_last() -> None:
    now = replaced("# Results\n\nby hand\n", "http", ["new"])

    assert now == f"# Results\n\nby hand\n\n{BEGIN}\nnew\n\n{END}"


def test_writing_the_same_again_changes_nothing() -> None:
    once = replaced("# Results\n", "http", ["line"])

    assert replaced(once, "http", ["line"]) == once


def test_a_part_without_its_end_is_not_written_over() -> None:
    with pytest.raises(ValueError, match="wrote what precedes"):
        replaced(f"{BEGIN}\nold\n\nby hand\n", "http", ["new"])


@pytest.mark.parametrize("name", ["control", "http", "websocket", "spawn"])
def test_each_bench_has_its_part(name: str) -> None:
    text = RESULTS.read_text(encoding="utf-8")

    assert text.count(f"<!-- make bench-{name} writes what follows -->\n") == 1
    assert text.count(f"<!-- make bench-{name} wrote what precedes -->\n") == 1
