"""What of a session is kept with its container and in the journal, and a session made of it again.

No login is kept, and no environment: the container has its own. The session's own token and secret
are kept: they stand in the container's environment too, where the same people can read them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import attrs
from cattrs import Converter

from plane_tx.core import strict
from plane_tx.core.model import (
    Executable,
    IdleCount,
    IdleRule,
    Key,
    Limits,
    Readiness,
    ResourceLimits,
    Routing,
    Session,
    Spec,
    own_token,
)

#: The label that holds the record; its value is JSON.
RECORD_LABEL = "plane-tx.session"

#: What an app's own labels begin with at the engine.
USER_LABEL_PREFIX = "plane-tx.label."


@attrs.frozen
class Record:
    """One session as its container's label tells it."""

    name: str
    namespace: str
    tag: str
    user: str | None
    created_at: float
    fencing_token: int
    image: str | None
    app: str | None
    port: int
    readiness: Readiness
    limits: Limits
    subdomain: str | None
    routing: Routing
    labels: Mapping[str, str]
    own_token: str
    secret: str
    static: bool = False
    resource_limits: ResourceLimits = ResourceLimits()
    idle: IdleRule = IdleRule()


def _converter() -> Converter:
    converter = strict.make_converter()
    strict.one_of(converter, Routing)
    strict.one_of(converter, IdleCount)
    return converter


_CONVERTER = _converter()


def to_labels(session: Session) -> dict[str, str]:
    """The labels by which a later run of the server knows this session again."""
    own = {f"{USER_LABEL_PREFIX}{name}": value for name, value in session.spec.labels.items()}
    return {RECORD_LABEL: to_text(session), **own}


def from_labels(session_id: str, labels: Mapping[str, str]) -> Session | None:
    """The session that these labels tell of, without history; None when they tell of none."""
    return from_text(session_id, labels.get(RECORD_LABEL, ""))


def to_text(session: Session) -> str:
    """All of a session that never changes, as JSON."""
    spec = session.spec
    record = Record(
        name=session.key.name,
        namespace=session.key.namespace,
        tag=session.tag,
        user=session.user,
        created_at=session.created_at,
        fencing_token=session.fencing_token,
        image=spec.executable.image,
        app=spec.executable.app,
        port=spec.executable.port,
        readiness=spec.executable.readiness,
        limits=spec.limits,
        idle=spec.idle,
        subdomain=spec.subdomain,
        routing=spec.routing,
        labels=spec.labels,
        resource_limits=spec.executable.limits,
        own_token=session.own_token.value,
        secret=session.secret,
        static=session.own_token.static,
    )
    return json.dumps(_CONVERTER.unstructure(record))


def from_text(session_id: str, text: str) -> Session | None:
    """The session that `text` tells of, without history; None when it tells of none."""
    try:
        data: Any = json.loads(text)
        record = strict.structure(_CONVERTER, data, Record)
    except (ValueError, RecursionError, strict.Misfit):
        return None
    executable = Executable(
        image=record.image,
        app=record.app,
        port=record.port,
        readiness=record.readiness,
        limits=record.resource_limits,
    )
    return Session(
        id=session_id,
        key=Key(record.name, record.namespace),
        tag=record.tag,
        spec=Spec(
            executable=executable,
            limits=record.limits,
            idle=record.idle,
            subdomain=record.subdomain,
            routing=record.routing,
            labels=record.labels,
            use_static_token=record.static,
        ),
        created_at=record.created_at,
        fencing_token=record.fencing_token,
        user=record.user,
        own_token=own_token(record.own_token, session_id, record.secret, static=record.static),
        secret=record.secret,
    )
