"""What a page did that none may: dialogs, errors, violations of its policy, requests to others."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import BrowserContext, ConsoleMessage, Dialog, Page, Request

#: Told to Python, since a violation may belong to a document that is about to go.
_TELL = """
document.addEventListener("securitypolicyviolation", (event) => window.planeViolation(
  `${event.violatedDirective} blocked ${event.blockedURI} ${event.sample} in ${event.sourceFile}`));
"""

#: What Chromium asks for by itself; a page without an icon is no fault.
_ICON = re.compile(r"/favicon\.ico$")

#: What Chromium itself says of a server that is away.
AWAY = r"net::ERR_(CONNECTION_\w+|SOCKET_NOT_CONNECTED|INCOMPLETE_CHUNKED_ENCODING|EMPTY_RESPONSE)"


class Watched:
    """Watches every page of a context; `complaints` are what no test has allowed."""

    def __init__(self, context: BrowserContext) -> None:
        self.asked: list[str] = []
        self.navigations: list[str] = []
        self._seen: list[str] = []
        self._allowed: list[re.Pattern[str]] = []
        context.expose_binding("planeViolation", lambda _, told: self._note("policy", told))
        context.add_init_script(_TELL)
        context.on("page", self._watch)
        context.on("request", self._requested)

    def allow(self, *patterns: str) -> None:
        """Complaints that match one of these belong to the test."""
        self._allowed += [re.compile(each) for each in patterns]

    def complaints(self) -> list[str]:
        """All that was seen and not allowed, in order."""
        return [told for told in self._seen if not any(each.search(told) for each in self._allowed)]

    def hosts(self) -> set[str]:
        """The host and port of everything that any page asked for."""
        return {urlsplit(url).netloc for url in self.asked}

    def _watch(self, page: Page) -> None:
        page.on("dialog", self._dialog)
        page.on("console", self._console)
        page.on("pageerror", lambda error: self._note("error", str(error)))

    def _dialog(self, dialog: Dialog) -> None:
        self._note("dialog", dialog.message)
        dialog.dismiss()

    def _console(self, message: ConsoleMessage) -> None:
        where: Any = message.location
        if message.type in ("error", "warning") and not _ICON.search(where["url"]):
            self._note("console", f"{message.text} ({where['url']}:{where['lineNumber']})")

    def _requested(self, request: Request) -> None:
        if request.url.startswith("http"):
            self.asked.append(request.url)
        if request.is_navigation_request():
            self.navigations.append(request.url)

    def _note(self, kind: str, told: str) -> None:
        self._seen.append(f"{kind}: {told}")
