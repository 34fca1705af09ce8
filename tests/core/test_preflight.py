"""What is a preflight, and which answer to one is none."""

import pytest

from plane_tx.core.messages import Fields, Framing, RequestHead, ResponseHead
from plane_tx.core.preflight import granted, is_preflight, is_unanswered

ORIGIN = (b"Origin", b"https://app.example")
ASKED = (b"Access-Control-Request-Method", b"PUT")


def asked(*headers, method=b"OPTIONS"):
    plain = tuple(map(b": ".join, headers))
    return RequestHead(
        method, b"/", b"1.1", Fields(), Framing.NONE, b"h", keep_alive=True, plain=plain
    )


def replied(status, *headers):
    fields = Fields(marked=headers)
    return ResponseHead(status, b"So", fields, Framing.LENGTH, keep_alive=True)


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (asked(ORIGIN, ASKED), True),
        (asked((b"origin", b"null"), (b"ACCESS-CONTROL-REQUEST-METHOD", b"GET")), True),
        (asked(ORIGIN), False),
        (asked(ASKED), False),
        (asked(ORIGIN, ASKED, method=b"GET"), False),
    ],
)
def test_a_preflight_is_options_with_an_origin_and_a_method_to_come(head, expected):
    assert is_preflight(head) is expected


@pytest.mark.parametrize("status", [404, 405, 501])
def test_who_knows_nothing_of_options_has_not_answered(status):
    assert is_unanswered(replied(status, (b"Allow", b"GET")))


@pytest.mark.parametrize("status", [200, 204, 302, 400, 401, 403, 410, 500, 502, 503])
def test_every_other_status_is_an_answer(status):
    assert not is_unanswered(replied(status))


@pytest.mark.parametrize("name", [b"Access-Control-Allow-Origin", b"access-control-max-age"])
def test_a_word_of_cors_is_an_answer(name):
    assert not is_unanswered(replied(404, (name, b"x")))


def test_what_is_granted_has_nothing_of_what_was_said():
    reply = granted(replied(404, (b"Content-Length", b"9"), (b"Set-Cookie", b"a=b")))

    assert (reply.status, reply.reason, reply.headers) == (204, b"No Content", ())
    assert reply.framing is Framing.NONE
