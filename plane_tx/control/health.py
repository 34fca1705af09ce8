"""Whether the server and its engine are well, and whether sessions can be asked for yet."""

from __future__ import annotations

import attrs
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import IReactorTime
from twisted.web.server import Request

from plane_tx.control.envelope import answer_json
from plane_tx.engines.interface import EngineHealth
from plane_tx.supervisor import Supervisor

#: An engine that takes longer to say how it is, is not well.
HEALTH_SECONDS = 5.0


async def answer_health(request: Request, clock: IReactorTime, supervisor: Supervisor) -> bytes:
    """Answer how the server and its engine are: 503 when the engine is not well."""
    engine = await _engine_health(clock, supervisor)
    data: dict[str, object] = {"status": "ok" if engine.ok else "degraded"}
    if not engine.ok:
        data["reason"] = engine.message
    data["engine"] = attrs.asdict(engine)
    return answer_json(request, data, 200 if engine.ok else 503)


async def answer_ready(request: Request, clock: IReactorTime, supervisor: Supervisor) -> bytes:
    """Answer whether sessions can be asked for: 503 until the engine answers and all is known."""
    engine = await _engine_health(clock, supervisor)
    if not engine.ok:
        return answer_json(request, {"status": "not ready", "reason": engine.message}, 503)
    if not supervisor.recovered:
        reason = "the sessions of an earlier run are still being taken up"
        return answer_json(request, {"status": "not ready", "reason": reason}, 503)
    return answer_json(request, {"status": "ready"})


async def _engine_health(clock: IReactorTime, supervisor: Supervisor) -> EngineHealth:
    asked = supervisor.health()
    try:
        return await asked.addTimeout(HEALTH_SECONDS, clock)
    except DeferredTimeout:
        return EngineHealth(False, f"the engine did not answer within {HEALTH_SECONDS:g} s")
