"""A client of Plane's HTTP API, with nothing but the standard library.

It asks for no field that Plane does not have, so it works with Plane as it works with this server:

    plane_client.py http://127.0.0.1:8080 connect --key board --executable '{"image": "..."}'
    plane_client.py http://127.0.0.1:8080 stream ID --until ready
    plane_client.py http://127.0.0.1:8080 connect --key board --user alice      # joins
    plane_client.py http://127.0.0.1:8080 revoke ID alice
    plane_client.py http://127.0.0.1:8080 terminate ID

Where a key is asked for, it goes into the URL: http://KEY@127.0.0.1:8080.
"""

from __future__ import annotations

import argparse
import http.client
import json
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, unquote, urlsplit

#: How long an answer, or the next byte of one, may take. A stream says something every 15 s.
PATIENCE_SECONDS = 45.0

#: How long to wait before a stream that broke off is asked for again.
RETRY_SECONDS = 1.0


class PlaneError(Exception):
    """What the server refused: `kind` is for programs, the message for people."""

    def __init__(self, status: int, kind: str, message: str, error_id: str) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.error_id = error_id


class PlaneClient:
    """Plane's API at `base_url`; a user name in that URL is sent as a bearer token."""

    def __init__(self, base_url: str, retry_seconds: float = RETRY_SECONDS) -> None:
        parts = urlsplit(base_url)
        self._base = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"
        self._bearer = unquote(parts.username or "")
        self._retry_seconds = retry_seconds

    def connect(self, **request: Any) -> dict[str, Any]:
        """Join the session of `key`, or have one made by `spawn_config`; also `user`, `auth`."""
        return self._ctrl("POST", "/ctrl/connect", request)

    def revoke(self, backend_id: str, user: str) -> None:
        """Take back the links that `user` was given to a session."""
        self._ctrl("POST", "/ctrl/b/revoke", {"backend_id": backend_id, "user": user})

    def terminate(self, backend_id: str, *, hard: bool = False) -> None:
        """Ask a session to end; that it has ended, the stream tells."""
        how = "hard" if hard else "soft"
        self._ctrl("POST", f"/ctrl/b/{quote(backend_id, '')}/{how}-terminate")

    def status(self, backend_id: str) -> dict[str, Any]:
        """Where a session is in its life."""
        with self._open("GET", f"/pub/b/{quote(backend_id, '')}/status") as answer:
            return json.load(answer)

    def stream(self, backend_id: str) -> Iterator[dict[str, Any]]:
        """Every status that a session has had and will have, up to `terminated`.

        A stream that breaks off is asked for again, from the last status that came.
        """
        seen = ""
        while True:
            try:
                for event_id, entry in self._events(backend_id, seen):
                    seen = event_id
                    yield entry
                    # Plane's own stream stays open after the last event.
                    if entry["status"] == "terminated":
                        return
            except (OSError, http.client.HTTPException) as broken:
                print(f"the stream broke off: {broken!r}", file=sys.stderr)
            time.sleep(self._retry_seconds)

    def _events(self, backend_id: str, seen: str) -> Iterator[tuple[str, dict[str, Any]]]:
        headers = {"accept": "text/event-stream"}
        if seen:
            headers["last-event-id"] = seen
        path = f"/pub/b/{quote(backend_id, '')}/status-stream"
        with self._open("GET", path, headers) as stream:
            yield from read_events(stream)

    def _ctrl(self, method: str, path: str, body: Any = None) -> Any:
        headers = {"authorization": f"Bearer {self._bearer}"} if self._bearer else {}
        with self._open(method, path, headers, body) as answer:
            return json.load(answer)

    def _open(
        self, method: str, path: str, headers: dict[str, str] | None = None, body: Any = None
    ) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self._base}{path}", data, headers or {}, method=method)
        if data is not None:
            request.add_header("content-type", "application/json")
        try:
            return urllib.request.urlopen(request, timeout=PATIENCE_SECONDS)
        except urllib.error.HTTPError as refusal:
            with refusal:
                raise _told(refusal.code, refusal.read()) from None


def _told(status: int, body: bytes) -> PlaneError:
    text = body.decode("utf-8", "replace")
    try:
        error = json.loads(text)
        return PlaneError(status, error["kind"], error["message"], error["id"])
    except (ValueError, LookupError, TypeError):
        # Plane answers a body that it cannot read, and a path that it does not know, without one.
        return PlaneError(status, "", text or f"the server answered {status}", "")


def read_events(lines: Iterator[bytes]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The id and the JSON of each server-sent event; one that breaks off is none."""
    event_id, data = "", []
    for raw in lines:
        line = raw.decode("utf-8", "replace").rstrip("\r\n")
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            data.append(value)
        elif field == "id":
            event_id = value
        elif not line and data:
            yield event_id, json.loads("\n".join(data))
            data = []


# The command line


def connect(client: PlaneClient, said: argparse.Namespace) -> None:
    request: dict[str, Any] = {"user": said.user, "auth": said.auth}
    if said.key is not None:
        request["key"] = {"name": said.key, "namespace": said.namespace, "tag": said.tag}
    if said.executable is not None:
        request["spawn_config"] = {"executable": said.executable, **said.spawn}
    print(json.dumps(client.connect(**request)))


def status(client: PlaneClient, said: argparse.Namespace) -> None:
    print(json.dumps(client.status(said.backend_id)))


def stream(client: PlaneClient, said: argparse.Namespace) -> None:
    for entry in client.stream(said.backend_id):
        print(json.dumps(entry), flush=True)
        if entry["status"] == said.until:
            return


def revoke(client: PlaneClient, said: argparse.Namespace) -> None:
    client.revoke(said.backend_id, said.user)


def terminate(client: PlaneClient, said: argparse.Namespace) -> None:
    client.terminate(said.backend_id, hard=said.hard)


def command_line() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="A client of Plane's HTTP API.")
    parser.add_argument("url", help="of the controller, as in http://KEY@127.0.0.1:8080")
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("connect", help="join the session of a key, or have one made")
    one.set_defaults(run=connect)
    one.add_argument("--key")
    one.add_argument("--namespace", default="")
    one.add_argument("--tag", default="")
    one.add_argument("--user")
    one.add_argument("--auth", type=json.loads, default={}, help="claims, as a JSON object")
    one.add_argument("--executable", type=json.loads, help="what to run, as JSON")
    one.add_argument("--spawn", type=json.loads, default={}, help="more of spawn_config, as JSON")
    for run in (status, stream, revoke, terminate):
        one = commands.add_parser(run.__name__)
        one.set_defaults(run=run)
        one.add_argument("backend_id")
        if run is stream:
            one.add_argument("--until", help="leave at this status")
        elif run is revoke:
            one.add_argument("user")
        elif run is terminate:
            one.add_argument("--hard", action="store_true", help="by force")
    return parser


def main() -> int:
    said = command_line().parse_args()
    try:
        said.run(PlaneClient(said.url), said)
    except PlaneError as refusal:
        print(f"{refusal.status} {refusal.kind} {refusal.error_id}: {refusal}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"{urlsplit(said.url).hostname}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
