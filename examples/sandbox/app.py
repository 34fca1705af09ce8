"""An app that runs snippets of strangers: each in a session of its own, which ends with it."""

from __future__ import annotations

import json
import os
from http.client import HTTPException, HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

PLANE_URL = os.environ.get("PLANE_URL", "http://localhost:8080")
PORT = int(os.environ.get("PORT", "8000"))
PAGE = Path(__file__).with_name("index.html")
# What this app is called: a page of any other name that was made to lead here is not ours.
HOSTS = ("localhost", "127.0.0.1")
JSON = "application/json"
CODE_BYTES = 64 * 1024
ANSWER_BYTES = 4 * 1024 * 1024

# Whatever proxy leads out of this box, the sessions are on it.
open_url = build_opener(ProxyHandler({})).open


def ask(method: str, url: str, body: bytes | None = None) -> HTTPResponse:
    """Make a request; what is refused is raised as HTTPError."""
    return open_url(Request(url, body, {"content-type": JSON}, method=method), timeout=30)


def run(code: str) -> dict[str, Any]:
    """Run a snippet: what it printed, its exit code if it came to that, and why it ended."""
    wanted = {"spawn_config": {"executable": {"app": "sandbox"}}}
    with ask("POST", f"{PLANE_URL}/ctrl/connect", json.dumps(wanted).encode()) as answer:
        session = json.load(answer)
    told: dict[str, Any] = {"stdout": [], "stderr": [], "exit_code": None, "too_much": None}
    try:
        # It is held until the session is ready, and cut off when the session ends.
        with ask("POST", session["url"], code.encode(errors="surrogatepass")) as answer:
            listen(answer, told)
    except (OSError, HTTPException, ValueError, RecursionError):
        pass  # so much was told, and why no more was, the session knows
    finally:
        path = f"{PLANE_URL}/ctrl/b/{session['backend_id']}"
        # One that is ending anyhow goes on doing so, for its own reason.
        ask("POST", f"{path}/soft-terminate?wait=20").close()
    printed = {name: "".join(told[name]) for name in ("stdout", "stderr")}
    with ask("GET", path) as answer:
        return {**told, **printed, "why": why(told, json.load(answer))}


def listen(answer: HTTPResponse, told: dict[str, Any]) -> None:
    """Note what the runner tells; the snippet can speak in its place, so it is not believed."""
    left = ANSWER_BYTES
    while left > 0 and (line := answer.readline(left)):
        left -= len(line)
        match json.loads(line):
            case {"stdout": str(text)}:
                told["stdout"].append(text)
            case {"stderr": str(text)}:
                told["stderr"].append(text)
            case {"exit_code": int(number)} | {"too_much": int(number)} as end:
                told |= {name: number for name in end if name in told}


def why(told: dict[str, Any], session: dict[str, Any]) -> str:
    """Say why a snippet ended, by what was told and what the session's end was."""
    if session["oom"]:
        limit = session["resource_limits"]["memory_limit_bytes"]
        return f"it used more than {limit} bytes of memory"
    if told["too_much"] is not None:
        return f"it printed more than {told['too_much']} bytes"
    if told["exit_code"] is not None:
        return f"it ended by itself, with exit code {told['exit_code']}"
    if session["status_history"][-1].get("termination_reason") == "lifetime":
        return f"its {session['limits']['lifetime_limit_seconds']} seconds were over"
    return (session["failure"] or {}).get("message", "it brought down what it ran in")


class App(BaseHTTPRequestHandler):
    """GET / is the page, and POST /run {"code": "..."} runs a snippet."""

    timeout = 30  # seconds for which whoever is connected may say nothing

    def do_GET(self) -> None:
        if self.is_for_us() and self.path == "/":
            self.answer(200, "text/html; charset=utf-8", PAGE.read_bytes())
        else:
            self.refuse(404, "there is only / and /run")

    def do_POST(self) -> None:
        # A page of another origin may not send this type unasked, so it runs nothing here.
        if not self.is_for_us() or self.path != "/run" or self.headers["content-type"] != JSON:
            self.refuse(404, "post JSON to /run")
            return
        try:
            code = self.read_code()
        except (ValueError, LookupError, TypeError, RecursionError):
            self.refuse(400, f'expected {{"code": text}}, of {CODE_BYTES} bytes at most')
            return
        try:
            self.answer(200, JSON, json.dumps(run(code)).encode())
        except HTTPError as refusal:  # there is no room, say: it has a message of its own
            self.answer(refusal.code, JSON, refusal.read())
        except (OSError, HTTPException) as error:
            self.refuse(502, f"no session server: {error}")

    def is_for_us(self) -> bool:
        """Whether it was asked by a name of ours (DNS rebinding makes other names lead here)."""
        return (self.headers["host"] or "").partition(":")[0] in HOSTS

    def read_code(self) -> str:
        """The snippet that was sent; what is none is raised as one error or another."""
        length = max(int(self.headers["content-length"]), 0)
        # What is left unread may cost the sender our answer, so a little more than fits is read.
        body = self.rfile.read(min(length, 2 * CODE_BYTES))
        if length > CODE_BYTES:
            raise ValueError("a snippet is not that long")
        return str(json.loads(body)["code"])

    def refuse(self, status: int, message: str) -> None:
        self.answer(status, JSON, json.dumps({"message": message}).encode())

    def answer(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main() -> None:
    """Serve for as long as what started us, which in `make example-sandbox` is the server."""
    started_by = os.getppid()
    server = ThreadingHTTPServer(("127.0.0.1", PORT), App)
    server.timeout = 1
    print(f"the page is at http://localhost:{PORT}", flush=True)
    while os.getppid() == started_by:
        server.handle_request()


if __name__ == "__main__":
    main()
