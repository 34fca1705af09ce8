"""The table of examples, made of the first lines of their READMEs."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]


def examples() -> str:
    """A row an example: what it shows, and the command that runs it."""
    rows = [
        f"| [{readme.parent.name}](../examples/{readme.parent.name}/README.md) "
        f"| {_about(readme.read_text())} | `make example-{readme.parent.name}` |"
        for readme in sorted(ROOT.glob("examples/*/README.md"))
        if readme.with_name("plane.toml").exists()
    ]
    return "\n".join(["| example | what it shows | run it |", "| --- | --- | --- |", *rows])


def _about(text: str) -> str:
    """The first sentence after the title."""
    paragraph = text.split("\n\n")[1]
    sentence = " ".join(paragraph.split()).split(". ")[0]
    return sentence.rstrip(".:").replace("|", "\\|") + "."
