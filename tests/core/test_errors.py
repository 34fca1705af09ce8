"""The error tree: each has a kind, a status, and a sentence for people."""

import inspect

import pytest

from plane_tx.core import errors

EVERY = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, errors.PlaneError)
]


MORE = {
    errors.EndedAtOnce: (1, ()),
    errors.AtCapacity: (5,),
    errors.UserAtCapacity: (5,),
    errors.StillBooting: ({},),
}


@pytest.mark.parametrize("kind", EVERY)
def test_every_error_knows_its_kind_and_status(kind: type[errors.PlaneError]) -> None:
    error = kind("a sentence", *MORE.get(kind, ()))

    assert error.kind
    assert 400 <= error.status < 600
    assert str(error) == "a sentence"


@pytest.mark.parametrize("kind", [kind for kind in EVERY if kind.status in (429, 503)])
def test_whoever_is_told_to_come_back_is_told_when(kind: type[errors.PlaneError]) -> None:
    assert kind("", *MORE.get(kind, ())).retry_after_seconds > 0


@pytest.mark.parametrize(
    ("name", "kind", "status"),
    [
        ("KeyHeld", "KeyHeld", 409),
        ("KeyUnheldNoSpawnConfig", "KeyUnheldNoSpawnConfig", 409),
        ("FailedToAcquireKey", "FailedToAcquireKey", 409),
        ("EngineUnavailable", "NoDroneAvailable", 503),
        ("Draining", "NoDroneAvailable", 503),
        ("IdempotencyConflict", "IdempotencyConflict", 422),
        ("JournalError", "Other", 503),
        ("NotFound", "NotFound", 404),
        ("PlaneError", "Other", 500),
        ("InvalidRequest", "InvalidRequest", 422),
        ("MalformedRequest", "InvalidRequest", 400),
        ("BodyTooLarge", "InvalidRequest", 413),
        ("UnsupportedContentType", "InvalidRequest", 415),
        ("Forbidden", "Forbidden", 403),
        ("AtCapacity", "AtCapacity", 503),
        ("UserAtCapacity", "UserAtCapacity", 429),
        ("UnknownToken", "UnknownToken", 410),
        ("SessionEnded", "SessionEnded", 410),
        ("SessionNotReady", "SessionNotReady", 503),
        ("UpstreamUnreachable", "UpstreamUnreachable", 502),
    ],
)
def test_the_contracts_kinds_and_statuses_stay(name: str, kind: str, status: int) -> None:
    error = getattr(errors, name)

    assert (error.kind, error.status) == (kind, status)
