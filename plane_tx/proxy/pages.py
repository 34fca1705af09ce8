"""The pages that browsers are shown where no session answers, as they are, or as configured."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import cache
from importlib import resources
from pathlib import Path

import attrs

from plane_tx.core.errors import ConfigError, PlaneError, StillBooting
from plane_tx.core.fields import Headers
from plane_tx.core.pages import Page, parse_page, sentence

#: The values that every page has but that of a session which boots, and those of that one.
VALUES = ("status", "title", "message", "session", "retry_after")
WAITING_VALUES = ("title", "phase", "elapsed", "estimate", "session", "retry_after", "told")

#: What the pages have in common, and what stands for it in each of them.
STYLE_FILE = "page.css"
STYLE_MARK = "/* page.css */"

WAITING_FILE = "waiting.html"

#: The page of each status; any other has `OTHER_FILE`.
STATUS_FILES: Mapping[int, str] = {
    410: "gone.html",
    502: "unreachable.html",
    503: "unavailable.html",
}
OTHER_FILE = "other.html"

#: All of a page is kept, and sent to each who is shown it; a larger file is no page.
MOST_BYTES = 1024 * 1024

FILES = (WAITING_FILE, *STATUS_FILES.values(), OTHER_FILE)

_TITLES = {
    "SessionEnded": "Your session has ended",
    "UnknownToken": "This link leads to no session",
    "UpstreamUnreachable": "Your session does not answer",
    "SessionNotReady": "Your session is not ready yet",
    "IdleTimeout": "Your session took too long",
    "WrongHost": "This session lives elsewhere",
    "BadRequest": "This request cannot be answered",
}

#: A browser that reads text/plain as a page would run what stands there; and where somebody goes
#: next need not learn the link that they came by.
_GUARDS: Headers = (
    (b"Content-Type", b"text/html; charset=utf-8"),
    (b"X-Content-Type-Options", b"nosniff"),
    (b"Referrer-Policy", b"no-referrer"),
)


@attrs.frozen
class Pages:
    """One page for each file of `FILES`."""

    by_file: Mapping[str, Page]

    def of(self, error: PlaneError, session_id: str) -> tuple[Headers, bytes]:
        """The page of `error`: what is said of it in the header, and the page itself."""
        values = {"session": session_id, "retry_after": str(error.retry_after_seconds or 0)}
        if isinstance(error, StillBooting):
            file = WAITING_FILE
            values.update(error.shown)
        else:
            file = STATUS_FILES.get(error.status, OTHER_FILE)
            title = _TITLES.get(error.kind, "This did not work")
            values.update(status=str(error.status), title=title, message=sentence(str(error)))
        page = self.by_file[file]
        policy = (b"Content-Security-Policy", page.policy.encode("latin-1"))
        return (*_GUARDS, policy), page.render(values)


@cache
def own_pages() -> Pages:
    """Those that come with the package."""
    return _read(_own)


def read_pages(folder: Path) -> Pages:
    """The same, but for the files that are in `folder`.

    Raises `ConfigError`, one line that says what is wrong with which file.
    """
    try:
        found = {each.name for each in folder.iterdir()} & {*FILES, STYLE_FILE}
    except OSError as error:
        raise ConfigError(f"pages.dir: {folder}: cannot be read: {error.strerror}") from None
    if not found:
        known = ", ".join((*FILES, STYLE_FILE))
        raise ConfigError(f"pages.dir: {folder}: has none of {known}")
    return _read(lambda name: _text(folder / name) if name in found else _own(name), folder)


def _read(text_of: Callable[[str], str], folder: Path = Path()) -> Pages:
    style = text_of(STYLE_FILE)
    pages = {}
    for file in FILES:
        text = text_of(file).replace(STYLE_MARK, style)
        pages[file] = parse_page(text, str(folder / file), _values_of(file))
    return Pages(pages)


def _values_of(file: str) -> Collection[str]:
    return WAITING_VALUES if file == WAITING_FILE else VALUES


def _own(name: str) -> str:
    return resources.files("plane_tx.proxy").joinpath("web", name).read_text(encoding="utf-8")


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise ConfigError(f"{path}: is larger than {MOST_BYTES} bytes")
        return data.decode("utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8: {error.reason} at byte {error.start}") from None
