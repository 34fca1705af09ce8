"""How long boots take, as far as it was seen."""

from __future__ import annotations

import pytest

from plane_tx.core.estimates import BOOTS_KEPT, NAMES_KEPT, Estimate, Estimates
from plane_tx.core.model import (
    Address,
    Executable,
    Loading,
    Ready,
    Reason,
    Scheduled,
    Session,
    Spec,
    Starting,
    StatusEntry,
    Terminated,
    Waiting,
)
from tests.sessions import make_session

ADDRESS = Address("10.0.0.2", 8080)


def booted(seconds: float, image: str | None = "image", **executable) -> Session:
    """A session that was ready so many seconds after it was `starting`."""
    session = make_session(spec=Spec(Executable(image=image, **executable)))
    states = [
        (Scheduled(), 0.0),
        (Loading(), 1.0),
        (Starting(), 100.0),
        (Waiting(ADDRESS), 100.5),
        (Ready(ADDRESS), 100.0 + seconds),
    ]
    session.history += [StatusEntry(*each) for each in states]
    return session


def learnt(*boots: Session) -> Estimates:
    estimates = Estimates()
    for session in boots:
        estimates.learn(session)
    return estimates


@pytest.mark.parametrize(
    ("seconds", "usually", "at_most"),
    [([4, 9], 6.5, 9), ([9, 4, 5], 5, 9), ([1, 2, 3, 40], 2.5, 40)],
)
def test_usually_is_the_median_and_at_most_the_longest(seconds, usually, at_most) -> None:
    estimates = learnt(*map(booted, seconds))

    estimate = estimates.of(booted(0))

    assert estimate == Estimate(usually, at_most, len(seconds))


@pytest.mark.parametrize("seconds", [[], [4]])
def test_from_fewer_than_two_boots_nothing_is_concluded(seconds) -> None:
    estimates = learnt(*map(booted, seconds))

    estimate = estimates.of(booted(0))

    assert estimate == Estimate(boots=len(seconds))


def test_the_last_boots_count() -> None:
    estimates = learnt(booted(1000), *(booted(2) for _ in range(BOOTS_KEPT)))

    estimate = estimates.of(booted(0))

    assert estimate == Estimate(2, 2, BOOTS_KEPT)


def test_each_image_has_its_own_and_what_has_none_goes_by_app_or_command() -> None:
    estimates = learnt(
        booted(1, "a"), booted(2, "a"),
        booted(10, "b", app="x"), booted(20, "b", app="y"),
        booted(100, None, app="x"), booted(200, None, app="x"),
        booted(210, None, command=("run", "it")), booted(220, None, command=("run", "it")),
    )  # fmt: skip

    longest = [
        estimates.of(session).at_most
        for session in (
            booted(0, "a"),
            booted(0, "b"),
            booted(0, None, app="x"),
            booted(0, None, command=("run", "it")),
        )
    ]

    assert longest == [2, 20, 200, 220]


def test_a_session_that_was_never_ready_tells_nothing() -> None:
    failed = booted(4)
    failed.history[-1] = StatusEntry(
        Terminated(Waiting(ADDRESS).status, Reason.EXITED), failed.history[-1].at
    )

    estimates = learnt(failed, failed)

    assert estimates.of(failed) == Estimate()
    assert len(estimates) == 0


def test_a_clock_that_was_set_back_tells_nothing() -> None:
    estimates = learnt(booted(-1), booted(-2))

    assert estimates.of(booted(0)) == Estimate()


def test_a_boot_that_went_on_while_nobody_looked_tells_nothing() -> None:
    session = booted(3_600)

    estimates = learnt(booted(4), session, booted(5))

    assert session.spec.limits.startup_timeout_seconds < 3_600
    assert estimates.of(session) == Estimate(4.5, 5, 2)


def test_what_was_neither_learnt_nor_asked_for_the_longest_is_forgotten() -> None:
    estimates = learnt(*(booted(1, f"image-{n}") for n in range(NAMES_KEPT)))

    estimates.of(booted(0, "image-0"))
    estimates.learn(booted(1, "another"))

    known = [bool(estimates.of(booted(0, name)).boots) for name in ("image-0", "image-1")]
    assert known == [True, False]
    assert len(estimates) == NAMES_KEPT
