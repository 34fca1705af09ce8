"""The command that shows what the sessions take: one list and one stream for all of them."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import islice

import attrs
import click
from rich.console import Console
from rich.live import Live

from plane_tx.cli import texts
from plane_tx.cli.running import LONG_PATIENCE, Run, command, examples
from plane_tx.cli.tables import show_table, table
from plane_tx.client import Client, Details, Stats

COLUMNS = ("ID", "STATUS", "CPU", "MEMORY", "PIDS", "CONN", "ENDS", "KEY")

#: As many sessions as one stream may tell of; the newest are shown.
MOST_SHOWN = 50

#: How often it is asked which sessions there are.
LIST_SECONDS = 2.0


@attrs.define
class Shown:
    """The sessions that live, the newest first, and the last sample of each."""

    sessions: dict[str, Details] = attrs.field(factory=dict)
    samples: dict[str, Stats] = attrs.field(factory=dict)
    listed_at: float = 0.0

    def list(self, client: Client) -> bool:
        """Ask which there are; whether these are others than before."""
        before = self.sessions.keys()
        living = client.list(status=texts.LIVING)
        with closing(living):
            self.sessions = {each.id: each for each in islice(living, MOST_SHOWN)}
        self.samples = {id_: sample for id_, sample in self.samples.items() if id_ in self.sessions}
        self.listed_at = time.monotonic()
        return self.sessions.keys() != before

    def rows(self, now: float) -> Iterator[tuple[str, ...]]:
        """A line for each; `now` in seconds since the epoch."""
        for id_, details in self.sessions.items():
            yield _row(details, self.samples.get(id_), now)


def samples(client: Client, shown: Shown) -> Iterator[Stats | None]:
    """Keep `shown` as it is, for ever; every sample, and None when the sessions are others."""
    while True:
        shown.list(client)
        yield None
        if shown.sessions:
            yield from _of_these(client, shown)
        else:
            time.sleep(LIST_SECONDS)


def _of_these(client: Client, shown: Shown) -> Iterator[Stats]:
    with closing(client.stats_stream_of(shown.sessions)) as stream:
        for sample in stream:
            shown.samples[sample.id] = sample
            yield sample
            if time.monotonic() - shown.listed_at >= LIST_SECONDS and shown.list(client):
                return


@click.command(epilog=examples("plane-tx top", "plane-tx top --once", "plane-tx top --once --json"))
@click.option("--once", is_flag=True, help="Once, which takes two seconds, and end.")
@command
def top(run: Run, *, once: bool) -> None:
    """Show what the sessions take, the 50 newest of them, until Ctrl-C.

    With --json every sample is a line.
    """
    shown = Shown()
    with run.client() as client:
        shown.list(client)
    with run.client(LONG_PATIENCE) as client:
        if once:
            _once(run, client, shown)
            return
        if run.as_json:
            for sample in samples(client, shown):
                if sample is not None:
                    run.say(sample.told)
        elif Console().is_terminal and not Console().is_dumb_terminal:
            _on_screen(client, shown)
        else:
            _again_and_again(client, shown)


def _once(run: Run, client: Client, shown: Shown) -> None:
    """Print the second sample of each: the first one knows nothing of the processor's time."""
    told: dict[str, int] = {}
    for sample in samples(client, shown):
        if sample is not None:
            told[sample.id] = told.get(sample.id, 0) + 1
        if all(told.get(each, 0) > 1 for each in shown.sessions):
            break
    if run.as_json:
        for sample in shown.samples.values():
            run.say(sample.told)
    else:
        show_table(COLUMNS, shown.rows(time.time()))


def _on_screen(client: Client, shown: Shown) -> None:
    console = Console(highlight=False)
    with Live(console=console, screen=True, auto_refresh=False) as live:
        for _ in samples(client, shown):
            live.update(table(COLUMNS, shown.rows(time.time()), console.width), refresh=True)


def _again_and_again(client: Client, shown: Shown) -> None:
    printed_at = -LIST_SECONDS
    for _ in samples(client, shown):
        if time.monotonic() - printed_at >= LIST_SECONDS:
            printed_at = time.monotonic()
            show_table(COLUMNS, shown.rows(time.time()))
            sys.stdout.flush()


def _row(details: Details, sample: Stats | None, now: float) -> tuple[str, ...]:
    percent = sample.cpu_percent if sample else None
    return (
        texts.plain(details.id),
        texts.plain(details.status),
        "" if percent is None else f"{percent:.0f} %",
        texts.size(sample.memory_bytes if sample else None),
        str(sample.pids if sample and sample.pids is not None else ""),
        str(details.connection_count),
        texts.next_end(details, now),
        texts.plain(details.key.name),
    )
