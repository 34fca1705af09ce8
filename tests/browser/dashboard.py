"""The dashboard as a person uses it: by what its fields, buttons and tables are called."""

from __future__ import annotations

import re
from typing import Self

from playwright.sync_api import Locator, Page, expect


class Dashboard:
    """The page in a tab; whatever is asked of it waits until it is there."""

    def __init__(self, page: Page, control: str) -> None:
        self.page = page
        self.control = control
        self.connection = page.locator("#connection")
        self.table = page.get_by_role("table", name="Sessions", exact=True)
        self.filter = page.get_by_role("searchbox", name="Filter sessions")
        self.ended = page.get_by_role("checkbox", name=re.compile("^Ended"))

    def open(self) -> Self:
        """Go there, and return when all that the server has is told."""
        self.page.goto(f"{self.control}/")
        self.expect_live()
        return self

    def expect_live(self) -> None:
        expect(self.connection).to_have_text("Live")

    def row(self, text: str) -> Locator:
        """The rows of the table with this text."""
        return self.table.get_by_role("row").filter(has_text=text)

    def keys(self) -> list[str]:
        """The keys in the table, from above."""
        return self.table.locator("td.col-key").all_inner_texts()

    def sort_by(self, column: str) -> None:
        self.table.get_by_role("button", name=column, exact=True).click()

    def tile(self, name: str) -> Locator:
        """A number of the overview."""
        tile = self.page.locator("#tiles > div").filter(has=self.page.get_by_text(name, exact=True))
        return tile.locator(".figure")

    def card(self, title: str) -> Locator:
        """A table of the overview."""
        return self.page.get_by_role("table", name=title)

    def session(self, session_id: str) -> SessionPage:
        """The page of a session, gone to by its address."""
        self.page.goto(f"{self.control}/#/s/{session_id}")
        return SessionPage(self.page)

    def visit(self, text: str) -> SessionPage:
        """The page of the session in whose row this stands."""
        self.row(text).get_by_role("link").click()
        return SessionPage(self.page)

    def new_session(self) -> SpawnForm:
        self.page.get_by_role("link", name="New session").click()
        return SpawnForm(self.page)


class SpawnForm:
    """The form that starts a session."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self.form = page.get_by_role("form", name="New session")

    def fill(self, **fields: str) -> Self:
        """Fill in fields by their labels."""
        for label, text in fields.items():
            self.form.get_by_role("textbox", name=label, exact=True).fill(text)
        return self

    def app(self, name: str) -> Self:
        """Choose an app, of which more may stand beside its name."""
        self.form.get_by_role("combobox", name="App").select_option(value=name)
        return self

    def kind(self, name: str) -> Self:
        """Choose what is to run: App, Image or Command."""
        self.form.get_by_role("radio", name=name, exact=True).check()
        return self

    def add(self, one: str, name: str, value: str) -> Self:
        """Add a variable or a label."""
        self.form.get_by_role("button", name=f"Add {one}").click()
        self.form.get_by_label(f"Name of the {one}").last.fill(name)
        self.form.get_by_label(f"Value of the {one}").last.fill(value)
        return self

    def press_start(self) -> None:
        self.form.get_by_role("button", name="Start session").click()

    def start(self) -> SessionPage:
        self.press_start()
        return SessionPage(self._page)


class SessionPage:
    """The page of one session."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.heading = page.get_by_role("heading", name=re.compile("^Session "))
        self.status = page.locator(".session-state .status")
        self.detail = page.locator(".session-state .status-detail")
        self.facts = page.locator(".facts")
        self.why = page.get_by_role("region", name="Why", exact=True)
        self.timeline = page.get_by_role("region", name="Timeline", exact=True)
        self.log = page.get_by_role("log")
        self.log_section = page.get_by_role("region", name="Log", exact=True)
        self.charts = page.get_by_role("region", name="Charts", exact=True)
        self.connections = page.get_by_role("region", name="Connections", exact=True)
        self.told = page.locator(".action-told")
        self.notice = page.locator(".session-notice")

    @property
    def session_id(self) -> str:
        return self.heading.locator("code").inner_text()

    def button(self, name: str) -> Locator:
        """One of what can be done to the session."""
        actions = self.page.get_by_role("group", name="Actions")
        return actions.get_by_role("button", name=name, exact=True)

    def confirm(self, name: str) -> None:
        """Do something that is asked about."""
        self.button(name).click()
        self.page.get_by_role("dialog").get_by_role("button", name=name, exact=True).click()

    def statuses(self) -> list[str]:
        """What stands in its history."""
        return self.timeline.locator("ol .status").all_inner_texts()
