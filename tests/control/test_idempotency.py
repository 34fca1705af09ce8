import json

import pytest

BODY = {"spawn_config": {"executable": {"image": "counter"}}}


@pytest.fixture
def connect(ask):
    def connect(key, body=BODY):
        return ask("POST", "/ctrl/connect", {"Idempotency-Key": key}, body)

    return connect


def test_the_same_key_and_body_get_the_same_answer(connect, supervisor):
    first, second = connect("a"), connect("a")

    assert (first.status, second.status) == (200, 200)
    assert second.body == first.body
    assert "idempotency-replayed" not in first.headers
    assert second.headers["idempotency-replayed"] == "true"
    assert supervisor.registry.live_count == 1


def test_another_spelling_of_the_body_is_the_same_body(ask, connect):
    first = connect("a")
    spelt = json.dumps(BODY, indent=4).encode()

    second = ask(
        "POST",
        "/ctrl/connect",
        {"Idempotency-Key": "a", "Content-Type": "application/json"},
        spelt,
    )

    assert second.body == first.body


def test_another_body_for_the_same_key_is_refused(connect, supervisor):
    connect("a")

    answer = connect("a", {**BODY, "user": "ada"})

    assert (answer.status, answer.json["kind"]) == (422, "IdempotencyConflict")
    assert "a new key" in answer.json["message"]
    assert supervisor.registry.live_count == 1


def test_other_keys_and_no_key_are_other_requests(ask, connect):
    ids = {
        answer.json["backend_id"]
        for answer in (connect("a"), connect("b"), ask("POST", "/ctrl/connect", body=BODY))
    }

    assert len(ids) == 3


def test_an_error_is_not_kept(connect, engine):
    engine.lose("it is away")
    refused = connect("a")
    engine.regain()

    answer = connect("a")

    assert (refused.status, answer.status) == (503, 200)


def test_an_answer_is_forgotten_after_a_day(connect, reactor):
    first = connect("a")

    reactor.advance(24 * 3600)

    assert connect("a").json["backend_id"] != first.json["backend_id"]


@pytest.mark.parametrize("key", [" ", "a b", "ü", "x" * 256])
def test_a_key_that_cannot_be_is_refused(connect, key):
    answer = connect(key)

    assert answer.status == 422
    assert answer.json["message"].startswith("Idempotency-Key: expected 1 to 255 visible ASCII")


def test_callers_whom_an_auth_service_tells_apart_do_not_share_their_keys(ask):
    answers = [
        ask("POST", "/ctrl/connect", {"Idempotency-Key": "a", "Cookie": cookie}, BODY)
        for cookie in ("who=ada", "who=grace", "who=ada")
    ]

    ids = [answer.json["backend_id"] for answer in answers]
    assert ids[0] == ids[2] != ids[1]
