"""clients/js is what the server serves, with types that hold and units that Node runs."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from plane_tx import __version__
from tests.browser.places import place, spawn
from tests.live import live_server

ROOT = Path(__file__).parent.parent.parent
SERVED = ROOT / "plane_tx" / "control" / "client.js"
PACKAGE = ROOT / "clients" / "js"
PACKAGED = PACKAGE / "plane.js"
LIVE = Path(__file__).with_name("live.mjs")
UNITS = Path(__file__).with_name("session.test.mjs")
USAGE = Path(__file__).with_name("usage.ts")


@pytest.fixture
def program():
    """Where a program is that CI has."""

    def find(name):
        found = shutil.which(name)
        if found is None:
            missing = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
            missing(f"needs {name}: `sudo make test` provides it on Debian")
        return found

    return find


def run(*command, **options):
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    return done.returncode, done.stdout + done.stderr


def test_what_npm_gets_is_what_the_server_gives():
    assert PACKAGED.read_bytes() == SERVED.read_bytes()


def test_the_package_names_our_version_and_files_that_are_there():
    package = json.loads((PACKAGE / "package.json").read_text())

    assert package["version"] == __version__
    named = {*package["exports"]["."].values(), package["types"]}
    assert {Path(name).name for name in named} == set(package["files"])
    assert all((PACKAGE / name).is_file() for name in package["files"])
    assert not package.keys() & {"dependencies", "devDependencies", "scripts"}


def test_it_imports_nothing():
    source = SERVED.read_text()

    assert re.findall(r"\bimport\b", source) == []


def test_all_that_is_exported_has_a_type_and_nothing_else():
    declared = set(re.findall(r"^export (?:class|function) (\w+)", _types(), re.MULTILINE))

    exported = set(
        re.findall(r"^export (?:class|function) (\w+)", SERVED.read_text(), re.MULTILINE)
    )

    assert exported == declared
    assert not re.search(r"^export (?!class|function)", SERVED.read_text(), re.MULTILINE)


def _types():
    return (PACKAGE / "plane.d.ts").read_text()


def test_its_units(program):
    where = {**os.environ, "CLIENT": PACKAGED.as_uri()}

    code, output = run(program("node"), "--test", UNITS, env=where)

    assert code == 0, output
    assert re.search(r"^\S+ pass [1-9]", output, re.MULTILINE), output


def test_node_follows_a_session_from_its_boot_to_its_end(program, tmp_path):
    node = [program("node")]
    if run(*node, "--experimental-websocket", "--version")[0] == 0:
        node.append("--experimental-websocket")
    with place("process") as its, live_server(tmp_path, its.conf) as server:
        made = spawn(server, "node", env={"START_DELAY": 1})
        stop = f"{server.control}/ctrl/b/{made['backend_id']}/soft-terminate"

        code, output = run(*node, LIVE, PACKAGED.as_uri(), made["url"], made["status_url"], stop)

    assert code == 0, output
    told = json.loads(output[output.index("{") : output.rindex("}") + 1])
    assert told.pop("message").endswith(": it was stopped by request")
    assert told == {"said": "said", "heard": "ok", "reason": "terminated", "last": "ended"}


def test_the_types_hold_for_an_app_and_refuse_what_is_wrong(program, tmp_path):
    (tmp_path / "usage.ts").write_text(USAGE.read_text())
    (tmp_path / "package.json").write_text('{"type": "module"}')
    (tmp_path / "node_modules").mkdir()
    (tmp_path / "node_modules" / "plane-tx").symlink_to(PACKAGE)
    strict = ["--strict", "--noEmit", "--target", "es2022", "--lib", "es2022,dom"]
    resolved = ["--module", "node16", "--moduleResolution", "node16"]

    code, output = run(program("tsc"), *strict, *resolved, "usage.ts", cwd=tmp_path)

    assert code == 0, output
