"""The design's picture is true: arrows point down only, and core knows no world but its own."""

import ast
import configparser
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

ROOT = Path(__file__).parent.parent

# Every module belongs to the longest of these names that it starts with.
LAYERS = {
    "plane_tx.core": 0,
    "plane_tx.reactor": 0,  # interfaces of Twisted, no effect; core may not know it
    "plane_tx.accesslog": 1,
    "plane_tx.activation": 1,
    "plane_tx.clock": 1,
    "plane_tx.configuration": 1,
    "plane_tx.engines": 1,
    "plane_tx.lag": 1,
    "plane_tx.failures": 0,  # reads Twisted's errors, no effect
    "plane_tx.flights": 0,  # waits on Deferreds, no effect of its own
    "plane_tx.journal": 1,
    "plane_tx.keptfiles": 1,
    "plane_tx.openfiles": 1,
    "plane_tx.poll": 1,
    "plane_tx.probe": 1,
    "plane_tx.state": 1,
    "plane_tx.thread": 0,  # runs what it is given, no effect of its own
    "plane_tx.tokens": 1,
    "plane_tx.waiters": 1,
    "plane_tx.admission": 2,
    "plane_tx.boots": 2,
    "plane_tx.diagnosis": 2,
    "plane_tx.chronicle": 2,
    "plane_tx.autopsies": 2,
    "plane_tx.conduct": 2,
    "plane_tx.endings": 2,
    "plane_tx.leases": 2,
    "plane_tx.recovery": 2,
    "plane_tx.idempotency": 2,
    "plane_tx.supervisor": 2,
    "plane_tx.certificates": 3,
    "plane_tx.control": 3,
    "plane_tx.proxy": 3,
    "plane_tx.reaper": 3,
    "plane_tx.upkeep": 3,
    "plane_tx.tap": 4,
    "plane_tx.client": 5,  # outside the server: see OUTSIDE
    "plane_tx.cli": 6,
}
# Modules of one layer do not know each other, but conduct is one thing in several files.
JOINED_LAYERS = {2}

# What runs elsewhere imports of the server only what is named here, and its extra's libraries.
OUTSIDE = {
    "plane_tx.client": set[str](),
    "plane_tx.cli": {
        "plane_tx.client", "plane_tx.core.config", "plane_tx.core.dockerapi",
        "plane_tx.core.endpoints", "plane_tx.core.errors", "plane_tx.core.sections",
    },
}  # fmt: skip
EXTRAS = {"plane_tx.client": ("client",), "plane_tx.cli": ("client", "cli")}

CORE_MAY_IMPORT = {"attr", "attrs", "cattr", "cattrs", "httptools"}
WORLDLY = {
    "asyncio", "concurrent", "ftplib", "http.client", "http.server", "multiprocessing", "queue",
    "sched", "select", "selectors", "signal", "smtplib", "socket", "socketserver", "sqlite3", "ssl",
    "subprocess", "threading", "urllib.request", "wsgiref", "xmlrpc",
}  # fmt: skip
CLOCKS_AND_DICE = re.compile(
    r"time\.(time|monotonic|perf_counter|process_time|thread_time)(_ns)?$"
    r"|time\.(sleep|localtime|gmtime|ctime|strftime)$"
    r"|datetime\.(datetime|date)\.(now|utcnow|today)$"
    r"|(random|secrets)\.(?!compare_digest$)"
    r"|uuid\.uuid[14]$|os\.(urandom|getrandom)$"
)

MAX_MODULE_LINES = 400
MAX_FUNCTION_LINES = 40


@attrs.frozen
class Import:
    """One name that a module brings in, as absolute as it can be known."""

    name: str
    line: int
    in_function: bool


@attrs.frozen
class Module:
    """A module's dotted name and its parsed text."""

    name: str
    tree: ast.Module
    is_package: bool = False

    @property
    def unit(self) -> str | None:
        """The entry of LAYERS it belongs to."""
        owners = [unit for unit in LAYERS if f"{self.name}.".startswith(f"{unit}.")]
        return max(owners, key=len, default=None)


def parsed(name: str, source: str) -> Module:
    return Module(name, ast.parse(source))


def on_disk(path: Path) -> Module:
    parts = path.relative_to(ROOT).with_suffix("").parts
    is_package = parts[-1] == "__init__"
    name = ".".join(parts[:-1] if is_package else parts)
    return Module(name, ast.parse(path.read_text()), is_package)


def walk(node: ast.AST, in_function: bool = False) -> Iterator[tuple[ast.AST, bool]]:
    for child in ast.iter_child_nodes(node):
        yield child, in_function
        is_function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        yield from walk(child, in_function or is_function)


def imports(module: Module) -> list[Import]:
    found = []
    for node, in_function in walk(module.tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            origin = absolute(module, node)
            names = [f"{origin}.{alias.name}" for alias in node.names]
        else:
            continue
        found += [Import(name, node.lineno, in_function) for name in names]
    return found


def absolute(module: Module, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    parts = module.name.split(".")
    parts = parts[: len(parts) - node.level + module.is_package]
    return ".".join([*parts, *filter(None, [node.module])])


def starts_with(name: str, prefixes: set[str]) -> bool:
    return any(f"{name}.".startswith(f"{prefix}.") for prefix in prefixes)


def wrong_arrows(module: Module) -> list[str]:
    """Imports within plane_tx that point up or sideways."""
    if module.name == "plane_tx":
        return [f"line {i.line}: the package itself imports nothing" for i in imports(module)]
    unit = module.unit
    if unit is None:
        return [f"{module.name} is in no layer: name it in LAYERS and in the design"]
    wrong = []
    for found in imports(module):
        target = Module(found.name, module.tree).unit
        if target is None or target == unit:
            continue
        if unit in OUTSIDE and not starts_with(found.name, OUTSIDE[unit]):
            wrong.append(f"line {found.line}: {unit} is outside the server: not {found.name}")
        mine, its = LAYERS[unit], LAYERS[target]
        if its > mine or (its == mine and mine not in JOINED_LAYERS):
            how = "up" if its > mine else "sideways"
            wrong.append(f"line {found.line}: {unit} ({mine}) points {how} at {found.name} ({its})")
    return wrong


def wrong_company(module: Module) -> list[str]:
    """Imports from outside plane_tx that this module may not have."""
    wrong = []
    for found in imports(module):
        if module.unit == "plane_tx.core" and not allowed_in_core(found.name):
            wrong.append(f"line {found.line}: core is pure and may not import {found.name}")
        if module.unit in OUTSIDE and starts_with(found.name, {"twisted", "treq", "klein"}):
            wrong.append(f"line {found.line}: {module.unit} is outside the server: no Twisted")
        if starts_with(found.name, {"klein"}) and module.unit != "plane_tx.control":
            wrong.append(f"line {found.line}: only control may import klein (it starts a reactor)")
        if starts_with(found.name, {"twisted.internet.reactor"}):
            if module.unit != "plane_tx.tap":
                wrong.append(f"line {found.line}: only tap may name the reactor")
            elif not found.in_function:
                wrong.append(f"line {found.line}: import the reactor in a function")
    return wrong


def allowed_in_core(name: str) -> bool:
    top = name.partition(".")[0]
    if top == "plane_tx":
        return True  # wrong_arrows judges these
    return (top in sys.stdlib_module_names and not starts_with(name, WORLDLY)) or (
        top in CORE_MAY_IMPORT
    )


def clocks_and_dice(module: Module) -> list[str]:
    """Each use of a clock or of chance, called or handed on."""
    origins = {}
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                known_as = alias.asname or alias.name.partition(".")[0]
                origins[known_as] = alias.name if alias.asname else known_as
        elif isinstance(node, ast.ImportFrom) and not node.level:
            origins |= {a.asname or a.name: f"{node.module}.{a.name}" for a in node.names}
    return [
        f"line {node.lineno}: core takes `now` and chance as arguments; here it uses {name}"
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Name | ast.Attribute)
        and CLOCKS_AND_DICE.match(name := dotted(node, origins))
    ]


def dotted(node: ast.expr, origins: dict[str, str]) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value, origins)}.{node.attr}"
    return origins.get(node.id, "") if isinstance(node, ast.Name) else ""


def oversized(module: Module, source: str) -> list[str]:
    """What is longer than the design allows; a docstring does not count against its function."""
    wrong = []
    if (lines := len(source.splitlines())) > MAX_MODULE_LINES:
        wrong.append(f"the module has {lines} lines, {MAX_MODULE_LINES} are allowed")
    for node in ast.walk(module.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = length(node)
            if lines > MAX_FUNCTION_LINES:
                wrong.append(f"line {node.lineno}: {node.name} has {lines} of {MAX_FUNCTION_LINES}")
    return wrong


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    first = function.body[0]
    has_docstring = ast.get_docstring(function) is not None
    docstring = first.end_lineno - first.lineno + 1 if has_docstring else 0
    return function.end_lineno - function.lineno + 1 - docstring


def undeclared(module: Module, declared: set[str]) -> list[str]:
    return [
        f"line {found.line}: {found.name} is not required in setup.cfg"
        for found in imports(module)
        if (top := found.name.partition(".")[0]) not in {*sys.stdlib_module_names, "plane_tx"}
        and top not in declared
        and not starts_with(found.name, declared)
    ]


def declared_imports(unit: str | None = None) -> set[str]:
    """The import names of install_requires and of the unit's extras: as of PyPI, in lower case."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    lines = config["options"]["install_requires"].split("\n")
    for extra in EXTRAS.get(unit, ()):
        lines += config["options.extras_require"][extra].split("\n")
    names = {re.match(r"[\w.]+", line)[0].lower() for line in lines if line and line[0] != "#"}
    return names | {"attr"}


FILES = sorted((ROOT / "plane_tx").rglob("*.py"))
# Read once, while tests are collected: the gc.collect after each test does not look at these trees.
MODULES = {path: on_disk(path) for path in FILES}
every_module = pytest.mark.parametrize(
    "path", FILES, ids=[str(path.relative_to(ROOT)) for path in FILES]
)


@every_module
def test_arrows_point_down_only(path: Path) -> None:
    assert not wrong_arrows(MODULES[path])


@every_module
def test_a_module_keeps_the_company_its_layer_allows(path: Path) -> None:
    assert not wrong_company(MODULES[path])


@every_module
def test_what_is_imported_is_declared(path: Path) -> None:
    assert not undeclared(MODULES[path], declared_imports(MODULES[path].unit))


@every_module
def test_core_has_neither_clock_nor_dice(path: Path) -> None:
    module = MODULES[path]

    assert module.unit != "plane_tx.core" or not clocks_and_dice(module)


@every_module
def test_modules_and_functions_stay_small(path: Path) -> None:
    assert not oversized(MODULES[path], path.read_text())


@every_module
def test_every_module_says_what_it_is(path: Path) -> None:
    assert ast.get_docstring(MODULES[path].tree), "begin with a docstring of one sentence"


def test_every_entry_of_the_table_exists() -> None:
    units = {MODULES[path].unit for path in FILES}

    assert units - {None} == set(LAYERS), "LAYERS names a module that does not exist"


def test_the_server_loads_nothing_that_is_outside_of_it() -> None:
    found = "sorted(m for m in sys.modules if m.startswith(('plane_tx.cli', 'httpx')))"
    program = f"import plane_tx.tap, sys; print({found})"

    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)

    assert loaded.stdout == b"[]\n"


# The checks themselves, on made-up modules.


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("plane_tx.core.idle", "from plane_tx import supervisor"),
        ("plane_tx.core.idle", "def f():\n    import plane_tx.engines.docker"),
        ("plane_tx.engines.docker.client", "from plane_tx.probe import knock"),
        ("plane_tx.journal", "from .supervisor import Supervisor"),
        ("plane_tx.supervisor", "from plane_tx.proxy.client import Client"),
        ("plane_tx.control.routes", "from ..proxy import client"),
        ("plane_tx.proxy.client", "from plane_tx.reaper import Reaper"),
        ("plane_tx.proxy.client", "import plane_tx.tap"),
        ("plane_tx.stray", ""),
        ("plane_tx", "from plane_tx.core import model"),
        ("plane_tx.client.calls", "from plane_tx.core import wire"),
    ],
)
def test_an_arrow_up_or_sideways_is_seen(name: str, source: str) -> None:
    assert len(wrong_arrows(parsed(name, source))) == 1


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("plane_tx.core.idle", "from plane_tx.core.model import Key\nfrom . import errors"),
        ("plane_tx.engines.swarm", "from plane_tx.engines.docker import client"),
        ("plane_tx.supervisor", "from plane_tx import probe, __version__"),
        ("plane_tx.control.routes", "from plane_tx.core import wire\nfrom . import pages"),
        ("plane_tx.tap", "from plane_tx import control, engines, proxy, reaper"),
    ],
)
def test_an_arrow_down_is_right(name: str, source: str) -> None:
    assert not wrong_arrows(parsed(name, source))


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("plane_tx.core.idle", "import twisted"),
        ("plane_tx.core.idle", "from twisted.internet import task"),
        ("plane_tx.core.idle", "import asyncio"),
        ("plane_tx.core.idle", "from http import client"),
        ("plane_tx.core.idle", "if TYPE_CHECKING:\n    import socket"),
        ("plane_tx.core.idle", "import treq"),
        ("plane_tx.proxy.client", "from klein import Klein"),
        ("plane_tx.supervisor", "def f():\n    from twisted.internet import reactor"),
        ("plane_tx.tap", "from twisted.internet import reactor"),
        ("plane_tx.tap", "import twisted.internet.reactor as r"),
        ("plane_tx.client.calls", "from twisted.internet import defer"),
    ],
)
def test_bad_company_is_seen(name: str, source: str) -> None:
    assert len(wrong_company(parsed(name, source))) == 1


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("plane_tx.core.wire", "import attrs, cattrs, httptools\nfrom http import HTTPStatus"),
        ("plane_tx.control.routes", "from klein import Klein"),
        ("plane_tx.tap", "def makeService(options):\n    from twisted.internet import reactor"),
        ("plane_tx.proxy.client", "from twisted.internet.interfaces import IReactorTime"),
    ],
)
def test_good_company_is_let_be(name: str, source: str) -> None:
    assert not wrong_company(parsed(name, source))


@pytest.mark.parametrize(
    "source",
    [
        "import time\ntime.time()",
        "import time as t\ndef f(clock=t.monotonic): ...",
        "from time import monotonic\nmonotonic()",
        "import datetime\ndatetime.datetime.now()",
        "from datetime import datetime as d\nd.now()",
        "from random import choice\nchoice([1])",
        "import secrets\nsecrets.token_urlsafe()",
        "import uuid\nuuid.uuid4()",
        "import os\nos.urandom(16)",
    ],
)
def test_a_clock_or_dice_is_seen(source: str) -> None:
    assert len(clocks_and_dice(parsed("plane_tx.core.idle", source))) == 1


@pytest.mark.parametrize(
    "source",
    [
        "def f(now):\n    return now.time()",
        "from datetime import datetime\ndatetime.fromtimestamp(0)",
        "import secrets\nsecrets.compare_digest(a, b)",
    ],
)
def test_time_as_an_argument_is_let_be(source: str) -> None:
    assert not clocks_and_dice(parsed("plane_tx.core.idle", source))


def test_an_undeclared_import_is_seen() -> None:
    module = parsed("plane_tx.probe", "import json, requests\nfrom zope.interface import Interface")

    wrong = undeclared(module, {"zope.interface"})

    assert wrong == ["line 1: requests is not required in setup.cfg"]


def test_a_long_function_is_seen_but_its_docstring_is_free() -> None:
    body = "\n".join(["    pass"] * MAX_FUNCTION_LINES)
    docstring = '    """One.\n\n    Two.\n    """\n'
    source = f"def long():\n{docstring}{body}\ndef short():\n{docstring}{body[9:]}\n"

    wrong = oversized(parsed("plane_tx.tap", source), source)

    assert wrong == ["line 1: long has 41 of 40"]


def test_a_long_module_is_seen() -> None:
    source = "pass\n" * (MAX_MODULE_LINES + 1)

    wrong = oversized(parsed("plane_tx.tap", source), source)

    assert wrong == ["the module has 401 lines, 400 are allowed"]
