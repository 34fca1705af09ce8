"""The wire contract: what a connect may say."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plane_tx.core import wire
from plane_tx.core.containers import ContainerFields, VolumeRequest
from plane_tx.core.errors import InvalidRequest, MalformedRequest
from plane_tx.core.model import (
    Address,
    PullPolicy,
    Routing,
)
from plane_tx.core.wire import ConnectRequest, KeyRequest, parse_connect

HERE = Address("127.0.0.1", 8080)


def parse(data: object) -> ConnectRequest:
    return parse_connect(json.dumps(data).encode())


def spawning(executable: object = None, **config: object) -> dict[str, object]:
    return {"spawn_config": {"executable": executable or {"image": "i"}, **config}}


def test_everything_that_plane_takes_is_taken() -> None:
    request = parse({
        "key": {"name": "k", "namespace": "n", "tag": "t"},
        "user": "me",
        "auth": {"a": [1, None, {"b": "ü"}]},
        "spawn_config": {
            "id": "my-id", "cluster": "localhost:9090", "pool": "pool",
            "lifetime_limit_seconds": 3600, "max_idle_seconds": 30, "use_static_token": False,
            "subdomain": "sub",
            "executable": {
                "image": "ghcr.io/x/y:z", "pull_policy": "Always",
                "credentials": {"username": "u", "password": "p"},
                "env": {"A": "1", "EMPTY": ""},
                "resource_limits": {
                    "cpu_period": 100000, "cpu_period_percent": 80, "cpu_time_limit": 60,
                    "memory_limit_bytes": 1024, "disk_limit_bytes": 2048,
                },
                "mount": "data/of-me", "network_name": "net",
            },
        },
    })  # fmt: skip

    config = request.spawn_config
    assert request.key == KeyRequest("k", "n", "t")
    assert request.auth == {"a": [1, None, {"b": "ü"}]}
    assert (config.lifetime_limit_seconds, config.max_idle_seconds) == (3600, 30)
    assert config.executable.pull_policy is PullPolicy.ALWAYS
    assert config.executable.resource_limits.cpu_period_percent == 80


def test_nulls_are_taken_where_plane_takes_them() -> None:
    nulls = ("id", "cluster", "lifetime_limit_seconds", "max_idle_seconds", "subdomain")
    executable = {"image": "i", "pull_policy": None, "credentials": None, "mount": None,
                  "network_name": None}  # fmt: skip
    config = {"executable": executable, **dict.fromkeys(nulls)}

    request = parse({"key": None, "user": None, "spawn_config": config})

    assert request == parse(spawning({"image": "i"}))
    assert parse({"spawn_config": None}) == ConnectRequest()


def test_our_own_fields_are_taken() -> None:
    request = parse(spawning(
        {
            "app": "a", "command": ["x"], "entrypoint": [], "port": 80, "user": "u", "workdir": "/",
            "readiness": {"path": "/up?x", "statuses": [200, 204], "timeout_seconds": 5},
            "resource_limits": {"pids_limit": 100, "cpus": 1.5},
        },
        claim_within_seconds=5, stop_grace_seconds=0, routing="host", labels={"a": "b"},
    ))  # fmt: skip

    assert request.spawn_config.routing is Routing.HOST
    assert request.spawn_config.executable.readiness.statuses == (200, 204)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            spawning(max_idle_seconds="ten"),
            'spawn_config.max_idle_seconds: expected a number >= 0, got "ten"',
        ),
        (
            spawning(lifetime_limit_seconds=-1),
            "spawn_config.lifetime_limit_seconds: expected a number >= 0, got -1",
        ),
        (
            spawning(max_idle=1),
            "spawn_config.max_idle: unknown field; did you mean 'max_idle_seconds'?",
        ),
        (
            {"spawnconfig": {}},
            "spawnconfig: unknown field; did you mean 'spawn_config'?",
        ),
        ({"qqq": 1}, "qqq: unknown field; known here: auth, key, spawn_config, user"),
        ({"spawn_config": {}}, "spawn_config.executable: is required"),
        ({"key": {}}, "key.name: is required"),
        ({"auth": None}, "auth: expected an object, got null"),
        ({"auth": []}, "auth: expected an object, got []"),
        (spawning(pool=None), "spawn_config.pool: expected a string, got null"),
        (
            spawning({"image": "i", "pull_policy": "always"}),
            ('spawn_config.executable.pull_policy: expected "IfNotPresent" or "Always" or "Never",'
            ' got "always"'),
        ),
        (
            spawning({"env": {"A": 1}}),
            "spawn_config.executable.env['A']: expected a string, got 1",
        ),
        (
            spawning({"mount": 1}),
            "spawn_config.executable.mount: expected true, false or a string",
        ),
        (
            spawning({"gpus": "both"}),
            'spawn_config.executable.gpus: expected a whole number >= 0 or "all", got "both"',
        ),
        (
            spawning({"volumes": [{"name": "/etc", "path": "/x"}]}),
            ("spawn_config.executable.volumes[0].name: expected the name of a volume (a-z, A-Z,"
            ' 0-9, \'_\', \'.\', \'-\'; no path), got "/etc"'),
        ),
        (
            spawning({"command": []}),
            "spawn_config.executable.command: expected at least one word",
        ),
        (
            spawning({"env": {"A=B": ""}}),
            "spawn_config.executable.env: 'A=B' cannot be an environment variable",
        ),
        (
            spawning({"env": {"": "x"}}),
            "spawn_config.executable.env: '' cannot be an environment variable",
        ),
        (
            spawning({"env": {"A": "\0"}}),
            "spawn_config.executable.env: 'A' cannot be an environment variable",
        ),
        *(
            (spawning({field: value}), f"spawn_config.executable.{field}: expected no NUL")
            for field, value in {
                "image": "a\0", "command": ["a", "\0"], "entrypoint": ["\0"], "user": "\0",
                "workdir": "/\0", "network_name": "\0",
            }.items()
        ),
        *(
            (
                spawning({"readiness": {"path": path}}),
                ("spawn_config.executable.readiness.path: expected '/' and visible ASCII,"
                " as in a URL"),
            )
            for path in ("", "up", "/a b", "/ü", "/\r\nX: y", "/\n")
        ),
        (
            spawning({"readiness": {"statuses": [99]}}),
            "spawn_config.executable.readiness.statuses: expected numbers from 100 to 599",
        ),
        (
            spawning(routing="host", use_static_token=True),
            'spawn_config.routing: "host" does not go with use_static_token',
        ),
        (
            spawning(routing="host", subdomain="a"),
            'spawn_config.routing: "host" does not go with a subdomain',
        ),
        (
            spawning(subdomain="a" * 52),
            "spawn_config.subdomain: this could be a token; choose another",
        ),
        (
            spawning(token_ttl_seconds=0),
            "spawn_config.token_ttl_seconds: expected a number > 0, or null",
        ),
        (
            spawning(token_ttl_seconds=60, use_static_token=True),
            ("spawn_config.token_ttl_seconds: a static token lives as long as its session; leave"
            " this or use_static_token out"),
        ),
        (
            {"user": "me", **spawning(use_static_token=True)},
            ("user, auth: a static token is shared by everyone and can carry neither;"
            " leave both out, or make the session without use_static_token"),
        ),
        ({"auth": {"a": "x" * 8192}}, "auth: expected at most 8192 bytes of JSON"),
        ({"user": "a\nb"}, "user: expected at most 1024 printable characters"),
        ({"user": " ada"}, "user: expected no space at either end, where a header loses it"),
        ({"key": {"name": "x" * 256}}, "key.name: expected at most 255 printable characters"),
        ({"key": {"name": "", "tag": "\0"}}, "key.tag: expected at most 255 printable characters"),
        ([], "expected an object, got []"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_by_its_name(data: object, message: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse(data)

    assert str(caught.value) == message
    assert caught.value.status == 422


@pytest.mark.parametrize("field", ["id", "subdomain"])
@pytest.mark.parametrize("value", ["", "A", "a b", "-a", "a-", "../x", "a.b", "ü", "a\n", "x" * 64])
def test_a_name_for_hosts_and_containers_is_checked(field: str, value: str) -> None:
    with pytest.raises(
        InvalidRequest, match=rf"spawn_config\.{field}: expected at most \d+ of a-z"
    ):
        parse(spawning(**{field: value}))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "the body is not JSON: Expecting value"),
        (b"{", "the body is not JSON"),
        (b"\xff", "the body is not JSON: 'utf-8'"),
        (b'{"auth": {"a": NaN}}', "the body is not JSON: NaN is no number there"),
        (b'{"auth": {"a": -Infinity}}', "the body is not JSON: -Infinity is no number there"),
        (b'{"user": "\\ud800"}', "the body is not JSON: 'utf-8' codec can't encode"),
        (b'{"auth": {"\\udfff": 1}}', "the body is not JSON: 'utf-8' codec can't encode"),
        ('{"user": "a"}'.encode("utf-16"), "the body is not JSON"),
        (b"[" * 200_000, "the body is not JSON"),
        (b'{"auth": {"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}}", "the body is not JSON"),
        (b'{"auth": {"a": ' + b"9" * 5000 + b"}}", "the body is not JSON"),
    ],
)  # fmt: skip
def test_what_is_not_json_is_malformed(body: bytes, message: str) -> None:
    with pytest.raises(MalformedRequest) as caught:
        parse_connect(body)

    assert str(caught.value).startswith(message)
    assert caught.value.status == 400


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


def objects(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.fixed_dictionaries({}, optional=fields)


names = st.text("ab-A\n", max_size=4)
executables = objects(
    image=st.just("i") | anything,
    env=st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=2) | anything,
    command=st.lists(st.text(max_size=2), max_size=2) | anything,
    port=st.integers() | anything,
    mount=st.text("a./", max_size=4) | anything,
    read_only=anything,
    tmpfs=st.dictionaries(st.text("/a.", max_size=3), st.text("rw,", max_size=3)) | anything,
    volumes=st.lists(objects(name=names, path=st.text("/a.", max_size=3))) | anything,
    cap_add=st.lists(st.sampled_from(["ALL", "x"])) | anything,
    runtime=names | anything,
    gpus=anything,
    resource_limits=objects(cpus=anything, pids_limit=anything) | anything,
    readiness=objects(path=st.text(max_size=4), statuses=st.lists(st.integers())) | anything,
    pull_policy=st.sampled_from(["Always", "x"]) | anything,
)
requests = objects(
    key=objects(name=names, namespace=names, tag=anything) | anything,
    user=st.text(max_size=5) | anything,
    auth=st.dictionaries(st.text(max_size=3), anything, max_size=2) | anything,
    spawn_config=st.builds(
        lambda config, executable: {**config, "executable": executable},
        objects(
            id=names | anything,
            subdomain=names | anything,
            max_idle_seconds=st.floats() | anything,
            routing=st.sampled_from(["host", "path"]) | anything,
            use_static_token=st.booleans(),
            labels=st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=2),
        ),
        executables | anything,
    )
    | anything,
    other=anything,
)
FIELDS = {field for kind in (
    wire.ConnectRequest, wire.SpawnConfig, wire.ExecutableRequest, wire.KeyRequest,
    wire.ResourceLimitsRequest, wire.ReadinessRequest, wire.CredentialsRequest,
    ContainerFields, VolumeRequest,
) for field in kind.__annotations__} | {"other", "expected an object"}  # fmt: skip


@given(requests | anything)
def test_any_json_is_a_request_or_refused_by_the_name_of_a_field(data: Any) -> None:
    body = json.dumps(data).encode()

    try:
        request = parse_connect(body)
    except MalformedRequest:
        assert b"NaN" in body or b"Infinity" in body or b"\\ud" in body
    except InvalidRequest as error:
        refused = str(error)
        assert any(field in refused for field in FIELDS) or "unknown field" in refused
        wire.dumps(refused)
    else:
        assert isinstance(request, ConnectRequest)
        wire.dumps(dict(request.auth))


@given(st.binary())
def test_any_bytes_are_a_request_or_refused(body: bytes) -> None:
    with contextlib.suppress(InvalidRequest):
        assert isinstance(parse_connect(body), ConnectRequest)
