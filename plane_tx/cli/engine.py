"""Looks at the engine that a configuration means: there, answering, allowed, and new enough."""

from __future__ import annotations

import errno
import json
import socket
from contextlib import closing

import httpx

from plane_tx.cli.findings import Finding, bad, ok, warn
from plane_tx.core import dockerapi
from plane_tx.core.sections import EngineConfig

SECONDS = 5.0


def engine(config: EngineConfig) -> Finding:
    """Whether what runs sessions is there and can be used."""
    if config.kind == "process":
        return ok("engine", "sessions are processes of this box, no Docker is needed")
    where = config.docker_socket
    wrong = _cannot_connect(where)
    if wrong is None:
        return _version(where)
    if config.kind == "auto" and wrong.name == "engine":
        return warn(
            "engine",
            f'{wrong.sentence}: with kind = "auto" sessions are plain processes, not shut in',
            f"for containers {wrong.cure}",
        )
    return wrong


def _cannot_connect(where: str) -> Finding | None:
    with closing(socket.socket(socket.AF_UNIX)) as asking:
        asking.settimeout(SECONDS)
        try:
            asking.connect(where)
        except PermissionError:
            cure = "add the server's user to the group docker (`usermod -aG docker USER`)"
            return bad("socket rights", f"your user may not use {where}", f"{cure} and log in anew")
        except (OSError, ValueError) as error:
            return _not_there(where, error)
    return None


def _not_there(where: str, error: OSError | ValueError) -> Finding:
    number = error.errno if isinstance(error, OSError) else None
    if number == errno.ECONNREFUSED:
        return bad("engine", f"nobody answers at {where}", "start Docker: systemctl start docker")
    if number in (errno.ENOENT, errno.ENOTDIR):
        cure = "install and start Docker, or set [engine] docker_socket to where its socket is"
        return bad("engine", f"there is no {where}", cure)
    return bad("engine", f"{where} is no socket of Docker: {error}", "set [engine] docker_socket")


def _version(where: str) -> Finding:
    try:
        with httpx.Client(transport=httpx.HTTPTransport(uds=where), timeout=SECONDS) as client:
            told = client.get("http://docker/version").json()
    except httpx.TimeoutException:
        cure = "look at its log (journalctl -u docker) and restart it"
        return bad("engine", f"Docker at {where} does not answer in {SECONDS:g} s", cure)
    except (httpx.HTTPError, json.JSONDecodeError, UnicodeDecodeError, RecursionError):
        told = None
    match told:
        case {"ApiVersion": str(newest), "Version": str(version)}:
            return judged(version, newest, told.get("MinAPIVersion"))
    cure = "set [engine] docker_socket to the socket of Docker"
    return bad("engine", f"what answers at {where} is not Docker", cure)


def judged(version: str, newest: str, oldest: object) -> Finding:
    """How it is with a Docker that speaks these versions of its API."""
    try:
        speaks = dockerapi.parse(newest)
        from_ = dockerapi.parse("0.0" if oldest is None else oldest)
    except ValueError as error:
        cure = "set [engine] docker_socket to the socket of Docker"
        return bad("engine", f"what answers is not Docker: {error}", cure)
    if dockerapi.agreed(from_, speaks) is not None:
        return ok("engine", f"Docker {version[:64]} answers, API {newest}")
    if speaks < dockerapi.OLDEST:
        least = dockerapi.dotted(dockerapi.OLDEST)
        cure = f"upgrade Docker to 19.03 or newer: its API must be {least} at least"
        return bad("engine version", f"Docker {version[:64]} is too old: API {newest}", cure)
    cure = f"upgrade plane_tx: it speaks API {dockerapi.dotted(dockerapi.NEWEST)} at most"
    return bad("engine version", f"Docker {version[:64]} is too new for this server", cure)
