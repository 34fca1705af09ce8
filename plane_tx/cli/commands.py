"""The program: its options, its commands, and those of them that are about the server."""

from __future__ import annotations

from pathlib import Path

import click
from click.shell_completion import get_completion_class

from plane_tx import __version__
from plane_tx.cli import sessions, watching
from plane_tx.cli.doctor import doctor
from plane_tx.cli.running import EPILOGUE, Group, Run, command, examples
from plane_tx.cli.top import top


@click.group(
    "plane-tx",
    cls=Group,
    epilog=EPILOGUE + "\n\n" + examples("plane-tx ls", "plane-tx --key-file key.txt ls --json"),
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, prog_name="plane-tx")
@click.option("--url", help="The control API; else PLANE_TX_URL, else http://127.0.0.1:8080.")
@click.option(
    "--key-file",
    type=click.Path(path_type=Path),
    help="A file with an API key; else PLANE_TX_KEY is the key.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, an answer or event a line.")
@click.pass_context
def plane_tx(context: click.Context, url: str | None, key_file: Path | None, as_json: bool) -> None:
    """Sessions of a plane_tx server: spawn them, see what they do and why, and end them."""
    context.obj = Run(url, key_file, as_json)


@click.command(epilog=examples("plane-tx drain", "plane-tx drain --status", "plane-tx drain --off"))
@click.option("--off", is_flag=True, help="Take new sessions again.")
@click.option("--status", is_flag=True, help="Only say how it is.")
@command
def drain(run: Run, *, off: bool, status: bool) -> None:
    """Have the server take no new sessions, and go on with those it has."""
    if off and status:
        raise click.UsageError("--off and --status do not go together")
    with run.client() as client:
        change = client.undrain if off else client.drain
        told = client.drain_status() if status else change()
    how = "takes no new sessions" if told.draining else "takes new sessions"
    run.say(told.told, [f"the server {how}; it has {told.sessions}"])


@click.command(
    epilog=examples(
        'eval "$(plane-tx completion bash)"',
        "plane-tx completion fish > plane-tx.fish",
    )
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print what makes SHELL complete these commands."""
    made = get_completion_class(shell)
    assert made is not None, "click knows these three"
    click.echo(made(plane_tx, {}, "plane-tx", "_PLANE_TX_COMPLETE").source())


for each in (
    sessions.spawn,
    sessions.list_sessions,
    sessions.show,
    sessions.why,
    watching.logs,
    sessions.open_session,
    sessions.stop,
    sessions.keepalive,
    sessions.revoke,
    sessions.autopsy,
    top,
    watching.events,
    drain,
    doctor,
    completion,
):
    plane_tx.add_command(each)
