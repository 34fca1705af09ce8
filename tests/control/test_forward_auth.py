import json

import pytest
import pytest_twisted
from twisted.internet.defer import CancelledError
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.error import ConnectionRefusedError as Refused
from twisted.internet.error import DNSLookupError
from twisted.web.http_headers import Headers
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from plane_tx.control.forward_auth import (
    MOST_AT_ONCE,
    MOST_BODY_BYTES,
    ForwardAuth,
    forward_auth_at,
    question,
)
from plane_tx.control.guard import Access
from plane_tx.control.sse import EventStream
from plane_tx.core.errors import AuthServiceUnavailable, Unauthorized
from plane_tx.core.sections import DemoConfig
from tests.control.auth_service import AuthService
from tests.control.client import Connection

NOTHING = "<ForwardAuth [Asked: 0 | Waiting: 0]>"


@pytest.fixture
def service(reactor):
    return AuthService(reactor)


@pytest.fixture
def auth(reactor, service):
    return ForwardAuth(reactor, service, "http://auth:9000/check?by=plane")


@pytest.fixture
def site(make_site, auth):
    access = Access(forward_auth=auth, own_origin=("https", "plane.example.com"))
    return make_site(DemoConfig(), access)


@pytest.fixture
def begin(site):
    """Send a request, whose answer may have to wait."""

    def begin(method="GET", path="/ctrl/status", headers=None, body=b""):
        connection = Connection(site)
        connection.request(method, path, {"Host": "plane.example.com", **(headers or {})}, body)
        return connection

    return begin


@pytest.fixture
def ask(begin, service):
    def ask(*args, **options):
        connection = begin(*args, **options)
        service.flush()
        return connection.answer

    return ask


def seen(service, name):
    """The one header of this name that the service was sent last."""
    values = service.asked[-1].requestHeaders.getRawHeaders(name, [])
    assert len(values) <= 1
    return values[0] if values else None


# The four rows of plane.md part 7.


@pytest.mark.parametrize("status", [300, 302, 304, 400, 401, 403, 404, 500])
def test_forward_auth_rejects(ask, service, status):
    service.status = status
    service.headers = {"Location": "http://auth:9000/login"}
    answer = ask()

    assert (answer.status, answer.json["kind"]) == (401, "Unauthorized")
    assert answer.headers["www-authenticate"] == "Bearer"
    assert len(service.asked) == 1


@pytest.mark.parametrize("status", [200, 201, 204, 299])
def test_forward_auth_accepts(ask, service, status):
    service.status = status
    service.body = b"" if status == 204 else b"come in"

    assert ask().json["status"] == "ok"


def test_forward_auth_forwards_path(ask, service):
    ask(path="/ctrl/status?key=value")

    assert seen(service, b"x-original-path") == b"/status"


def test_forward_auth_forwards_bearer_token(ask, service):
    ask(headers={"Authorization": "Bearer test"})

    assert seen(service, b"authorization") == b"Bearer test"


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/ctrl/connect", b"/connect"),
        ("/ctrl/b/x/keepalive", b"/b/x/keepalive"),
        ("/ctrl", b"/"),
        ("/ctrl/", b"/"),
        ("/metrics", b"/metrics"),
        ("/nothing", b"/nothing"),
        ("/controls", b"/controls"),
        ("//ctrl/status", b"/status"),
        ("/%63trl/st%61tus", b"/status"),
        ("/ctrl%2fstatus", b"/status"),
        ("/ctrl//status", b"//status"),
        ("/ctrl/../status", b"/../status"),
        ("/ctrl/b/%C3%A9%0d%0aX:%20y%3F%25", b"/b/%C3%A9%0D%0AX:%20y%3F%25"),
    ],
)
def test_the_path_that_is_told_is_the_one_that_is_routed(ask, service, path, told):
    ask(path=path)

    assert seen(service, b"x-original-path") == told


@pytest.mark.parametrize("name", ["x-original-path", "X-ORIGINAL-PATH", "X_Original_Path"])
def test_no_caller_says_itself_which_path_it_asks_for(ask, service, name):
    ask(headers={name: "/status"}, path="/ctrl/backends")

    assert seen(service, b"x-original-path") == b"/backends"
    assert seen(service, b"x_original_path") is None


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"])
def test_the_service_is_asked_by_the_same_method_without_a_body(ask, service, method):
    body = {"headers": {"Content-Type": "application/json"}, "body": b"{}"}
    ask(method, **(body if method in ("POST", "PUT") else {}))

    (asked,) = service.asked
    assert (asked.method, asked.uri, asked.sent) == (method.encode(), b"/check?by=plane", b"")
    assert seen(service, b"content-length") in (None, b"0")
    assert seen(service, b"content-type") is None


def test_a_connect_goes_on_with_its_body_once_it_is_let_in(ask):
    body = {"spawn_config": {"executable": {"image": "counter"}}}
    answer = ask(
        "POST", "/ctrl/connect", {"Content-Type": "application/json"}, json.dumps(body).encode()
    )

    assert (answer.status, answer.json["spawned"]) == (200, True)


def test_the_callers_headers_are_passed_on():
    headers = Headers(
        {
            "Host": ["plane.example.com"],
            "Authorization": ["Bearer a", "Bearer b"],
            "Cookie": ["a=b"],
            "X-Real": ["yes"],
            "Accept-Encoding": ["br"],
        }
    )

    asked = dict(question(headers, "/ctrl/x").getAllRawHeaders())

    assert asked == {
        b"Host": [b"plane.example.com"],
        b"Authorization": [b"Bearer a", b"Bearer b"],
        b"Cookie": [b"a=b"],
        b"X-Real": [b"yes"],
        b"Accept-Encoding": [b"br"],
        b"X-Original-Path": [b"/x"],
    }


def test_what_concerns_the_connection_or_the_body_is_not_passed_on():
    names = [
        "Content-Length", "Transfer-Encoding", "Content-Type", "Content-Encoding", "Upgrade",
        "Expect", "TE", "Trailer", "Keep-Alive", "Proxy-Authorization", "Proxy-Connection", "X-Hop",
    ]  # fmt: skip
    headers = Headers({"Connection": ["X-Hop, Authorization"], "Authorization": ["Bearer a"]})
    for name in names:
        headers.addRawHeader(name, "x")

    asked = dict(question(headers, "/ctrl/x").getAllRawHeaders())

    assert asked == {b"Authorization": [b"Bearer a"], b"X-Original-Path": [b"/x"]}


def test_no_cookie_of_one_caller_is_sent_for_another(ask, service):
    service.headers = {"Set-Cookie": "who=alice; Path=/"}
    ask()
    ask()

    assert seen(service, b"cookie") is None


@pytest.mark.parametrize("path", ["/", "/pub/health", "//pub/ready"])
def test_nobody_is_asked_about_what_is_open(ask, service, path):
    answer = ask(path=path, headers={"Origin": "http://example.com"})

    assert (answer.status, service.asked) == (200, [])


@pytest.mark.parametrize("host", ["example.com", "localhost", "10.0.0.1:8080"])
def test_any_host_may_be_asked_for(ask, service, host):
    assert ask(headers={"Host": host}).status == 200
    assert seen(service, b"host") == host.encode()


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://example.com"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
@pytest.mark.parametrize("path", ["/ctrl/status", "//ctrl/status", "/metrics"])
def test_nobody_is_asked_about_what_a_foreign_page_sends(ask, service, headers, path):
    answer = ask(path=path, headers={"Cookie": "login=alice", **headers})

    assert (answer.status, answer.json["kind"], service.asked) == (403, "Forbidden", [])


@pytest.mark.parametrize("origin", ["http://plane.example.com", "https://plane.example.com"])
def test_our_own_pages_are_asked_about(ask, origin):
    assert ask(headers={"Origin": origin, "Sec-Fetch-Site": "same-origin"}).status == 200


def test_nobody_is_asked_about_a_post_that_a_page_may_send_unasked(ask, service):
    answer = ask("POST", "/ctrl/connect", {"Content-Type": "text/plain"}, b"{}")

    assert (answer.status, service.asked) == (415, [])


def test_a_sessions_own_keepalive_is_let_in_without_asking(ask, service, mine):
    service.status = 401
    headers = {"Authorization": f"Bearer {mine.secret}", "Content-Type": "application/json"}

    assert ask("POST", "/ctrl/b/mine/keepalive", headers, b'{"seconds": 5}').status == 200
    assert service.asked == []
    assert ask("POST", "/ctrl/b/other/keepalive", headers).status == 401


class Streams(Resource):
    """Answers with a stream of events that the test writes."""

    isLeaf = True

    def render(self, request):
        self.stream = EventStream(request, request.channel.factory.reactor)
        self.stream.ended.addErrback(lambda cancelled: cancelled.trap(CancelledError))
        request.notifyFinish().addErrback(lambda _: self.stream.ended.cancel())
        return NOT_DONE_YET


def test_an_event_stream_begins_once_it_is_let_in(begin, service, site, auth, reactor):
    routes = site.resource._routes = Streams()
    connection = begin("GET", "/ctrl/events")
    assert connection.received == b""

    service.flush()
    routes.stream.send(b"data: 1\n\n")

    assert b"data: 1\n\n" in connection.received
    assert repr(auth) == NOTHING
    connection.hang_up()
    auth.close()
    assert reactor.getDelayedCalls() == []


def unavailable(answer):
    return (answer.status, answer.json["kind"]) == (502, "Other")


@pytest.mark.parametrize("error", [Refused(111, "refused"), DNSLookupError("no such name")])
def test_a_service_that_is_not_there_is_502(begin, service, error):
    service.down = error
    connection = begin()

    assert unavailable(connection.answer)
    assert "[control] forward_auth" in connection.answer.json["message"]
    assert "by=plane" not in connection.answer.json["message"]


def test_a_service_that_hangs_up_is_502_after_a_second_try(begin, service):
    service.holding = True
    connection = begin()
    service.flush()
    service.close()
    service.flush()
    assert not connection.answered

    service.close()
    service.flush()

    assert unavailable(connection.answer)
    assert len(service.asked) == 2


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_kept_connection_that_has_just_been_closed_costs_nobody_a_call(
    ask, begin, service, method
):
    ask()
    connection = begin(method)
    service.close()
    service.flush()

    assert connection.answer.status in (200, 405)
    assert service.connected == 2


def test_a_service_that_speaks_no_http_is_502(begin, service):
    service.render = lambda request: request.channel.transport.write(b"SSH-2.0\r\n\r\n") or 1
    connection = begin()
    service.flush()

    assert unavailable(connection.answer)


def test_a_service_that_does_not_answer_is_502_after_10_seconds(begin, service, reactor, auth):
    service.holding = True
    connection = begin()
    service.flush()
    reactor.advance(9.9)
    assert not connection.answered

    reactor.advance(0.2)
    service.flush()

    assert unavailable(connection.answer)
    assert (service.open, repr(auth)) == (0, NOTHING)
    assert len(service.asked) == 1


def test_a_service_that_cannot_be_reached_is_502_after_10_seconds(begin, service, reactor, auth):
    service.dials = []
    connection = begin()
    reactor.advance(10.1)

    assert unavailable(connection.answer)
    assert repr(auth) == NOTHING


def test_an_answer_that_does_not_end_is_not_waited_for(begin, service, reactor, auth):
    service.holding = True
    connection = begin()
    service.flush()
    service.held[0].write(b"x" * (MOST_BODY_BYTES - 1))
    service.flush()
    assert not connection.answered

    service.held[0].write(b"xx")
    service.flush()

    assert connection.answer.status == 200
    assert (service.open, repr(auth)) == (0, NOTHING)


def test_an_answer_whose_body_breaks_off_is_an_answer(begin, service):
    service.holding = True
    connection = begin()
    service.flush()
    service.held[0].write(b"x")
    service.flush()
    service.close()
    service.flush()

    assert connection.answer.status == 200


def test_connections_to_the_service_are_used_again(ask, service, reactor):
    for _ in range(3):
        assert ask().status == 200
    assert (service.connected, service.open) == (1, 1)

    reactor.advance(5)
    service.flush()

    assert service.open == 0


def test_no_connection_to_the_service_is_left_when_nobody_listens_any_more(ask, site, service):
    site.doStart()
    ask()
    site.doStop()
    service.flush()

    assert service.open == 0


def test_many_calls_wait_for_a_slow_service_in_turn_and_not_for_ever(begin, service, reactor, auth):
    service.holding = True
    connections = [begin() for _ in range(MOST_AT_ONCE + 10)]
    service.flush()
    assert repr(auth) == f"<ForwardAuth [Asked: {MOST_AT_ONCE} | Waiting: 10]>"
    assert service.connected == MOST_AT_ONCE

    service.answer(service.held[0])
    service.flush()
    assert len(service.asked) == MOST_AT_ONCE + 1
    assert service.connected == MOST_AT_ONCE

    reactor.advance(10.1)
    service.flush()
    assert [connection.answer.status for connection in connections].count(502) == len(
        connections
    ) - 1
    assert (service.open, repr(auth)) == (0, NOTHING)


@pytest.mark.parametrize("moment", ["dialling", "asked", "in the body"])
def test_a_client_that_leaves_takes_its_question_back(begin, service, reactor, auth, moment):
    service.holding = True
    service.dials = [] if moment == "dialling" else None
    connection = begin("POST")
    service.flush()
    if moment == "in the body":
        service.held[0].write(b"x")
        service.flush()

    connection.hang_up()
    service.flush()

    assert connection.received == b""
    assert (service.open, repr(auth)) == (0, NOTHING)
    assert len(service.asked) == (moment != "dialling")


def test_a_client_that_leaves_the_queue_is_never_asked_about(begin, service, auth):
    service.holding = True
    for _ in range(MOST_AT_ONCE):
        begin()
    late = begin()
    late.hang_up()
    assert repr(auth) == f"<ForwardAuth [Asked: {MOST_AT_ONCE} | Waiting: 0]>"

    service.flush()
    for request in service.held:
        service.answer(request)
    service.flush()

    assert len(service.asked) == MOST_AT_ONCE


def test_a_client_that_leaves_after_it_was_let_in_is_no_trouble(begin, service, auth):
    connection = begin("GET", "/ctrl/events")
    service.flush()
    connection.hang_up()

    assert repr(auth) == NOTHING


def test_an_error_behind_the_door_is_500(begin, service, site, logged_failures):
    def fail(request):
        raise ZeroDivisionError("secret")

    site.resource._routes.render = fail
    connection = begin()
    service.flush()

    assert (connection.answer.status, connection.answer.json["kind"]) == (500, "Other")
    logged_failures.claim(ZeroDivisionError)


def test_one_who_takes_a_question_back_hears_that_it_was_cancelled(auth, service):
    service.holding = True
    asked = auth.ask(b"GET", "/ctrl/status", Headers())
    service.flush()
    results = []
    asked.addErrback(results.append)

    asked.cancel()

    assert results[0].check(CancelledError)


@pytest.mark.reactor
@pytest_twisted.ensureDeferred
async def test_it_asks_over_real_sockets():
    from twisted.internet import reactor

    service = AuthService(reactor)
    port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(Site(service))
    url = f"http://localhost:{port.getHost().port}"
    auth = forward_auth_at(reactor, url)
    headers = Headers({"Authorization": ["Bearer test"]})

    await auth.ask(b"POST", "/ctrl/connect", headers)
    service.status = 403
    with pytest.raises(Unauthorized):
        await auth.ask(b"GET", "/ctrl/status", headers)
    auth.close()
    await port.stopListening()
    with pytest.raises(AuthServiceUnavailable, match="refused"):
        await auth.ask(b"GET", "/ctrl/status", headers)

    assert [request.uri for request in service.asked] == [b"/", b"/"]
    assert [seen(service, name) for name in (b"authorization", b"x-original-path")] == [
        b"Bearer test", b"/status",
    ]  # fmt: skip
