"""Examples that run as a person runs them, and a real Chromium to use them with."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.browser.conftest import chromium, context, new_context, page, watched
from tests.examples.example import Example

__all__ = ["chromium", "context", "example", "new_context", "page", "watched"]


@pytest.fixture(scope="module")
def example(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Example]:
    """The one that the module is named after, serving; in the end nothing may be left of it."""
    name = request.path.stem.removeprefix("test_").replace("_", "-")
    its = Example(name, tmp_path_factory.mktemp(name))
    try:
        its.start()
        yield its
        its.end_sessions()
        its.interrupt()
        assert its.containers() == []
    finally:
        its.remove()
