"""How the code is laid out, made of the modules' first sentences and the tests' table."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]

#: What each layer of tests/test_layers.py is, from the top.
LAYERS = {
    6: ("The command line", "A program beside the server; it uses the client."),
    5: ("The Python client", "Runs in apps; knows nothing of the server but its contract."),
    4: ("Assembly", "Builds the parts from the configuration and joins them."),
    3: ("Faces", "What listens, and what looks at the clock. They do not know each other."),
    2: ("Conduct", "The sessions' lives: events in, decisions, effects out."),
    1: ("Effects", "Everything that touches the world: engines, files, probes, time."),
    0: ("Pure", "Decisions, states and texts: no reactor, no sockets, no clock."),
}


def layers() -> str:
    """A section a layer, from the top, with a table of its modules."""
    known, found = table(), modules()
    lines: list[str] = []
    for number, (name, what) in LAYERS.items():
        lines += [f"### {number}. {name}", "", what, "", "| module | |", "| --- | --- |"]
        lines += [
            f"| `{module}` | {sentence} |"
            for module, sentence in found
            if layer(module, known) == number
        ]
        lines.append("")
    return "\n".join(lines)


def table() -> dict[str, int]:
    """The literal table of tests/test_layers.py."""
    tree = ast.parse((ROOT / "tests/test_layers.py").read_text())
    (found,) = [
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "LAYERS"
    ]
    return ast.literal_eval(found)


def layer(module: str, known: dict[str, int]) -> int | None:
    """The layer of a module: that of the longest name in the table that it begins with."""
    fitting = [name for name in known if f"{module}.".startswith(f"{name}.")]
    return known[max(fitting, key=len)] if fitting else None


def modules() -> list[tuple[str, str]]:
    """Each module that has code, with the first sentence of its docstring."""
    found = []
    for path in sorted((ROOT / "plane_tx").rglob("*.py")):
        tree = ast.parse(path.read_text())
        if path.name == "__init__.py" and len(tree.body) < 2:
            continue
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found.append((name, _first_sentence(ast.get_docstring(tree) or "")))
    return found


def _first_sentence(text: str) -> str:
    paragraph = " ".join(text.partition("\n\n")[0].split())
    return re.split(r"(?<=[a-z0-9)`\"])\. (?=[A-Z])", paragraph, maxsplit=1)[0].replace("|", "\\|")
