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
from plane_tx.core.idlerule import IdleRequest
from plane_tx.core.model import (
    Address,
    IdleCount,
    IdleRule,
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
        idle={"count": "messages", "ignore": ["engine.io", "ping*"]},
    ))  # fmt: skip

    assert request.spawn_config.routing is Routing.HOST
    assert request.spawn_config.executable.readiness.statuses == (200, 204)
    rule = IdleRule(IdleCount.MESSAGES, ("engine.io", "ping*"))
    assert request.spawn_config.idle.to_rule() == rule


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
                "workdir": "/\0",
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
        (
            spawning(idle={"count": "often"}),
            'spawn_config.idle.count: expected "connections" or "messages" or "bytes", got "often"',
        ),
        (
            spawning(idle={"counts": "bytes"}),
            "spawn_config.idle.counts: unknown field; did you mean 'count'?",
        ),
        (
            spawning(idle={"ignore": ["ping"]}),
            'spawn_config.idle.ignore: needs count = "messages"; set that, or leave ignore out',
        ),
        (
            spawning(idle={"count": "messages", "ignore": ["a"] * 17}),
            "spawn_config.idle.ignore: expected at most 16 entries, got 17",
        ),
        (
            spawning(idle={"count": "messages", "ignore": ["a" * 129]}),
            "spawn_config.idle.ignore[0]: expected at most 128 characters, got 129",
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


def executable(field: str) -> str:
    return f"spawn_config.executable.{field}"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            spawning({"command": [1] * 300_000}),
            f"{executable('command')}: expected at most 1024 entries, got 300000",
        ),
        (
            spawning({"entrypoint": [""] * 1025}),
            f"{executable('entrypoint')}: expected at most 1024 entries, got 1025",
        ),
        (
            spawning({"command": ["", "x" * 131_072]}),
            f"{executable('command')}[1]: expected at most 131071 characters, got 131072",
        ),
        (
            spawning({"env": {str(number): 1 for number in range(1001)}}),
            f"{executable('env')}: expected at most 1000 entries, got 1001",
        ),
        (
            spawning({"env": {"A": "", "x" * 256: ""}}),
            (f'{executable("env")}: the name "{"x" * 56}...: expected at most 255 characters,'
             " got 256"),
        ),
        (
            spawning({"env": {"A": "x" * 131_072}}),
            f"{executable('env')}['A']: expected at most 131071 characters, got 131072",
        ),
        (
            spawning({"tmpfs": {f"/{number}": "" for number in range(65)}}),
            f"{executable('tmpfs')}: expected at most 64 entries, got 65",
        ),
        (
            spawning({"tmpfs": {"/a": "rw," * 400}}),
            f"{executable('tmpfs')}['/a']: expected at most 1024 characters, got 1200",
        ),
        (
            spawning({"volumes": [None] * 65}),
            f"{executable('volumes')}: expected at most 64 entries, got 65",
        ),
        (
            spawning({"cap_add": ["ALL"] * 65}),
            f"{executable('cap_add')}: expected at most 64 entries, got 65",
        ),
        (
            spawning({"readiness": {"statuses": [200] * 501}}),
            f"{executable('readiness.statuses')}: expected at most 500 entries, got 501",
        ),
        (
            spawning({"credentials": {"username": "", "password": "x" * 16_385}}),
            f"{executable('credentials.password')}: expected at most 16384 characters, got 16385",
        ),
        *(
            (
                spawning({field: "x" * (most + 1)}),
                f"{executable(field)}: expected at most {most} characters, got {most + 1}",
            )
            for field, most in {
                "image": 1024, "workdir": 1024, "user": 255, "network_name": 255, "app": 255,
            }.items()
        ),
        *(
            (
                spawning(**{field: "x" * 1025}),
                f"spawn_config.{field}: expected at most 1024 characters, got 1025",
            )
            for field in ("cluster", "pool")
        ),
        (
            spawning(labels={str(number): None for number in range(70_000)}),
            "spawn_config.labels: expected at most 64 entries, got 70000",
        ),
        (
            spawning(labels={"a": "x" * 1025}),
            "spawn_config.labels['a']: expected at most 1024 characters, got 1025",
        ),
        *(
            (
                {"auth": auth},
                "auth: expected at most 8192 bytes of JSON",
            )
            for auth in (
                {"a": [1] * 300_000},
                {str(number): 1 for number in range(1000)},
                {"a": [[]] * 2048},
                {"a": [10**4000] * 3},
                {"ü" * 1400: 1},
                {"a": {"b": "x" * 9000}},
            )
        ),
    ],
)  # fmt: skip
def test_more_than_anyone_needs_is_refused_by_its_count(data: object, message: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse(data)

    assert str(caught.value) == message


@pytest.mark.parametrize("name", ["", "=", "a=b"])
def test_the_name_of_a_label_can_stand_in_a_query(name: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse(spawning(labels={name: "x=y"}))

    assert str(caught.value) == (
        f"spawn_config.labels: the name \"{name}\": expected one character or more, no '='"
    )


def test_as_much_as_is_allowed_is_taken() -> None:
    wanted = spawning(
        {
            "image": "x" * 1024, "command": ["x"] * 1023 + ["x" * 131_071], "user": "x" * 255,
            "env": {"x" * 255: "x" * 131_071, **{str(number): "" for number in range(999)}},
            "readiness": {"statuses": list(range(100, 600))},
            "tmpfs": {f"/{number}": "" for number in range(64)},
        },
        labels={"x" * 255: "x" * 1024, **{str(number): "" for number in range(63)}},
    )  # fmt: skip

    taken = parse(wanted).spawn_config

    assert (len(taken.executable.env), len(taken.executable.command), len(taken.labels)) == (
        1000, 1024, 64,
    )  # fmt: skip


def nested(levels: int) -> dict[str, Any]:
    value: Any = "x"
    for _ in range(levels - 1):
        value = {"a": value}
    return {"auth": value}


def test_claims_are_nested_so_deep_and_no_deeper() -> None:
    assert parse(nested(64)).auth

    with pytest.raises(InvalidRequest, match=r"^auth: too deeply nested, expected at most 64 lev"):
        parse(nested(65))


def test_claims_may_fill_what_they_have() -> None:
    claims = {"a": "x" * (8192 - len('{"a": ""}'))}

    assert parse({"auth": claims}).auth == claims


@pytest.mark.parametrize(
    "data",
    [
        {"x" * 900_000: 1},
        spawning(id="x" * 900_000),
        spawning(subdomain="x" * 900_000),
        spawning({"app": "x" * 900_000}),
        spawning({"image": ["x" * 900_000]}),
        spawning({"gpus": "x" * 900_000}),
        spawning({"mount": "/x" * 400_000}),
        spawning({"runtime": "x" * 900_000}),
        spawning({"env": {"=" * 255: ""}}),
        spawning({"env": {"x" * 900_000: ""}}),
        spawning({"tmpfs": {"x" * 1024: ""}}),
        spawning({"tmpfs": {"/a": "x" * 1024}}),
        spawning({"volumes": [{"name": "x" * 900_000, "path": "/a"}]}),
        spawning({"cap_add": ["x" * 900_000]}),
        spawning(routing="x" * 900_000),
        spawning(labels={"=" * 255: ""}),
        spawning(labels={"x" * 255: 1}),
    ],
)
def test_no_refusal_says_a_long_value_again(data: object) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse(data)

    assert len(str(caught.value)) < 250


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
        (b'{"user": "\\ud800"}', "the body has a character that is half of a pair"),
        (b'{"auth": {"\\udfff": 1}}', "the body has a character that is half of a pair"),
        (b'{"auth": {"a": 1e999}}', "the body has a number that is too large"),
        (b'{"auth": {"a": [-1e999]}}', "the body has a number that is too large"),
        ('{"user": "a"}'.encode("utf-16"), "the body is not JSON"),
        (b"[" * 200_000, "the body is too deeply nested"),
        (b'{"auth": {"a": ' + b"[" * 9999 + b"]" * 9999 + b"}}", "the body is too deeply nested"),
        (b'{"auth": {"a": ' + b"9" * 5000 + b"}}", "the body has a number of too many digits"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_or_written_again_is_malformed(body: bytes, message: str) -> None:
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
            idle=objects(count=st.sampled_from(IdleCount), ignore=st.lists(st.text())) | anything,
        ),
        executables | anything,
    )
    | anything,
    other=anything,
)
FIELDS = {field for kind in (
    wire.ConnectRequest, wire.SpawnConfig, wire.ExecutableRequest, wire.KeyRequest,
    wire.ResourceLimitsRequest, wire.ReadinessRequest, wire.CredentialsRequest,
    ContainerFields, VolumeRequest, IdleRequest,
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
