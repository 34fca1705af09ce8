"""What the blocks of a page run in: a tree like a clone, and what `make run` would have started."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from tests.docs.pages import ROOT
from tests.live import free_ports, remove_networks


@attrs.frozen
class Place:
    """A directory that looks like the checkout, with ports and an instance of its own."""

    folder: Path
    control_port: int
    proxy_port: int

    @property
    def instance(self) -> str:
        """The name of this place's containers."""
        return f"docs-{self.control_port}"

    def here(self, text: str) -> str:
        """A page's words with what is this place's own in the stead of what a reader has."""
        text = text.replace(":8080", f":{self.control_port}").replace(
            ":9090", f":{self.proxy_port}"
        )
        text = text.replace("python:3.13-slim", "plane-tx-test/python")
        return text.replace('kind = "docker"', f'kind = "docker"\ninstance = "{self.instance}"')

    @property
    def environment(self) -> dict[str, str]:
        """Ours, with this Python's programs first, and state of its own."""
        programs = Path(sys.executable).parent
        return {
            **os.environ,
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "STATE_DIRECTORY": os.fspath(self.folder / "state"),
            "DOCKER_BUILDKIT": "0",
            "PLANE_TX_URL": f"http://127.0.0.1:{self.control_port}",
        }


def _like_a_clone(folder: Path) -> None:
    """Links to all that is here: what a page makes stays in `folder`."""
    for entry in ROOT.iterdir():
        if entry.name not in {".git", ".venv", "build", "node_modules"}:
            (folder / entry.name).symlink_to(entry)
    (folder / ".venv").symlink_to(Path(sys.executable).parents[1])
    modules = folder / "node_modules"
    modules.mkdir()
    (modules / "plane-tx").symlink_to(ROOT / "clients/js")


def _remove_containers(instance: str) -> None:
    """What a page leaves running in Docker ends with its test."""
    label = f"label=plane-tx.instance={instance}"
    command = (
        f"docker ps --all --quiet --filter {label} | xargs --no-run-if-empty docker rm --force"
    )
    subprocess.run(["sh", "-c", command], check=True, capture_output=True)
    remove_networks(instance)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    folder = tmp_path / "clone"
    folder.mkdir()
    _like_a_clone(folder)
    place = Place(folder, *free_ports(2))
    (folder / "demo.toml").write_text(place.here((ROOT / "conf/demo.toml").read_text()))
    return place


@pytest.fixture
def docker(request: pytest.FixtureRequest, place: Place) -> Iterator[None]:
    """Whatever a page that is marked so leaves in Docker is gone in the end."""
    yield
    if request.node.get_closest_marker("docker"):
        _remove_containers(place.instance)


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `make docs` builds it, which is an error where a link or an anchor leads nowhere."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder],
        cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "true"}, text=True,
        capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return folder
