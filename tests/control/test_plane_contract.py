"""What Plane's contract says of the bytes, and where we differ on purpose, over HTTP in memory."""

import json
from functools import partial

import pytest

from plane_tx.admission import Policy
from plane_tx.core.connect import CapacityLimits
from tests.control.client import Connection

SPAWN = {"spawn_config": {"executable": {"image": "counter"}}}
JSON = {"Content-Type": "application/json"}


CONTROL_URL = "http://127.0.0.1:8080"


def limited(**limits):
    """A policy with these caps, for a test to ask for in place of the usual one."""
    policy = Policy("localhost:9090", CONTROL_URL, limits=CapacityLimits(**limits))
    return pytest.mark.parametrize("policy", [policy])


# Connect


def test_every_field_of_an_answer_is_there_null_or_not(ask, spawn, make_ready):
    made = spawn(key="a", use_static_token=True)
    make_ready(made["backend_id"])
    joined = ask("POST", "/ctrl/connect", body={"key": {"name": "a"}})

    backend, token = made["backend_id"], made["token"]
    assert made["drone"] == "box"
    assert joined.body.decode() == (
        f'{{"backend_id":"{backend}","spawned":false,"status":"ready","token":"{token}",'
        f'"url":"http://localhost:9090/{token}/","subdomain":null,"secret_token":null,'
        f'"status_url":"http://127.0.0.1:8080/pub/b/{backend}/status","drone":null,'
        '"expires_at":null}'
    )


def test_a_join_passes_over_what_it_would_have_spawned(ask, spawn):
    made = spawn(key="a", subdomain="sub")
    config = {
        "executable": {"app": "no such app"},
        "id": made["backend_id"],
        "cluster": "elsewhere",
        "subdomain": "other",
        "max_idle_seconds": 1,
    }
    joined = ask("POST", "/ctrl/connect", body={"key": {"name": "a"}, "spawn_config": config})

    assert joined.status == 200
    assert (joined.json["spawned"], joined.json["subdomain"]) == (False, "sub")
    assert joined.json["url"].startswith("http://sub.localhost:9090/")
    limits = ask("GET", f"/ctrl/b/{made['backend_id']}").json["limits"]
    assert limits["max_idle_seconds"] == 300


def test_an_empty_name_is_a_key_like_any_other(ask):
    first, second = (
        ask("POST", "/ctrl/connect", body={"key": {"name": ""}, **SPAWN}).json for _ in range(2)
    )

    assert (second["spawned"], second["backend_id"]) == (False, first["backend_id"])


@pytest.mark.parametrize(
    ("policy", "url"),
    [
        (Policy("example.com", CONTROL_URL), "https://example.com/"),
        (Policy("example.com:443", CONTROL_URL), "https://example.com:443/"),
        (Policy("example.com:80", CONTROL_URL), "http://example.com:80/"),
        (Policy("localhost:9090", CONTROL_URL), "http://localhost:9090/"),
    ],
)
def test_a_url_is_https_where_the_cluster_has_the_port_of_https(ask, url):
    config = SPAWN["spawn_config"]
    plain = ask("POST", "/ctrl/connect", body={"spawn_config": config}).json
    below = ask("POST", "/ctrl/connect", body={"spawn_config": {**config, "subdomain": "s"}}).json

    assert plain["url"] == f"{url}{plain['token']}/"
    assert below["url"] == f"{url.replace('://', '://s.')}{below['token']}/"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"cluster": "elsewhere"}, "spawn_config.cluster: this server is 'localhost:9090'"),
        ({"executable": {"app": "none"}}, "spawn_config.executable.app: no app 'none'"),
        ({"executable": {"image": "i", "pull_policy": "always"}}, "pull_policy: expected"),
        ({"max_idle_second": 1}, "did you mean 'max_idle_seconds'?"),
    ],
)
def test_what_plane_would_find_out_too_late_is_422_at_once(ask, wrong, said):
    config = {**SPAWN["spawn_config"], **wrong}
    refused = ask("POST", "/ctrl/connect", body={"spawn_config": config})

    assert (refused.status, refused.json["kind"]) == (422, "InvalidRequest")
    assert said in refused.json["message"]
    assert ask("GET", "/ctrl/backends").json["backends"] == []


def test_a_user_is_refused_where_a_static_token_could_not_tell_of_them(ask, spawn):
    spawn(key="a", use_static_token=True)
    refused = ask("POST", "/ctrl/connect", body={"key": {"name": "a"}, "user": "ada"})

    assert (refused.status, refused.json["kind"]) == (422, "InvalidRequest")
    assert "a static token is shared by everyone" in refused.json["message"]


# Caps


@limited(max_sessions=10, max_starting=0)
def test_of_200_connects_at_once_as_many_spawn_as_there_are_places(site, engine):
    body = json.dumps(SPAWN).encode()
    connections = [Connection(site) for _ in range(200)]
    for connection in connections:
        connection.request("POST", "/ctrl/connect", JSON, body)
    answers = [connection.answer for connection in connections]

    assert [answer.status for answer in answers] == [200] * 10 + [503] * 190
    assert {answer.json["kind"] for answer in answers[10:]} == {"AtCapacity"}
    assert all(int(answer.headers["retry-after"]) > 0 for answer in answers[10:])
    assert len(engine.orders) == 10


@limited(max_sessions_per_user=1)
def test_a_user_with_all_their_sessions_is_429_until_one_may_end(ask):
    config = {**SPAWN["spawn_config"], "lifetime_limit_seconds": 60}
    ask_for = partial(ask, "POST", "/ctrl/connect")
    ask_for(body={"user": "ada", "spawn_config": config})
    refused = ask_for(body={"user": "ada", "spawn_config": config})

    assert (refused.status, refused.json["kind"]) == (429, "UserAtCapacity")
    assert refused.headers["retry-after"] == "60"
    assert ask_for(body={"user": "bob", "spawn_config": config}).status == 200


# Bytes


@pytest.mark.parametrize(
    ("method", "path", "body", "line"),
    [
        ("GET", "/ctrl/status", b"", b"HTTP/1.1 200 OK"),
        ("POST", "/ctrl/connect", b'{"auth":null}', b"HTTP/1.1 422 Unprocessable "),
        ("POST", "/ctrl/connect", b"{}", b"HTTP/1.1 409 Conflict"),
    ],
)
def test_every_status_has_its_phrase(site, method, path, body, line):
    connection = Connection(site)
    connection.request(method, path, JSON, body)

    assert connection.received.startswith(line)


@pytest.mark.parametrize("body", [b"", b"null", b"{}"])
def test_ending_a_session_needs_no_body_and_answers_null(ask, spawn, body):
    backend = spawn()["backend_id"]
    answer = ask("POST", f"/ctrl/b/{backend}/soft-terminate", JSON if body else {}, body)

    assert (answer.status, answer.body) == (200, b"null")
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/ctrl/nothing"),
        ("GET", "/pub/nothing"),
        ("GET", "/ctrl/b/nobody"),
        ("PUT", "/ctrl/connect"),
        ("POST", "/pub/health"),
        ("POST", "/ctrl/connect"),
    ],
)
def test_every_refusal_is_an_id_a_kind_and_a_message_in_that_order(ask, method, path):
    answer = ask(method, path)

    assert answer.status >= 400
    assert list(answer.json) == ["id", "kind", "message"]
    assert len(answer.json["id"]) == 14
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize("path", ["status", "status-stream"])
def test_a_trailing_slash_is_another_path(ask, spawn, path):
    backend = spawn()["backend_id"]

    assert ask("HEAD", f"/pub/b/{backend}/{path}").status == 200
    assert ask("GET", f"/pub/b/{backend}/{path}/").status == 404


def test_cors_is_for_the_public_part_and_is_planes_to_the_letter(ask, spawn):
    backend = spawn()["backend_id"]
    private = ask("GET", f"/ctrl/b/{backend}")
    public = ask("GET", f"/pub/b/{backend}/status")
    preflight = ask("OPTIONS", f"/pub/b/{backend}/status", {"Origin": "http://a.example"})

    def cors(answer):
        return {
            name: value
            for name, value in answer.headers.items()
            if name.startswith("access-control") or name == "vary"
        }

    ours = {
        "access-control-allow-origin": "*",
        "vary": "origin, access-control-request-method, access-control-request-headers",
    }
    methods = {
        "access-control-allow-methods": "GET,POST",
        "access-control-allow-headers": "content-type",
    }
    assert cors(private) == {}
    assert cors(public) == ours
    assert cors(preflight) == {**ours, **methods}
    assert (preflight.status, preflight.body) == (200, b"")
