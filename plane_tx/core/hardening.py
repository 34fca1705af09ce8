"""How a container is shut in unless the configuration, by name, has it otherwise."""

from __future__ import annotations

import enum

import attrs

from plane_tx.core.strict import Count


class Egress(enum.StrEnum):
    """Where a session's own connections may go."""

    #: Wherever this box can.
    OPEN = "open"
    #: To this box only; whatever it answers goes out all the same.
    NONE = "none"


class Addressing(enum.StrEnum):
    """By which address containers are reached."""

    #: Their own where this box has their network, else a published port.
    AUTO = "auto"
    CONTAINER = "container"
    PUBLISHED = "published"


@attrs.frozen
class Hardening:
    """What every container is given; an app of the configuration may have its own.

    `pids_limit` counts threads too, and 0 is none; so is `log_max_bytes = 0`, which leaves the log
    to the container engine's own settings. `log_max_bytes` is for each of `log_files` files.
    """

    cap_drop: tuple[str, ...] = ("ALL",)
    no_new_privileges: bool = True
    pids_limit: Count = Count(512)
    swap: bool = False
    init: bool = True
    log_max_bytes: Count = Count(10 * 1024 * 1024)
    log_files: Count = Count(3)


@attrs.frozen
class HardeningChange:
    """What an app has otherwise; None is as everybody."""

    cap_drop: tuple[str, ...] | None = None
    no_new_privileges: bool | None = None
    pids_limit: Count | None = None
    swap: bool | None = None
    init: bool | None = None
    log_max_bytes: Count | None = None
    log_files: Count | None = None

    def of(self, hardening: Hardening) -> Hardening:
        """`hardening` with these changes."""
        said = attrs.asdict(self, recurse=False, filter=lambda _field, value: value is not None)
        return attrs.evolve(hardening, **said)
