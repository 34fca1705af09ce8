import re
from base64 import b64encode

import pytest
from twisted.logger import formatEvent

from plane_tx.control.guard import Access
from plane_tx.core.apikeys import ApiKeys, parse_key
from plane_tx.core.sections import DemoConfig
from tests.control.client import Connection, asking

SECRETS = {name: f"the-secret-of-{name}-itself" for name in ("joiner", "reader", "both", "admin")}
SCOPES = {"joiner": "connect", "reader": "read", "both": "connect,read", "admin": "admin"}
KEEPALIVE = "/ctrl/b/mine/keepalive"


@pytest.fixture
def access():
    lines = [f"{name}:{SCOPES[name]}:{secret}" for name, secret in SECRETS.items()]
    return Access(keys=ApiKeys((line, parse_key(line)) for line in lines))


@pytest.fixture
def site(make_site, access):
    return make_site(DemoConfig(), access)


@pytest.fixture
def ask(site):
    return asking(site)


def bearer(secret):
    return {"Authorization": f"Bearer {secret}"}


def refused(answer):
    return (answer.status, answer.json["kind"], answer.headers["www-authenticate"]) == (
        401, "Unauthorized", "Bearer",
    )  # fmt: skip


def forbidden(answer):
    return (answer.status, answer.json["kind"]) == (403, "Forbidden")


PRIVATE = ["/ctrl/status", "/ctrl/backends", "/ctrl/b/x", "/metrics", "/ctrl/nothing", "/nothing"]
SPELLINGS = [
    "//ctrl/status", "///ctrl/status", "/%63trl/status", "/ctrl%2fstatus", "/%2fctrl/status",
    "/./ctrl/status", "/CTRL/status", "/ctrl/../pub/health", "/pub",
    "http://localhost:8080/ctrl/status", "/ctrl;/status", "/ctrl\\status", "*", "/metrics/",
]  # fmt: skip


@pytest.mark.parametrize("path", [*PRIVATE, *SPELLINGS])
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "POST", "get", "DELETE", "TRACE"])
def test_without_a_key_nothing_private_is_told(site, method, path):
    connection = Connection(site)
    connection.request(method, path)

    assert connection.answer.status == 401


@pytest.mark.parametrize("path", ["/", "/pub/health", "/pub/ready", "//pub/ready"])
def test_what_is_open_needs_no_key(ask, path):
    assert ask("GET", path, {"Host": "example.com", "Origin": "null"}).status == 200


def test_the_description_is_open(ask):
    assert ask("GET", "/openapi.json").status not in (401, 403)


@pytest.mark.parametrize(
    "authorization",
    [
        "Bearer", "Bearer ", "Bearer wrong-secret-of-some-length", SECRETS["admin"],
        f"Basic {SECRETS['admin']}", f"Bearer{SECRETS['admin']}", f"Bearer {SECRETS['admin']}x",
        f"Bearer\t{SECRETS['admin']}", f"Bearer {SECRETS['admin']} x", f"Token {SECRETS['admin']}",
        f"Bearer {SECRETS['admin']},Bearer {SECRETS['admin']}", "Bearer \xff\xfe",
    ],
)  # fmt: skip
def test_what_is_no_key_of_ours_is_401(ask, authorization):
    assert refused(ask("GET", "/ctrl/status", {"Authorization": authorization}))


def test_basic_is_not_taken_for_browsers_repeat_it(ask):
    login = b64encode(f":{SECRETS['admin']}".encode()).decode()

    assert refused(ask("GET", "/ctrl/status", {"Authorization": f"Basic {login}"}))


def test_two_authorizations_are_none(site):
    line = f"Authorization: Bearer {SECRETS['admin']}\r\n"
    connection = Connection(site)
    connection.send(f"GET /ctrl/status HTTP/1.1\r\nHost: x\r\n{line}{line}\r\n".encode())

    assert refused(connection.answer)


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "Bearer  "])
def test_the_scheme_is_read_in_any_case(ask, scheme):
    assert (
        ask("GET", "/ctrl/status", {"Authorization": f"{scheme} {SECRETS['reader']}"}).status == 200
    )


CALLS = [
    ("GET", "/ctrl/status", "reader both admin", 200),
    ("HEAD", "/ctrl/status", "reader both admin", 200),
    ("get", "/ctrl/status", "reader both admin", 200),
    ("GET", "/metrics", "reader both admin", None),
    ("GET", "/nothing", "reader both admin", 404),
    ("GET", "//ctrl/status", "reader both admin", 200),
    ("GET", "/ctrl/connect", "reader both admin", 405),
    ("POST", "/ctrl/connect", "joiner both admin", 415),
    ("post", "/ctrl/connect", "joiner both admin", 415),
    ("POST", "//ctrl/connect", "joiner both admin", 415),
    ("POST", "/ctrl/connect/", "admin", 404),
    ("POST", "/ctrl/b/x/link", "joiner both admin", 415),
    ("POST", "/ctrl/b/x/y/link", "admin", 404),
    ("DELETE", "/ctrl/b/x/link", "admin", 405),
    ("HEAD", "/ctrl/board", "reader both admin", 200),
    ("GET", "/ctrl/stats?id=x&stream=true", "reader both admin", 204),
    ("PUT", "/ctrl/connect", "admin", 405),
    ("POST", "/ctrl/b/x/soft-terminate", "admin", 404),
    ("POST", KEEPALIVE, "admin", None),
    ("OPTIONS", "/ctrl/status", "admin", 405),
    ("DELETE", "/ctrl/drain", "admin", None),
]


@pytest.mark.parametrize("name", list(SECRETS))
@pytest.mark.parametrize(("method", "path", "names", "status"), CALLS)
def test_a_key_opens_what_its_scopes_say(ask, method, path, names, status, name):
    answer = ask(method, path, bearer(SECRETS[name]))

    if name not in names.split():
        assert answer.status == 403
    elif status is not None:
        assert answer.status == status
    else:
        assert answer.status not in (401, 403)


def test_a_403_names_the_scope_that_is_needed_and_the_key(ask):
    answer = ask("POST", "/ctrl/b/x/soft-terminate", bearer(SECRETS["joiner"]))

    assert forbidden(answer)
    assert answer.json["message"] == "this needs a key with the scope admin, which 'joiner' has not"
    assert "www-authenticate" not in answer.headers


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "example.com"},
        {"Host": ""},
        {"Origin": "http://example.com"},
        {"Sec-Fetch-Site": "cross-site"},
    ],
)
def test_with_a_key_it_does_not_matter_where_from(ask, headers):
    assert ask("GET", "/ctrl/status", {**headers, **bearer(SECRETS["reader"])}).status == 200


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_with_a_key_a_body_must_be_json_all_the_same(ask, content_type):
    headers = {"Content-Type": content_type, **bearer(SECRETS["admin"])}

    assert ask("POST", "/ctrl/b/x/soft-terminate", headers, b"{}").status == 415


def test_without_a_key_nothing_is_said_about_the_body(ask):
    assert refused(ask("POST", "/ctrl/connect", {"Content-Type": "text/plain"}, b"{}"))


def test_a_session_is_made_with_a_key_that_may_connect(ask):
    body = {"spawn_config": {"executable": {"image": "counter"}}}
    answer = ask("POST", "/ctrl/connect", bearer(SECRETS["joiner"]), body)

    assert answer.status == 200


def test_each_request_of_a_connection_needs_its_key(site):
    connection = Connection(site)
    connection.request("GET", "/ctrl/status", bearer(SECRETS["admin"]))
    connection.transport.clear()
    connection.request("GET", "/ctrl/status")

    assert refused(connection.answer)


@pytest.mark.parametrize("method", ["POST", "post"])
def test_a_session_may_keep_itself_alive(ask, mine, method):
    answer = ask(method, KEEPALIVE, bearer(mine.secret), {"seconds": 5})

    assert (answer.status, answer.json["backend_id"]) == (200, "mine")


def test_a_session_that_keeps_itself_alive_must_say_so_in_json(ask, mine):
    headers = {"Content-Type": "text/plain", **bearer(mine.secret)}

    assert ask("POST", KEEPALIVE, headers, b"{}").status == 415


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", KEEPALIVE),
        ("DELETE", KEEPALIVE),
        ("POST", "/ctrl/b/other/keepalive"),
        ("POST", "/ctrl/b/mine/keepalive/"),
        ("POST", "/ctrl/b/mine/x/keepalive"),
        ("POST", "/ctrl/b/mine/soft-terminate"),
        ("POST", "/ctrl/b/keepalive"),
        ("POST", "/ctrl/b//keepalive"),
        ("GET", "/ctrl/b/mine"),
        ("POST", "/ctrl/connect"),
    ],
)
def test_a_session_may_do_nothing_else(ask, mine, method, path):
    assert refused(ask(method, path, bearer(mine.secret)))


@pytest.mark.parametrize("said", ["", "x", "{}x", "x{}", "{} {}", "\xff"])
@pytest.mark.parametrize("session", ["mine", "unknown"])
def test_without_its_secret_nobody_is_a_session(ask, mine, session, said):
    answer = ask("POST", f"/ctrl/b/{session}/keepalive", bearer(said.format(*[mine.secret] * 2)))

    assert refused(answer)


def test_a_session_without_a_secret_cannot_prove_itself(ask, mine):
    mine.secret = ""

    assert refused(ask("POST", KEEPALIVE, bearer("")))


def test_without_keys_a_session_may_call_from_where_nobody_else_may(make_site, mine):
    ask = asking(make_site(DemoConfig()))
    headers, lease = {"Host": "host.docker.internal:8080"}, {"seconds": 5}

    assert ask("POST", KEEPALIVE, {**headers, **bearer(mine.secret)}, lease).status == 200
    assert forbidden(ask("POST", KEEPALIVE, {**headers, **bearer("x")}, lease))
    assert forbidden(ask("POST", "/ctrl/b/x/keepalive", {**headers, **bearer(mine.secret)}, lease))


def refusals(logged):
    return [re.sub(r" \w{14}:", "", formatEvent(event)) for event in logged if "id" in event]


def test_the_log_names_who_was_refused(ask, mine, logged):
    ask("GET", "/ctrl/b/x", bearer(SECRETS["reader"]))
    ask("POST", "/ctrl/b/x/soft-terminate", bearer(SECRETS["reader"]))
    ask("POST", KEEPALIVE, {"Content-Type": "text/plain", **bearer(mine.secret)}, b"{}")
    ask("GET", "/elsewhere", bearer(SECRETS["admin"]))
    ask("GET", "/ctrl/b/x")

    assert [line.partition(": ")[0] for line in refusals(logged)] == [
        "404 NotFound GET '/ctrl/b/x' by 'reader'",
        "403 Forbidden POST '/ctrl/b/x/soft-terminate' by 'reader'",
        "415 InvalidRequest POST '/ctrl/b/mine/keepalive' by 'session:mine'",
        "404 NotFound elsewhere by 'admin'",
        "401 Unauthorized GET '/ctrl/b/x'",
    ]
