"""What stands in a container's labels: enough to know a session again, and no secret."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plane_tx.core.model import (
    Credentials,
    Executable,
    IdleCount,
    IdleRule,
    Key,
    Limits,
    Readiness,
    Routing,
    Session,
    Spec,
    Status,
    Token,
)
from plane_tx.core.record import RECORD_LABEL, USER_LABEL_PREFIX, from_labels, to_labels
from tests.sessions import make_session

text = st.text(st.characters(codec="utf-8"), max_size=8)
seconds = st.floats(0, 1e6) | st.integers(0, 10**6)
sessions = st.builds(
    make_session,
    session_id=st.just("id"),
    key=st.builds(Key, text, text),
    tag=text,
    spec=st.builds(
        Spec,
        executable=st.builds(
            Executable,
            image=st.none() | text,
            app=st.none() | text,
            port=st.integers(1, 65535),
            readiness=st.builds(Readiness, text, st.lists(st.integers(100, 599)).map(tuple)),
        ),
        limits=st.builds(
            Limits, st.none() | seconds, st.none() | seconds, st.none() | seconds, seconds, seconds
        ),
        idle=st.builds(IdleRule, st.sampled_from(IdleCount), st.lists(text).map(tuple)),
        subdomain=st.none() | text,
        routing=st.sampled_from(Routing),
        labels=st.dictionaries(text, text, max_size=3),
    ),
    created_at=seconds,
    fencing_token=st.integers(0),
    user=st.none() | text,
)

EVERYTHING = make_session(
    "id",
    Key("name", "namespace"),
    "tag",
    Spec(
        Executable(
            image="image",
            env={"PASSWORD": "in-the-environment"},
            credentials=Credentials("login", "password"),
            command=("--secret",),
        ),
        use_static_token=True,
        labels={"team": "red"},
    ),
    1.5,
    42,
    "me",
    token_value="s.static",
)


@given(sessions)
def test_a_session_comes_back_from_its_labels(session: Session) -> None:
    back = from_labels("id", to_labels(session))

    assert (back.key, back.tag, back.user) == (session.key, session.tag, session.user)
    assert (back.created_at, back.fencing_token) == (session.created_at, session.fencing_token)
    assert back.spec == session.spec
    assert back.history == []


def test_what_the_container_knows_of_itself_comes_back() -> None:
    back = from_labels("id", to_labels(EVERYTHING))

    assert back.own_token == Token("s.static", "id", "", static=True)
    assert (back.secret, back.spec.use_static_token) == (EVERYTHING.secret, True)


def test_no_login_and_no_environment_stands_in_a_label() -> None:
    said = json.dumps(to_labels(EVERYTHING))

    for secret in ("in-the-environment", "password", "login", "--secret", "PASSWORD"):
        assert secret not in said


def test_an_apps_own_labels_stand_beside_the_record() -> None:
    labels = to_labels(EVERYTHING)

    assert labels[f"{USER_LABEL_PREFIX}team"] == "red"
    assert all(name.startswith("plane-tx.") for name in labels)


def changed(**values: Any) -> str:
    record = json.loads(to_labels(EVERYTHING)[RECORD_LABEL])
    return json.dumps({name: value for name, value in {**record, **values}.items() if value != ...})


def test_a_session_of_a_server_that_knew_no_idle_rule_has_the_default() -> None:
    labels = {RECORD_LABEL: changed(idle=...)}

    assert from_labels("id", labels).spec.idle == IdleRule()


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        "{",
        "null",
        "[]",
        "{}",
        "[" * 200_000,
        changed(name=1),
        changed(routing="moon"),
        changed(idle={"count": "days"}),
        changed(port="80"),
        changed(limits={"max_idle_seconds": "x"}),
        changed(created_at=float("nan")),
        changed(extra=1),
    ],
)
def test_what_cannot_be_read_is_no_session(value: str | None) -> None:
    labels = {} if value is None else {RECORD_LABEL: value}

    assert from_labels("id", labels) is None


def test_a_session_that_comes_back_has_no_status_yet() -> None:
    back = from_labels("id", to_labels(EVERYTHING))

    assert back.entered(Status.SCHEDULED) is None
