"""A session that does what a test asks of it, on any engine; it needs the standard library alone.

By its environment: START_DELAY seconds before it listens, LISTEN_ON another port than $PORT,
EXIT a code to leave with at once, SAYS what it prints first. By HTTP: GET / is a page that counts
its visits; /say?text= prints a line, /long?bytes= one long line, /flood?lines=&a_second= many;
/socket is a WebSocket that stays open, /busy?seconds= keeps a processor busy, and after /deaf
nobody listens any more.
"""

import base64
import hashlib
import html
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

signal.signal(signal.SIGTERM, lambda *_: os._exit(0))

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
PAGE = "<!doctype html><html lang=en><title>The session</title><h1>Visit {}</h1><p>{}</p>"

visits = []


def say(text):
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def flood(lines, a_second):
    for number in range(lines):
        say(f"flood {number} <img src=x onerror=alert(1)>")
        if number % 50 == 49:
            time.sleep(50 / a_second)
    say("the flood is over")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        asked = urlsplit(self.path)
        self.query = {name: values[0] for name, values in parse_qs(asked.query).items()}
        answers = {
            "/say": self.say,
            "/long": self.long,
            "/flood": self.flood,
            "/busy": self.busy,
            "/deaf": self.deaf,
            "/socket": self.socket,
        }
        with suppress(OSError):
            # By its end: in front may stand the path of a static link.
            answers.get(asked.path[asked.path.rfind("/") :], self.page)()

    do_HEAD = do_GET

    def page(self):
        # Probes are no visits.
        if self.headers.get("Sec-Fetch-Mode") == "navigate":
            visits.append(self.path)
        self.answer(PAGE.format(len(visits), html.escape(self.path)), "text/html; charset=utf-8")

    def say(self):
        say(self.query["text"])
        self.answer("said")

    def long(self):
        say("<script>alert(1)</script>" + "x" * int(self.query["bytes"]) + " the end of it")
        self.answer("said")

    def flood(self):
        asked = (int(self.query["lines"]), float(self.query["a_second"]))
        threading.Thread(target=flood, args=asked, daemon=True).start()
        self.answer("begun")

    def busy(self):
        until = time.monotonic() + float(self.query["seconds"])
        while time.monotonic() < until:
            hashlib.sha256(bytes(10_000)).digest()
        self.answer("done")

    def deaf(self):
        self.close_connection = True
        self.server.shutdown()
        self.server.server_close()
        self.answer("closed")

    def answer(self, text, kind="text/plain; charset=utf-8"):
        body = text.encode()
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def socket(self):
        self.close_connection = True
        key = self.headers["Sec-WebSocket-Key"].encode()
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        accept = base64.b64encode(hashlib.sha1(key + GUID).digest()).decode()
        self.send_header("Sec-WebSocket-Accept", accept)
        self.end_headers()
        while head := self.rfile.read(2):
            self.rfile.read(4 + (head[1] & 0x7F))
            if head[0] & 0x0F == 8:
                self.wfile.write(b"\x88\x00")
                return
            self.wfile.write(b"\x81\x02ok")

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


if said := os.environ.get("SAYS"):
    say(said)
if code := os.environ.get("EXIT"):
    sys.exit(int(code))
time.sleep(float(os.environ.get("START_DELAY", "0")))
port = int(os.environ.get("LISTEN_ON") or os.environ["PORT"])
say(f"listening on {port}")
Server((os.environ.get("HOST", ""), port), Handler).serve_forever()
signal.pause()
