"""Runs the snippet that is posted to it, and tells what it prints as it prints it.

The reply has a line of JSON for each piece of output, and a last one for how the snippet ended.
"""

from __future__ import annotations

import codecs
import json
import os
import selectors
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

SNIPPET = Path("/tmp/snippet.py")
OUTPUT_BYTES = 256 * 1024


def run() -> Iterator[dict[str, Any]]:
    """Run the snippet: its `stdout` and `stderr` as they come, then `exit_code` or `too_much`."""
    process = subprocess.Popen(
        [sys.executable, "-I", "-u", SNIPPET],
        cwd="/tmp",
        env={},  # nothing in ours is meant for it; nothing would harm in its hands either
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    left = OUTPUT_BYTES
    # Not a thread for each pipe: the snippet may take every process and thread there may be.
    with selectors.DefaultSelector() as pipes:
        for name, pipe in (("stdout", process.stdout), ("stderr", process.stderr)):
            decoder = codecs.getincrementaldecoder("utf-8")("replace")
            pipes.register(pipe, selectors.EVENT_READ, (name, decoder))
        while pipes.get_map():
            for key, _ in pipes.select():
                name, decoder = key.data
                piece = os.read(key.fd, left + 1)
                yield {name: decoder.decode(piece[:left], final=not piece)}
                if len(piece) > left:
                    yield {"too_much": OUTPUT_BYTES}
                    return
                left -= len(piece)
                if not piece:
                    pipes.unregister(key.fileobj)
    yield {"exit_code": process.wait()}


class Runner(BaseHTTPRequestHandler):
    """HEAD asks whether we are there, POST brings the snippet."""

    def do_HEAD(self) -> None:
        self.send_response(204)
        self.end_headers()

    def do_POST(self) -> None:
        SNIPPET.write_bytes(self.rfile.read(int(self.headers["content-length"])))
        self.send_response(200)
        self.send_header("content-type", "application/x-ndjson")
        self.end_headers()
        for told in run():
            self.wfile.write(json.dumps(told).encode() + b"\n")

    def log_message(self, *_: Any) -> None:
        pass


HTTPServer(("0.0.0.0", int(os.environ["PORT"])), Runner).serve_forever()
