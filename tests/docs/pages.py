"""README.md and the pages of docs/, as blocks of code with what is said about each."""

from __future__ import annotations

import os
import re
from pathlib import Path

import attrs

ROOT = Path(__file__).parents[2]

#: What may stand above a block, as a comment of its own line that readers do not see.
#: `file: PATH` has the block written there; `server` has its one command run on, in the background;
#: `part of: PATH` has it be a part of that file; `needs: docker` says what it runs with.
_SAID = r"(?:<!-- (?P<said>[^\n]+?) -->\n+)?"
_BLOCK = re.compile(
    rf"^{_SAID}```(?P<language>[\w-]+)[^\n]*\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL
)


@attrs.frozen
class Block:
    """A fenced block: its language, its text and what the comment above it says."""

    language: str
    body: str
    said: str = ""
    line: int = 0

    def told(self, word: str) -> str:
        """What is said of `word`: the path of `file: PATH`."""
        for part in self.said.split(";"):
            key, _, value = part.strip().partition(": ")
            if key == word:
                return value or word
        return ""


@attrs.frozen
class Page:
    """A page by its path in the checkout."""

    name: str

    @property
    def text(self) -> str:
        """The page as it is written."""
        return (ROOT / self.name).read_text()

    def blocks(self, *languages: str) -> list[Block]:
        """The blocks in these languages, or all."""
        return [
            block for block in _blocks(self.text) if block.language in languages or not languages
        ]

    def needs(self, what: str) -> bool:
        """Whether a block of it runs with `what` only."""
        return any(block.told("needs") == what for block in self.blocks())


def _blocks(text: str) -> list[Block]:
    return [
        Block(
            found["language"],
            found["body"],
            found["said"] or "",
            text.count("\n", 0, found.start("language")) + 1,
        )
        for found in _BLOCK.finditer(text)
    ]


def pages() -> list[Page]:
    """README.md, the pages of docs/ and what is read beside them."""
    written = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    return [Page(os.fspath(path.relative_to(ROOT))) for path in written]
