"""A session that writes what a terminal would obey, and then serves."""

import http.server
import os
import sys

sys.stdout.write("\x1b]0;owned\x07\x1b[31mred\u202e\n")
sys.stdout.flush()
place = ("127.0.0.1", int(os.environ["PORT"]))
http.server.HTTPServer(place, http.server.BaseHTTPRequestHandler).serve_forever()
