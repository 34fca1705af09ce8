"""The words of the domain: frozen, comparable, and silent about secrets."""

import attrs
import pytest

from plane_tx.core.model import (
    BOOTING,
    ENDING,
    ORDINAL,
    Address,
    Credentials,
    Executable,
    Key,
    Loading,
    Scheduled,
    Spec,
    Status,
    StatusEntry,
    Token,
)
from plane_tx.core.use import Use, UseKind
from tests.sessions import make_session


@pytest.mark.parametrize(
    ("address", "said"),
    [(Address("127.0.0.1", 80), "127.0.0.1:80"), (Address("fd00::2", 80), "[fd00::2]:80")],
)
def test_an_address_can_stand_in_a_url(address: Address, said: str) -> None:
    assert str(address) == said


def test_the_statuses_are_planes_in_planes_order() -> None:
    names = sorted(Status, key=ORDINAL.__getitem__)

    assert ",".join(names) == (
        "scheduled,loading,starting,waiting,ready,terminating,hard-terminating,terminated"
    )


def test_a_status_is_booting_ready_or_ending() -> None:
    assert set(Status) - BOOTING - ENDING == {Status.READY}
    assert not BOOTING & ENDING


def test_no_secret_is_shown() -> None:
    shown = repr(Token("t" * 43, "id", "the-secret")) + repr(Credentials("me", "the-password"))

    assert "the-secret" not in shown
    assert "the-password" not in shown
    assert "t" * 7 not in shown


def test_a_sessions_own_token_and_secret_are_not_shown() -> None:
    session = make_session(token_value="s.token-in-full", secret="the-secret")

    assert "token-in-full" not in repr(session)
    assert "the-secret" not in repr(session)


def test_two_uses_are_never_one() -> None:
    assert Use(UseKind.REQUEST, 1.0) != Use(UseKind.REQUEST, 1.0)


def test_the_domain_is_frozen() -> None:
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        Key("a").name = "b"


def test_a_session_is_where_its_history_ends() -> None:
    history = [StatusEntry(Scheduled(), 1.0), StatusEntry(Loading(), 2.0)]
    session = make_session("id", Key(""), "", Spec(Executable()), 1.0, 1, history=history)

    assert session.status is Status.LOADING
    assert session.entered(Status.SCHEDULED) == 1.0
    assert session.entered(Status.READY) is None
