"""A session of the chaos suite: tells its id, streams, echoes, and eats memory when asked to.

It is sent into a container as text and needs the standard library alone.
"""

import base64
import hashlib
import os
import signal
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

signal.signal(signal.SIGTERM, lambda *_: os._exit(0))

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
ID = os.environ["SESSION_BACKEND_ID"]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        path = self.path.partition("?")[0]
        answer = {"/stream": self.stream, "/socket": self.socket, "/eat": self.eat}
        with suppress(OSError):
            answer.get(path, self.tell)()

    def do_POST(self):
        left = int(self.headers["Content-Length"])
        while left:
            left -= len(self.rfile.read(min(left, 65536)))
        self.tell()

    def tell(self):
        body = ID.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def stream(self):
        self.close_connection = True
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        while True:
            self.wfile.write(b"data: %s\n\n" % ID.encode())
            time.sleep(0.2)

    def socket(self):
        self.close_connection = True
        key = self.headers["Sec-WebSocket-Key"].encode()
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        accept = base64.b64encode(hashlib.sha1(key + GUID).digest()).decode()
        self.send_header("Sec-WebSocket-Accept", accept)
        self.end_headers()
        # Only short masked frames come; each is answered by one with our id, but for a Close.
        while head := self.rfile.read(2):
            self.rfile.read(4 + (head[1] & 0x7F))
            if head[0] & 0x0F == 8:
                self.wfile.write(b"\x88\x00")
                return
            self.wfile.write(bytes((0x81, len(ID))) + ID.encode())

    def eat(self):
        eaten = []
        while True:
            eaten.append(b"x" * 4_000_000)

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


Server(("", int(os.environ["PORT"])), Handler).serve_forever()
