"""The README is true: its commands run and give the output shown, and links lead to files."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live import LiveServer, live_server

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
DOCS = list((ROOT / "docs").glob("*.md"))
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list[str]:
    return [body for found, body in BLOCK.findall(README) if found == language]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LiveServer]:
    with live_server(tmp_path, '[engine]\nkind = "process"\n') as running:
        yield running


def at(server: LiveServer, text: str) -> str:
    """The README's words with this server's ports in place of the demo's."""
    text = text.replace(":8080", f":{server.control_port}")
    return text.replace(":9090", f":{server.proxy_port}")


def run(program: list[str], text: str) -> str:
    venv = os.fspath(Path(sys.executable).parent)
    path = f"{venv}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        program, input=text, capture_output=True, text=True, cwd=ROOT, timeout=60, check=False,
        env={**os.environ, "PATH": path},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def commands_and_outputs(console: str) -> list[tuple[str, str]]:
    parts = re.split(r"^\$ ", console, flags=re.MULTILINE)[1:]
    return [(part.partition("\n")[0], part.partition("\n")[2]) for part in parts]


def matches(output: str, shown: str) -> bool:
    """Whether `output` is what is shown, where … stands for anything."""
    pattern = "[^\n]*".join(map(re.escape, shown.strip("\n").split("…")))
    return re.fullmatch(pattern, output.strip("\n")) is not None


def test_every_console_command_gives_the_output_shown(server: LiveServer) -> None:
    steps = [step for block in blocks("console") for step in commands_and_outputs(block)]
    assert len(steps) >= 12
    mark = "=-=-= next ="
    script = "\n".join(f"{command}\necho '{mark}'" for command, _ in steps)
    outputs = run(["bash", "-eu"], at(server, script)).split(f"{mark}\n")
    for (command, shown), output in zip(steps, outputs, strict=False):
        assert matches(output, at(server, shown)), f"{command}\n{output}\n{at(server, shown)}"


def test_the_python_example_prints_a_session_url(server: LiveServer) -> None:
    (example,) = blocks("python")
    printed = run([sys.executable, "-"], at(server, example))
    assert printed.startswith(f"http://{server.cluster}/")


def test_the_javascript_example_prints_a_session_url(server: LiveServer) -> None:
    if shutil.which("node") is None:
        missing = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        missing("needs node: `sudo make test` provides it on Debian")
    (example,) = blocks("javascript")
    printed = run(["node", "--input-type=module"], at(server, example))
    assert printed.startswith(f"http://{server.cluster}/")


def test_the_two_commands_are_targets_of_the_makefile() -> None:
    (commands,) = blocks("sh")
    targets = re.findall(r"^make (\w+)", commands, re.MULTILINE)
    makefile = (ROOT / "Makefile").read_text()
    assert targets == ["run", "test"]
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)


@pytest.mark.parametrize("page", ["README.md", *sorted(f"docs/{p.name}" for p in DOCS)])
def test_every_link_to_a_file_leads_to_one(page: str) -> None:
    linked = re.findall(r"\]\((?!https?:)([^)#]+)", (ROOT / page).read_text())

    missing = [link for link in linked if not (ROOT / page).parent.joinpath(link).is_file()]

    assert missing == []


def test_conf_plane_toml_says_every_key_with_its_default() -> None:
    from plane_tx.core.config import parse_config
    from plane_tx.core.sections import Config

    shipped = parse_config((ROOT / "conf/plane.toml").read_text(), "conf/plane.toml")
    assert shipped == Config()
    sections = re.findall(r"^\[(\w+)\]", (ROOT / "conf/plane.toml").read_text(), re.MULTILINE)
    assert [*sections, "apps"] == [field.name for field in Config.__attrs_attrs__]
