"""A page's blocks as one script for bash, which says between any two steps where it is."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import attrs

from tests.docs.pages import ROOT, Block
from tests.docs.unrun import UNRUN

#: What `make run` starts, but for the ports.
DEMO = "twistd --nodaemon --pidfile= plane --config demo.toml"

MARK = "=-=-= next ="

#: How a program of a language is run that comes from standard input.
_INTERPRETERS = {"python": "python3 -", "javascript": "node --input-type=module -"}

#: Ends the server that runs, starts another, and goes on when that is ready.
_SERVER = """
kill "${{SERVER:-}}" 2>/dev/null && wait "$SERVER" || true
{command} >>server.log 2>&1 &
SERVER=$!
trap 'kill $SERVER; wait' EXIT
until curl -sf -o /dev/null localhost:8080/pub/ready; do
    kill -0 $SERVER || {{ cat server.log >&2; exit 1; }}
    sleep 0.05
done
"""


@attrs.frozen
class Step:
    """What is run, and what it is to print if that is shown."""

    command: str
    shown: str | None = None


def _console(block: Block) -> list[Step]:
    parts = re.split(r"^\$ ", block.body, flags=re.MULTILINE)
    assert parts.pop(0) == "", f"line {block.line}: a console block begins with `$ `"
    return [Step(command, shown) for command, _, shown in map(_line, parts)]


def _line(part: str) -> tuple[str, str, str]:
    """A command, which goes on where its line ends with a backslash."""
    ends = re.search(r"(?<!\\)\n", part)
    assert ends is not None
    return part[: ends.start()], "\n", part[ends.end() :]


def _sh(block: Block) -> list[Step]:
    commands = [line for line in re.split(r"(?<!\\)\n", block.body) if line.split("#")[0].strip()]
    if block.told("server"):
        (command,) = commands
        return [Step(_SERVER.format(command=command))]
    return [Step(command) for command in commands if uncommented(command) not in UNRUN]


def uncommented(command: str) -> str:
    """The command without what is said after it."""
    return re.sub(r"\s+#\s.*$", "", command).strip()


def _program(block: Block) -> list[Step]:
    return [Step(f"{_INTERPRETERS[block.language]} <<'=-=-='\n{block.body}=-=-=")]


def _file(block: Block) -> list[Step]:
    path = block.told("file")
    assert not (ROOT / Path(path).parts[0]).exists(), f"{path} is of the clone"
    return [Step(f"mkdir -p $(dirname {path}); cat >{path} <<'=-=-='\n{block.body}=-=-=")]


_RUN: dict[str, Callable[[Block], list[Step]]] = {
    "console": _console,
    "sh": _sh,
    "python": _program,
    "javascript": _program,
}


def steps(blocks: list[Block]) -> list[Step]:
    """What of these blocks is run, in their order; before it what `make run` does, if need be."""
    found: list[Step] = []
    for block in blocks:
        if block.told("file"):
            found += _file(block)
        elif block.language in _RUN:
            found += _RUN[block.language](block)
    starts_one = any(block.told("server") for block in blocks)
    return found if starts_one or not found else [Step(_SERVER.format(command=DEMO)), *found]


def script(steps: list[Step]) -> str:
    """All of them for one bash, so that a step knows what an earlier one has set."""
    return "\n".join(f"{step.command}\necho '{MARK}'" for step in steps)


def matches(output: str, shown: str) -> bool:
    """Whether `output` is what is shown, where … stands for anything in a line, and … alone on
    its line for any lines.
    """
    lines = shown.strip("\n").split("\n")
    pattern = "\n".join("(?s:.*)" if line == "…" else _in_a_line(line) for line in lines)
    return re.fullmatch(pattern, output.strip("\n")) is not None


def _in_a_line(shown: str) -> str:
    return "[^\n]*".join(map(re.escape, shown.split("…")))
