"""The commands about sessions, each against a real server."""

from __future__ import annotations

import json
import subprocess
import sys
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.live import LiveServer, ask, free_ports

if TYPE_CHECKING:
    from tests.cli.conftest import Program

PROGRAM = Path(sys.executable).with_name("plane-tx")


def test_spawn_prints_the_link_and_tells_the_boot_on_stderr(run: Program) -> None:
    done = run("spawn", "echo", "--key", "printed", "--idle", "60")

    assert done.exit_code == 0
    assert ask("GET", done.stdout.strip()).status == 200
    told = done.stderr.splitlines()
    assert (told[0].split()[0], told[1], told[-1]) == ("spawned", "scheduled", "ready")
    run("stop", "--hard", told[0].split()[1])


def test_spawn_with_a_held_key_joins(run: Program) -> None:
    first = run.json("spawn", "echo", "--key", "joined", "--namespace", "n", "--tag", "t")

    second = run.json("spawn", "--key", "joined", "--namespace", "n", "--tag", "t", "--no-wait")

    assert (second["backend_id"], second["spawned"]) == (first["backend_id"], False)
    run("stop", "--hard", first["backend_id"])


def test_spawn_hands_on_what_it_is_told(run: Program) -> None:
    told = run.json(
        "spawn", "echo", "--lifetime", "99", "--id", "named", "--env", "ECHO_START_DELAY=0"
    )

    limits = run.json("show", "named")["limits"]

    assert told["backend_id"] == "named"
    assert limits["lifetime_limit_seconds"] == 99
    run("stop", "--hard", "named")


def test_spawn_of_what_fails_is_6_and_says_why(run: Program) -> None:
    done = run("spawn", "echo", "--env", "ECHO_EXIT_AT_ONCE=3")

    assert done.exit_code == 6
    assert "has ended" in done.stderr
    assert done.stdout == ""


def test_spawn_that_takes_too_long_is_1(run: Program) -> None:
    done = run("spawn", "echo", "--env", "ECHO_NEVER_LISTEN=1", "--id", "slow", "--timeout", "0.2")

    assert done.exit_code == 1
    run("stop", "--hard", "slow")


@pytest.mark.parametrize(
    "arguments",
    [
        ["spawn"],
        ["spawn", "echo", "--env", "A"],
        ["spawn", "echo", "--auth", "7"],
        ["spawn", "--command", "ls"],
        ["spawn", "no-such-app"],
        ["spawn", "echo", "--idle", "-1"],
        ["show", "../status"],
        ["drain", "--off", "--status"],
        ["keepalive", "abc", "-1"],
        ["stop"],
    ],
)
def test_what_is_asked_wrongly_is_2(run: Program, arguments: list[str]) -> None:
    assert run(*arguments).exit_code == 2


@pytest.mark.parametrize(
    "arguments",
    [["show"], ["why"], ["logs"], ["logs", "-f"], ["open", "--print"], ["stop"]],
)
def test_a_session_that_is_not_there_is_3(run: Program, arguments: list[str]) -> None:
    done = run(*arguments, "nobody")

    assert done.exit_code == 3
    assert "nobody" in done.stderr


def test_a_server_that_is_not_there_is_5(run: Program) -> None:
    (port,) = free_ports(1)
    run.url = f"http://127.0.0.1:{port}"

    done = run("drain", "--status")

    assert done.exit_code == 5
    assert "cannot be reached" in done.stderr


def test_an_error_is_json_for_those_who_asked_for_it(run: Program) -> None:
    done = run("show", "nobody", "--json")

    assert json.loads(done.stderr)["error"]["kind"] == "NotFound"


def test_a_session_that_has_ended_is_6_for_a_lease(run: Program, session_id: str) -> None:
    run("stop", session_id)

    assert run("keepalive", session_id, "5").exit_code == 6


def test_ls_lists_what_lives(run: Program, session_id: str) -> None:
    ended = run.json("spawn", "echo", "--label", "made=here")["backend_id"]
    run("stop", "--hard", ended)

    done = run("ls", "--label", "made=here")
    of_all = run("ls", "--label", "made=here", "--all", "--json")

    assert [line.split()[:2] for line in done.stdout.splitlines()] == [
        ["ID", "STATUS"],
        [session_id, "ready"],
    ]
    assert ended in [json.loads(line)["backend_id"] for line in of_all.stdout.splitlines()]


def test_show_tells_all_about_it(run: Program, session_id: str) -> None:
    lines = run("show", session_id).stdout.splitlines()

    assert f"id:          {session_id}" in lines
    assert "user:        ada" in lines
    assert "label:       made=here" in lines


def test_why_names_the_lease_that_keepalive_made(run: Program, session_id: str) -> None:
    kept = run("keepalive", session_id, "60", "--reason", "a render")

    done = run("why", session_id)

    assert kept.stdout.startswith(f"{session_id} is kept alive until ")
    assert "held by: lease, reason a render" in done.stdout
    assert run.json("why", session_id)["alive"]


def test_stop_waits_for_the_end(run: Program, session_id: str) -> None:
    assert run("stop", session_id).stdout == f"{session_id} terminated\n"


def test_open_makes_a_link_and_opens_it(
    run: Program, session_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda url: opened.append(url) or True)

    done = run("open", session_id, "--user", "bob")
    run("open", session_id, "--print")

    assert opened == [done.stdout.strip()]
    assert ask("GET", opened[0]).status == 200


def test_open_makes_a_link_to_a_session_under_a_tag(run: Program) -> None:
    spawned = json.loads(run("--json", "spawn", "echo", "--key", "tagged", "--tag", "blue").stdout)

    done = run("open", spawned["backend_id"], "--tag", "blue", "--print")

    assert ask("GET", done.stdout.strip()).status == 200


def test_the_installed_program_is_this_one(server: LiveServer) -> None:
    done = subprocess.run(
        [PROGRAM, "drain", "--status"],
        env={"PLANE_TX_URL": server.control},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stdout.startswith("the server takes new")) == (0, True)
