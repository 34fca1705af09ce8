"""The commands that follow something until it ends or somebody presses Ctrl-C."""

from __future__ import annotations

import time

import click

from plane_tx.cli import texts
from plane_tx.cli.running import Run, command, examples


@click.command(
    epilog=examples(
        "plane-tx logs my-session --tail 20",
        "plane-tx logs my-session --since 60 --json",
        "plane-tx logs -f my-session",
    )
)
@click.argument("id")
@click.option("-f", "--follow", is_flag=True, help="Go on with lines as they come.")
@click.option("--tail", type=click.IntRange(0, 10_000), help="The last so many lines (100).")
@click.option("--since", type=float, metavar="SECONDS", help="Only those of the last SECONDS.")
@click.option("--raw", is_flag=True, help="As it was written, with codes that terminals obey.")
@command
def logs(
    run: Run,
    *,
    id: str,  # noqa: A002  # the name of the argument in the help
    follow: bool,
    tail: int | None,
    since: float | None,
    raw: bool,
) -> None:
    """Print what the session ID writes; what it wrote to stderr goes to stderr.

    What a terminal would take for an order, such as a colour, is shown as its code.
    """
    after = None if since is None else max(0, int((time.time() - since) * 1000))
    with run.client() as client:
        for line in client.logs(id, follow=follow, tail=tail, since=after):
            if run.as_json:
                run.say(line.told)
            else:
                text = line.text if raw else texts.plain(line.text)
                # Click would take the colours out where that is no terminal.
                click.echo(text, err=line.stream == "stderr", color=raw or None)


@click.command(epilog=examples("plane-tx events", "plane-tx events --json"))
@command
def events(run: Run) -> None:
    """Print every status that any session enters, until Ctrl-C."""
    with run.client() as client:
        for event in client.events():
            reason = f" ({event.termination_reason})" if event.termination_reason else ""
            gap = event.status == "gap"
            said = "events were missed" if gap else f"{event.id} {event.status}{reason}"
            run.say(event.told, [f"{texts.moment(event.time or None)} {said}".lstrip()])
