"""What is printed survives pipes, full disks, locales and narrow terminals, and orders nothing."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import termios
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from plane_tx.cli.commands import plane_tx
from plane_tx.cli.running import exit_code
from plane_tx.cli.tables import shown_columns
from plane_tx.client import errors
from tests.live import PATIENCE_SECONDS, LiveServer, heed_interrupts, live_server
from tests.process_server import SERVER

if TYPE_CHECKING:
    from tests.cli.conftest import Program

PROGRAM = Path(sys.executable).with_name("plane-tx")

#: Every class of the error tree, and what scripts are told of it.
CODES = {
    "PlaneClientError": 1,
    "InvalidRequest": 2,
    "Unauthorized": 4,
    "Forbidden": 4,
    "NotFound": 3,
    "SessionEnded": 6,
    "KeyHeld": 1,
    "KeyUnheld": 1,
    "FailedToAcquireKey": 1,
    "AtCapacity": 1,
    "UserAtCapacity": 1,
    "NoDroneAvailable": 1,
    "IdempotencyConflict": 1,
    "Unavailable": 5,
    "Unreached": 5,
    "Silent": 5,
    "Unreadable": 1,
    "TimedOut": 1,
    "SessionFailed": 6,
}


def shell(server: LiveServer, line: str, **environ: str) -> subprocess.CompletedProcess[bytes]:
    """What `line` prints, said to a shell in which plane-tx is this one."""
    path = f"{PROGRAM.parent}:{os.environ['PATH']}"
    said = {**os.environ, "PATH": path, "PLANE_TX_URL": server.control, **environ}
    said.pop("PYTHONUNBUFFERED", None)  # it hides what a person's interpreter does at its end
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", line], env=said, capture_output=True, check=False
    )


def on_terminal(server: LiveServer, columns: int, *arguments: str, **environ: str) -> str:
    """What plane-tx shows on a terminal of that width."""
    near, far = pty.openpty()
    termios.tcsetwinsize(far, (24, columns))
    kept = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    said = {**kept, "TERM": "xterm", "PLANE_TX_URL": server.control, **environ}
    with closing(os.fdopen(near, "rb", buffering=0)) as screen:
        done = subprocess.Popen([PROGRAM, *arguments], env=said, stdin=far, stdout=far, stderr=far)
        os.close(far)
        shown = bytearray()
        try:
            while data := screen.read(4096):
                shown += data
        except OSError:  # Linux says that the other side is closed by EIO
            pass
        assert done.wait(PATIENCE_SECONDS) == 0, shown
    return shown.decode()


def test_the_table_has_every_error() -> None:
    tree = {name for name, each in vars(errors).items() if isinstance(each, type)} - {"ClassVar"}

    assert {name for name in tree if issubclass(getattr(errors, name), Exception)} == set(CODES)


@pytest.mark.parametrize(("name", "code"), CODES.items())
def test_each_error_has_its_exit_code(name: str, code: int) -> None:
    assert exit_code(getattr(errors, name)("no")) == code


@pytest.mark.parametrize(
    "arguments",
    [["show"], ["no-such"], ["stop", "--wait", "x", "a"], ["drain", "--off", "--status"]],
)
def test_what_is_asked_wrongly_is_json_for_those_who_want_it(arguments: list[str]) -> None:
    done = CliRunner().invoke(plane_tx, ["--json", *arguments])

    told = json.loads(done.stderr)["error"]
    assert (done.exit_code, done.stdout, told["kind"]) == (2, "", "Usage")
    assert set(told) == {"kind", "message", "status", "id"}


@pytest.mark.parametrize(
    "line", ["plane-tx ls --all", "plane-tx ls --all --json", "plane-tx --help"]
)
def test_nobody_who_reads_on_is_no_reason_for_a_traceback(server: LiveServer, line: str) -> None:
    done = shell(server, f"{line} | head -c 0")

    assert b"Traceback" not in done.stderr
    assert b"Exception" not in done.stderr


@pytest.mark.parametrize("line", ["plane-tx drain --status", "plane-tx drain --status --json"])
def test_a_disk_that_is_full_is_said(server: LiveServer, line: str) -> None:
    done = shell(server, f"{line} >/dev/full")

    assert done.returncode == 1
    assert b"No space left" in done.stderr
    assert b"Traceback" not in done.stderr


def test_what_the_locale_cannot_say_is_shown_as_its_code(run: Program, server: LiveServer) -> None:
    made = run.json("spawn", "echo", "--user", "gr\u00fcn")["backend_id"]

    done = shell(server, "plane-tx ls", PYTHONUTF8="0", PYTHONIOENCODING="ascii")

    assert (done.returncode, done.stderr) == (0, b"")
    assert rb"gr\xfcn" in done.stdout
    run("stop", "--hard", made)


def test_words_that_are_not_utf_8_are_refused_as_such(server: LiveServer) -> None:
    done = shell(server, "plane-tx ls --user $'\\xff'")

    assert done.returncode == 2
    assert b"is no Unicode text" in done.stderr


def test_a_narrow_terminal_shows_whole_ids(
    server: LiveServer, run: Program, session_id: str
) -> None:
    shown = on_terminal(server, 40, "ls")

    assert session_id in shown
    assert "\u2026" not in shown
    assert "USER" not in shown
    assert "USER" in on_terminal(server, 200, "ls")


@pytest.mark.parametrize(("width", "count"), [(1, 2), (19, 2), (20, 3), (60, 4), (500, 4)])
def test_columns_are_left_out_from_the_right(width: int, count: int) -> None:
    rows = [("ID", "STATUS", "KEY", "USER"), ("abcdefg", "ready", "k", "u" * 99)]

    assert shown_columns(rows, width) == count


def test_colours_are_for_terminals_and_for_those_who_want_them(server: LiveServer) -> None:
    coloured = on_terminal(server, 80, "doctor")
    plain = on_terminal(server, 80, "doctor", NO_COLOR="1")

    assert "\x1b[32mok" in coloured
    assert "\x1b" not in plain


def test_top_ends_with_ctrl_c(server: LiveServer, session_id: str) -> None:
    command = [PROGRAM, "--url", server.control, "top"]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=heed_interrupts,  # noqa: PLW1509  # it takes no lock
    ) as going_on:
        assert going_on.stdout is not None
        first, second = going_on.stdout.readline(), going_on.stdout.readline()
        going_on.send_signal(signal.SIGINT)
        going_on.communicate(timeout=PATIENCE_SECONDS)

    assert (first.split()[0], second.split()[0]) == ("ID", session_id)
    assert going_on.returncode == 130


def test_what_a_session_writes_reaches_a_terminal_only_when_it_is_to(tmp_path: Path) -> None:
    program = Path(__file__).with_name("hostile.py")
    conf = f'{SERVER}[apps.hostile]\ncommand = ["{{python}}", "{program}"]\n'
    with live_server(tmp_path, conf) as server:
        made = server.connect("hostile")["backend_id"]
        server.wait_for(made, "ready")

        shown = on_terminal(server, 80, "logs", made)
        raw = on_terminal(server, 80, "logs", "--raw", made)
        piped = shell(server, f"plane-tx logs --raw {made} | cat").stdout

    assert "\x1b" not in shown
    assert r"\x1b]0;owned\x07" in shown
    assert r"\u202e" in shown
    assert "\x1b]0;owned\x07" in raw
    assert b"\x1b[31m" in piped


def test_stop_ends_the_others_when_one_is_not_there(run: Program, session_id: str) -> None:
    done = run("stop", "nobody", session_id)

    assert (done.exit_code, done.stdout) == (3, f"{session_id} terminated\n")
    assert "nobody" in done.stderr


def test_revoke_takes_a_link_back(run: Program, session_id: str) -> None:
    assert run("revoke", session_id, "ada").stdout == "Revoked 1 token.\n"
    assert set(run.json("revoke", session_id, "ada")) == {"backend_id", "user", "message"}


def test_an_autopsy_that_cannot_be_written_is_said(run: Program, session_id: str) -> None:
    done = run("autopsy", session_id, "/no/such/folder/a.tar.gz")

    assert (done.exit_code, "No such file" in done.stderr) == (1, True)


def test_a_wait_that_is_given_up_names_the_session(run: Program) -> None:
    done = run("spawn", "echo", "--env", "ECHO_NEVER_LISTEN=1", "--id", "never", "--timeout", "0.2")

    assert done.stderr.startswith("spawned never\n")
    assert "the session never was not ready in 0.2 s; it goes on" in done.stderr
    run("stop", "--hard", "never")


def test_where_there_is_no_browser_the_link_is_for_people(
    run: Program, session_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("webbrowser.open", lambda _: False)

    done = run("open", session_id)

    assert done.exit_code == 1
    assert done.stdout.startswith("http://localhost")
    assert "open that link yourself" in done.stderr
