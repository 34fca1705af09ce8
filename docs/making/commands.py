"""The command line's reference, made of click's own tree of commands."""

from __future__ import annotations

from collections.abc import Iterator

import click

from plane_tx.cli.commands import plane_tx

#: As wide as a page shows without scrolling.
_WIDTH = 78


def usage(name: str) -> str:
    """What `NAME --help` prints, as a block; KeyError for no command of ours."""
    context = {each.command_path: each for each in _below(_context(plane_tx, "plane-tx", None))}
    return f"```text\n{context[name].get_help().rstrip()}\n```"


def names() -> list[str]:
    """Every command as one types it."""
    return [each.command_path for each in _below(_context(plane_tx, "plane-tx", None))]


def _context(command: click.Command, name: str, parent: click.Context | None) -> click.Context:
    settings = {**command.context_settings, "terminal_width": _WIDTH}
    return click.Context(command, info_name=name, parent=parent, **settings)


def _below(context: click.Context) -> Iterator[click.Context]:
    yield context
    if isinstance(context.command, click.Group):
        for name, command in context.command.commands.items():
            yield from _below(_context(command, name, context))
