"""Tell `twistd` that there is a `plane` to run."""

from twisted.application.service import ServiceMaker

plane = ServiceMaker(
    "plane-tx",
    "plane_tx.tap",
    "Run sessions: a control API, a proxy and a reaper in one process.",
    "plane",
)
