"""The dashboard's files: read once, when the server starts, and answered from memory."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import PurePosixPath

import attrs
from twisted.web.server import Request

from plane_tx.control.envelope import answer
from plane_tx.core.errors import NotFound

#: Where they stand in the package.
FOLDER = files("plane_tx.control").joinpath("web")

#: The page itself.
INDEX = "index.html"

_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
}
#: A licence, say.
_PLAIN = "text/plain; charset=utf-8"

#: What sessions say is shown on this page: whatever slips through as markup is to stay dead.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
    " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none';"
    " require-trusted-types-for 'script'; trusted-types 'none'"
)
_HEADERS = {
    "content-security-policy": _POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
}

_TAG = re.compile(r'"[^"]*"')


@attrs.frozen
class WebFile:
    """One file, with the tag that changes with what is in it (RFC 9110 section 8.8.3)."""

    content_type: str
    body: bytes = attrs.field(repr=False)
    tag: str


class WebFiles:
    """Every file there is, by its path below the folder; no path is ever looked up on the disk."""

    def __init__(self, folder: Traversable) -> None:
        self._files = dict(_read(folder, ""))

    def __repr__(self) -> str:
        return f"<WebFiles [{len(self._files)}]>"

    def answer(self, request: Request, name: str) -> bytes:
        """Answer with the file, or with 304 where the client has it. Raises `NotFound`."""
        found = self._files.get(name)
        if found is None:
            raise NotFound("there is no such file: GET / as a browser does for the page")
        body = answer(request, found.content_type, found.body)
        for header, value in _HEADERS.items():
            request.setHeader(header, value)
        # Kept, and asked about each time: a server that was upgraded has another page.
        request.setHeader("cache-control", "no-cache")
        request.setHeader("etag", found.tag)
        if not _has_it(request, found.tag):
            return body
        request.setResponseCode(304)
        request.responseHeaders.removeHeader("content-length")
        request.responseHeaders.removeHeader("content-type")
        return b""


def _has_it(request: Request, tag: str) -> bool:
    """Whether the client has what `tag` stands for, by If-None-Match (RFC 9110 section 13.1.2)."""
    said = request.getHeader("if-none-match") or ""
    return said.strip() == "*" or tag in _TAG.findall(said)


def _read(folder: Traversable, below: str) -> Iterator[tuple[str, WebFile]]:
    for entry in folder.iterdir():
        if entry.name.startswith((".", "__")):
            continue
        if entry.is_dir():
            yield from _read(entry, f"{below}{entry.name}/")
            continue
        body = entry.read_bytes()
        content_type = _TYPES.get(PurePosixPath(entry.name).suffix, _PLAIN)
        tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
        yield below + entry.name, WebFile(content_type, body, tag)
