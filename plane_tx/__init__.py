"""One box, many sessions: ask for a session, get a URL, talk straight to a process of its own."""

__version__ = "0.1.0"
