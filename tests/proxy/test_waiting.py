"""What a browser is shown and told while its session boots, in memory."""

from __future__ import annotations

import html
import json
import re
from typing import Any

import pytest
from twisted.internet.defer import ensureDeferred, execute

from plane_tx.core.errors import EngineUnavailable, SpawnFailed
from plane_tx.core.listeners import Listener
from plane_tx.core.model import Address, Routing
from plane_tx.core.wire import ConnectRequest, KeyRequest
from plane_tx.diagnosis import PATIENCE_SECONDS
from plane_tx.journal import Journal
from plane_tx.proxy.waiting import BEAT_SECONDS, LOOK_BEATS, POLL_SECONDS
from tests.proxy.world import OK, World, body_of, done, head_of, status

PAGE = "Accept: text/html,application/xhtml+xml,*/*;q=0.8\r\n"
NAVIGATION = f"{PAGE}Sec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n"
ADDRESS = Address("10.0.0.2", 8080)
LOOK_SECONDS = LOOK_BEATS * BEAT_SECONDS


def navigate(world: World, token: str, more: str = "") -> bytes:
    """What a browser that goes there is answered at once."""
    client = world.client()
    client.send(world.get(token, more=NAVIGATION + more))
    return client.get()


def shown(answer: bytes) -> dict[str, Any]:
    """What a waiting page was given to begin with."""
    (told,) = re.findall(r'data-told="(.*?)"', body_of(answer).decode())
    return json.loads(html.unescape(told))


def question(world: World, token: str, version: str = "", path: str = "/") -> bytes:
    """What our page asks next."""
    more = f"Accept: application/json\r\nX-Plane-Tx-Waiting: {version}\r\n"
    return world.get(token, path, more)


def ask(world: World, token: str, version: str = ""):
    """A client that asks for news, and may have to wait."""
    client = world.client()
    client.send(question(world, token, version))
    return client


def news(client) -> dict[str, Any]:
    answer = client.get()
    assert status(answer) == 200, answer
    assert head_of(answer)["content-type"] == "application/json"
    assert head_of(answer)["cache-control"] == "no-store"
    return json.loads(body_of(answer))


def watched(world: World) -> int:
    return len(world.factory.carrier.meanwhile)


@pytest.fixture
def talkative():
    """A proxy that shows logs."""
    world = World(waiting_logs=True)
    yield world
    world.finish()


# The page


def test_a_browser_is_shown_a_page_at_once(world):
    session, token = world.spawn()

    answer = navigate(world, token)

    assert status(answer) == 503
    assert head_of(answer)["retry-after"] == "2"
    assert head_of(answer)["cache-control"] == "no-store"
    assert head_of(answer)["content-type"] == "text/html; charset=utf-8"
    assert head_of(answer)["x-plane-backend-id"] == session.id
    assert head_of(answer)["x-content-type-options"] == "nosniff"
    assert "connection" not in head_of(answer)
    assert shown(answer)["status"] == session.status
    assert world.uses() == []


def test_its_policy_lets_only_its_own_script_run(world):
    _, token = world.spawn()

    policy = head_of(navigate(world, token))["content-security-policy"]

    assert re.fullmatch(
        "default-src 'none'; base-uri 'none'; form-action 'none'; connect-src 'self'; "
        "img-src data:; script-src 'sha256-[^']{44}'; style-src( 'sha256-[^']{44}'){2}",
        policy,
    )


def test_the_page_says_nothing_of_the_token_and_names_nobody_else(world):
    _, token = world.spawn()

    page = body_of(navigate(world, token)).decode()

    assert token not in page
    assert not re.search(r"(src|href)=|https?://|url\(", page)


def test_the_page_works_without_scripts(world):
    session, token = world.spawn()
    world.engine.pulling(session.id, "r.example/app:1", 12 << 20, 40 << 20)
    world.advance(3)

    page = body_of(navigate(world, token)).decode()

    assert '<noscript><meta http-equiv="refresh" content="2" /></noscript>' in page
    assert "Pulling app: 12 of 40 MiB." in page
    assert "3 s so far" in page


def test_a_visit_to_the_page_claims_the_session_and_is_remembered(world):
    session, token = world.spawn(claim_within_seconds=5)

    navigate(world, token)

    (request,) = session.requests
    assert session.claimed
    assert (request.status, request.error) == (503, "SessionNotReady")


@pytest.mark.parametrize(
    ("method", "more"),
    [
        ("GET", ""),
        ("GET", "Accept: */*\r\n"),
        ("GET", f"{PAGE}Sec-Fetch-Mode: cors\r\n"),
        ("GET", f"{NAVIGATION}Connection: Upgrade\r\nUpgrade: websocket\r\n"),
        ("HEAD", NAVIGATION),
        ("POST", f"{NAVIGATION}Content-Length: 0\r\n"),
    ],
)
def test_all_else_is_held_until_the_session_is_ready(world, method, more):
    session, token = world.spawn()
    client = world.client()

    client.send(world.get(token, more=more, method=method))
    early, uses = client.get(), world.uses()
    world.make_ready(session)

    assert early == b""
    assert uses == ["hold"]
    assert world.accept().get().startswith(f"{method} / HTTP/1.1\r\n".encode())


@pytest.mark.parametrize(
    ("more", "kind"),
    [
        ("", "application/json"),
        (f"{PAGE}Sec-Fetch-Mode: cors\r\n", "text/html; charset=utf-8"),
    ],
)
def test_when_the_hold_ends_each_is_told_in_the_form_it_reads(world, more, kind):
    _, token = world.spawn()
    client = world.client()
    client.send(world.get(token, more=more))

    world.advance(world.supervisor.policy.hold_seconds)

    answer = client.get()
    assert status(answer) == 503
    assert head_of(answer)["content-type"] == kind
    assert head_of(answer)["retry-after"] == "2"
    assert b"still" in body_of(answer)
    assert b"data-told" not in body_of(answer)


def test_without_the_page_a_browser_is_held_too():
    world = World(waiting_page=False)
    session, token = world.spawn()
    client = world.client()

    client.send(world.get(token, more=NAVIGATION))
    early = client.get()
    world.make_ready(session)
    world.accept().send(OK)

    assert early == b""
    assert status(client.get()) == 200
    world.finish()


def test_a_browser_goes_on_by_the_same_connection(world):
    session, token = world.spawn()
    client = world.client()
    client.send(world.get(token, more=NAVIGATION))
    first = client.get()
    world.make_ready(session)

    client.send(world.get(token, more=NAVIGATION))
    world.accept().send(OK)

    assert status(first) == 503
    assert status(client.get()) == 200


def test_requests_sent_ahead_are_answered_in_order(world):
    session, token = world.spawn()
    client = world.client()
    body = "Content-Length: 4\r\n"
    client.send(
        world.get(token, more=NAVIGATION + body) + b"body"
        + question(world, token)
        + world.get(token, "/api")
    )  # fmt: skip

    early = client.get()
    world.make_ready(session)
    world.accept().send(OK)

    statuses = [status(each) for each in re.findall(rb"HTTP/1\.1 \d+[^\r]*", early)]
    assert statuses == [503, 200]
    assert status(client.get()) == 200


def test_a_browser_that_has_not_sent_all_of_its_body_is_answered_and_parted_with(world):
    _, token = world.spawn()
    client = world.client()

    client.send(world.get(token, more=f"{NAVIGATION}Content-Length: 4\r\n") + b"bo")
    answer = client.get()

    assert status(answer) == 503
    assert head_of(answer)["connection"] == "close"


def test_a_session_that_has_ended_has_its_page(world):
    session, token = world.spawn()
    world.engine.refuse(session.id, SpawnFailed("no space is left"))

    answer = navigate(world, token)

    assert status(answer) == 410
    assert b"no space is left." in body_of(answer)
    assert b"data-told" not in body_of(answer)


# News of it


def test_news_is_told_at_once(world):
    session, token = world.spawn()

    told = news(ask(world, token, "another"))

    assert told["state"] == "booting"
    assert told["status"] == session.status == "loading"
    assert told["since"] == told["time"] == 1_700_000_000_000
    assert told["lines"] == []
    assert world.uses() == []


def test_who_knows_it_all_waits_until_there_is_more(world):
    session, token = world.spawn()
    client = ask(world, token, shown(navigate(world, token))["version"])
    early, uses = client.get(), world.uses()

    world.engine.creating(session.id)

    assert early == b""
    assert uses == ["hold"]
    assert news(client)["status"] == "starting"
    assert world.uses() == []


def test_all_who_wait_are_told(world):
    session, token = world.spawn()
    version = shown(navigate(world, token))["version"]
    clients = [ask(world, token, version) for _ in range(3)]

    world.engine.creating(session.id)

    assert [news(client)["status"] for client in clients] == ["starting"] * 3
    assert watched(world) == 1


def test_a_new_version_is_one_that_is_waited_for(world):
    session, token = world.spawn()
    first = news(ask(world, token))

    client = ask(world, token, first["version"])
    world.engine.creating(session.id)
    second = news(client)

    assert second["version"] != first["version"]
    assert ask(world, token, second["version"]).get() == b""


def test_without_news_it_is_told_after_a_while(world):
    _, token = world.spawn()
    version = news(ask(world, token))["version"]
    client = ask(world, token, version)

    world.wait(POLL_SECONDS - 1)
    early = client.get()
    world.wait(1)

    told = news(client)
    assert early == b""
    assert told["version"] == version
    assert told["time"] - told["since"] == POLL_SECONDS * 1000


def test_that_the_session_is_ready_is_told_and_its_idle_clock_runs(world):
    session, token = world.spawn()
    world.engine.run(session.id, ADDRESS)
    client = ask(world, token, news(ask(world, token))["version"])
    world.advance(1)

    world.accept().send(OK)
    world.advance(0)
    told = news(client)

    assert told["state"] == "ready"
    assert session.idle_since == world.supervisor.now()
    assert world.uses() == []
    assert watched(world) == 0


def test_a_session_that_is_ready_sees_nothing_of_it_and_is_not_used(world):
    session, token = world.session()
    idle_since = session.idle_since
    world.advance(1)

    told = news(ask(world, token, news(ask(world, token))["version"]))

    assert told["state"] == "ready"
    assert world.dialled == 0
    assert world.uses() == []
    assert session.idle_since == idle_since
    assert list(session.requests) == []


def test_why_it_failed_is_told(world):
    session, token = world.spawn()
    client = ask(world, token, news(ask(world, token))["version"])

    world.engine.refuse(session.id, SpawnFailed("port 8080 is not open"))

    told = news(client)
    assert told["state"] == "ended"
    assert told["message"] == "port 8080 is not open"
    assert news(ask(world, token)) == told
    assert watched(world) == 0


def test_a_session_of_an_earlier_run_is_waited_for_until_the_engine_confirms_it(world):
    session, token = world.session()
    world.engine.lose_sight(session.id)
    answer = navigate(world, token)
    client = ask(world, token, shown(answer)["version"])
    early = client.get()

    world.engine.find_again(session.id, ADDRESS)
    world.wait(BEAT_SECONDS)

    assert status(answer) == 503
    assert early == b""
    assert shown(answer)["since"] is None
    assert "does not know yet" in shown(answer)["phase"]
    assert news(client)["state"] == "ready"


def test_pulls_are_told_four_times_a_second_at_most(world):
    session, token = world.spawn()
    version, told = news(ask(world, token))["version"], []

    client = ask(world, token, version)
    for size in range(100):
        world.engine.pulling(session.id, "app", size, 1000)
        world.advance(0.02)
        if client.value():
            told.append(news(client))
            client.send(question(world, token, told[-1]["version"]))

    sizes = [each["pull"]["bytes"] for each in told]
    assert 7 <= len(told) <= 2 / BEAT_SECONDS
    assert sizes == sorted(set(sizes))
    assert {each["phase"] for each in told} == {"pulling app"}


def test_what_earlier_boots_took_is_told(world):
    for seconds in (4, 9):
        session, _ = world.spawn()
        world.engine.creating(session.id)
        world.advance(seconds)
        world.make_ready(session)
        world.end(session)
    session, token = world.spawn()
    world.engine.creating(session.id)

    told = shown(navigate(world, token))

    assert (told["usually_seconds"], told["at_most_seconds"], told["boots"]) == (6.5, 9.0, 2)
    assert told["boot_since"] == told["time"]


def test_what_boots_of_an_earlier_run_took_is_told(tmp_path):
    journal = Journal(tmp_path / "journal", execute)
    journal.open(0.0)
    before = World(journal=journal)
    for _ in range(2):
        session, _ = before.spawn()
        before.engine.creating(session.id)
        before.advance(3)
        before.make_ready(session)
        before.end(session)
    before.finish()
    done(journal.close())

    journal.open(0.0)
    world = World(journal=journal)
    _, token = world.spawn()

    assert shown(navigate(world, token))["at_most_seconds"] == 3.0
    world.finish()
    done(journal.close())


# The log


def test_the_last_lines_are_told_if_they_may_be(talkative):
    session, token = talkative.spawn()
    talkative.engine.run(session.id, ADDRESS)
    talkative.engine.say(session.id, "first", 1.0)

    first = news(ask(talkative, token))
    client = ask(talkative, token, first["version"])
    talkative.engine.say(session.id, "<b>second</b>", 2.0)
    talkative.wait(LOOK_SECONDS)

    assert first["lines"] == ["first"]
    assert news(client)["lines"] == ["first", "<b>second</b>"]


def test_the_last_lines_of_one_that_failed_are_told(talkative):
    session, token = talkative.spawn()
    talkative.engine.run(session.id, ADDRESS)

    talkative.engine.exit(session.id, 1, tail=("no such file",))

    assert news(ask(talkative, token))["lines"] == ["no such file"]


def test_lines_are_told_to_nobody_unless_configured(world):
    session, token = world.spawn()
    world.engine.run(session.id, ADDRESS)
    world.engine.say(session.id, "secret", 1.0)
    client = ask(world, token, news(ask(world, token))["version"])

    world.wait(LOOK_SECONDS)
    early = client.get()
    world.engine.exit(session.id, 1, tail=("secret",))

    assert early == b""
    assert news(client)["lines"] == []
    assert world.engine.called("logs") == []


def test_nobody_looks_at_the_log_when_nobody_waits(talkative):
    session, token = talkative.spawn()
    talkative.engine.run(session.id, ADDRESS)
    news(ask(talkative, token))
    asked = len(talkative.engine.called("logs"))

    talkative.wait(60)

    assert len(talkative.engine.called("logs")) == asked
    assert watched(talkative) == 0


def test_an_engine_that_cannot_tell_its_log_is_asked_again(talkative):
    session, token = talkative.spawn()
    talkative.engine.run(session.id, ADDRESS)
    talkative.engine.say(session.id, "line", 1.0)
    talkative.engine.refusal = EngineUnavailable("Docker does not answer")
    client = ask(talkative, token, news(ask(talkative, token))["version"])

    talkative.wait(LOOK_SECONDS)
    early = client.get()
    talkative.engine.refusal = None
    talkative.wait(LOOK_SECONDS)

    assert early == b""
    assert news(client)["lines"] == ["line"]


def test_an_engine_that_takes_its_time_is_asked_once(talkative):
    session, token = talkative.spawn()
    talkative.engine.run(session.id, ADDRESS)
    talkative.engine.waits.add("logs")
    client = ask(talkative, token, news(ask(talkative, token))["version"])

    talkative.wait(4 * LOOK_SECONDS)
    client.hang_up()

    assert talkative.engine.called("logs") == [session.id]
    talkative.wait(60)
    talkative.engine.answer("logs")


def test_a_failure_of_ours_is_logged_and_the_page_is_told_on(talkative, logged_failures):
    session, token = talkative.spawn()
    talkative.engine.run(session.id, ADDRESS)
    talkative.engine.refusal = ZeroDivisionError()
    client = ask(talkative, token, news(ask(talkative, token))["version"])
    talkative.engine.refusal = None

    talkative.accept().send(OK)
    talkative.advance(0)

    assert news(client)["state"] == "ready"
    logged_failures.claim(ZeroDivisionError)


# Why it takes so long


def test_why_its_server_does_not_answer_is_told_after_a_while(world):
    session, token = world.spawn()
    world.engine.listens[session.id] = (Listener("0.0.0.0", 3000),)
    world.engine.run(session.id, ADDRESS)
    client = ask(world, token, news(ask(world, token))["version"])

    world.decline()
    world.wait(PATIENCE_SECONDS - 1)
    early = client.get()
    world.wait(2)

    phase = news(client)["phase"]
    assert early == b""
    assert phase.startswith("port 8080 is not open; the container listens on 3000")
    assert phase in body_of(navigate(world, token)).decode().replace("Port", "port")


def test_nobody_asks_where_it_listens_when_nobody_waits(world):
    session, token = world.spawn()
    world.engine.run(session.id, ADDRESS)
    client = ask(world, token, news(ask(world, token))["version"])
    client.hang_up()

    world.decline()
    world.wait(60)

    assert world.engine.called("listening") == []


# Who may ask, and who leaves


def test_an_unknown_link_is_gone(world):
    client = ask(world, "unknown")

    answer = client.get()

    assert status(answer) == 410
    assert json.loads(body_of(answer))["kind"] == "UnknownToken"


def test_who_waits_is_told_that_the_link_was_revoked(world):
    session, token = world.spawn(user="bea")
    client = ask(world, token, news(ask(world, token))["version"])

    world.supervisor.revoke(session.id, "bea")
    answer = client.get()

    assert status(answer) == 410
    assert json.loads(body_of(answer))["message"].startswith("this link was revoked")
    assert status(ask(world, token).get()) == 410


def test_who_leaves_takes_only_itself_along(world):
    session, token = world.spawn()
    version = news(ask(world, token))["version"]
    leaving, staying = (ask(world, token, version) for _ in range(2))

    leaving.hang_up()
    uses = world.uses()
    world.engine.creating(session.id)

    assert uses == ["hold"]
    assert news(staying)["status"] == "starting"


def test_nothing_is_left_of_a_session_that_nobody_waits_for(world):
    _, token = world.spawn()
    client = ask(world, token, news(ask(world, token))["version"])
    client.hang_up()
    shortly_after = watched(world)

    world.wait(10)

    assert shortly_after == 1
    assert watched(world) == 0


def test_who_waits_is_told_that_the_server_stops(world):
    _, token = world.spawn()
    client = ask(world, token, news(ask(world, token))["version"])

    closing = ensureDeferred(world.factory.close())
    answer = client.get()

    assert status(answer) == 503
    assert head_of(answer)["retry-after"] == "2"
    assert head_of(answer)["connection"] == "close"
    assert watched(world) == 1
    client.hang_up()
    world.wait(15)
    done(closing)
    assert watched(world) == 0


def test_only_get_asks_and_the_header_never_reaches_a_session(world):
    _, token = world.session()
    client = world.client()

    client.send(
        world.get(token, more="x-plane-tx-waiting: 1\r\nContent-Length: 0\r\n", method="POST")
    )

    asked = world.accept().get()
    assert asked.startswith(b"POST / HTTP/1.1\r\n")
    assert b"x-plane-tx-waiting" not in asked.lower()


def test_a_question_has_a_line_in_the_access_log(tmp_path):
    world = World(tmp_path / "access.log")
    session, token = world.spawn()

    news(ask(world, token))
    (line,) = world.logged()

    assert (line["status"], line["session"], line["error"]) == (200, session.id, "")
    assert token not in json.dumps(line)
    world.finish()


def test_by_a_static_link_or_a_host_of_its_own_it_is_the_same(world):
    static, token = world.spawn(use_static_token=True)
    host, label = world.spawn(routing=Routing.HOST)

    by_path = navigate(world, token)
    client = world.client()
    client.send(f"GET / HTTP/1.1\r\nHost: {label}.localhost:9090\r\n{NAVIGATION}\r\n".encode())
    by_host = client.get()

    assert head_of(by_path)["x-plane-backend-id"] == static.id
    assert head_of(by_host)["x-plane-backend-id"] == host.id
    assert (status(by_path), status(by_host)) == (503, 503)


def test_joining_a_session_that_boots_gives_a_link_with_the_same_page(world):
    session, token = world.spawn(user="ada")
    other = done(
        ensureDeferred(
            world.supervisor.connect(ConnectRequest(KeyRequest(session.key.name), user="bea"))
        )
    ).token

    assert shown(navigate(world, token)) == shown(navigate(world, other))
