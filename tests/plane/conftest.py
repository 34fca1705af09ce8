"""A real Chromium, for the part of an app that runs in a browser."""

from __future__ import annotations

from tests.browser.conftest import chromium, context, new_context, page

__all__ = ["chromium", "context", "new_context", "page"]
