"""A spawn request completed: what it says first, its app next, the defaults last."""

from __future__ import annotations

from typing import Any

import pytest

from plane_tx.core.containers import VolumeRequest
from plane_tx.core.errors import InvalidRequest
from plane_tx.core.hardening import Egress, Hardening, HardeningChange
from plane_tx.core.idlerule import IdleRequest
from plane_tx.core.model import (
    Credentials,
    Executable,
    IdleCount,
    IdleRule,
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
    assert spec.idle == IdleRule()


def test_an_app_brings_everything_that_the_request_leaves_out() -> None:
    spec = completed(ExecutableRequest(app="app"))

    assert (spec.executable.app, spec.executable.image) == ("app", "of-app")
    assert spec.executable.command == ("serve",)
    assert spec.executable.readiness == Readiness("/up", (200,))
    assert spec.limits == Limits(11.0, 22.0, None, 7.0, 10.0)


OF_DEFAULTS, OF_APP, OF_REQUEST = (
    IdleRequest(IdleCount.BYTES), IdleRequest(IdleCount.MESSAGES, ("ping",)), IdleRequest(),
)  # fmt: skip


@pytest.mark.parametrize(
    ("of_request", "of_app", "told"),
    [
        (None, None, OF_DEFAULTS),
        (None, OF_APP, OF_APP),
        (OF_REQUEST, OF_APP, OF_REQUEST),
        (OF_REQUEST, None, OF_REQUEST),
    ],
)
def test_the_idle_rule_is_the_requests_else_the_apps_else_the_default_as_a_whole(
    of_request: IdleRequest | None, of_app: IdleRequest | None, told: IdleRequest
) -> None:
    apps = {"app": App(ExecutableRequest(image="i"), idle=of_app)}
    config = SpawnConfig(ExecutableRequest(app="app"), idle=of_request)

    spec = complete(config, apps, Defaults(idle=OF_DEFAULTS))

    assert spec.idle == told.to_rule()


@pytest.mark.parametrize(
    ("of_request", "of_app", "told"),
    [
        (None, Routing.PATH, Routing.PATH),
        (None, Routing.HOST, Routing.HOST),
        (Routing.PATH, Routing.HOST, Routing.PATH),
        (Routing.HOST, Routing.PATH, Routing.HOST),
    ],
)
def test_the_routing_is_the_requests_else_the_apps(
    of_request: Routing | None, of_app: Routing, told: Routing
) -> None:
    apps = {"app": App(ExecutableRequest(image="i"), routing=of_app)}

    spec = complete(SpawnConfig(ExecutableRequest(app="app"), routing=of_request), apps, Defaults())

    assert spec.routing is told


@pytest.mark.parametrize("beside", [{"subdomain": "sub"}, {"use_static_token": True}])
def test_what_an_apps_host_routing_does_not_go_with_is_refused(beside: dict[str, Any]) -> None:
    apps = {"app": App(ExecutableRequest(image="i"), routing=Routing.HOST)}
    wanted = ExecutableRequest(app="app")

    with pytest.raises(InvalidRequest, match=f"^spawn_config.{next(iter(beside))}: the app 'app'"):
        complete(SpawnConfig(wanted, **beside), apps, Defaults())
    spec = complete(SpawnConfig(wanted, routing=Routing.PATH, **beside), apps, Defaults())

    assert spec.routing is Routing.PATH


def test_a_request_wins_over_its_app_value_by_value() -> None:
    wanted = ExecutableRequest(
        app="app",
        env={"B": "mine", "C": "mine"},
        port=80,
        resource_limits=ResourceLimitsRequest(pids_limit=9),
        credentials=CredentialsRequest("u", "p"),
        pull_policy=PullPolicy.NEVER,
    )

    spec = completed(wanted, max_idle_seconds=0.0, lifetime_limit_seconds=1.0)

    assert spec.executable.env == {"A": "app", "B": "mine", "C": "mine"}
    assert (spec.executable.port, spec.executable.workdir) == (80, "/app")
    assert spec.executable.limits == ResourceLimits(cpus=1.0, pids_limit=9)
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
        "network_name": "net",
    }  # fmt: skip
    app = App(ExecutableRequest(image="i", **said))

    made = complete(SpawnConfig(ExecutableRequest(app="x")), {"x": app}, Defaults()).executable

    assert (made.read_only, made.tmpfs, made.volumes) == (
        True, {"/tmp": "size=1m"}, (Volume("v", "/v", False),),
    )  # fmt: skip
    assert (made.cap_add, made.runtime, made.gpus, made.mount, made.network_name) == (
        ("NET_ADMIN",), "runsc", "all", True, "net",
    )  # fmt: skip


REACHING = [
    ("cap_add", ("ALL",)), ("runtime", "runsc"), ("gpus", 1),
    ("volumes", (VolumeRequest("v", "/v"),)), ("mount", True), ("network_name", "net"),
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


SHUT_IN = App(
    ExecutableRequest(
        image="i", read_only=True, tmpfs={"/tmp": "size=1m"}, network_name="alone",
        resource_limits=ResourceLimitsRequest(memory_limit_bytes=1 << 26, cpus=0.5),
    ),
    request_env=("DOCUMENT",),
)  # fmt: skip


def shut_in(**said: Any) -> Any:
    leave = Defaults(allow_requests=frozenset({"network_name"}))
    return complete(SpawnConfig(ExecutableRequest(app="x", **said)), {"x": SHUT_IN}, leave)


@pytest.mark.parametrize(
    ("field", "value"),
    [("read_only", False), ("tmpfs", {}), ("network_name", "bridge"), ("network_name", "")],
)
def test_a_request_cannot_open_what_its_app_shuts(field: str, value: Any) -> None:
    with pytest.raises(InvalidRequest, match=rf"executable\.{field}: the app 'x' says this; leave"):
        shut_in(**{field: value})


def test_a_request_may_say_what_its_app_says_and_needs_no_leave_for_it() -> None:
    wanted = ExecutableRequest(
        app="x", read_only=True, tmpfs={"/tmp": "size=1m"}, network_name="alone"
    )

    made = complete(SpawnConfig(wanted), {"x": SHUT_IN}, Defaults()).executable

    assert (made.read_only, made.tmpfs, made.network_name) == (True, {"/tmp": "size=1m"}, "alone")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("memory_limit_bytes", 1 << 40, "67108864 at most, and 0 is no limit; got 1099511627776"),
        ("memory_limit_bytes", 0, "67108864 at most, and 0 is no limit; got 0"),
        ("cpus", 0.6, "0.5 at most, and 0 is no limit; got 0.6"),
    ],
)
def test_a_request_cannot_raise_a_limit_of_its_app(field: str, value: Any, message: str) -> None:
    with pytest.raises(InvalidRequest, match=rf"limits\.{field}: the app 'x' allows {message}$"):
        shut_in(resource_limits=ResourceLimitsRequest(**{field: value}))


def test_a_request_may_lower_the_limits_of_its_app_and_set_those_it_leaves_open() -> None:
    wanted = ResourceLimitsRequest(memory_limit_bytes=1 << 25, cpus=0.5, pids_limit=512)

    limits = shut_in(resource_limits=wanted).executable.limits

    assert limits == ResourceLimits(cpus=0.5, memory_limit_bytes=1 << 25, pids_limit=512)


@pytest.mark.parametrize(("field", "value"), REACHING)
def test_an_image_that_reaches_out_of_its_container_names_what_a_request_may_set(
    field: str, value: Any
) -> None:
    app = App(ExecutableRequest(image="i", **{field: value}), request_env=("DOCUMENT",))

    with pytest.raises(InvalidRequest, match=r"env: the app 'x' lets no request set 'LD_PRELOAD'"):
        complete(
            SpawnConfig(ExecutableRequest(app="x", env={"LD_PRELOAD": "/x"})),
            {"x": app}, Defaults(),
        )  # fmt: skip

    named = SpawnConfig(ExecutableRequest(app="x", env={"DOCUMENT": "7"}))
    assert complete(named, {"x": app}, Defaults()).executable.env == {"DOCUMENT": "7"}


def shut_in_by(defaults: Defaults, app: App | None = None, **said: Any) -> Executable:
    what = {"image": "i"} if app is None else {"app": "x"}
    wanted = ExecutableRequest(**{**what, **said})
    return complete(SpawnConfig(wanted), {"x": app or App()}, defaults).executable


def test_every_executable_is_as_shut_in_as_the_configuration_says() -> None:
    hardening = Hardening(init=False)

    made = shut_in_by(Defaults(runtime="runsc", egress=Egress.NONE, hardening=hardening))

    assert (made.runtime, made.egress, made.hardening) == ("runsc", Egress.NONE, hardening)


def test_an_app_has_its_own_runtime_egress_and_changes_of_the_hardening() -> None:
    app = App(
        ExecutableRequest(image="i", runtime="crun", egress=Egress.OPEN),
        hardening=HardeningChange(no_new_privileges=False),
    )

    made = shut_in_by(Defaults(runtime="runsc", egress=Egress.NONE), app)

    assert (made.runtime, made.egress) == ("crun", Egress.OPEN)
    assert made.hardening == Hardening(no_new_privileges=False)


def test_an_app_that_drops_fewer_capabilities_names_what_a_request_may_set() -> None:
    app = App(ExecutableRequest(image="i"), hardening=HardeningChange(cap_drop=()))

    with pytest.raises(InvalidRequest, match=r"env: the app 'x' lets no request set 'LD_PRELOAD'"):
        shut_in_by(Defaults(), app, env={"LD_PRELOAD": "/x"})


def test_a_request_may_close_its_egress() -> None:
    assert shut_in_by(Defaults(), egress=Egress.NONE).egress is Egress.NONE


@pytest.mark.parametrize(
    ("default", "of_app"),
    [(Egress.NONE, None), (Egress.NONE, Egress.NONE), (Egress.OPEN, Egress.NONE)],
)
def test_no_request_opens_an_egress_that_is_closed(default: Egress, of_app: Egress | None) -> None:
    app = App(ExecutableRequest(image="i", egress=of_app))

    with pytest.raises(InvalidRequest, match=r'executable\.egress: this server says "none" here'):
        shut_in_by(Defaults(egress=default), app, egress=Egress.OPEN)


def test_whoever_may_name_a_network_goes_where_that_leads() -> None:
    leave = Defaults(egress=Egress.NONE, allow_requests=frozenset({"network_name"}))

    assert shut_in_by(leave, network_name="mine").egress is Egress.OPEN


def test_a_network_of_its_own_and_no_egress_do_not_go_together() -> None:
    app = App(ExecutableRequest(image="i", network_name="mine"))

    with pytest.raises(InvalidRequest, match=r'egress: "none" does not go with a network_name'):
        shut_in_by(Defaults(), app, egress=Egress.NONE)


@pytest.mark.parametrize("image", ["busybox", "ghcr.io/me/app@sha256:" + 64 * "0"])
def test_an_image_like_an_allowed_one_may_be_named(image: str) -> None:
    allowing = Defaults(allow_images=("docker.io/library/*", "ghcr.io/me/*"))

    assert shut_in_by(allowing, image=image).image == image


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ("you/app", "this server runs no 'docker.io/you/app:latest': name an app, or have the"),
        ("App", "'App' is no image reference"),
    ],
)
def test_an_image_like_no_allowed_one_is_refused(image: str, message: str) -> None:
    with pytest.raises(InvalidRequest, match=rf"^spawn_config\.executable\.image: {message}"):
        shut_in_by(Defaults(allow_images=("docker.io/library/*",)), image=image)


def test_the_image_of_an_app_is_always_allowed() -> None:
    app = App(ExecutableRequest(image="you/app"))

    made = shut_in_by(Defaults(allow_images=("docker.io/library/*",)), app)

    assert made.image == "you/app"


@pytest.mark.parametrize("asked", [0, 513])
def test_no_request_has_more_processes_than_the_configuration_lets_it(asked: int) -> None:
    limits = ResourceLimitsRequest(pids_limit=asked)

    with pytest.raises(InvalidRequest, match=rf"allows 512 at most .* 0 is no limit; got {asked}$"):
        shut_in_by(Defaults(), resource_limits=limits)


OF_ITS_OWN = ResourceLimitsRequest(pids_limit=9999)


@pytest.mark.parametrize(
    ("defaults", "app", "asked"),
    [
        (Defaults(), App(ExecutableRequest(image="i")), 512),
        (Defaults(hardening=Hardening(pids_limit=0)), App(ExecutableRequest(image="i")), 9999),
        (Defaults(), App(hardening=HardeningChange(pids_limit=9999)), 9999),
        (Defaults(), App(ExecutableRequest(resource_limits=OF_ITS_OWN)), 9999),
    ],
)
def test_a_request_has_as_many_processes_as_it_asks_for_up_to_that(
    defaults: Defaults, app: App, asked: int
) -> None:
    limits = ResourceLimitsRequest(pids_limit=asked)

    made = shut_in_by(defaults, app, resource_limits=limits)

    assert made.limits.pids_limit == asked
