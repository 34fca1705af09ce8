"""What axe-core finds in a page, by its rules for WCAG 2.2 at level AA and for good practice."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from playwright.sync_api import Page

#: As axe-playwright-python ships it.
_AXE = files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")

#: Of axe-core's four grades (minor, moderate, serious, critical) those that shut people out.
_GRAVE = ("serious", "critical")


def grave(page: Page) -> list[str]:
    """The serious and critical findings in the page as it is now, one line for each element.

    Its policy forbids what is injected: the page must be of a context with `bypass_csp`.
    """
    page.evaluate(_AXE)
    found: Any = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{rule['id']} ({rule['impact']}): {rule['help']}: {node['html']} {node['failureSummary']}"
        for rule in found["violations"]
        if rule["impact"] in _GRAVE
        for node in rule["nodes"]
    ]
