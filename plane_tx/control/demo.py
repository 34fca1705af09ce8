"""GET /demo: one click to the session of the configured app."""

from __future__ import annotations

from twisted.web.server import Request

from plane_tx.control.envelope import answer
from plane_tx.core.errors import NotFound
from plane_tx.core.sections import DemoConfig
from plane_tx.core.wire import ConnectRequest, ExecutableRequest, KeyRequest, SpawnConfig
from plane_tx.supervisor import Supervisor


async def visit(request: Request, supervisor: Supervisor, demo: DemoConfig) -> bytes:
    """Join the demo's session, or have it made, and send the browser there."""
    if not demo.app:
        raise NotFound("there is no demo here: name an app as [demo] app in the configuration")
    wanted = ConnectRequest(
        key=KeyRequest(demo.key),
        spawn_config=SpawnConfig(executable=ExecutableRequest(app=demo.app)),
    )
    response = await supervisor.connect(wanted)
    request.setHeader("location", response.url)
    return answer(request, "text/plain; charset=utf-8", b"", 303)
