"""The command that says what is wrong with a set-up, and the cure."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import attrs
import click

from plane_tx.cli import answering, box
from plane_tx.cli.engine import engine
from plane_tx.cli.findings import Finding, Level, exit_code
from plane_tx.cli.running import Run, command, examples
from plane_tx.cli.texts import plain
from plane_tx.core.sections import Config

COLOURS = {Level.OK: "green", Level.WARN: "yellow", Level.BAD: "red"}


@click.command(
    epilog=examples(
        "plane-tx doctor", "plane-tx doctor --config plane.toml", "plane-tx doctor --json"
    )
)
@click.option(
    "--config",
    "path",
    type=click.Path(path_type=Path),
    help="Look at this configuration, and at this box for it, too; the server need not run.",
)
@command
def doctor(run: Run, *, path: Path | None) -> None:
    """Look for what is wrong, and name the cure; 1 where anything is bad."""
    findings = []
    for finding in examined(run, path):
        findings.append(finding)
        if run.as_json:
            run.say(attrs.asdict(finding))
        else:
            show(finding)
    sys.exit(exit_code(findings))


def examined(run: Run, path: Path | None) -> Iterator[Finding]:
    """Every finding, as it is made."""
    config = None
    if path is not None:
        config, finding = box.read_config(path)
        yield finding
        if config is None:
            return
        yield from _box(config)
    url = run.url or answering.environment_url() or (box.control(config) if config else None)
    with attrs.evolve(run, url=url).client() as client:
        yield from answering.server(client, may_be_down=config is not None)
        yield from answering.clock(answering.date_of(client), time.time())


def _box(config: Config) -> Iterator[Finding]:
    yield engine(config.engine)
    yield from box.ports(config)
    yield from box.names(config)
    yield from box.state(config, os.environ)
    yield box.open_files()


def show(finding: Finding) -> None:
    """A line for people, and one for the cure."""
    mark = f"{finding.level.value:4}"
    if not os.environ.get("NO_COLOR"):  # https://no-color.org
        mark = click.style(mark, fg=COLOURS[finding.level])
    click.echo(f"{mark}  {finding.name}: {plain(finding.sentence)}")
    if finding.cure:
        click.echo(f"      cure: {plain(finding.cure)}")
