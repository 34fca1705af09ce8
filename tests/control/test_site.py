import socket

import pytest
import pytest_twisted
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.threads import deferToThread
from twisted.logger import formatEvent

from plane_tx.control import request as requests
from tests.control.client import Connection, asking

JSON = {"Content-Type": "application/json"}
LIMIT = 1024 * 1024


def test_an_unknown_path_is_404_in_the_envelope(ask):
    answer = ask("GET", "/nothing/here")

    assert (answer.status, answer.json["kind"]) == (404, "NotFound")
    assert len(answer.json["id"]) == 14
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["server"] == "plane-tx"


@pytest.mark.parametrize(
    "path", ["/ctrl/status/", "/ctrl//status", "/pub/b//status", "/ctrl", "/pub"]
)
def test_a_path_that_is_nearly_one_of_ours_is_404(ask, path):
    assert ask("GET", path).status == 404


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/ctrl/connect", "POST"),
        ("DELETE", "/ctrl/status", "GET, HEAD"),
        ("OPTIONS", "/ctrl/status", "GET, HEAD"),
        ("get", "/ctrl/connect", "POST"),
    ],
)
def test_a_wrong_method_is_405_and_says_which_it_takes(ask, method, path, allowed):
    answer = ask(method, path)

    assert (answer.status, answer.json["kind"]) == (405, "InvalidRequest")
    assert answer.headers["allow"] == allowed
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(
    "path", ["/", "/ctrl/status", "/ctrl/backends", "/pub/health", "/pub/ready", "/nothing"]
)
def test_head_answers_as_get_does_without_a_body(ask, path):
    got, head = ask("GET", path), ask("HEAD", path)

    assert head.status == got.status
    assert head.body == b""
    assert {**head.headers, "date": ""} == {**got.headers, "date": ""}
    assert int(got.headers["content-length"]) == len(got.body)


def test_a_path_that_is_not_utf_8_is_400(ask):
    answer = ask("GET", "/pub/b/%ff/status")

    assert (answer.status, answer.json["kind"]) == (400, "InvalidRequest")


@pytest.mark.parametrize("host", ["", "a..b", "x" * 300, "\xff\xfe", "[", "example.com:notaport"])
def test_whatever_its_host_the_public_part_answers(ask, host):
    assert ask("GET", "/pub/health", {"Host": host}).status == 200


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01 is TLS\r\n",
        b"GET /ctrl/status\r\n",
        b"GET /a b HTTP/1.1\r\n",
        b"GET / HTTP/2.0\r\n",
        b"G\x00T / HTTP/1.1\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nna me: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nname: \x00\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: ten\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nten\r\n",
        b"GET /" + b"x" * 17000,
        b"GET /" + b"x" * 17000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"name: %b\r\n" % (b"x" * 6000) * 3,
        b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 501 + b"\r\n",
    ],
)
def test_what_is_no_request_is_400_in_the_envelope_and_ends_the_connection(site, logged, data):
    connection = Connection(site)
    connection.send(data)

    answer = connection.answer
    assert (answer.status, answer.json["kind"]) == (400, "InvalidRequest")
    assert (answer.headers["content-type"], answer.headers["connection"]) == (
        "application/json", "close",
    )  # fmt: skip
    assert int(answer.headers["content-length"]) == len(answer.body)
    assert connection.transport.disconnecting
    assert lines(logged) == [("warn", f"400 InvalidRequest {answer.json['id']}: unread")]
    connection.hang_up()


def test_a_malformed_rest_of_a_refused_body_adds_nothing_to_its_answer(site, reactor):
    connection = Connection(site)
    connection.request("POST", "/ctrl/connect", {"Transfer-Encoding": "chunked"})
    connection.send(b"%x\r\n" % (LIMIT + 1) + b" " * (LIMIT + 1) + b"\r\n")
    connection.send(b"no chunk\r\n")

    assert too_large(connection.answer)
    assert connection.transport.disconnecting
    connection.hang_up()


@pytest.mark.parametrize("method", ["GET", "OPTIONS"])
def test_the_server_as_a_whole_is_not_answered_for_by_twisted(ask, method):
    answer = ask(method, "*")

    assert (answer.status, answer.json["kind"]) == (404, "NotFound")


def test_no_http_2_is_offered_where_its_parts_are_installed(site):
    assert site.acceptableProtocols() == [b"http/1.1"]


def test_an_unexpected_error_is_500_and_its_cause_stays_in_the_log(
    ask, supervisor, monkeypatch, logged, logged_failures
):
    def fail(session_id):
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(supervisor, "get", fail)
    answer = ask("GET", "/ctrl/b/x")

    assert (answer.status, answer.json["kind"]) == (500, "Other")
    assert b"secret" not in answer.body
    assert b"Traceback" not in answer.body
    (failure,) = logged_failures.claim(ZeroDivisionError)
    assert "secret" in str(failure)
    assert [event["id"] for event in logged if "id" in event] == [answer.json["id"]]


def test_an_error_before_any_route_is_answered_in_the_envelope_too(site, logged_failures):
    def fail(request):
        raise ZeroDivisionError("secret")

    site.resource.render = fail
    answer = asking(site)("GET", "/ctrl/status")

    assert (answer.status, answer.json["kind"]) == (500, "Other")
    logged_failures.claim(ZeroDivisionError)


def lines(logged):
    return [(event["log_level"].name, formatEvent(event)) for event in logged if "id" in event]


def test_a_refusal_is_logged_once_as_a_warning_under_the_answers_id(ask, logged):
    answer = ask("GET", "/ctrl/b/x?token=hush")

    assert lines(logged) == [
        ("warn", f"404 NotFound {answer.json['id']}: GET '/ctrl/b/x': \"there is no backend 'x'\"")
    ]


def test_a_refusal_with_5xx_is_logged_as_an_error(ask, engine, logged):
    engine.lose("the socket is gone")
    ask("POST", "/ctrl/connect", body={"spawn_config": {"executable": {"image": "counter"}}})

    assert [(level, line.split(" ")[0]) for level, line in lines(logged)] == [("error", "503")]


def test_a_link_that_went_astray_is_not_logged(ask, logged):
    ask("GET", "/kDjwoq9Q2l4nSGgyyyyyyyyyyyyyyyyyyyyyyyyyyyy/")

    assert "kDjwoq9Q2l" not in repr(lines(logged))


def test_what_a_body_says_is_not_logged(ask, logged):
    body = {"spawn_config": {"executable": {"image": "x", "env": {"PIN": 271828}}}}
    answer = ask("POST", "/ctrl/connect", body=body)

    assert answer.status == 422
    assert "271828" in answer.json["message"]
    assert "271828" not in repr(lines(logged))


def test_a_body_at_the_limit_is_read(ask):
    answer = ask("POST", "/ctrl/connect", JSON, b" " * LIMIT)

    assert answer.status == 400


def too_large(answer):
    return (answer.status, answer.json["kind"], answer.headers["connection"]) == (
        413, "InvalidRequest", "close",
    )  # fmt: skip


def test_a_body_announced_over_the_limit_is_413_before_it_is_sent(site, reactor):
    connection = Connection(site)
    headers = {"Expect": "100-continue", "Content-Length": str(LIMIT + 1)}
    connection.request("POST", "/ctrl/connect", headers)

    assert too_large(connection.answer)
    assert not connection.transport.disconnecting

    connection.send(b" " * (LIMIT + 1))

    assert connection.transport.disconnecting
    connection.hang_up()
    assert not [call for call in reactor.getDelayedCalls() if call.func is requests.cut]


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/"), ("GET", "/ctrl/status"), ("DELETE", "/ctrl/drain"), ("GET", "/pub/health")],
)
def test_a_body_over_the_limit_is_413_whatever_the_method(site, method, path):
    connection = Connection(site)

    connection.request(method, path, {"Content-Length": str(LIMIT + 1)})

    assert too_large(connection.answer)
    connection.hang_up()


def test_a_chunked_body_is_413_where_it_passes_the_limit(site, reactor):
    connection = Connection(site)
    connection.request("POST", "/ctrl/connect", {"Transfer-Encoding": "chunked"})
    piece = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    for _ in range(16):
        connection.send(piece)
    assert not connection.answered

    connection.send(piece)
    assert too_large(connection.answer)

    # What still comes is thrown away, for a while.
    connection.send(piece)
    reactor.advance(4.9)
    assert not connection.aborted
    reactor.advance(0.2)
    assert connection.aborted


def test_a_form_is_not_parsed(ask):
    # twisted.web's own parser would answer this one, without an envelope.
    headers = {"Content-Type": "multipart/form-data"}
    answer = ask("POST", "/ctrl/connect", headers, b"no boundary")

    assert (answer.status, answer.json["kind"]) == (415, "InvalidRequest")


def test_two_requests_share_a_connection(site):
    connection = Connection(site)
    connection.request("GET", "/ctrl/status")
    connection.transport.clear()
    connection.request("GET", "/pub/ready")

    assert connection.answer.json == {"status": "ready"}


def test_the_list_of_what_is_here_has_a_line_for_every_route(ask):
    answer = ask("GET", "/")

    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    text = answer.body.decode()
    for path in (
        "GET    / ", "POST   /ctrl/connect ", "GET    /ctrl/backends ",
        "GET    /ctrl/b/{id} ", "POST   /ctrl/b/{id}/soft-terminate ",
        "POST   /ctrl/b/{id}/hard-terminate ", "DELETE /ctrl/drain ",
        "GET    /ctrl/status ", "GET    /pub/b/{id}/status ", "GET    /pub/b/{id}/status-stream ",
        "GET    /pub/health ", "GET    /pub/ready ", "GET    /ctrl/c/{cluster_name}/state ",
    ):  # fmt: skip
        assert path in text
    assert "<" not in text
    assert "/demo" not in text, "there is no demo here"


def test_no_access_log_is_kept(ask, logged):
    ask("GET", "/ctrl/status?user=alice")

    assert "alice" not in repr(logged)


@pytest.mark.reactor
@pytest_twisted.ensureDeferred
async def test_it_listens_on_a_real_socket(site):
    from twisted.internet import reactor

    port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(site)
    number = port.getHost().port

    def talk():
        with socket.create_connection(("127.0.0.1", number), timeout=10) as client:
            client.sendall(b"GET /ctrl/status HTTP/1.0\r\nHost: localhost\r\n\r\n")
            return b"".join(iter(lambda: client.recv(4096), b""))

    answer = await deferToThread(talk)
    await port.stopListening()

    assert answer.startswith(b"HTTP/1.0 200 OK\r\n")


@pytest.mark.reactor
@pytest_twisted.ensureDeferred
async def test_the_413_reaches_a_client_that_goes_on_sending(site):
    from twisted.internet import reactor

    port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(site)
    number = port.getHost().port

    def talk():
        with socket.create_connection(("127.0.0.1", number), timeout=10) as client:
            size = 20 * LIMIT
            client.sendall(b"POST /ctrl/connect HTTP/1.1\r\nHost: localhost\r\n")
            client.sendall(b"Content-Length: %d\r\n\r\n" % size + b" " * size)
            return b"".join(iter(lambda: client.recv(4096), b""))

    answer = await deferToThread(talk)
    await port.stopListening()

    assert answer.startswith(b"HTTP/1.1 413 ")
    assert answer.endswith(b"}")
