"""Templates of pages: where values go into them, and what a browser may run of them."""

from __future__ import annotations

import html
import re
from base64 import b64encode
from collections.abc import Collection, Mapping
from hashlib import sha256

import attrs

from plane_tx.core.errors import ConfigError

#: Nothing but what stands in the page itself, and requests to where it came from.
_POLICY = (
    "default-src 'none'; base-uri 'none'; form-action 'none'; connect-src 'self'; img-src data:"
)

#: An inline script or style: no value goes in there, and its hash is what the policy names.
_INLINE = re.compile(r"(?P<tag><(?P<kind>script|style)\b[^>]*>)(?P<text>.*?)(?=</(?P=kind)\b)",
                     re.IGNORECASE | re.DOTALL)  # fmt: skip

_VALUE = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)


@attrs.frozen
class Page:
    """A template that was read: text and names of values in turn, beginning with text.

    `policy` is its Content-Security-Policy.
    """

    parts: tuple[str, ...]
    policy: str

    def render(self, values: Mapping[str, str]) -> bytes:
        """The page with these values, each escaped so that it stays text."""
        texts = list(self.parts)
        texts[1::2] = [html.escape(values[name]) for name in texts[1::2]]
        return "".join(texts).encode("utf-8")


def parse_page(text: str, file: str, names: Collection[str]) -> Page:
    """Read the template `text` of `file`, in which `{{name}}` stands for a value.

    Raises `ConfigError` for a name that is none of `names`.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n")  # as browsers read it, to hash the same
    parts, hashes, at = [""], {"script": "", "style": ""}, 0
    for inline in _INLINE.finditer(text):
        _add(parts, text[at : inline.end("tag")])
        parts[-1] += inline["text"]
        hashes[inline["kind"].lower()] += f" 'sha256-{_hash(inline['text'])}'"
        at = inline.end()
    _add(parts, text[at:])
    for name in parts[1::2]:
        if name not in names:
            known = ", ".join(names)
            raise ConfigError(f"{file}: {{{{{name}}}}} is no value of this page; it has {known}")
    policy = "".join(f"; {kind}-src{found}" for kind, found in hashes.items() if found)
    return Page(tuple(parts), _POLICY + policy)


def sentence(text: str) -> str:
    """The same with a capital letter first and a full stop last, as it stands on a page."""
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith(('.', '!', '?', '…')) else '.'}"


def _add(parts: list[str], text: str) -> None:
    first, *rest = _VALUE.split(text)
    parts[-1] += first
    parts += [part if index % 2 else part.strip() for index, part in enumerate(rest)]


def _hash(text: str) -> str:
    return b64encode(sha256(text.encode("utf-8")).digest()).decode("ascii")
