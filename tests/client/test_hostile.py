"""Whatever a server says, a call ends in one of our errors: the real client, a server in memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from plane_tx.client import (
    AtCapacity,
    Client,
    InvalidRequest,
    PlaneClientError,
    Unavailable,
    Unreadable,
)
from plane_tx.client.flows import Patience

Handler = Callable[[httpx.Request], httpx.Response]

AT_ONCE = Patience(first_seconds=0.0)
SESSION = {
    "backend_id": "abc",
    "status": "ready",
    "spawned": True,
    "url": "http://localhost:9090/secret-token/",
    "token": "secret-token",
    "status_url": "http://127.0.0.1:8080/pub/b/abc/status",
    "subdomain": None,
    "secret_token": None,
}


def client_of(handler: Handler, key: str | None = None) -> Client:
    return Client(
        "http://plane.test", key, patience=AT_ONCE, transport=httpx.MockTransport(handler)
    )


def answer(content: Any, status: int = 200, **headers: str) -> httpx.Response:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return httpx.Response(status, stream=httpx.ByteStream(body), headers=headers)


def always(content: Any, status: int = 200, **headers: str) -> Client:
    return client_of(lambda _: answer(content, status, **headers))


class Broken(httpx.SyncByteStream):
    """A body that ends before its time."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = pieces

    def __iter__(self) -> Iterator[bytes]:
        yield from self.pieces
        raise httpx.RemoteProtocolError("peer closed the connection")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>hello</html>",
        b"\xff\xfe",
        b"[" * 100_000,
        b"NaN",
        b"null",
        b"[]",
        b"9" * 10_000,
        b"{}",
        json.dumps({**SESSION, "backend_id": 7}).encode(),
        json.dumps({**SESSION, "spawned": "yes"}).encode(),
        json.dumps({**SESSION, "spawned": 1}).encode(),
        json.dumps({**SESSION, "expires_at": True}).encode(),
        json.dumps({**SESSION, "url": None}).encode(),
    ],
)
def test_an_answer_that_makes_no_sense_is_unreadable(body: bytes) -> None:
    with pytest.raises(Unreadable):
        always(body).connect("echo")


def test_fields_that_are_new_are_kept_and_do_not_harm() -> None:
    session = always({**SESSION, "flavour": "new"}).connect("echo")

    assert session.told["flavour"] == "new"


@pytest.mark.parametrize("status", [204, 301, 302, 404, 418, 500, 502])
def test_a_status_without_an_envelope_is_unreadable_and_told(status: int) -> None:
    with pytest.raises(Unreadable, match=str(status)) as caught:
        always(b"<h1>nginx</h1>", status).get("abc")

    assert caught.value.status == status


def test_a_kind_that_is_new_is_an_error_with_that_kind() -> None:
    client = always({"id": "x", "kind": "TooLate", "message": "it is late"}, 418)

    with pytest.raises(PlaneClientError, match="it is late") as caught:
        client.get("abc")

    assert (type(caught.value), caught.value.kind) == (PlaneClientError, "TooLate")


def test_an_answer_without_an_end_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plane_tx.client.settings.MOST_BYTES", 1000)

    with pytest.raises(Unreadable, match="longer"):
        always(b" " * 1001).get("abc")


def test_an_answer_that_breaks_off_is_asked_for_again_and_then_unavailable() -> None:
    asked: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        return httpx.Response(200, stream=Broken(b'{"backend'))

    with pytest.raises(Unavailable, match="broke"):
        client_of(handler).get("abc")

    assert len(asked) == 4


def test_a_connect_is_sent_again_with_the_same_key() -> None:
    keys: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        keys.append(request.headers["idempotency-key"])
        if len(keys) < 3:
            raise httpx.ReadError("reset")
        return answer(SESSION)

    session = client_of(handler).connect("echo")

    assert session.id == "abc"
    assert len(keys) == 3
    assert len(set(keys)) == 1


@pytest.mark.parametrize("call", ["drain", "soft_terminate", "keep_alive"])
def test_what_may_not_be_done_twice_is_sent_once(call: str) -> None:
    asked: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        raise httpx.ReadError("reset")

    client = client_of(handler)
    calls: dict[str, Callable[[], object]] = {
        "drain": client.drain,
        "soft_terminate": lambda: client.soft_terminate("abc"),
        "keep_alive": lambda: client.keep_alive("abc", 5),
    }

    with pytest.raises(Unavailable):
        calls[call]()

    assert len(asked) == 1


def test_a_retry_that_is_asked_for_late_is_left_to_the_caller() -> None:
    client = always(
        {"id": "x", "kind": "AtCapacity", "message": "full"}, 503, **{"Retry-After": "60"}
    )

    with pytest.raises(AtCapacity) as caught:
        client.connect("echo")

    assert caught.value.retry_after == 60


def test_a_list_that_leads_in_a_circle_ends() -> None:
    client = always({"backends": [], "next": "again"})

    with pytest.raises(Unreadable, match="back to itself"):
        list(client.list())


@pytest.mark.parametrize(
    ("session_id"), ["", "..", "../status", "a/b", "a?b", "A", "a" * 46, "a\r\nb", "\u0130"]
)
def test_what_cannot_be_an_id_is_never_sent(session_id: str) -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        raise AssertionError(request)

    with pytest.raises(InvalidRequest):
        client_of(handler).get(session_id)


@pytest.mark.parametrize("claims", [{"a": float("nan")}, {"a": object()}])
def test_what_is_not_json_is_never_sent(claims: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest, match="JSON"):
        always(SESSION).connect("echo", auth=claims)


@pytest.mark.parametrize(
    "url", ["plane.test", "ftp://plane", "http://", "http://me:pw@plane", "h:["]
)
def test_what_is_no_url_is_said_without_showing_it(url: str) -> None:
    with pytest.raises(InvalidRequest, match="expected http") as caught:
        Client(url)

    assert "pw" not in str(caught.value)


def test_the_key_goes_along_and_is_never_shown() -> None:
    seen: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers["authorization"])
        return answer(SESSION)

    client = client_of(handler, "0123456789abcdef")
    session = client.connect("echo")

    assert seen == ["Bearer 0123456789abcdef"]
    assert "0123456789" not in repr(client.settings)
    assert "secret" not in repr(session)


def test_a_key_that_would_break_a_header_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="key"):
        Client("http://plane.test", "abc\r\nx: y")


# Streams


def stream_of(*answers: Any) -> tuple[Client, list[str | None]]:
    """A server that answers each request for a stream with the next of these."""
    waiting = list(answers)
    asked: list[str | None] = []

    def handler(request: httpx.Request) -> httpx.Response:
        if not request.url.path.endswith("stream"):
            return answer({"status": "ready", "time": 1})
        asked.append(request.headers.get("last-event-id"))
        body = waiting.pop(0)
        if isinstance(body, int):
            return answer(b"", body)
        headers = {"content-type": "text/event-stream"}
        content = body if isinstance(body, httpx.SyncByteStream) else httpx.ByteStream(body)
        return httpx.Response(200, headers=headers, stream=content)

    return client_of(handler), asked


def told(status: str) -> bytes:
    return f'data: {{"status":"{status}","time":1}}\nid: {status}\n\n'.encode()


def test_a_stream_that_breaks_is_taken_up_where_it_was() -> None:
    client, asked = stream_of(
        Broken(told("scheduled"), told("waiting"), b'data: {"sta'),
        told("ready"),
        told("terminated"),
    )

    statuses = [update.status for update in client.status_stream("abc")]

    assert statuses == ["scheduled", "waiting", "ready", "terminated"]
    assert asked == [None, "waiting", "ready"]


def test_a_stream_that_says_there_is_no_more_ends() -> None:
    client, _ = stream_of(told("ready"), 204)

    assert [update.status for update in client.status_stream("abc")] == ["ready"]


def test_a_stream_that_never_says_anything_is_given_up() -> None:
    client, asked = stream_of(*[Broken()] * 9)

    with pytest.raises(Unavailable):
        list(client.status_stream("abc"))

    assert len(asked) == 4


@pytest.mark.parametrize("body", [b"data: [1]\n\n", b"data: hello\n\n", b'data: {"status":1}\n\n'])
def test_an_event_that_makes_no_sense_is_unreadable(body: bytes) -> None:
    client, _ = stream_of(body)

    with pytest.raises(Unreadable):
        list(client.status_stream("abc"))


def test_what_is_no_stream_is_unreadable() -> None:
    with pytest.raises(Unreadable, match="no stream"):
        list(always(b"<html>", **{"content-type": "text/html"}).status_stream("abc"))


def test_an_id_that_cannot_be_sent_back_is_not() -> None:
    client, asked = stream_of(
        'data: {"status":"waiting","time":1}\nid: b\u00f6se\n\n'.encode(), told("terminated")
    )

    list(client.status_stream("abc"))

    assert asked == [None, None]


def test_a_gap_in_events_is_told_as_one() -> None:
    def handler(_: httpx.Request) -> httpx.Response:
        gap = b'event: gap\ndata: {"message":"x"}\n\n'
        return answer(gap, **{"content-type": "text/event-stream"})

    event = next(client_of(handler).events())

    assert (event.status, event.id) == ("gap", "")


def test_a_field_that_is_missing_is_named() -> None:
    with pytest.raises(Unreadable, match=r"details\.status is missing"):
        always({"backend_id": "abc"}).get("abc")
