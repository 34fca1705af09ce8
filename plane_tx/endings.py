"""Ends sessions: asks the engine to, and says when it has to be asked again."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred, DeferredList, ensureDeferred
from twisted.logger import Logger

from plane_tx.core.errors import EngineUnavailable
from plane_tx.core.model import Session, Status, Terminating
from plane_tx.engines.interface import IEngine


class Endings:
    """One ending of each kind, stop and kill, for a session at a time.

    `abandon` calls off what still boots, and fires when that is done; `ended` hears of each session
    that has ended, `failed` of each whose ending has to be tried again.
    """

    _log = Logger()

    def __init__(
        self,
        engine: IEngine,
        abandon: Callable[[str], Deferred[None]],
        ended: Callable[[Session], None],
        failed: Callable[[Session], None],
    ) -> None:
        self._engine = engine
        self._abandon = abandon
        self._ended = ended
        self._failed = failed
        self._under_way: dict[tuple[str, Status], Deferred[None]] = {}

    def __len__(self) -> int:
        return len(self._under_way)

    def begin(self, session: Session) -> None:
        """Stop or kill it, as its status asks for, unless that is under way."""
        # A second stop would only repeat the signal (plane.md 8.2, trap 20). One that the engine
        # has not told of yet goes on ending as soon as it has.
        kind = (session.id, session.status)
        if kind in self._under_way or session.unconfirmed:
            return
        ending = ensureDeferred(self._end(session))
        if not ending.called:
            self._under_way[kind] = ending

        def over(result: object) -> object:
            self._under_way.pop(kind, None)
            return result

        ending.addBoth(over)
        ending.addErrback(lambda failure: self._log.failure("an ending failed", failure))

    async def settle(self) -> None:
        """Wait for those under way."""
        await DeferredList(list(self._under_way.values()))

    async def _end(self, session: Session) -> None:
        await self._abandon(session.id)
        try:
            if isinstance(session.state, Terminating):
                await self._engine.stop(session.id, session.spec.limits.stop_grace_seconds)
            else:
                await self._engine.kill(session.id)
        except EngineUnavailable as error:
            self._log.warn("session {session}: {error}", session=session.id, error=error)
            self._failed(session)
        except Exception:  # noqa: BLE001  # whatever an engine raises, the session must end
            self._log.failure("session {session}: an ending failed", session=session.id)
            self._failed(session)
        else:
            self._ended(session)
