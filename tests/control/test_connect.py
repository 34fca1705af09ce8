import json

import pytest

from tests.control.client import Connection

SPAWN = {"spawn_config": {"executable": {"image": "counter"}}}
JSON = {"Content-Type": "application/json"}


def test_a_spawn_is_answered_with_planes_fields_in_planes_order(ask):
    answer = ask("POST", "/ctrl/connect", body=SPAWN)

    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    assert list(answer.json) == [
        "backend_id", "spawned", "status", "token", "url", "subdomain", "secret_token",
        "status_url", "drone", "expires_at",
    ]  # fmt: skip
    backend, token = answer.json["backend_id"], answer.json["token"]
    assert answer.json["url"] == f"http://localhost:9090/{token}/"
    assert answer.json["status_url"] == f"http://127.0.0.1:8080/pub/b/{backend}/status"
    assert (answer.json["spawned"], answer.json["status"]) == (True, "scheduled")


def test_a_key_is_reused(spawn, make_ready):
    first = spawn(key="a")
    make_ready(first["backend_id"])
    second = spawn(key="a")

    assert (second["spawned"], second["backend_id"]) == (False, first["backend_id"])
    assert (second["status"], second["drone"]) == ("ready", None)
    assert second["token"] != first["token"]


def test_of_many_who_ask_for_one_key_at_once_one_spawns(site, engine):
    body = json.dumps({"key": {"name": "a"}, **SPAWN}).encode()
    connections = [Connection(site) for _ in range(20)]
    for connection in connections:
        connection.request("POST", "/ctrl/connect", JSON, body)
    answers = [connection.answer.json for connection in connections]

    assert [answer["spawned"] for answer in answers].count(True) == 1
    assert len({answer["backend_id"] for answer in answers}) == 1
    assert len({answer["token"] for answer in answers}) == 20
    assert len(engine.orders) == 1


def test_a_subdomain_leads_the_url(spawn):
    assert spawn(subdomain="sub")["url"].startswith("http://sub.localhost:9090/")


@pytest.mark.parametrize(
    "content_type", ["application/json", "Application/Vnd.x+JSON ; charset=utf-8"]
)
def test_json_may_come_under_its_many_names(ask, content_type):
    answer = ask(
        "POST", "/ctrl/connect", {"Content-Type": content_type}, json.dumps(SPAWN).encode()
    )

    assert answer.status == 200


@pytest.mark.parametrize(
    "content_type", ["", "text/plain", "application/jsonp", "a/json", "application/+json"]
)
def test_what_does_not_say_it_is_json_is_415(ask, content_type):
    answer = ask(
        "POST", "/ctrl/connect", {"Content-Type": content_type}, json.dumps(SPAWN).encode()
    )

    assert (answer.status, answer.json["kind"]) == (415, "InvalidRequest")


def test_no_body_without_a_type_is_415(ask):
    assert ask("POST", "/ctrl/connect").status == 415


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"{", 400, "not JSON"),
        (b"\xff", 400, "not JSON"),
        (b"", 415, "content-type"),
        (b'{"auth": null}', 422, "auth"),
        (b'{"spawn_config": {}}', 422, "spawn_config.executable"),
        (b'{"spwan_config": {}}', 422, "did you mean 'spawn_config'"),
    ],
)
def test_a_body_that_does_not_fit_is_refused_in_the_envelope(ask, body, status, said):
    answer = ask("POST", "/ctrl/connect", JSON if body else {}, body)

    assert answer.status == status
    assert list(answer.json) == ["id", "kind", "message"]
    assert answer.json["kind"] == "InvalidRequest"
    assert said in answer.json["message"]


def test_nothing_to_join_and_nothing_to_spawn_is_409(ask):
    answer = ask("POST", "/ctrl/connect", body={"key": {"name": "a"}})

    assert (answer.status, answer.json["kind"]) == (409, "KeyUnheldNoSpawnConfig")


def test_who_asks_while_the_last_session_ends_waits_and_leaves_alone(
    site, supervisor, engine, spawn, make_ready
):
    first = spawn(key="a")["backend_id"]
    make_ready(first)
    engine.obeys = False
    supervisor.soft_terminate(first)
    body = json.dumps({"key": {"name": "a"}, **SPAWN}).encode()
    impatient, patient = Connection(site), Connection(site)
    for connection in (impatient, patient):
        connection.request("POST", "/ctrl/connect", JSON, body)
    assert not patient.answered

    impatient.hang_up()
    engine.exit(first)

    assert not impatient.received
    assert patient.answer.status == 200
    assert patient.answer.json["spawned"]
    assert patient.answer.json["backend_id"] != first
    assert list(engine.pending) == [patient.answer.json["backend_id"]]


def test_an_engine_that_is_lost_says_when_to_come_back(ask, engine):
    engine.lose("the socket is gone")
    answer = ask("POST", "/ctrl/connect", body=SPAWN)

    assert (answer.status, answer.json["kind"]) == (503, "NoDroneAvailable")
    assert answer.headers["retry-after"] == "5"
