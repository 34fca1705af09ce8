"""The idle rule as a request or the configuration says it, and what of that is refused."""

from __future__ import annotations

from typing import Annotated

import attrs

from plane_tx.core.errors import InvalidRequest
from plane_tx.core.model import IdleCount, IdleRule
from plane_tx.core.noise import MOST_CHARACTERS, MOST_ENTRIES, fault_of
from plane_tx.core.strict import Most


@attrs.frozen
class IdleRequest:
    """What of an upgraded connection is use; it replaces as a whole what others say of that."""

    count: IdleCount = IdleCount.CONNECTIONS
    ignore: Annotated[tuple[Annotated[str, Most(MOST_CHARACTERS)], ...], Most(MOST_ENTRIES)] = ()

    def to_rule(self) -> IdleRule:
        """The same, as a session keeps it."""
        return IdleRule(self.count, self.ignore)


def check_idle(where: str, asked: IdleRequest | None) -> None:
    """Raise `InvalidRequest` for a rule that cannot be followed; `where` is the field of it."""
    if asked is None or not asked.ignore:
        return
    if asked.count is not IdleCount.MESSAGES:
        raise InvalidRequest(
            f'{where}.ignore: needs count = "messages"; set that, or leave ignore out'
        )
    for index, entry in enumerate(asked.ignore):
        if fault := fault_of(entry):
            raise InvalidRequest(f"{where}.ignore[{index}]: {fault}")
