"""`twistd plane` is found however plane_tx was installed, and what ships is what belongs."""

import ast
import configparser
import os
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.tree import copy_of_the_tree, tracked_files

ROOT = Path(__file__).parent.parent
PLUGIN = ROOT / "twistd_plugins" / "plane_tx_plugin.py"
DESCRIPTION = "Run sessions: a control API, a proxy and a reaper in one process."

TWISTD = "import sys; sys.argv[0] = 'twistd'; from twisted.scripts.twistd import run; run()"
WHERE = "import twisted.plugins.plane_tx_plugin as plugin; print(plugin.__file__)"


def run(*command: str | Path, cwd: Path) -> str:
    # Neither our checkout nor the coverage of this run may reach the child.
    kept = {
        key: value
        for key, value in os.environ.items()
        if key != "PYTHONPATH" and not key.startswith("COVERAGE_")
    }
    wide = {"COLUMNS": "200"}  # so that twistd's help keeps a description on one line
    done = subprocess.run(
        command, cwd=cwd, env=kept | wide, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return copy_of_the_tree(tmp_path / "tree")


class Environment:
    """A fresh environment that borrows this one's libraries, but not this one's plane_tx.

    A directory named in a .pth file is searched after the environment's own, and the .pth files in
    it are not read: our editable install does not shine through, and nothing needs downloading.
    """

    def __init__(self, path: Path) -> None:
        run(sys.executable, "-m", "venv", "--without-pip", path, cwd=path.parent)
        self.python = path / "bin" / "python"
        self.elsewhere = path / "elsewhere"
        self.elsewhere.mkdir()
        libraries = sysconfig.get_path("purelib")
        purelib = run(
            self.python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=path
        )
        (Path(purelib.strip()) / "borrowed.pth").write_text(libraries)

    def install(self, *what: str | Path) -> None:
        pip = [sys.executable, "-m", "pip", "--python", self.python, "install", "--quiet"]
        alone = ["--no-index", "--no-deps", "--no-build-isolation", "--ignore-installed"]
        run(*pip, *alone, *what, cwd=self.elsewhere)

    def twistd_help(self) -> str:
        return run(self.python, "-c", TWISTD, "--help", cwd=self.elsewhere)

    def plugin_file(self) -> Path:
        return Path(run(self.python, "-c", WHERE, cwd=self.elsewhere).strip())


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    return Environment(tmp_path / "environment")


def build(kind: str, tree: Path, into: Path) -> Path:
    into.mkdir()
    call = f"from setuptools import build_meta; build_meta.build_{kind}({str(into)!r})"
    run(sys.executable, "-c", call, cwd=tree)
    (built,) = into.iterdir()
    return built


def assert_offers_plane(environment: Environment, below: Path) -> None:
    line = next(line for line in environment.twistd_help().splitlines() if " plane " in line)
    assert line.split(maxsplit=1) == ["plane", DESCRIPTION]
    assert environment.plugin_file().is_relative_to(below)


def test_twistd_offers_plane_after_an_install_from_the_tree(
    environment: Environment, tree: Path, tmp_path: Path
) -> None:
    environment.install(tree)

    assert_offers_plane(environment, below=tmp_path / "environment")


def test_twistd_offers_plane_after_an_editable_install(
    environment: Environment, tree: Path
) -> None:
    environment.install("--editable", tree)

    assert_offers_plane(environment, below=tree)


def test_twistd_offers_plane_after_an_install_from_the_sdist(
    environment: Environment, tree: Path, tmp_path: Path
) -> None:
    sdist = build("sdist", tree, tmp_path / "dist")

    environment.install(sdist)

    assert_offers_plane(environment, below=tmp_path / "environment")


def test_the_sdist_holds_what_a_reader_needs(tree: Path, tmp_path: Path) -> None:
    folders = (
        "bench/", "clients/", "conf/", "docs/", "examples/", "plane_tx/", "tests/",
        "twistd_plugins/",
    )  # fmt: skip
    wanted = {name for name in tracked_files() if name.startswith(folders)} | {
        "LICENSE",
        "Makefile",
        "README.md",
        "constraints.txt",
        "pyproject.toml",
        "setup.cfg",
    }

    with tarfile.open(build("sdist", tree, tmp_path / "dist")) as sdist:
        held = {name.partition("/")[2] for name in sdist.getnames()}

    assert not wanted - held
    assert {name.split("/")[0] for name in held} >= {"conf", "examples"}


def test_the_wheel_holds_the_whole_package_and_nothing_else(tree: Path, tmp_path: Path) -> None:
    wanted = {name for name in tracked_files() if name.startswith("plane_tx/")}

    with zipfile.ZipFile(build("wheel", tree, tmp_path / "dist")) as wheel:
        held = {name for name in wheel.namelist() if ".dist-info/" not in name}

    assert held == wanted | {"twisted/plugins/plane_tx_plugin.py"}


def test_every_package_is_listed() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    listed = set(config["options"]["packages"].split())

    found = {".".join(p.parent.relative_to(ROOT).parts) for p in ROOT.glob("plane_tx/**/*.py")}

    assert listed == found | {"twisted.plugins"}


def test_the_plugins_directory_is_no_package_of_ours() -> None:
    # An __init__.py here would overwrite Twisted's own on install.
    assert not (ROOT / "twistd_plugins" / "__init__.py").exists()


def test_the_plugin_imports_nothing_of_ours() -> None:
    # It is imported by every twistd on the machine, so it must be light and cannot fail.
    tree = ast.parse(PLUGIN.read_text())

    imported = [ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.stmt)]

    assert [line for line in imported if "import" in line] == [
        "from twisted.application.service import ServiceMaker"
    ]
