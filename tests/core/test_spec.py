"""A spawn request completed: what it says first, its app next, the defaults last."""

from __future__ import annotations

from typing import Any

import pytest

from plane_tx.core.containers import VolumeRequest
from plane_tx.core.errors import InvalidRequest
from plane_tx.core.model import (
    Credentials,
    Limits,
    PullPolicy,
    Readiness,
    ResourceLimits,
    Routing,
    Volume,
)
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


def test_what_reaches_out_of_a_container_is_an_apps_to_say() -> None:
    said = {
        "read_only": True, "tmpfs": {"/tmp": "size=1m"}, "volumes": (VolumeRequest("v", "/v"),),
        "cap_add": ("NET_ADMIN",), "runtime": "runsc", "gpus": "all", "mount": True,
    }  # fmt: skip
    app = App(ExecutableRequest(image="i", **said))

    made = complete(SpawnConfig(ExecutableRequest(app="x")), {"x": app}, Defaults()).executable

    assert (made.read_only, made.tmpfs, made.volumes) == (
        True, {"/tmp": "size=1m"}, (Volume("v", "/v", False),),
    )  # fmt: skip
    assert (made.cap_add, made.runtime, made.gpus, made.mount) == (
        ("NET_ADMIN",), "runsc", "all", True,
    )  # fmt: skip


REACHING = [
    ("cap_add", ("ALL",)), ("runtime", "runsc"), ("gpus", 1),
    ("volumes", (VolumeRequest("v", "/v"),)), ("mount", True),
]  # fmt: skip


@pytest.mark.parametrize("executable", [{"image": "i"}, {"app": "app"}])
@pytest.mark.parametrize(("field", "value"), REACHING)
def test_a_request_needs_leave_for_what_reaches_out_of_its_container(
    field: str, value: Any, executable: dict[str, Any]
) -> None:
    wanted = SpawnConfig(ExecutableRequest(**executable, **{field: value}))

    with pytest.raises(InvalidRequest, match=rf"executable\.{field}: this server lets no request"):
        complete(wanted, {"app": APP}, Defaults())

    leave = Defaults(allow_requests=frozenset({field}))
    assert getattr(complete(wanted, {"app": APP}, leave).executable, field)


def test_a_request_needs_no_leave_to_shut_itself_in_or_to_ask_for_less_than_its_app() -> None:
    app = App(ExecutableRequest(image="i", cap_add=("ALL",), mount=True, gpus="all"))
    wanted = ExecutableRequest(
        app="x", cap_add=(), mount=False, gpus=0, read_only=True, tmpfs={"/tmp": ""}
    )

    made = complete(SpawnConfig(wanted), {"x": app}, Defaults()).executable

    assert (made.cap_add, made.mount, made.gpus) == ((), False, 0)
    assert (made.read_only, made.tmpfs) == (True, {"/tmp": ""})
