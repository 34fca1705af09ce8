import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import UNIXAddress

from plane_tx.control.guard import Access, is_loopback_name, is_same_origin
from plane_tx.core.sections import DemoConfig
from tests.control.client import Connection, asking

GUARDED = ["/", "/demo", "/ctrl/status", "/ctrl/nothing", "/nothing"]


def get(ask, path="/ctrl/status", **headers):
    return ask("GET", path, {name.replace("_", "-"): value for name, value in headers.items()})


def refused(answer):
    return (answer.status, answer.json["kind"]) == (403, "Forbidden")


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST:8080",
        "box.localhost:1",
        "127.0.0.1:8080",
        "127.1.2.3",
        "[::1]",
        "[::1]:8080",
        "[0:0::1]:80",
    ],
)
def test_every_name_that_this_box_has_for_itself_may_call(ask, host):
    assert get(ask, Host=host).status == 200


@pytest.mark.parametrize(
    "host",
    [
        "example.com", "example.com:8080", "localhost.example.com", "notlocalhost",
        "localhost:8080@example.com", "192.168.0.1", "0.0.0.0", "128.0.0.1", "127.1",
        "127.0.0.1.example.com", "[::2]", "[::1", "::1", "[::ffff:127.0.0.1]", "[1.2]",
        "localhost:", "localhost:x", "local host", "\xff", "localhost/", ":8080",
    ],
)  # fmt: skip
@pytest.mark.parametrize("path", GUARDED)
def test_a_host_that_is_not_this_box_is_refused(ask, host, path):
    assert refused(get(ask, path, Host=host))


@pytest.mark.parametrize(
    "path",
    ["/%63trl/status", "//ctrl/status", "/ctrl%2fstatus", "/%2fctrl/status", "/./ctrl/status"],
)
def test_no_spelling_of_a_path_goes_round_the_guard(ask, path):
    assert refused(get(ask, path, Host="example.com"))


@pytest.mark.parametrize(
    "path", ["/pub/../ctrl/status", "/pub/%2e%2e/ctrl/status", "/pub//ctrl/status", "/pub/"]
)
def test_no_public_path_leads_to_a_private_one(ask, path):
    assert get(ask, path, Host="example.com").status == 404


@pytest.mark.parametrize("path", GUARDED)
def test_a_request_without_a_host_is_400(ask, path):
    answer = get(ask, path, Host="")

    assert (answer.status, answer.json["kind"]) == (400, "InvalidRequest")


def test_a_request_with_two_hosts_is_400(site):
    connection = Connection(site)
    connection.send(b"GET /ctrl/status HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n")

    assert connection.answer.status == 400


def test_on_a_unix_socket_any_host_may_call(site):
    connection = Connection(site, UNIXAddress("/run/plane.sock"))
    connection.request("GET", "/ctrl/status", {"Host": "plane"})

    assert connection.answer.status == 200


def test_on_a_unix_socket_the_public_part_needs_no_host(site):
    connection = Connection(site, UNIXAddress("/run/plane.sock"))
    connection.request("GET", "/pub/ready", {"Host": ""})

    assert connection.answer.status == 200


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("localhost:8080", "http://localhost:8080"),
        ("LOCALHOST:8080", "http://localhost:8080"),
        ("localhost", "http://localhost"),
        ("localhost:80", "http://localhost"),
        ("[::1]:8080", "http://[::1]:8080"),
    ],
)
def test_our_own_pages_may_call(ask, host, origin):
    assert get(ask, Host=host, Origin=origin).status == 200


@pytest.mark.parametrize(
    "origin",
    [
        "http://example.com", "http://localhost:9090", "https://localhost:8080", "http://127.0.0.1:8080",
        "http://localhost", "null", "localhost:8080", "http://", "http://localhost:8080/", "\xff",
        "http://localhost:8080.example.com",
    ],
)  # fmt: skip
@pytest.mark.parametrize("path", GUARDED)
def test_a_foreign_page_is_refused(ask, origin, path):
    assert refused(get(ask, path, Host="localhost:8080", Origin=origin))


@pytest.mark.parametrize("where", ["cross-site", "same-site", "anything"])
def test_what_a_browser_fetches_for_another_site_or_port_is_refused(ask, where):
    assert refused(get(ask, Sec_Fetch_Site=where, Sec_Fetch_Mode="navigate"))


@pytest.mark.parametrize("path", ["//ctrl/status", "/%2fctrl/status", "/ctrl%2fstatus", "/metrics"])
def test_no_spelling_of_a_path_goes_round_what_a_browser_says(ask, path):
    assert refused(get(ask, path, Sec_Fetch_Site="cross-site"))


def test_pages_under_our_configured_url_may_call(make_site):
    access = Access(own_origin=("https", "plane.example.com"))
    ask = asking(make_site(DemoConfig(), access))

    assert get(ask, Origin="https://plane.example.com").status == 200
    assert get(ask, Origin="http://localhost:8080").status == 200
    assert refused(get(ask, Origin="http://plane.example.com"))


@pytest.mark.parametrize("where", ["none", "same-origin"])
def test_what_a_browser_fetches_for_us_or_the_address_bar_is_answered(ask, where):
    assert get(ask, Sec_Fetch_Site=where).status == 200


@pytest.mark.parametrize("path", ["/ctrl/connect", "/ctrl/b/x/soft-terminate", "/nothing"])
@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_a_post_that_a_page_may_send_unasked_is_415(ask, path, content_type):
    answer = ask("POST", path, {"Content-Type": content_type}, b"{}")

    assert (answer.status, answer.json["kind"]) == (415, "InvalidRequest")


def test_the_public_part_answers_pages_of_anyone(ask):
    answer = get(
        ask,
        "/pub/ready",
        Host="example.com",
        Origin="http://example.com",
        Sec_Fetch_Site="cross-site",
    )

    assert answer.status == 200
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["vary"].split(", ") == [
        "origin", "access-control-request-method", "access-control-request-headers",
    ]  # fmt: skip


@pytest.mark.parametrize("path", ["/pub/nothing", "/pub/b/x/status", "/pub/b/x/status-stream"])
def test_public_errors_can_be_read_by_pages_too(ask, path):
    answer = get(ask, path)

    assert (answer.status, answer.headers["access-control-allow-origin"]) == (404, "*")


@pytest.mark.parametrize("path", GUARDED)
def test_nothing_private_can_be_read_by_pages(ask, path):
    assert not [name for name in get(ask, path).headers if name.startswith("access-control")]


@pytest.mark.parametrize("path", ["/pub/health", "/pub/b/x/status-stream", "/pub/nothing"])
def test_a_preflight_is_answered(ask, path):
    answer = ask("OPTIONS", path, {"Host": "a.example", "Origin": "http://b.example"})

    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["access-control-allow-methods"] == "GET,POST"
    assert answer.headers["access-control-allow-headers"] == "content-type"


@given(st.text())
def test_any_host_and_any_origin_can_be_asked_about(text):
    is_loopback_name(text)
    assert not is_same_origin(text, "http", "localhost:8080") or text.startswith(("http", "HTTP"))
