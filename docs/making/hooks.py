"""What MkDocs calls while it builds: generated parts go in, and files beside docs/ come along."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

from docs.making import commands, contract, gallery, layers

ROOT = Path(__file__).parents[2]

#: Where files of the checkout that docs/ links to stand in the site, at the paths they have.
BESIDE = "source"

#: What is put in where a page says `<!-- insert: NAME -->` or `NAME of WHAT`.
INSERTIONS: dict[str, Callable[..., str]] = {
    "errors": contract.errors,
    "examples": gallery.examples,
    "layers": layers.layers,
    "routes": contract.routes,
    "types": contract.types,
    "usage": commands.usage,
}

_INSERTION = re.compile(r"^<!-- insert: (\w+)(?: of (.+))? -->$", re.MULTILINE)
_LINK = re.compile(r"(\]\()((?!\w+:|/|#)[^)\s#]+)")


def _place_in_checkout(uri: str) -> str:
    """The path in the checkout of a page or picture of the site."""
    return uri.removeprefix(f"{BESIDE}/") if uri.startswith(f"{BESIDE}/") else f"docs/{uri}"


def _place_in_site(path: str) -> str:
    return path.removeprefix("docs/") if path.startswith("docs/") else f"{BESIDE}/{path}"


def complete(text: str) -> str:
    """The page's text with all that is generated in it; KeyError for what nothing makes."""
    return _INSERTION.sub(_inserted, text)


def _inserted(found: re.Match[str]) -> str:
    name, what = found.groups()
    return INSERTIONS[name](what) if what else INSERTIONS[name]()


def linked_files(uri: str, text: str) -> list[str]:
    """The files of the checkout, beside docs/, that the page at `uri` links to."""
    folder = posixpath.dirname(_place_in_checkout(uri))
    paths = {posixpath.normpath(posixpath.join(folder, link)) for _, link in _LINK.findall(text)}
    return sorted(p for p in paths if not p.startswith(("docs/", "..")) and (ROOT / p).is_file())


def relinked(uri: str, text: str) -> str:
    """The page's text with every link as it is in the site."""
    folder = posixpath.dirname(_place_in_checkout(uri))

    def link(found: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(folder, found[2]))
        return found[1] + posixpath.relpath(_place_in_site(path), posixpath.dirname(uri) or ".")

    return _LINK.sub(link, text)


def on_files(files: Files, config: Any) -> Files:
    """Take in what pages link to beside docs/, and what that links to."""
    waiting = [
        (page.src_uri, complete(page.content_string)) for page in files.documentation_pages()
    ]
    while waiting:
        for path in linked_files(*waiting.pop()):
            uri = _place_in_site(path)
            if files.get_file_from_path(uri) is not None:
                continue
            files.append(File.generated(config, uri, abs_src_path=os.fspath(ROOT / path)))
            if path.endswith(".md"):
                waiting.append((uri, (ROOT / path).read_text()))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """The page as it is built."""
    return relinked(page.file.src_uri, complete(markdown))
