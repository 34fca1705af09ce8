"""The commands that make, show, open, keep and end sessions."""

from __future__ import annotations

import json
import sys
import time
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, SpinnerColumn, TextColumn

from plane_tx.cli import texts
from plane_tx.cli.running import Run, command, examples, exit_code, say_failure
from plane_tx.cli.tables import show_table
from plane_tx.client import Client, InvalidRequest, PlaneClientError, StatusUpdate, TimedOut
from plane_tx.client.calls import ConnectOptions

#: Options of `spawn` that are limits, and the fields of a spawn_config that they set.
LIMITS = {
    "idle": "max_idle_seconds",
    "lifetime": "lifetime_limit_seconds",
    "claim_within": "claim_within_seconds",
    "routing": "routing",
    "subdomain": "subdomain",
    "id": "id",
}


def pairs(_context: click.Context, parameter: click.Parameter, given: tuple[str, ...]) -> Any:
    """NAME=VALUE, any number of times, as a mapping."""
    for each in given:
        if "=" not in each.lstrip("="):
            raise click.BadParameter(f"expected NAME=VALUE, got {each!r}", param=parameter)
    return dict(each.split("=", 1) for each in given) or None


def json_object(_context: click.Context, parameter: click.Parameter, given: str | None) -> Any:
    """A JSON object."""
    try:
        data = None if given is None else json.loads(given)
    except (ValueError, RecursionError):
        data = given
    if data is not None and not isinstance(data, dict):
        raise click.BadParameter("expected a JSON object", param=parameter)
    return data


@click.command(
    epilog=examples(
        "plane-tx spawn echo",
        "plane-tx spawn echo --key room-7 --user ada --label team=blue --idle 600",
        "plane-tx spawn echo --id my-editor --env ECHO_START_DELAY=0 --timeout 60",
        'plane-tx --json spawn echo --no-wait --auth \'{"role": "editor"}\'',
    )
)
@click.argument("app", required=False)
@click.option("--image", help="An image, instead of an APP of the configuration.")
@click.option("--command", help="A command's words, as a JSON list.")
@click.option("--env", multiple=True, metavar="NAME=VALUE", callback=pairs)
@click.option("--key", help="Join the session that holds this key, or spawn one that does.")
@click.option("--namespace", default="", help="Of the key.")
@click.option("--tag", default="", help="Of the key.")
@click.option("--user", help="Whom the link is for.")
@click.option("--auth", metavar="JSON", callback=json_object, help="What the session is told.")
@click.option("--label", multiple=True, metavar="NAME=VALUE", callback=pairs)
@click.option("--idle", type=float, metavar="SECONDS", help="It ends after so long without use.")
@click.option("--lifetime", type=float, metavar="SECONDS", help="It ends after so long.")
@click.option("--claim-within", type=float, metavar="SECONDS", help="It ends if nobody comes.")
@click.option("--routing", type=click.Choice(["path", "host"]))
@click.option("--subdomain")
@click.option("--id", help="Its id; else one is made up.")
@click.option("--spawn-config", metavar="JSON", callback=json_object, help="All of it, as JSON.")
@click.option("--wait/--no-wait", default=True, help="Wait until it is ready.")
@click.option("--timeout", type=float, metavar="SECONDS", help="Wait no longer than this.")
@command
def spawn(run: Run, *, wait: bool, timeout: float | None, **said: Any) -> None:
    """Get a session of APP, or join one by its key, and print its link."""
    options = connect_options(said)
    with run.client() as client:
        session = client.connect(options=options)
        if not run.as_json:
            # At once, because it goes on also when waiting for it is given up.
            verb = "spawned" if session.spawned else "joined"
            click.echo(f"{verb} {texts.plain(session.id)}", err=True)
        if wait:
            with boot_shown(run) as on_update:
                client.wait_ready(session.id, timeout, on_update)
    run.say(session.told, [session.url])


def connect_options(said: dict[str, Any]) -> ConnectOptions:
    """What the command line says of a connect. Raises `InvalidRequest`."""
    words = said.pop("command")
    try:
        command_words = None if words is None else json.loads(words)
    except (ValueError, RecursionError):
        command_words = words
    if command_words is not None and not isinstance(command_words, list):
        raise InvalidRequest('--command: expected a JSON list, like \'["python3", "app.py"]\'')
    limits = {field: said.pop(name) for name, field in LIMITS.items()}
    return ConnectOptions(
        command=command_words,
        labels=said.pop("label"),
        limits={field: value for field, value in limits.items() if value is not None},
        **said,
    )


def say_status(update: StatusUpdate) -> None:
    """Say a new status on stderr; how far a pull has come would be too many lines."""
    if update.pull is None:
        click.echo(texts.plain(texts.progress(update)), err=True)


@contextmanager
def boot_shown(run: Run) -> Iterator[Any]:
    """Show on stderr how far a boot has come: a bar on a terminal, else a line a status."""
    console = Console(stderr=True, highlight=False)
    if run.as_json:
        yield lambda _: None
        return
    if not console.is_terminal:
        yield say_status
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn())
    with Progress(*columns, DownloadColumn(), console=console, transient=True) as bar:
        task = bar.add_task("asking", total=None)

        def show(update: StatusUpdate) -> None:
            pull = update.pull
            bar.update(
                task,
                description=texts.plain(texts.progress(update)),
                completed=pull.bytes if pull else 0,
                total=pull.total_bytes if pull else None,
            )

        yield show


@click.command("ls", epilog=examples("plane-tx ls", "plane-tx ls --label team=blue --all --json"))
@click.option("--status", multiple=True, help="Only these; may be given several times.")
@click.option("--user")
@click.option("--key")
@click.option("--namespace")
@click.option("--label", multiple=True, metavar="NAME=VALUE", callback=pairs)
@click.option("--all", "ended_too", is_flag=True, help="Those that have ended, too.")
@command
def list_sessions(
    run: Run, *, status: tuple[str, ...], label: Any, ended_too: bool, **filters: Any
) -> None:
    """List sessions, the newest first."""
    with run.client() as client:
        wanted = status or (None if ended_too else texts.LIVING)
        found = list(client.list(status=wanted, labels=label, **filters))
    if run.as_json:
        for each in found:
            run.say(each.told)
        return
    now = time.time()
    show_table(texts.LIST_COLUMNS, (texts.list_row(each, now) for each in found))


@click.command(epilog=examples("plane-tx show my-session"))
@click.argument("id")
@command
def show(run: Run, *, id: str) -> None:  # noqa: A002  # the name of the argument in the help
    """Show all about the session ID."""
    with run.client() as client:
        details = client.get(id)
    lines = texts.about(details, time.time())
    run.say(details.told, (f"{name + ':':13}{value}" for name, value in lines))


@click.command(epilog=examples("plane-tx why my-session"))
@click.argument("id")
@command
def why(run: Run, *, id: str) -> None:  # noqa: A002  # the name of the argument in the help
    """Say why the session ID is alive and what ends it next, or why it has ended."""
    with run.client() as client:
        told = client.why(id)
    run.say(told.told, texts.reasons(told))


@click.command(
    "open",
    epilog=examples("plane-tx open my-session", "plane-tx open my-session --user bob --print"),
)
@click.argument("id")
@click.option("--user", help="Whom the link is for.")
@click.option("--tag", default="", help="The tag of the session's key, if that has one.")
@click.option(
    "--print", "only_print", is_flag=True, help="Print the link; open nothing, as with --json."
)
@command
def open_session(
    run: Run,
    *,
    id: str,  # noqa: A002  # the name of the argument in the help
    user: str | None,
    tag: str,
    only_print: bool,
) -> None:
    """Make a link to the session ID and open it in a browser."""
    with run.client() as client:
        link = client.link(id, user, tag)
    if not link.url.startswith(("http://", "https://")):
        raise PlaneClientError("the server's link is no http URL: it is not opened")
    run.say(link.told, [link.url])
    if not (only_print or run.as_json or webbrowser.open(link.url)):
        raise PlaneClientError("there is no browser here: open that link yourself")


@click.command(
    epilog=examples(
        "plane-tx stop my-session",
        "plane-tx stop --hard one-session another-session",
    )
)
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@click.option("--hard", is_flag=True, help="By force, without its grace.")
@click.option("--wait", type=float, default=30.0, show_default=True, metavar="SECONDS")
@command
def stop(run: Run, *, ids: tuple[str, ...], hard: bool, wait: float) -> None:
    """End sessions and wait until they have ended."""
    failed = None
    with run.client() as client:
        for each in ids:
            try:
                _end(run, client, each, hard=hard, wait=wait)
            except PlaneClientError as error:
                # The others are to end nevertheless.
                say_failure(run, error)
                failed = failed or error
    if failed is not None:
        sys.exit(exit_code(failed))


def _end(run: Run, client: Client, session_id: str, *, hard: bool, wait: float) -> None:
    (client.hard_terminate if hard else client.soft_terminate)(session_id, wait)
    status = client.get(session_id).status
    run.say({"backend_id": session_id, "status": status}, [f"{session_id} {status}"])
    if wait and status != "terminated":
        raise TimedOut(f"{session_id} has not ended in {wait:g} s; --hard ends it now")


@click.command(epilog=examples('plane-tx keepalive my-session 3600 --reason "a long render"'))
@click.argument("id")
@click.argument("seconds", type=click.FloatRange(min=0))
@click.option("--reason", default="", help="What for; there is one lease for each reason.")
@command
def keepalive(
    run: Run,
    *,
    id: str,  # noqa: A002  # the name of the argument in the help
    seconds: float,
    reason: str,
) -> None:
    """Keep the session ID alive for SECONDS without a connection; 0 ends that."""
    with run.client() as client:
        lease = client.keep_alive(id, seconds, reason)
    until = f"until {texts.moment(lease.until)}" if lease.until else "no longer"
    run.say(lease.told, [f"{lease.id} is kept alive {until}"])


@click.command(epilog=examples("plane-tx revoke my-session ada"))
@click.argument("id")
@click.argument("user")
@command
def revoke(run: Run, *, id: str, user: str) -> None:  # noqa: A002  # as above
    """Take the links of USER to the session ID back, and cut what is open by them."""
    with run.client() as client:
        told = client.revoke(id, user)
    run.say({"backend_id": id, "user": user, "message": told}, [told])


@click.command(
    epilog=examples("plane-tx autopsy my-session", "plane-tx autopsy my-session a.tar.gz")
)
@click.argument("id")
@click.argument("file", required=False, type=click.Path(path_type=Path, dir_okay=False))
@command
def autopsy(run: Run, *, id: str, file: Path | None) -> None:  # noqa: A002  # as above
    """Write all that is known of the session ID into FILE, else into ID.tar.gz here."""
    path = file or Path(f"{id}.tar.gz")
    with run.client() as client:
        client.autopsy(id, path)
    run.say({"backend_id": id, "path": str(path)}, [str(path)])
