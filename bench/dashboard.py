"""Measure what the dashboard costs with many sessions, and write its part of RESULTS.md.

A server has 2000 sessions, of which many change each second. In turns wrk asks for a file through
its proxy while nobody looks, then while a page is open; and a page is looked at by itself, for how
long each of its updates takes. The server has a core of its own. Chromium shares the other with
wrk and nginx and gets what they leave (SCHED_IDLE), so that what changes is the server's doing.
"""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from bench.origin import SMALL, nginx_conf, scratch
from bench.processes import LOAD_CORE, SERVER_CORE, machine, missing, on_core
from bench.report import P99, met, row
from bench.results import record
from bench.turns import HERE, Turn, Wrk, median, ratio
from tests.live import ask, free_ports, until

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

#: Fewer rounds than this are a try, which RESULTS.md hears nothing of.
LEAST_ROUNDS = 3

#: The session that requests are measured through.
UPSTREAM = "upstream"

#: How many sessions are kept alive in a second, which changes what the dashboard tells of them.
LEASES_A_SECOND = 200

#: How many end in a second; as many begin.
ENDS_A_SECOND = 5

CONNECTIONS = 64
CHROMIUM = Path("/usr/bin/chromium")

#: What an issue asks of us: the longest update, and how far requests may be slowed down.
MOST_UPDATE_MILLISECONDS, MOST_RATIO = 100, 1.10

UNSEEN, SEEN = "nobody looks", "a page is open"

#: Keeps what the browser's own timeline forgets.
_OBSERVE = """
window.planeUpdates = [];
window.planeTasks = [];
const keep = (kept) => (list) => kept.push(...list.getEntries()
  .filter((entry) => entry.entryType === "longtask" || entry.name === "board-update")
  .map((entry) => entry.duration));
new PerformanceObserver(keep(planeUpdates)).observe({type: "measure", buffered: true});
new PerformanceObserver(keep(planeTasks)).observe({type: "longtask", buffered: true});
"""


@attrs.frozen
class Options:
    """What the command line asks for; the defaults are what RESULTS.md has."""

    rounds: int = 9
    seconds: int = 4
    sessions: int = 2000

    @property
    def is_try(self) -> bool:
        """Whether something was left out that belongs into RESULTS.md."""
        return self != Options(self.rounds) or self.rounds < LEAST_ROUNDS


@attrs.frozen
class Server:
    """One that runs: its process, its control listener, and a file of its upstream."""

    pid: int
    control: str
    file: str


@attrs.define
class Looked:
    """What a page did: how long its updates took, and what else kept it for 50 ms or more."""

    updates: list[float] = attrs.field(factory=list)
    tasks: list[float] = attrs.field(factory=list)


@contextmanager
def upstream(folder: Path) -> Iterator[int]:
    """The port of an nginx with a small file."""
    (folder / str(SMALL)).write_bytes(os.urandom(SMALL))
    (port,) = free_ports(1)
    conf = folder / "nginx.conf"
    site = f"server {{ listen 127.0.0.1:{port} backlog=4096; root {folder}; }}"
    conf.write_text(nginx_conf(folder, site), encoding="utf-8")
    with on_core(LOAD_CORE):
        nginx = subprocess.Popen(["nginx", "-e", f"{folder}/error.log", "-c", conf])
    try:
        yield port
    finally:
        nginx.terminate()
        nginx.wait()


@contextmanager
def server(folder: Path, sessions: int) -> Iterator[Server]:
    """A server whose sessions change."""
    with upstream(folder) as behind, ExitStack() as stack:
        control, proxy = free_ports(2)
        words = map(str, (sessions, control, proxy, behind))
        with on_core(SERVER_CORE):
            process = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-m", "bench.moving", *words],
                    cwd=HERE.parent,
                    stdout=subprocess.PIPE,
                )
            )
        stack.callback(process.kill)
        assert process.stdout is not None
        if not process.stdout.readline():
            raise SystemExit("bench: the server did not start: see above")
        url = f"http://127.0.0.1:{control}"
        made = ask("POST", f"{url}/ctrl/connect", {"key": {"name": UPSTREAM}}).json
        until(lambda: ask("GET", f"{made['url']}{SMALL}").status == 200)
        yield Server(process.pid, url, f"{made['url']}{SMALL}")


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser that gets of the load's core what others leave."""
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        # Not in memory, as the rest: what is there often may not be run.
        program = Path(folder) / "chromium"
        how = f"chrt --idle 0 taskset --cpu-list {LOAD_CORE} {shlex.quote(str(CHROMIUM))}"
        program.write_text(f'#!/bin/sh\nexec {how} "$@"\n', encoding="utf-8")
        program.chmod(0o755)
        browser = playwright.chromium.launch(
            executable_path=program, args=["--no-sandbox", "--disable-gpu"]
        )
        yield browser
        browser.close()


@contextmanager
def open_page(browser: Browser, its: Server) -> Iterator[Page]:
    """The dashboard, with all sessions told."""
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    page.add_init_script(_OBSERVE)
    page.goto(its.control)
    page.locator("#connection").get_by_text("Live").wait_for()
    page.get_by_role("row").filter(has_text="MiB").first.wait_for()
    yield page
    page.close()


def look(page: Page, seconds: int, looked: Looked) -> None:
    """Leave the page alone for a while, and note what it did since it was opened."""
    page.wait_for_timeout(seconds * 1000)
    looked.updates += page.evaluate("planeUpdates.splice(0)")
    looked.tasks += page.evaluate("planeTasks.splice(0)")


Turns = dict[str, list[Turn]]


def take_turns(options: Options) -> tuple[Turns, Looked, str]:
    """Ask with and without a page, in another order each round; and which browser it was."""
    turns: Turns = {UNSEEN: [], SEEN: []}
    looked = Looked()
    warming = 0 if options.rounds < LEAST_ROUNDS else 1
    with (
        scratch() as folder,
        server(folder, options.sessions) as its,
        chromium() as browser,
    ):
        for round_ in range(-warming, options.rounds):
            for name in (UNSEEN, SEEN)[:: 1 if round_ % 2 else -1]:
                turn = ask_turn(its, browser, name, options.seconds)
                if round_ >= 0:  # the one before warms everything up
                    turns[name].append(turn)
            with open_page(browser, its) as page:
                look(page, options.seconds, looked if round_ >= 0 else Looked())
            print(f"round {round_ + 1} of {options.rounds}", file=sys.stderr)
        return turns, looked, browser.version


def ask_turn(its: Server, browser: Browser, name: str, seconds: int) -> Turn:
    """One turn of wrk."""
    with ExitStack() as stack:
        if name == SEEN:
            stack.enter_context(open_page(browser, its))
        wrk = Wrk(CONNECTIONS, seconds, least_bytes=SMALL)
        return wrk.ask(name, (its.pid,), its.file)


def at(part: float, values: Sequence[float]) -> float:
    """What this part of the values is at or below."""
    ordered = sorted(values)
    return ordered[min(int(part * len(ordered)), len(ordered) - 1)]


def told(turns: Turns, looked: Looked, version: str, options: Options) -> Iterator[str]:
    """The lines for RESULTS.md."""
    updates, longest = looked.updates, max(looked.updates)
    slower = ratio(turns, SEEN, UNSEEN, P99)
    yield f"{machine('twisted', 'klein')}, Chromium {version};"
    yield (
        f"{options.rounds} rounds of {options.seconds} s; {options.sessions} sessions, of which"
        f" each second {LEASES_A_SECOND} are kept alive, {ENDS_A_SECOND} end and as many begin."
    )
    yield ""
    yield f"| {options.sessions} sessions | wanted | measured | |"
    yield "| --- | --- | ---: | --- |"
    yield row(
        "the longest update of the page",
        f"< {MOST_UPDATE_MILLISECONDS} ms",
        f"{longest:.1f} ms",
        met(longest < MOST_UPDATE_MILLISECONDS),
    )
    yield row(
        "99% latency of requests while a page is open to that while none is",
        f"<= {MOST_RATIO:.2f}",
        f"{slower:.2f}",
        met(slower <= MOST_RATIO),
    )
    yield ""
    yield f"| {len(updates)} updates of the page | median ms | 99% ms | longest ms |"
    yield "| --- | ---: | ---: | ---: |"
    yield row("", *(f"{each:.1f}" for each in (at(0.5, updates), at(0.99, updates), longest)))
    yield ""
    yield (
        f"With layout and painting, {len(looked.tasks)} tasks of the page's took 50 ms or more,"
        f" the longest {max(looked.tasks, default=0):.0f} ms; opening it counts among them."
    )
    yield ""
    yield f"| 1 KiB, {CONNECTIONS} connections | requests/s | median ms | 99% ms | CPU us/request |"
    yield "| --- | ---: | ---: | ---: | ---: |"
    for name, its in turns.items():
        columns: tuple[Any, ...] = ("median_milliseconds", P99)
        cells = (f"{median(its, column):.2f}" for column in columns)
        yield row(name, f"{median(its):.0f}", *cells, f"{median(its, 'cpu_microseconds'):.0f}")


def options_asked() -> Options:
    parser = argparse.ArgumentParser(description=__doc__)
    usual = Options()
    parser.add_argument("--rounds", type=int, default=usual.rounds)
    parser.add_argument("--seconds", type=int, default=usual.seconds, help="of a turn")
    parser.add_argument("--sessions", type=int, default=usual.sessions)
    return Options(**vars(parser.parse_args()))


def main() -> None:
    options = options_asked()
    if lacking := missing("wrk", "nginx", "chrt", "taskset"):
        raise SystemExit(lacking)
    if not CHROMIUM.exists():
        raise SystemExit(f"the bench needs {CHROMIUM} (Debian: apt-get install chromium)")
    # So that what was started ends with the run, however that is ended.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    turns, looked, version = take_turns(options)
    record("dashboard", told(turns, looked, version, options), quick=options.is_try)


if __name__ == "__main__":
    main()
