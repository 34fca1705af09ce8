from __future__ import annotations

from tests.process_server import server

__all__ = ["server"]
