"""The commands that follow something until it ends or somebody presses Ctrl-C."""

from __future__ import annotations

import time
from collections.abc import Iterator

import click
from rich.console import Console
from rich.live import Live

from plane_tx.cli import texts
from plane_tx.cli.running import Run, command, show_table, table
from plane_tx.client import Client, Details, PlaneClientError, Stats

TOP_COLUMNS = ("ID", "STATUS", "KEY", "CPU", "MEMORY", "PIDS", "CONN", "ENDS")


@click.command()
@click.argument("id")
@click.option("-f", "--follow", is_flag=True, help="Go on with lines as they come.")
@click.option("--tail", type=click.IntRange(0, 10_000), help="The last so many lines (100).")
@click.option("--since", type=float, metavar="SECONDS", help="Only those of the last SECONDS.")
@command
def logs(
    run: Run,
    *,
    id: str,  # noqa: A002  # the name of the argument in the help
    follow: bool,
    tail: int | None,
    since: float | None,
) -> None:
    """Print what the session ID writes; what it wrote to stderr goes to stderr."""
    after = None if since is None else max(0, int((time.time() - since) * 1000))
    with run.client() as client:
        for line in client.logs(id, follow=follow, tail=tail, since=after):
            if run.as_json:
                run.say(line.told)
            else:
                click.echo(texts.plain(line.text), err=line.stream == "stderr")


@click.command()
@command
def events(run: Run) -> None:
    """Print every status that any session enters."""
    with run.client() as client:
        for event in client.events():
            reason = f" ({event.termination_reason})" if event.termination_reason else ""
            gap = event.status == "gap"
            said = "events were missed" if gap else f"{event.id} {event.status}{reason}"
            run.say(event.told, [f"{texts.moment(event.time or None)} {said}".lstrip()])


@click.command()
@click.option("--once", is_flag=True, help="Once, instead of again and again.")
@click.option("--every", type=click.FloatRange(min=0.2), default=2.0, metavar="SECONDS")
@command
def top(run: Run, *, once: bool, every: float) -> None:
    """Show what the sessions take, until Ctrl-C."""
    with run.client() as client:
        if run.as_json or once:
            _print_top(run, client, once=once, every=every)
            return
        with Live(console=Console(highlight=False), screen=True, auto_refresh=False) as live:
            while True:
                live.update(table(TOP_COLUMNS, _top_rows(client)), refresh=True)
                time.sleep(every)


def _print_top(run: Run, client: Client, *, once: bool, every: float) -> None:
    while True:
        if run.as_json:
            for _, stats in _samples(client):
                if stats is not None:
                    run.say(stats.told)
        else:
            show_table(TOP_COLUMNS, _top_rows(client))
        if once:
            return
        time.sleep(every)


def _samples(client: Client) -> Iterator[tuple[Details, Stats | None]]:
    for details in client.list(status=("waiting", "ready", "terminating")):
        try:
            yield details, client.stats(details.id)
        except PlaneClientError as error:
            # It may have ended since, and others are shown also when the engine does not know one.
            if error.status is None:
                raise
            yield details, None


def _top_rows(client: Client) -> Iterator[tuple[str, ...]]:
    now = time.time()
    for details, stats in _samples(client):
        percent = stats.cpu_percent if stats else None
        yield (
            texts.plain(details.id),
            texts.plain(details.status),
            texts.plain(details.key.name),
            "" if percent is None else f"{percent:.0f} %",
            texts.size(stats.memory_bytes if stats else None),
            str(stats.pids if stats and stats.pids is not None else ""),
            str(details.connection_count),
            texts.next_end(details, now),
        )
