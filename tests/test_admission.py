"""What a connect is given: each session and each caller something of their own."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from plane_tx.core.errors import InvalidRequest
from plane_tx.core.model import Key, Routing
from plane_tx.core.routes import find
from tests.recording_engine import EPOCH, Box, now


@pytest.fixture
def box() -> Box:
    return Box().start()


def environment(box: Box, session_id: str) -> Mapping[str, str]:
    return box.engine.orders[session_id].environment


@pytest.mark.parametrize(
    "config",
    [{}, {"subdomain": "sub"}, {"routing": Routing.HOST}, {"use_static_token": True}],
    ids=["path", "subdomain", "host", "static"],
)
def test_a_session_knows_a_link_to_itself(box: Box, config: dict[str, object]) -> None:
    session = box.spawn("key", **config)

    url = environment(box, session.id)["SESSION_BACKEND_URL"]
    host, slash, path = url.removeprefix("http://").partition("/")
    route = find(box.supervisor.registry, "localhost:9090", host, slash + path)

    assert route.session is session
    assert route.token is session.own_token
    assert (route.token.user, route.token.claims) == (None, {})


@pytest.mark.parametrize("config", [{}, {"subdomain": "sub"}, {"routing": Routing.HOST}])
def test_where_the_proxy_speaks_only_tls_every_link_is_https(config: dict[str, object]) -> None:
    box = Box(secure=True).start()

    given = now(box.connect("key", **config)).url
    own = environment(box, box.supervisor.registry.holder(Key("key")).id)["SESSION_BACKEND_URL"]

    assert given.startswith("https://")
    assert own.startswith("https://")


@pytest.mark.parametrize("cluster", ["[::1]:29090", "127.0.0.1:9090"])
@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"subdomain": "sub"}, "spawn_config.subdomain: this server's cluster is"),
        ({"routing": Routing.HOST}, "spawn_config.routing: this server's cluster is"),
    ],
)
def test_a_session_below_an_address_is_refused(
    cluster: str, config: dict[str, object], said: str
) -> None:
    box = Box(cluster=cluster).start()

    with pytest.raises(InvalidRequest, match=said) as refused:
        now(box.connect("key", **config))

    assert cluster in str(refused.value)


def test_below_an_address_there_are_sessions_by_path() -> None:
    box = Box(cluster="[::1]:29090").start()

    url = now(box.connect("key")).url

    assert url.startswith("http://[::1]:29090/")


def test_the_own_link_of_a_session_is_nobody_elses(box: Box) -> None:
    first, second = box.spawn("a"), box.spawn("b")
    given = now(box.connect("a"))

    values = {first.own_token.value, second.own_token.value, given.token}
    secrets = {first.secret, second.secret, given.secret_token}

    assert len(values) == len(secrets) == 3


def test_a_static_token_is_the_own_link_and_proves_nothing(box: Box) -> None:
    response = now(box.connect("key", use_static_token=True))
    session = box.supervisor.get(response.backend_id)

    told = environment(box, session.id)

    assert response.token == session.own_token.value == told["SESSION_BACKEND_STATIC_TOKEN"]
    assert response.url == told["SESSION_BACKEND_URL"]
    assert session.own_token.secret == ""
    assert told["SESSION_BACKEND_SECRET"] == session.secret != ""


def test_a_session_that_is_logged_gives_neither_secret_nor_link_away(box: Box) -> None:
    session = box.spawn("key")

    assert session.secret not in repr(session)
    assert session.own_token.value not in repr(session)


def test_each_token_given_out_has_the_time_to_live_and_the_own_one_none(box: Box) -> None:
    spawned = now(box.connect("key", token_ttl_seconds=60))
    joined = now(box.connect("key", spawn=False))

    grants = box.supervisor.registry.grants
    own = box.supervisor.get(spawned.backend_id).own_token
    assert [grants.get(each.token).ttl_seconds for each in (spawned, joined)] == [60, 60]
    assert grants.get(own.value).ttl_seconds is None


def test_a_join_is_told_the_end_of_the_session_and_not_of_its_own(box: Box) -> None:
    now(box.connect("key", lifetime_limit_seconds=60))
    box.clock.advance(20)

    joined = now(box.connect("key"))

    assert joined.expires_at == (int(EPOCH) + 60) * 1000
