"""POST /ctrl/b/{id}/link: a link that leads to the session, and that the journal knows."""

import pytest

from plane_tx.core.routes import find


@pytest.fixture
def link(ask):
    def link(backend, **body):
        return ask("POST", f"/ctrl/b/{backend}/link", body=body)

    return link


def token_of(supervisor, url):
    host, _, path = url.removeprefix("http://").partition("/")
    return find(supervisor.registry, "localhost:9090", host, f"/{path}").token


@pytest.mark.parametrize("user", [None, "ada"])
def test_a_session_without_a_key_gets_a_link_of_ones_own(link, spawn, supervisor, user):
    made = spawn()

    url = link(made["backend_id"], **({"user": user} if user else {})).json["url"]

    token = token_of(supervisor, url)
    assert url != made["url"]
    assert (token.session_id, token.user) == (made["backend_id"], user)


def test_a_static_token_is_the_same_for_everyone_and_carries_nobody(link, spawn):
    made = spawn(use_static_token=True)

    again, named = link(made["backend_id"]), link(made["backend_id"], user="ada")

    assert again.json["url"] == made["url"]
    assert (named.status, named.json["kind"]) == (422, "InvalidRequest")
    assert named.json["message"].startswith("user, auth: a static token")


def test_one_that_is_taken_back_leads_nowhere(link, ask, spawn, supervisor):
    backend = spawn()["backend_id"]
    token = token_of(supervisor, link(backend, user="ada").json["url"])

    ask("POST", "/ctrl/b/revoke", body={"backend_id": backend, "user": "ada"})

    assert supervisor.registry.grants.get(token.value) is None


@pytest.mark.parametrize("obeys", [True, False], ids=["ended", "ending"])
def test_there_is_none_to_a_session_that_ends(link, ask, spawn, make_ready, engine, obeys):
    backend = spawn()["backend_id"]
    make_ready(backend)
    engine.obeys = obeys
    ask("POST", f"/ctrl/b/{backend}/soft-terminate")

    answer = link(backend)

    assert (answer.status, answer.json["kind"]) == (410, "SessionEnded")
    assert "it was stopped by request" in answer.json["message"]


def test_who_may_not_join_for_its_tag_gets_no_link_by_its_id(link, ask):
    config = {"executable": {"image": "counter"}}
    key = {"name": "room", "tag": "theirs"}
    made = ask("POST", "/ctrl/connect", body={"key": key, "spawn_config": config}).json

    refused = [link(made["backend_id"], **body) for body in ({}, {"tag": "ours"})]

    assert [(each.status, each.json["kind"]) for each in refused] == [(409, "KeyHeld")] * 2
    assert link(made["backend_id"], tag="theirs").status == 200


def test_there_is_none_to_a_session_that_nobody_knows(link):
    assert link("nobody").status == 404


@pytest.mark.parametrize(
    "body", [{"user": 1}, {"user": " ada"}, {"tag": "\n"}, {"name": "ada"}, []]
)
def test_what_does_not_fit_is_refused(ask, spawn, body):
    backend = spawn()["backend_id"]

    assert ask("POST", f"/ctrl/b/{backend}/link", body=body).status == 422
    assert ask("POST", f"/ctrl/b/{backend}/link").status == 415
