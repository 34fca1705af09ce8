"""A spawn request completed: what it says first, its app next, the defaults last."""

from __future__ import annotations

from typing import Any

import pytest

from plane_tx.core.errors import InvalidRequest
from plane_tx.core.model import Credentials, Limits, PullPolicy, Readiness, ResourceLimits, Routing
from plane_tx.core.spec import App, Defaults, complete
from plane_tx.core.wire import (
    CredentialsRequest,
    ExecutableRequest,
    ReadinessRequest,
    ResourceLimitsRequest,
    SpawnConfig,
)

APP = App(
    ExecutableRequest(
        image="of-app",
        command=("serve",),
        env={"A": "app", "B": "app"},
        port=9000,
        workdir="/app",
        resource_limits=ResourceLimitsRequest(cpus=1.0, pids_limit=10),
        readiness=ReadinessRequest("/up", (200,), 7.0),
    ),
    max_idle_seconds=11.0,
    lifetime_limit_seconds=22.0,
)


def completed(executable: ExecutableRequest, **config: Any) -> Any:
    return complete(SpawnConfig(executable, **config), {"app": APP}, Defaults())


def test_what_nobody_says_has_a_default() -> None:
    spec = completed(ExecutableRequest(image="i"))

    assert spec.limits == Limits(300.0, None, None, 300.0, 10.0)
    assert (spec.executable.image, spec.executable.port) == ("i", 8080)
    assert spec.executable.pull_policy is PullPolicy.IF_NOT_PRESENT
    assert spec.executable.readiness == Readiness()
    assert spec.routing is Routing.PATH


def test_an_app_brings_everything_that_the_request_leaves_out() -> None:
    spec = completed(ExecutableRequest(app="app"))

    assert (spec.executable.app, spec.executable.image) == ("app", "of-app")
    assert spec.executable.command == ("serve",)
    assert spec.executable.readiness == Readiness("/up", (200,))
    assert spec.limits == Limits(11.0, 22.0, None, 7.0, 10.0)


def test_a_request_wins_over_its_app_value_by_value() -> None:
    wanted = ExecutableRequest(
        app="app",
        env={"B": "mine", "C": "mine"},
        port=80,
        resource_limits=ResourceLimitsRequest(pids_limit=99),
        credentials=CredentialsRequest("u", "p"),
        pull_policy=PullPolicy.NEVER,
    )

    spec = completed(wanted, max_idle_seconds=0.0, lifetime_limit_seconds=1.0)

    assert spec.executable.env == {"A": "app", "B": "mine", "C": "mine"}
    assert (spec.executable.port, spec.executable.workdir) == (80, "/app")
    assert spec.executable.limits == ResourceLimits(cpus=1.0, pids_limit=99)
    assert spec.executable.credentials == Credentials("u", "p")
    assert spec.executable.pull_policy is PullPolicy.NEVER
    assert (spec.limits.max_idle_seconds, spec.limits.lifetime_limit_seconds) == (0.0, 1.0)


def test_a_request_says_its_own_limits() -> None:
    spec = completed(
        ExecutableRequest(image="i", readiness=ReadinessRequest(timeout_seconds=0.0)),
        claim_within_seconds=3.0, stop_grace_seconds=0.0,
        subdomain="sub", use_static_token=True, labels={"a": "b"},
    )  # fmt: skip

    assert spec.limits == Limits(300.0, None, 3.0, 0.0, 0.0)
    assert (spec.subdomain, spec.use_static_token, spec.labels) == ("sub", True, {"a": "b"})


@pytest.mark.parametrize(
    ("apps", "known"), [({}, "none is configured"), ({"b": APP, "a": APP}, "a, b")]
)
def test_an_unknown_app_is_refused_with_those_that_are_known(
    apps: dict[str, App], known: str
) -> None:
    config = SpawnConfig(ExecutableRequest(app="x"))

    with pytest.raises(InvalidRequest, match=rf"executable\.app: no app 'x'; known: {known}$"):
        complete(config, apps, Defaults())


@pytest.mark.parametrize("name", ["PATH", "LD_PRELOAD", "BASH_FUNC_echo%%", "HOME", "ANYTHING"])
def test_a_request_sets_only_what_a_command_of_this_box_lets_it_set(name: str) -> None:
    command = App(ExecutableRequest(command=("serve",)), request_env=("DOCUMENT",))
    wanted = SpawnConfig(ExecutableRequest(app="x", env={name: "x"}))

    with pytest.raises(InvalidRequest, match=rf"the app 'x' lets no request set '{name}'"):
        complete(wanted, {"x": command}, Defaults())

    named = SpawnConfig(ExecutableRequest(app="x", env={"DOCUMENT": "7"}))
    assert complete(named, {"x": command}, Defaults()).executable.env == {"DOCUMENT": "7"}


def test_a_request_sets_what_it_likes_inside_a_container() -> None:
    image = App(ExecutableRequest(image="i"))
    wanted = SpawnConfig(ExecutableRequest(app="x", env={"PATH": "/opt"}))

    assert complete(wanted, {"x": image}, Defaults()).executable.env == {"PATH": "/opt"}


@pytest.mark.parametrize(
    ("field", "value"),
    [("image", "x"), ("command", ("x",)), ("entrypoint", ("x",)), ("workdir", "/"), ("user", "0")],
)
def test_a_request_cannot_say_what_its_app_is(field: str, value: Any) -> None:
    with pytest.raises(InvalidRequest, match=rf"executable\.{field}: the app 'app' says this"):
        completed(ExecutableRequest(app="app", **{field: value}))
