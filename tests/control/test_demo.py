import attrs
import pytest

from plane_tx.core.connect import CapacityLimits
from plane_tx.core.sections import DemoConfig
from tests.control.client import asking

PAGE = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


@pytest.fixture
def ask(make_site):
    return asking(make_site(DemoConfig(app="counter", key="shared")))


def test_a_visitor_is_sent_to_the_demos_session(ask, engine):
    answer = ask("GET", "/demo", PAGE)

    assert (answer.status, answer.body) == (303, b"")
    assert answer.headers["location"].startswith("http://localhost:9090/")
    assert answer.headers["cache-control"] == "no-store"
    (order,) = engine.orders.values()
    assert order.executable.image == "counter"
    assert order.environment["SESSION_BACKEND_KEY"] == "shared"


def test_visitors_share_the_session_and_not_the_link(ask, engine):
    first, second = ask("GET", "/demo"), ask("GET", "/demo")

    assert len(engine.orders) == 1
    assert first.headers["location"] != second.headers["location"]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"},
        {
            "Sec-Fetch-Site": "cross-site",
            "Sec-Fetch-Mode": "navigate",
            "Sec-Fetch-Dest": "document",
        },
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"},
        {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"},
    ],
)
def test_a_link_may_lead_here_from_anywhere(ask, headers):
    assert ask("GET", "/demo", headers).status == 303


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"},
        {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors"},
        {"Origin": "http://example.com"},
        {"Host": "example.com"},
    ],
)
def test_a_foreign_page_may_not_load_it_by_itself(ask, engine, headers):
    answer = ask("GET", "/demo", headers)

    assert (answer.status, answer.json["kind"]) == (403, "Forbidden")
    assert not engine.orders


def test_a_person_reads_an_error_as_a_sentence(ask, engine):
    engine.lose("<no> answer & silence")
    answer = ask("GET", "/demo", PAGE)

    assert answer.status == 503
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["retry-after"] == "5"
    assert b"&lt;no&gt; answer &amp; silence" in answer.body
    assert b"<no>" not in answer.body


def test_a_person_reads_a_refusal_as_a_sentence_too(ask):
    answer = ask("GET", "/demo", {**PAGE, "Host": "<b>"})

    assert answer.status == 403
    assert b"<b>" not in answer.body
    assert answer.body.startswith(b"<!doctype html>")


class TestWithRoomForOne:
    @pytest.fixture
    def policy(self, policy):
        return attrs.evolve(policy, limits=CapacityLimits(max_sessions=1))

    def test_a_program_reads_an_error_in_the_envelope(self, ask):
        other = {"spawn_config": {"executable": {"image": "x"}}}
        ask("POST", "/ctrl/connect", body=other)

        answer = ask("GET", "/demo")

        assert (answer.status, answer.json["kind"]) == (503, "AtCapacity")
        assert answer.headers["retry-after"] == "30"


def test_there_is_no_demo_unless_one_is_configured(site):
    answer = asking(site)("GET", "/demo")

    assert (answer.status, answer.json["kind"]) == (404, "NotFound")
